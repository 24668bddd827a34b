"""Patterns: anomalies that come back at the same hour, and the same anomaly on many hosts at once.

Stands beside the scoring core and is driven by episodes that open and close, in the order of the records, never by
single events. Knows neither AWS nor the clock: time is event time.

Recurrence
    A series' last ``KEPT`` episodes are remembered. Where one begins within ``TOLERANCE`` of the same time of day (of the
    same time of the week) as earlier ones in the same direction, on so many of the ``LOOK_BACK`` periods before that
    uniform starts would do it less than once in 1 / ``CHANCE`` episodes, the series has a recurrence: one LOW insight.
    While it goes on, an episode of that shape (same time, same direction, not larger) is at most MEDIUM.
Group
    Starts of episodes are counted per metric and direction. Where so many hosts start within ``TOGETHER`` of one another
    that the metric's own rate of starts would do it by chance less than once in 1 / ``CHANCE`` starts, one insight
    tells of all of them. Who joins later does not page by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np

from schemas.insights import SEVERITY_ORDER, Insight
from stream_processors import explain
from stream_processors.detectors.base import SEVERITY_SCORES, IntArray
from stream_processors.episodes import Episode, Explained, GroupEpisode, insight_id, revise

NAME = "recurrence"
GROUP = "group"
VERSION = 1
MINUTE = 60_000
DAY = 86_400_000
WEEK = 7 * DAY
CHANCE = 1e-5
"""A pattern is told where chance alone would show it less often than in one of 100,000 episodes."""
TOLERANCE = 15 * MINUTE
"""How far from the usual time of day a recurrence may begin: a scheduler's jitter and a job's own run-up."""
LOOK_BACK = 6
"""Periods before the present one in which earlier starts are looked for."""
KEPT = 24
"""Episodes remembered a series. More than three a day are no pattern of single jobs."""
MISSED = 3
"""A recurrence that has stayed away for so many periods is over."""
LARGER = 1.5
"""A recurrence is larger than usual where it is further from what is expected than this many times the largest known."""
QUIET = SEVERITY_ORDER["MEDIUM"]
"""The worst severity of what a pattern explains: it is stored and does not page."""
TOGETHER = 5 * MINUTE
"""Starts on different hosts within this time belong together: the spread of detection at a sample a minute."""
LONGEST_JOIN = 3_600_000
"""A group takes in further hosts for so long after its first start."""
LEAST_HOSTS = 3
"""Two hosts are two insights, however rare the coincidence."""
MEMORY = 7 * DAY
"""Time in which the rate of starts of a metric is forgotten to 1/e."""
MAX_STREAMS = 256
"""Pairs of metric and direction that are followed; the one that was quiet for longest gives way."""
MAX_STARTS = 32
"""Recent starts remembered of each."""
MAX_GROUPS = 64
"""Groups open at a time."""
MAX_HOSTS = 1_000
"""Hosts named in a group."""

_START = np.dtype([("at", "<i8"), ("span", "<i8"), ("size", "<f8"), ("side", "i1")])
_ROW = np.dtype(
    [
        ("starts", _START, (KEPT,)),
        ("count", "<i4"),
        ("side", "i1"),
        ("period", "<i8"),
        ("told", "<i8"),
        ("last", "<i8"),
        ("span", "<i8"),
        ("limit", "<f8"),
    ]
)
ROW_BYTES = _ROW.itemsize


@dataclass(slots=True)
class Start:
    """One episode of a series: its start, how long it lasted, how far it went from what was expected, and on which side."""

    at: int
    span: int
    size: float
    side: int


@dataclass(slots=True)
class Series:
    """What is remembered of a series that had episodes; ``period`` is 0 while no recurrence is known."""

    starts: list[Start] = field(default_factory=list)
    period: int = 0
    side: int = 0
    told: int = 0
    last: int = 0
    span: int = 0
    limit: float = 0.0


class Stream(msgspec.Struct):
    """Starts of one metric in one direction, over all hosts of the shard; ``weight`` counts them, fading."""

    metric: str
    side: int
    since: int
    last: int
    weight: float
    starts: list[tuple[int, str, str]]
    group: str = ""


def side_and_size(episode: Episode) -> tuple[int, float]:
    """On which side of what was expected an episode's worst value is (0 where that is not known), and how far."""
    if episode.observed is None or episode.expected is None:
        return 0, 0.0
    away = episode.observed - episode.expected
    return (1 if away > 0 else -1 if away < 0 else 0), abs(away)


def chance_of_matches(matches: int, others: int, width: float) -> float:
    """Probability that at least ``matches`` of ``LOOK_BACK`` periods hold a start within a window, by uniform starts.

    ``others`` starts in those periods, ``width`` the window's share of a period.
    """
    one = 1.0 - (1.0 - min(width, 1.0)) ** (others / LOOK_BACK)
    return math.fsum(
        math.comb(LOOK_BACK, k) * one**k * (1.0 - one) ** (LOOK_BACK - k) for k in range(matches, LOOK_BACK + 1)
    )


def chance_of_starts(hosts: int, expected: float) -> float:
    """Probability of at least ``hosts`` starts where so many are expected, by a Poisson process."""
    term = math.exp(-expected)
    for k in range(1, hosts + 1):
        term *= expected / k
    total = 0.0
    for k in range(hosts + 1, hosts + 200):
        total += term
        term *= expected / k
    return min(1.0, total)


class Patterns:
    """Recurrences of a shard's series, by the slots of the scoring core, and groups of its hosts."""

    def __init__(self, *, groups: bool = True) -> None:
        self.watch_groups = groups
        self.series: dict[int, Series] = {}
        self.streams: dict[tuple[str, int], Stream] = {}
        self.groups: dict[str, GroupEpisode] = {}

    # ------------------------------------------------------------------ what the core tells

    def opened(
        self, episodes: dict[tuple[str, str, str], Episode], slot: int, episode: Episode, interval: float
    ) -> list[Insight]:
        """An anomaly opens: it may be quieter from now on. Returns insights of patterns that begin or grow with it."""
        side, size = side_and_size(episode)
        if not side:
            return []
        found = self._recurs(slot, episode, side, size, interval)
        if episode.bound().usual or not self.watch_groups:
            return found
        return found + self._joins(episodes, episode, side)

    def grows(self, episode: Episode, value: float) -> bool:
        """Whether a value shows that an episode that was taken for the usual one is larger; it then counts in full."""
        usual = episode.bound().usual
        if not usual or episode.expected is None or abs(value - episode.expected) <= usual:
            return False
        episode.explained = Explained(note=explain.RECURRENCE_LARGER)
        return True

    def rose(self, episode: Episode, t: int) -> list[Insight]:
        """An open anomaly has become worse: so has its group, where it is the worst of it."""
        group = self.groups.get(episode.bound().group)
        if group is None or group.over or episode.severity <= group.severity:
            return []
        group.severity, group.peak_at = episode.severity, t
        group.score = SEVERITY_SCORES[group.severity - 1]
        return [_told(group, "escalated", t)]

    def closed(self, slot: int | None, episode: Episode, t: int) -> list[Insight]:
        """An anomaly is over; with the last of its members a group is."""
        known = self.series.get(slot) if slot is not None else None
        if known is not None:
            for start in reversed(known.starts):
                if start.at == episode.opened_at:
                    lasted = episode.last_abnormal - episode.opened_at + round(episode.interval)
                    start.span, start.size = max(0, lasted), side_and_size(episode)[1]
                    break
        group = self.groups.get(episode.bound().group)
        if group is None or group.over:
            return []
        group.open -= 1
        return [] if group.open > 0 else [self._over(group, t)]

    def day(
        self, watermark: int, names: dict[int, tuple[str, str, str]], dirty: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    ) -> list[Insight]:
        """Once a day of event time: recurrences that stay away, and groups of which nobody is left, are over."""
        told = []
        gone = [
            slot
            for slot, one in self.series.items()
            if one.period and watermark - one.last > MISSED * one.period + TOLERANCE
        ]
        for slot in sorted(gone, key=lambda slot: names[slot]):
            told += self.end(slot, *names[slot], watermark)
            dirty[slot] = True
        told += [self._over(self.groups[key], watermark) for key in sorted(self.groups) if self._empty(self.groups[key])]
        return told

    def end(self, slot: int, resource: str, series: str, metric: str, t: int) -> list[Insight]:
        """A series' recurrence, if it has one, is over."""
        known = self.series.get(slot)
        if known is None or not known.period:
            return []
        episode = _recurrence(known, resource, series, metric)
        episode.revision = 1
        episode.message = explain.recurrence_over(resource, series, known.period, known.last)
        known.period = 0
        return [_told(episode, "closed", t)]

    def drop(self, slot: int) -> None:
        """A slot holds no series any more."""
        self.series.pop(slot, None)

    # ------------------------------------------------------------------ recurrence

    def _recurs(self, slot: int, episode: Episode, side: int, size: float, interval: float) -> list[Insight]:
        known = self.series.setdefault(slot, Series())
        at = episode.opened_at
        tolerance = max(TOLERANCE, math.ceil(interval / 2)) if math.isfinite(interval) else TOLERANCE
        told: list[Insight] = []
        if known.period:
            away = (at - known.last) % known.period
            near = min(away, known.period - away) <= tolerance
            if near and side == known.side and size <= LARGER * known.limit:
                if at - known.last > known.period // 2:  # what flickers in one night does not move the usual time on
                    known.last = at
                note = explain.recurrence_usual(known.period, at)
                episode.explained = Explained(QUIET, note, usual=LARGER * known.limit)
        else:
            told = self._found(known, episode, side, tolerance)
        known.starts.append(Start(at, 0, size, side))
        del known.starts[:-KEPT]
        return told

    def _found(self, known: Series, episode: Episode, side: int, tolerance: int) -> list[Insight]:
        """Begin a daily or weekly recurrence if this episode makes it clear."""
        at = episode.opened_at
        for period in (DAY, WEEK):
            first = at - LOOK_BACK * period - tolerance
            if len(known.starts) == KEPT and known.starts[0].at >= first:
                return []  # too many episodes to remember them all
            before = [start for start in known.starts if first <= start.at < at - tolerance]
            matched: dict[int, Start] = {}
            for start in before:
                back = round((at - start.at) / period)
                if 1 <= back <= LOOK_BACK and start.side == side and abs(at - back * period - start.at) <= tolerance:
                    matched[back] = start
            if not matched or chance_of_matches(len(matched), len(before), 2 * tolerance / period) > CHANCE:
                continue
            spans = sorted(start.span for start in matched.values())
            known.period, known.side, known.told, known.last = period, side, at, at
            known.span, known.limit = spans[len(spans) // 2], max(start.size for start in matched.values())
            told = _recurrence(known, episode.resource, episode.series, episode.metric)
            told.unit, told.dimensions = episode.unit, episode.dimensions
            told.message = explain.recurrence(told, side, period, known.span, len(matched) + 1, LOOK_BACK + 1)
            return [_told(told, "opened", at)]
        return []

    # ------------------------------------------------------------------ groups

    def _stream(self, episode: Episode, side: int) -> Stream:
        key, at = (episode.metric, side), episode.opened_at
        stream = self.streams.get(key)
        if stream is None:
            if len(self.streams) >= MAX_STREAMS:
                del self.streams[min(self.streams, key=lambda one: (self.streams[one].last, one))]
            stream = self.streams[key] = Stream(episode.metric, side, at, at, 0.0, [])
        return stream

    def _joins(self, episodes: dict[tuple[str, str, str], Episode], episode: Episode, side: int) -> list[Insight]:
        stream, at = self._stream(episode, side), episode.opened_at
        group = self.groups.get(stream.group)
        if group is not None:
            if abs(at - group.last_abnormal) <= TOGETHER and at - group.opened_at <= LONGEST_JOIN:
                return self._member(group, episode)
            stream.group = ""
            if group.over:
                del self.groups[group.insight_id]
        nearby: dict[str, tuple[int, str, str]] = {}
        for one in stream.starts:
            if abs(at - one[0]) <= TOGETHER and one[1] != episode.resource:
                nearby[one[1]] = one
        exposure = max(float(DAY), MEMORY * -math.expm1(-(stream.last - stream.since) / MEMORY))
        expected = (stream.weight + 1.0) * TOGETHER / exposure
        # The starts that stand close to this one are what is judged; they do not tell how usual it is.
        usual = max(TOGETHER / exposure, expected - len(nearby) * TOGETHER / exposure)
        stream.weight = stream.weight * math.exp(-max(0, at - stream.last) / MEMORY) + 1.0
        stream.last = max(stream.last, at)
        stream.starts.append((at, episode.resource, episode.series))
        del stream.starts[:-MAX_STARTS]
        if len(nearby) + 1 < LEAST_HOSTS or chance_of_starts(len(nearby), usual) > CHANCE:
            return []
        if sum(not one.over for one in self.groups.values()) >= MAX_GROUPS:
            return []
        return self._begin(episodes, stream, episode, side, sorted(nearby.values()))

    def _begin(
        self,
        episodes: dict[tuple[str, str, str], Episode],
        stream: Stream,
        episode: Episode,
        side: int,
        nearby: list[tuple[int, str, str]],
    ) -> list[Insight]:
        at = episode.opened_at
        first = min(nearby[0][0], at)
        group = GroupEpisode(
            kind="group",
            resource=nearby[0][1],
            series="",
            metric=episode.metric,
            opened_at=first,
            peak_at=at,
            last_abnormal=at,
            severity=episode.severity,
            revision=0,
            # Groups of two shards may begin in the same millisecond: the insight that completed it tells them apart.
            insight_id=insight_id("group", episode.metric, episode.insight_id, GROUP, at),
            detector=GROUP,
            detector_version=VERSION,
            side=side,
            named=[resource for _, resource, _ in nearby],
        )
        for opened_at, resource, series in nearby:
            other = episodes.get(("anomaly", resource, series))
            if other is not None and other.opened_at == opened_at and not other.bound().group:
                group.severity = max(group.severity, other.severity)
                group.open += 1
                if other.shown() <= QUIET:  # it has not paged yet: the group does in its place
                    other.explained = _member_of(group)
                else:
                    other.explained = Explained(group=group.insight_id)
        self.groups[group.insight_id] = group
        stream.group = group.insight_id
        self._add(group, episode)
        group.score = SEVERITY_SCORES[group.severity - 1]
        group.message = explain.group(group)
        group.told = len(group.named)
        return [_told(group, "opened", at)]

    def _member(self, group: GroupEpisode, episode: Episode) -> list[Insight]:
        """Take an anomaly into a group; the group is told anew where it is worse, and stored where it has doubled."""
        if group.over:
            if episode.severity <= group.severity:
                episode.explained = _member_of(group)
                group.last_abnormal = max(group.last_abnormal, episode.opened_at)
            return []
        self._add(group, episode)
        group.message = explain.group(group)
        worse = self.rose(episode, episode.opened_at)
        if not worse and len(group.named) >= 2 * group.told:
            worse = [_told(group, "updated", episode.opened_at)]
        if worse:
            group.told = len(group.named)
        return worse

    @staticmethod
    def _add(group: GroupEpisode, episode: Episode) -> None:
        episode.explained = _member_of(group)
        group.open += 1
        group.last_abnormal = max(group.last_abnormal, episode.opened_at)
        if episode.resource not in group.named and len(group.named) < MAX_HOSTS:
            group.named.append(episode.resource)

    @staticmethod
    def _empty(group: GroupEpisode) -> bool:
        return group.open <= 0 and not group.over

    def _over(self, group: GroupEpisode, t: int) -> Insight:
        group.over = True
        group.message = explain.group_over(group, t)
        if all(stream.group != group.insight_id for stream in self.streams.values()):
            del self.groups[group.insight_id]
        return _told(group, "closed", t)

    # ------------------------------------------------------------------ state

    def known(self, slots: IntArray) -> IntArray:
        """Positions of the slots that have a memory of episodes."""
        return np.array([index for index, slot in enumerate(slots.tolist()) if slot in self.series], np.int64)

    def dump(self, slots: IntArray) -> bytes:
        """Memories of these slots, ``ROW_BYTES`` each."""
        rows = np.zeros(len(slots), _ROW)
        for row, slot in zip(rows, slots.tolist(), strict=True):
            one = self.series[slot]
            for place, start in enumerate(one.starts):
                row["starts"][place] = (start.at, start.span, start.size, start.side)
            row["count"] = len(one.starts)
            for name in ("side", "period", "told", "last", "span", "limit"):
                row[name] = getattr(one, name)
        return rows.tobytes()

    def restore(self, slots: IntArray, data: bytes | memoryview) -> None:
        """Bring in dumped memories; what cannot be one is left out."""
        for slot, row in zip(slots.tolist(), np.frombuffer(data, _ROW), strict=True):
            count, period, limit = int(row["count"]), int(row["period"]), float(row["limit"])
            self.series.pop(slot, None)
            if not 0 < count <= KEPT or period not in (0, DAY, WEEK) or not 0 <= limit < math.inf:
                continue
            starts = [Start(int(s["at"]), int(s["span"]), float(s["size"]), int(s["side"])) for s in row["starts"][:count]]
            if any(not 0 <= s.size < math.inf or s.side not in (-1, 1) or s.span < 0 for s in starts):
                continue
            one = Series(starts, period, int(row["side"]), int(row["told"]), int(row["last"]), int(row["span"]), limit)
            self.series[slot] = one

    def adopt(
        self,
        episodes: dict[tuple[str, str, str], Episode],
        groups: list[GroupEpisode],
        streams: list[Stream],
        keep: Callable[[str], bool],
    ) -> None:
        """Take over groups and streams in place of those of the resources that ``keep`` tells.

        Members are counted from the open episodes, so that a child shard has those of its own hosts only.
        """
        self.groups = {key: one for key, one in self.groups.items() if not keep(one.resource)}
        self.groups |= {one.insight_id: one for one in groups[: 4 * MAX_GROUPS]}
        for one in self.groups.values():
            one.open = 0
        for episode in episodes.values():
            group = self.groups.get(episode.bound().group)
            if group is not None:
                group.open += 1
        self.streams = {}
        for stream in streams[:MAX_STREAMS]:
            if 0 <= stream.weight < math.inf and stream.side in (-1, 1):
                self.streams[stream.metric, stream.side] = stream
                stream.starts = [one for one in stream.starts[-MAX_STARTS:] if keep(one[1])]


def _member_of(group: GroupEpisode) -> Explained:
    return Explained(QUIET, explain.GROUP_MEMBER, group=group.insight_id)


def _recurrence(known: Series, resource: str, series: str, metric: str) -> Episode:
    return Episode(
        kind="recurrence",
        resource=resource,
        series=series,
        metric=metric,
        opened_at=known.told,
        peak_at=known.told,
        last_abnormal=known.last,
        severity=SEVERITY_ORDER["LOW"],
        revision=0,
        insight_id=insight_id("recurrence", resource, series, NAME, known.told),
        detector=NAME,
        detector_version=VERSION,
        score=SEVERITY_SCORES[0],
    )


def _told(episode: Episode, transition: Literal["opened", "escalated", "updated", "closed"], at: int) -> Insight:
    episode.evidence = {episode.kind: 1.0}
    return revise(
        episode,
        transition,
        at=at,
        message=explain.whole(episode.message, episode.evidence, explain.NO_CHANCE),
        confidence=95,  # the chance bound is far below; what a pattern means is still a guess
        rarity=explain.NO_CHANCE,
        closed_at=at if transition == "closed" else None,
    )
