"""What people said of insights, and what it does to the next anomaly of the same shape.

A *shape* is a coarse fingerprint of an anomaly: the side on which the value lies, which families of
evidence spoke and by how much, how far it lies beyond the expected band, and the time of day. An
insight's shapes are kept when it is raised, so that a verdict can be mapped to them hours or weeks
later. A verdict makes a *mark* of them: what matches a false alarm needs more to be reported, what
matches a missed anomaly less. The detectors' own state is left alone, so that whatever has another
shape is judged bit for bit as before.

Knows neither AWS nor the clock: time is event time.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.events import Feedback
from schemas.insights import Severity
from stream_processors import explain
from stream_processors.detectors.base import SEVERITY_SCORES, FloatArray, IntArray, Verdicts
from stream_processors.episodes import Episode, severity_name

STEP = 1.5
"""A mark divides the score of what matches a false alarm by this, and multiplies that of what was missed."""
MOST = 2.0
"""Marks add up to at most this many steps, either way: CRITICAL (0.75) stays at least LOW (0.75 / 1.5² = 0.33)."""
FADE = 90 * 86_400_000
"""A mark loses its weight evenly over this time, and is gone then."""
KEPT = 8
"""Insights without a verdict that are remembered a series, and as many with one; the oldest give way."""
ALIKE = 10
"""Shares must agree in so many sixteenths, 60 %."""
NEAR = 6
"""Half-hours by which times of day may differ; a mark counts half beyond them."""
ELSEWHERE = 0.5
"""Weight of a mark at another time of day, and of one of no shape."""
ABOUT = 15 * 60_000
"""A missed anomaly that names no insight is the one that began at most this long before or after its time."""
SIXTEENTHS = 16
_LARGEST = 63
_FLOOR = SEVERITY_SCORES[0] / STEP**MOST
"""Scores below this are not reported, whatever the marks say."""
_HALF_HOUR, _HALF_HOURS = 1_800_000, 48

_Name = Annotated[str, msgspec.Meta(max_length=512)]
_Verdict = Annotated[int, msgspec.Meta(ge=-1, le=1)]
_Time = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]


class Shape(msgspec.Struct, frozen=True):
    """Fingerprint of an anomaly at one moment.

    ``side`` is 1 above the expected band, -1 below, 0 inside. ``size`` counts half octaves: 0 inside the
    band, 1 from its edge on, 3 at twice the distance of its edge from the expected value. ``half_hour`` is
    the one of the day, in UTC. ``shares`` are the families' in sixteenths.
    """

    side: _Verdict
    size: Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]
    half_hour: Annotated[int, msgspec.Meta(ge=0, lt=_HALF_HOURS)]
    shares: Annotated[dict[_Name, Annotated[int, msgspec.Meta(ge=1, le=SIXTEENTHS)]], msgspec.Meta(max_length=64)]


class Remembered(msgspec.Struct):
    """A reported insight and what was said of it; without ``insight_id`` a verdict on the series itself.

    ``shapes`` are those in which it was reported, by severity; ``score`` is its highest, before verdicts
    changed it, and ``rarity`` how rare that is, in words. ``told`` are the steps by which earlier verdicts
    raised it or, below zero, lowered it, ``told_at`` when the latest of these was heard. ``said`` is the
    latest verdict on this insight, -1 false positive and 1 missed, ``mark`` what all of them come to, ``at``
    when the latest was heard. Times are epoch ms.
    """

    insight_id: Annotated[str, msgspec.Meta(max_length=64)]
    opened_at: _Time
    shapes: dict[Severity, Shape]
    score: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    rarity: Annotated[str, msgspec.Meta(max_length=100)] = ""
    told: Annotated[float, msgspec.Meta(ge=-MOST, le=MOST)] = 0.0
    told_at: _Time = 0
    said: _Verdict = 0
    mark: _Verdict = 0
    at: _Time = 0


class SeriesMemory(msgspec.Struct, frozen=True):
    """The remembered insights of one series in a snapshot; ``series`` is its position in the body."""

    series: Annotated[int, msgspec.Meta(ge=0)]
    insights: Annotated[list[Remembered], msgspec.Meta(max_length=2 * KEPT)]


def shape(
    t: int, value: float, low: float, expected: float, high: float, families: tuple[str, ...], shares: FloatArray
) -> Shape:
    """Fingerprint of an anomalous value with its band and the families' shares; the band may be NaN."""
    side = 1 if value > high else -1 if value < low else 0
    size = 0
    if side:
        distance, width = abs(value - expected), high - expected if side > 0 else expected - low
        ratio = distance / width if width > 0 and distance < math.inf else math.inf
        size = min(_LARGEST, 1 + int(2 * math.log2(max(ratio, 1.0)))) if ratio < math.inf else _LARGEST
    quantised = {
        family: sixteenths
        for family, share in zip(families, shares.tolist(), strict=True)
        if (sixteenths := min(SIXTEENTHS, round(SIXTEENTHS * share)) if share > 0 else 0) > 0
    }
    return Shape(side, size, t // _HALF_HOUR % _HALF_HOURS, quantised)


def likeness(marked: Shape, seen: Shape, mark: int) -> float:
    """Weight, 0 to 1, by which a mark on one shape speaks of another.

    A false alarm speaks of what is at most half an octave larger, and a missed anomaly of what is at most half
    an octave smaller: something larger than a false alarm is reported as ever.
    """
    if marked.side * seen.side < 0 or (seen.size - marked.size) * mark < -1:
        return 0.0
    if sum(min(share, seen.shares.get(family, 0)) for family, share in marked.shares.items()) < ALIKE:
        return 0.0
    apart = abs(marked.half_hour - seen.half_hour)
    return 1.0 if min(apart, _HALF_HOURS - apart) <= NEAR else ELSEWHERE


class Memory:
    """Reported insights and marks of a shard's series, by the slots of the scoring core."""

    def __init__(self) -> None:
        self.of: dict[int, list[Remembered]] = {}
        self.marked: NDArray[np.bool_] = np.zeros(64, np.bool_)
        self._any = False

    def forget(self, slot: int) -> None:
        """A slot holds no series any more, or is about to be restored."""
        self.of.pop(slot, None)
        self._look(slot)

    def restore(self, slot: int, insights: list[Remembered]) -> None:
        """Set what is remembered of a slot's series."""
        self.of[slot] = insights
        self._look(slot)

    def _look(self, slot: int) -> None:
        marked = any(one.mark for one in self.of.get(slot, ()))
        if slot >= len(self.marked):
            self.marked = np.concatenate(
                [self.marked, np.zeros(max(len(self.marked), slot + 1 - len(self.marked)), np.bool_)]
            )
        if marked != self.marked[slot]:
            self.marked[slot] = marked
            self._any = bool(self.marked.any())

    # ------------------------------------------------------------------ insights

    def remember(
        self, slot: int, episode: Episode, seen: Shape, known_for: float, told: tuple[float, int], *, by_bound: bool
    ) -> None:
        """Keep the shape in which an episode is reported, or of its worst value so far.

        ``known_for`` is the time in milliseconds for which the series is known, ``told`` is of ``apply``.
        """
        insights = self.of.setdefault(slot, [])
        found = self.find(slot, episode.insight_id)
        if found is None:
            found = Remembered(episode.insight_id, episode.opened_at, {})
            insights.append(found)
            self._trim(slot, episode.opened_at)
        found.shapes[severity_name(episode.severity)] = seen
        found.told, found.told_at = told
        found.score = max(found.score, min(1.0, episode.score / STEP**found.told))
        found.rarity = explain.BY_BOUND if by_bound else explain.rarity(found.score, *self._record(slot, found, known_for))

    def find(self, slot: int, insight_id: str) -> Remembered | None:
        """What is remembered of an insight."""
        return next((one for one in reversed(self.of.get(slot, ())) if one.insight_id == insight_id), None)

    def _record(self, slot: int, now: Remembered, known_for: float) -> tuple[list[float], float]:
        """Scores of the series' earlier insights, and over how many days they came.

        Where insights had to give way to later ones the time is that since the oldest of those that are left.
        """
        earlier = [
            one for one in self.of[slot] if one.insight_id and one is not now and 0 <= now.opened_at - one.opened_at < FADE
        ]
        span = min(known_for, float(FADE))
        if len(earlier) >= KEPT:
            span = min(span, float(now.opened_at - min(one.opened_at for one in earlier)))
        return [one.score for one in earlier], span / 86_400_000

    def _trim(self, slot: int, now: int) -> None:
        """Leave out what is too old, and the oldest of what is too much."""
        insights = self.of[slot]
        insights[:] = [one for one in insights if now - max(one.opened_at, one.at) < FADE]
        for said in (False, True):
            mine = [one for one in insights if bool(one.said) is said]
            for one in sorted(mine, key=lambda one: (max(one.opened_at, one.at), one.insight_id))[:-KEPT]:
                insights.remove(one)
        if not insights:
            del self.of[slot]
        self._look(slot)

    # ------------------------------------------------------------------ verdicts

    def judge(self, slot: int, signal: Feedback, now: int) -> bool:
        """Take in a verdict, at event time ``now``; False where its insight is not remembered, and nothing is learned.

        The same verdict twice counts once. The contrary one takes it back, and the first again restores it.
        """
        verdict = 1 if signal.verdict == "missed" else -1
        insights = self.of.setdefault(slot, [])
        found = self.find(slot, signal.insight_id) if signal.insight_id else None
        if found is None and signal.insight_id:
            if not insights:
                del self.of[slot]
            return False
        if found is None:
            found = next((one for one in insights if not one.insight_id and one.opened_at == signal.timestamp), None)
        if found is None:
            found = self._meant(insights, signal.timestamp, verdict)
        if found is None:
            found = Remembered("", signal.timestamp, {})
            insights.append(found)
        if found.said != verdict:
            found.said, found.at = verdict, now
            found.mark += verdict
        self._trim(slot, now)
        return True

    @staticmethod
    def _meant(insights: list[Remembered], at: int, verdict: int) -> Remembered | None:
        """The insight that is meant where none is named: a false alarm is the latest, a missed one began about then."""
        reported = [one for one in insights if one.insight_id and one.opened_at <= at + (ABOUT if verdict > 0 else 0)]
        found = max(reported, key=lambda one: (one.opened_at, one.insight_id), default=None)
        return None if found is None or (verdict > 0 and at - found.opened_at > ABOUT) else found

    # ------------------------------------------------------------------ scores

    def apply(
        self,
        slots: IntArray,
        t: IntArray,
        v: FloatArray,
        score: FloatArray,
        part: IntArray,
        place: IntArray,
        verdicts: list[Verdicts],
        families: list[tuple[str, ...]],
    ) -> dict[int, tuple[float, int]]:
        """Lower and raise the scores of events whose shape was marked; arguments as in the scoring core.

        ``families`` are those of each entry of ``verdicts``. Returns the steps and the time of the verdict by event.
        """
        told: dict[int, tuple[float, int]] = {}
        if not self._any:
            return told
        known = np.flatnonzero((part >= 0) & (score >= _FLOOR) & (slots < len(self.marked)))
        for index in known[self.marked[slots[known]]].tolist():
            found, at = verdicts[int(part[index])], int(place[index])
            seen = shape_of(int(t[index]), float(v[index]), found, at, families[int(part[index])])
            steps, said_at = self._steps(int(slots[index]), seen, int(t[index]))
            if steps:
                score[index] = min(1.0, float(score[index]) * STEP**steps)
                told[index] = steps, said_at
        return told

    def _steps(self, slot: int, seen: Shape, t: int) -> tuple[float, int]:
        """Steps by which a shape is raised (or, below zero, lowered), and the time of the latest verdict that says so."""
        parts = []
        for one in self.of[slot]:
            if not one.mark:
                continue
            alike = max((likeness(shape, seen, one.mark) for shape in one.shapes.values()), default=0.0)
            weight = alike if one.insight_id else ELSEWHERE
            fading = min(1.0, max(0.0, 1.0 - (t - one.at) / FADE))
            if weight * fading > 0.0:
                parts.append((one.mark * weight * fading, one.at))
        steps = math.fsum(part for part, _ in parts)
        steps = min(MOST, max(-MOST, steps))
        return steps, max((at for part, at in parts if part * steps > 0), default=0)


def shape_of(t: int, value: float, found: Verdicts, at: int, families: tuple[str, ...]) -> Shape:
    """Fingerprint of one event of a bank's verdicts."""
    low, expected, high = (float(band[at]) for band in (found.expected_low, found.expected, found.expected_high))
    return shape(t, value, low, expected, high, families, found.evidence[at])
