"""What a replay would have sent against what was sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from schemas.insights import SEVERITY_ORDER, Insight

Kind = Literal["new", "missing", "time", "severity", "detail"]
KINDS: tuple[Kind, ...] = ("missing", "new", "severity", "time", "detail")
"""In the order in which they are told. ``time``: opened at another time; ``detail``: the same anomaly at
the same time and severity, but another peak, end or wording."""
NEAR_MS = 30 * 60_000
"""Episodes of one series that lie no further apart than this are the same anomaly, seen at another time."""


@dataclass(frozen=True, slots=True)
class Episode:
    """An insight's revisions up to the end of the comparison; the last one is its state there."""

    revisions: tuple[Insight, ...]

    @property
    def last(self) -> Insight:
        """The insight as it stood at the end."""
        return self.revisions[-1]

    @property
    def series(self) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
        """What it is about: type, resource, metric and dimensions."""
        one = self.last
        return one.type, one.resource, one.metric, tuple(sorted((one.dimensions or {}).items()))

    def span(self, end: int) -> tuple[int, int]:
        """When it was open; until ``end`` where it still was."""
        closed = self.last.closed_at
        return self.last.opened_at, end if closed is None else closed


@dataclass(frozen=True, slots=True)
class Difference:
    """One insight that differs. One of the two is None where only the other exists."""

    kind: Kind
    sent: Episode | None
    replayed: Episode | None

    @property
    def about(self) -> Insight:
        """The insight that names the series."""
        found = self.sent or self.replayed
        assert found is not None
        return found.last

    @property
    def size(self) -> tuple[int, float]:
        """How much it matters: the worst severity that is gained, lost or changed, then the score."""
        ranks = [SEVERITY_ORDER[one.last.severity] if one else 0 for one in (self.sent, self.replayed)]
        scores = [one.last.score if one else 0.0 for one in (self.sent, self.replayed)]
        weight = {"detail": 0, "time": 1}.get(self.kind, abs(ranks[0] - ranks[1]) + 1)
        return weight, abs(scores[0] - scores[1]) + max(scores) * 1e-3


@dataclass(slots=True)
class Comparison:
    """Insights that opened in the range. ``same`` are equal in every field of every revision."""

    sent: int = 0
    replayed: int = 0
    same: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def count(self, kind: Kind) -> int:
        """Number of differences of a kind."""
        return sum(one.kind == kind for one in self.differences)

    def by_place(self) -> dict[tuple[str, str], dict[str, int]]:
        """Numbers of differences by kind, by (resource, metric), the places with most first."""
        found: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(KINDS, 0))
        for one in self.differences:
            found[one.about.resource, one.about.metric][one.kind] += 1
        return dict(sorted(found.items(), key=lambda pair: (-sum(pair[1].values()), pair[0])))


def episodes(revisions: Iterable[Insight], start: int, end: int) -> dict[str, Episode]:
    """Insights that opened within a range (epoch ms), as they stood at its end, by id."""
    found: dict[str, dict[int, Insight]] = defaultdict(dict)
    for one in revisions:
        if start <= one.timestamp < end and _when(one) < end:
            found[one.insight_id][one.revision] = one
    return {key: Episode(tuple(by[n] for n in sorted(by))) for key, by in found.items()}


def _when(one: Insight) -> int:
    """Event time of a revision."""
    if one.transition == "opened":
        return one.opened_at
    return one.closed_at if one.closed_at is not None else one.peak_at


def compare(sent: Iterable[Insight], replayed: Iterable[Insight], start: int, end: int) -> Comparison:
    """Compare revisions of insights that opened in a range.

    Insights of one id are the same anomaly. Of the others, those of one series that overlap, or lie
    within half an hour of each other, are one anomaly that was seen at another time, the nearest first.
    """
    theirs, ours = episodes(sent, start, end), episodes(replayed, start, end)
    result = Comparison(sent=len(theirs), replayed=len(ours))
    for key in sorted(theirs.keys() & ours.keys()):
        kind = _differs(theirs[key], ours[key])
        if kind is None:
            result.same += 1
        else:
            result.differences.append(Difference(kind, theirs[key], ours[key]))
    lost = {key: theirs[key] for key in sorted(theirs.keys() - ours.keys())}
    won = {key: ours[key] for key in sorted(ours.keys() - theirs.keys())}
    for their_key, our_key in _pairs(lost, won, end):
        before, after = lost.pop(their_key), won.pop(our_key)
        kind = "severity" if before.last.severity != after.last.severity else "time"
        if kind == "time" and before.last.opened_at == after.last.opened_at:
            kind = "detail"  # another detector's
        result.differences.append(Difference(kind, before, after))
    result.differences += [Difference("missing", one, None) for one in lost.values()]
    result.differences += [Difference("new", None, one) for one in won.values()]
    result.differences.sort(key=lambda one: (one.size, one.about.timestamp), reverse=True)
    return result


def _differs(before: Episode, after: Episode) -> Kind | None:
    if before.revisions == after.revisions:
        return None
    if before.last.severity != after.last.severity:
        return "severity"
    return "time" if before.last.opened_at != after.last.opened_at else "detail"


def _pairs(lost: dict[str, Episode], won: dict[str, Episode], end: int) -> list[tuple[str, str]]:
    by_series: dict[object, list[str]] = defaultdict(list)
    for key, one in won.items():
        by_series[one.series].append(key)
    near = []
    for their_key, before in lost.items():
        for our_key in by_series.get(before.series, ()):
            (a, b), (c, d) = before.span(end), won[our_key].span(end)
            apart = max(a - d, c - b, 0)
            if apart <= NEAR_MS:
                near.append((apart, abs(a - c), their_key, our_key))
    chosen: list[tuple[str, str]] = []
    taken: set[str] = set()
    for _, _, their_key, our_key in sorted(near):
        if their_key not in taken and our_key not in taken:
            taken |= {their_key, our_key}
            chosen.append((their_key, our_key))
    return chosen
