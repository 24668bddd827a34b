"""The scoring core: (state of a shard, events) to insights.

A pure function of the record order. Neither AWS, nor the clock, nor randomness, nor the
environment is known here: time is event time. The same events in the same order per resource give
the same insights and the same state, bit for bit, however they are cut into batches.

Time on a shard
    The *watermark* is the largest event time so far, each event's held back to the arrival of its
    record. The *active clock* counts the minutes in which the shard was fed: it follows the
    watermark but passes at most ``LONGEST_STEP`` minutes at a time, so that a pause of the whole
    stream is not taken for the silence of every host. Silence is judged where the watermark
    crosses a minute.
Late events
    An event that is not later than its series' last one is counted and not scored.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from sys import intern
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.events import AlarmSignal, Feedback, Tick
from schemas.insights import SEVERITY_ORDER, Insight
from stream_processors import explain
from stream_processors.correlations import Correlations
from stream_processors.counters import Counters, is_level, rate_unit
from stream_processors.detectors.base import (
    CALM_LEVEL,
    SEVERITY_SCORES,
    Bank,
    FloatArray,
    IntArray,
    Verdicts,
    enlarged,
    in_order,
)
from stream_processors.detectors.config import DEFAULT_SERIES, MOST_SERIES, OWN, DetectorConfig, Rule
from stream_processors.detectors.correlation_compiled import KERNEL
from stream_processors.episodes import (
    LONGEST_MS,
    QUIET_INTERVALS,
    QUIET_SAMPLES,
    Episode,
    EpisodeKind,
    insight_id,
    revise,
)
from stream_processors.feedback import STEP, Memory, shape_of
from stream_processors.patterns import Patterns
from stream_processors.predictions import Predictions
from stream_processors.records.batch import EventBatch
from stream_processors.series_index import SeriesIndex

MINUTE = 60_000
DAY = 86_400_000
LONGEST_STEP = 2
"""Most minutes by which one event moves the active clock."""
NEVER = np.iinfo(np.int32).max
"""A minute of the active clock that does not come: it is four thousand years away."""
UNSEEN = -(np.iinfo(np.int64).max // 4)
SILENCE_SAMPLES = 60
"""Events a series must have shown before its silence is noticed."""
MISSED_INTERVALS = 3.0
"""A series is silent after this many of its intervals; it is silent alone, and a host pages, after twice as many."""
SHORTEST_PATIENCE = 2
"""Active minutes that a series has at least until it is silent."""
GAP_MARGIN = 0.5
"""A series is silent no sooner than so many intervals after its longest recent gap."""
GAP_STEP = 4.0
"""One gap teaches at most this many intervals, or half more than the longest gap known."""
GAP_CAP = 6.0
"""The longest gap that is remembered as usual, in intervals."""
GAP_MEMORY = 14 * DAY
MAX_ALARMS = 10_000
"""Alarms remembered a shard; the oldest gives way."""

SERIES_BYTES = 2_900
"""Bytes that a series takes in memory beside its detector's row, with what the heap leaves unused (rounded up)."""
SNAPSHOT_BYTES = 850
"""Bytes of a series in a snapshot beside its detector's row: long names, a prediction, relations (rounded up)."""
WRITING = 2
"""Times the bytes of a base that the process grows by while one is put together."""

SERIES_FIELDS = np.dtype(
    [
        ("last", "<i8"),
        ("count", "<i8"),
        ("due", "<i8"),
        ("due_alone", "<i8"),
        ("gap", "<f8"),
        ("interval", "<f8"),
        ("silent", "<i8"),
    ]
)
"""What the core itself keeps of a series, as serialised: last event (epoch ms), events seen, the
active minute at which it is silent with its whole host and alone, longest recent gap and interval
(ms), and 0 reporting, 1 silent alone, 2 silent with its host, 3 the same for twice as long."""


COLUMN_TYPES = {name: SERIES_FIELDS[name].newbyteorder("=") for name in SERIES_FIELDS.names or ()} | {
    "due": np.dtype(np.int32),
    "due_alone": np.dtype(np.int32),
    "silent": np.dtype(np.int8),
}
"""The same in memory, where a million series should take little."""


class SeriesInfo(msgspec.Struct, gc=False):
    """What does not change about a series. It refers to nothing that could refer to it."""

    resource: str
    series: str
    metric: str
    unit: str | None
    dimensions: dict[str, str] | None


@dataclass(slots=True)
class EventVerdicts:
    """Per event of a batch, in its order: what `opsriver score` and replay show."""

    score: FloatArray
    expected_low: FloatArray
    expected: FloatArray
    expected_high: FloatArray
    severity: NDArray[np.int8]
    warming: NDArray[np.bool_]
    episode: list[str]

    @classmethod
    def blank(cls, count: int) -> EventVerdicts:
        """Verdicts of ``count`` events of which nothing is known."""
        unknown = np.full(count, np.nan)
        return cls(
            score=np.zeros(count),
            expected_low=unknown,
            expected=unknown.copy(),
            expected_high=unknown.copy(),
            severity=np.zeros(count, np.int8),
            warming=np.zeros(count, np.bool_),
            episode=[""] * count,
        )


@dataclass(slots=True)
class Outcome:
    """What a batch led to. ``insights`` are revisions in order of the events that caused them.

    ``surplus`` are events of series that a bound keeps out, ``crowded`` those of them that found the shard full.
    """

    insights: list[Insight] = field(default_factory=list)
    scored: int = 0
    late: int = 0
    surplus: int = 0
    crowded: int = 0
    verdicts: EventVerdicts | None = None


def default_banks(config: DetectorConfig | None = None, *, compiled: bool | None = None) -> dict[str, Bank]:
    """The default detector's bank and those of the others that a configuration names, by name.

    The deep detector and river are imported only where a rule names them. ``compiled`` is the seasonal bank's:
    False keeps it to NumPy.
    """
    from stream_processors.detectors.seasonal.bank import SeasonalBank

    banks: dict[str, Bank] = {SeasonalBank.name: SeasonalBank(compiled=compiled)}
    for rule in config.rules if config else ():
        if rule.detector == "deep" and rule.bank not in banks:
            from stream_processors.detectors.deep.bank import DeepBank

            banks[DeepBank.name] = DeepBank()
        elif rule.detector not in OWN and rule.bank not in banks:
            from stream_processors.detectors.river_adapter import river_bank

            banks[rule.bank] = river_bank(rule.detector, rule.parameters)
    return banks


@dataclass(frozen=True, slots=True)
class _Clock:
    """The shard's clocks over a stretch of events: after each, and the minute of the watermark before it.

    ``crossings`` are the events at which the watermark crosses a minute.
    """

    watermark: IntArray
    before: IntArray
    active: IntArray
    crossings: IntArray


@dataclass(frozen=True, slots=True)
class _Taken:
    """Events that are scored, by their places in the stretch.

    ``order`` goes from series to series, each in its own order, with ``first`` true where one begins,
    ``before`` the time of its event before this one, and ``nth`` counting its events; ``in_rounds``
    holds the same places in rounds of ``sizes`` that hold each series at most once, and ``turned``
    where in ``order`` they stand.
    """

    order: IntArray
    first: NDArray[np.bool_]
    before: IntArray
    nth: IntArray
    turned: IntArray
    in_rounds: IntArray
    sizes: IntArray


@dataclass(slots=True)
class _Judged:
    """The values that detectors are given, where one is ``known``, and which are ``rates``; and the rounds, as
    begin and end, that go together, before which the slots of ``anew`` begin again."""

    values: FloatArray
    known: NDArray[np.bool_]
    rates: NDArray[np.bool_]
    anew: dict[int, IntArray]
    parts: list[tuple[int, int]]


_NONE = np.zeros(0, np.int64)
_SERIES = attrgetter("series")


@dataclass(slots=True)
class _Told:
    """Insights of silence: those that ended at an event, and those found at the end of a minute."""

    heard: list[tuple[int, Insight]] = field(default_factory=list)
    judged: list[tuple[int, Insight]] = field(default_factory=list)


class Scorer:
    """State of one shard and the function that moves it on.

    ``room`` is the memory in bytes that the state may take at most, also while it is written as a base; a series
    beyond it is refused like one beyond the configuration's bounds. None: the configuration's bounds alone hold.
    """

    def __init__(
        self,
        config: DetectorConfig | None = None,
        banks: Callable[[], dict[str, Bank]] | None = None,
        *,
        watch_silence: bool = True,
        room: int | None = None,
    ) -> None:
        self.config = config or DetectorConfig()
        self.room = math.inf if room is None else room
        self.most_series = self.config.max_series or (DEFAULT_SERIES if room is None else MOST_SERIES)
        self.banks = banks() if banks else default_banks(self.config)
        self.bank_names = sorted(self.banks)
        self._blank = {}
        for name, bank in self.banks.items():
            bank.append(1)  # row 0 stays fresh: it is what a reused row is set to
            self._blank[name] = bank.dump(np.zeros(1, np.int64))
        self._free_rows: dict[str, list[int]] = {name: [] for name in self.banks}
        self.predictions = Predictions()
        self.counters = Counters()
        self.memory = Memory()
        self.patterns = Patterns(groups=watch_silence)  # both look at the shard as a whole
        self.watch_silence = watch_silence
        self.watermark = 0
        self.active = 0
        self.heard = False
        fast = any(getattr(bank, "compiled", False) for bank in self.banks.values())
        self.resources = SeriesIndex(compiled=fast)
        self.info: list[SeriesInfo | None] = []
        self.correlations = Correlations(self.info)
        self.correlations.bank.compiled = fast and KERNEL.available
        self.episodes: dict[tuple[str, str, str], Episode] = {}
        self.limited: set[str] = set()
        self.alarm_times: dict[tuple[str, str], int] = {}
        self.removed: set[tuple[str, str]] = set()
        self._free: list[int] = []
        self._next_due = NEVER
        size = 64
        self.row = np.zeros(size, np.int32)
        self.bank = np.full(size, -1, np.int16)
        self.core = {name: np.zeros(size, kind) for name, kind in COLUMN_TYPES.items()}
        # What rules set is kept by rule, and of a series only its rule's number.
        self.obeyed = np.zeros(size, np.int32)
        self._numbers: dict[int, int] = {}
        self._by_number: list[Rule] = []
        self.special = np.zeros(0, np.bool_)
        self.floor, self.ceiling, self.allowance = np.zeros(0), np.zeros(0), np.zeros(0)
        self.open = np.zeros(size, np.bool_)
        self.dirty = np.zeros(size, np.bool_)

    # ------------------------------------------------------------------ series

    def series_count(self) -> int:
        """Number of series known."""
        return len(self.info) - len(self._free)

    def _rows_used(self) -> dict[str, int]:
        return {name: len(bank) - 1 - len(self._free_rows[name]) for name, bank in self.banks.items()}

    def resident(self) -> int:
        """Bytes that the series take in memory, about; like ``needs`` a function of the state."""
        rows = self._rows_used()
        return SERIES_BYTES * self.series_count() + sum(self.banks[name].memory_bytes * n for name, n in rows.items())

    def needs(self) -> int:
        """Bytes that the series take at most: in memory, and while all of them are written as a base."""
        rows = self._rows_used()
        without = self.series_count() - sum(rows.values())
        return without * self.weight("off") + sum(self.weight(name) * n for name, n in rows.items())

    def weight(self, bank: str) -> int:
        """Bytes that one series of a bank adds to ``needs``; of no bank where there is none of that name."""
        found = self.banks.get(bank)
        memory, row = (found.memory_bytes, found.row_bytes) if found else (0, 0)
        return SERIES_BYTES + memory + WRITING * (SNAPSHOT_BYTES + row)

    def full(self) -> bool:
        """Whether the shard takes no further series."""
        return self.series_count() >= self.most_series or self.needs() >= self.room

    def ensure(self, resource: str, series: str, metric: str, unit: str | None, dimensions: dict[str, str] | None) -> int:
        """Slot of a series, made where it is new; -1 where a bound forbids another one."""
        slot = self.resources.find(resource, series)
        if slot >= 0:
            return slot
        if self.resources.count(resource) >= self.config.max_series_per_resource or self.full():
            return -1
        sibling = self.info[self.resources.last(resource)] if resource in self.resources else None
        resource = sibling.resource if sibling else resource  # one text for all of them
        # Names of metrics are few: all hosts share their texts.
        info = SeriesInfo(resource, intern(series), intern(metric), unit if unit is None else intern(unit), dimensions)
        rule = self.config.rule(resource, metric)
        if self._free:
            slot = self._free.pop()
            self.info[slot] = info
        else:
            slot = len(self.info)
            self.info.append(info)
            self._grow(slot + 1)
        self.resources.add(resource, info.series, slot)
        for name, column in self.core.items():
            column[slot] = UNSEEN if name == "last" else NEVER if name.startswith("due") else 0
        if rule.bank in self.banks:
            self.bank[slot] = self.bank_names.index(rule.bank)
            self.row[slot] = self._take_row(rule.bank)
        else:
            self.bank[slot] = -1
        self.obey(slot, rule)
        self.predictions.watch(slot, resource, series, metric, unit, dimensions, rule)
        self.correlations.watch(slot, resource, rule)
        self.counters.watch(np.array([slot]), is_level(unit), rule)
        self.open[slot] = False
        self.dirty[slot] = True
        self.removed.discard((resource, series))
        return slot

    def obey(self, slots: int | IntArray, rule: Rule) -> None:
        """What a rule sets of series beside their detector: direction, cap, maintenance, bounds, rate of false alarms."""
        number = self._numbers.get(id(rule))  # the configuration holds every rule once
        if number is None:
            number = self._numbers[id(rule)] = len(self._by_number)
            self._by_number.append(rule)
            special = rule.direction != "both" or rule.at_most != "CRITICAL" or bool(rule.maintenance or rule.bounds)
            low, high = (rule.bounds.low, rule.bounds.high) if rule.bounds else (None, None)
            self.special = np.append(self.special, special)
            self.floor = np.append(self.floor, -np.inf if low is None else low)
            self.ceiling = np.append(self.ceiling, np.inf if high is None else high)
            self.allowance = np.append(self.allowance, rule.false_alarm_rate)
        self.obeyed[slots] = number

    def rule(self, slot: int) -> Rule:
        """The rule that a series obeys."""
        return self._by_number[int(self.obeyed[slot])]

    def _take_row(self, name: str) -> int:
        bank = self.banks[name]
        if self._free_rows[name]:
            row = self._free_rows[name].pop()
            bank.restore(np.array([row]), self._blank[name])
            return row
        bank.append(1)
        return len(bank) - 1

    def _begin_anew(self, slots: IntArray) -> None:
        """Give series whose values mean something else from now on the detector's state of an unseen one."""
        for number, name in enumerate(self.bank_names):
            mine = slots[self.bank[slots] == number]
            if len(mine):
                self.banks[name].restore(self.row[mine].astype(np.int64), self._blank[name] * len(mine))

    def _grow(self, needed: int) -> None:
        self.row = enlarged(self.row, needed, 0)
        self.bank = enlarged(self.bank, needed, -1)
        self.core = {name: enlarged(column, needed, 0) for name, column in self.core.items()}
        self.obeyed = enlarged(self.obeyed, needed, 0)
        self.open = enlarged(self.open, needed, 0)
        self.dirty = enlarged(self.dirty, needed, 0)

    def forget(self, resource: str, series: str) -> None:
        """Drop a series and its detector's state; its slot and row are used again."""
        slot = self.resources.remove(resource, series)
        if self.bank[slot] >= 0:
            self._free_rows[self.bank_names[self.bank[slot]]].append(int(self.row[slot]))
        self.bank[slot] = -1
        self.predictions.drop(slot)
        self.correlations.drop(slot)
        self.memory.forget(slot)
        self.patterns.drop(slot)
        self.core["due"][slot] = self.core["due_alone"][slot] = NEVER
        self.info[slot] = None
        self.open[slot] = self.dirty[slot] = False
        self._free.append(slot)
        self.removed.add((resource, series))

    # ------------------------------------------------------------------ events

    def process(self, batch: EventBatch, *, collect: bool = False) -> Outcome:
        """Score and learn a batch, in its order.

        With ``collect`` the outcome also holds a verdict an event.
        """
        outcome = Outcome()
        count = len(batch)
        if collect:
            outcome.verdicts = EventVerdicts.blank(count)
        timestamps, values = np.asarray(batch.timestamp), np.asarray(batch.value)
        bounded = np.minimum(timestamps, np.asarray(batch.arrival))
        done = 0
        for placed in batch.signals:
            self._events(batch, timestamps, values, bounded, done, placed.before, outcome)
            done = placed.before
            self._signal(placed.signal, outcome)
        self._events(batch, timestamps, values, bounded, done, count, outcome)
        return outcome

    def _events(
        self,
        batch: EventBatch,
        t: IntArray,
        v: FloatArray,
        bounded: IntArray,
        start: int,
        end: int,
        outcome: Outcome,
    ) -> None:
        """Events ``start`` to ``end``, cut where silence must be judged."""
        self.heard = self.heard or start < end
        while start < end:
            clock = self._clock(bounded[start:end]) if self.watch_silence else None
            stop = start + len(clock.active) if clock else end
            self._segment(batch, t, v, clock, start, stop, outcome)
            start = stop

    def _clock(self, bounded: IntArray) -> _Clock:
        """How these events move the shard's clocks, up to and with the first that begins another day."""
        watermark = np.maximum.accumulate(np.maximum(bounded, self.watermark))
        minutes = watermark // MINUTE
        before = np.concatenate([[self.watermark // MINUTE], minutes[:-1]])
        other = np.flatnonzero(minutes * MINUTE // DAY != before * MINUTE // DAY)
        stop = int(other[0]) + 1 if len(other) else len(bounded)
        passed = np.minimum(minutes - before, LONGEST_STEP)[:stop]
        crossings = np.flatnonzero(passed > 0)
        return _Clock(watermark[:stop], before[:stop], self.active + np.cumsum(passed), crossings)

    def _segment(
        self,
        batch: EventBatch,
        t: IntArray,
        v: FloatArray,
        clock: _Clock | None,
        start: int,
        end: int,
        outcome: Outcome,
    ) -> None:
        """Score events, then judge silence among them: neither what is scored nor what is learned depends on it."""
        emitted: list[tuple[int, Insight]] = []
        slots = self._slots(batch, start, end, outcome, emitted)
        size = end - start
        t, v = t[start:end], v[start:end]
        score, level = np.zeros(size), np.zeros(size)
        verdicts: list[Verdicts] = []
        families: list[tuple[str, ...]] = []
        part, place = np.full(size, -1, np.int64), np.zeros(size, np.int64)
        interval = np.full(size, np.nan)
        limits = len(emitted)
        taken = _taken(slots, t, self.core["last"])
        outcome.late += int(np.count_nonzero(slots >= 0)) - len(taken.order)
        outcome.scored += len(taken.order)
        self.dirty[slots[taken.order]] = True
        raw, rates = v, self._rates(slots, t, v, taken)
        v = rates.values
        for opening, closing in rates.parts:
            self._begin_anew(rates.anew.get(opening, _NONE))
            places = taken.in_rounds[taken.sizes[:opening].sum() : taken.sizes[:closing].sum()]
            for number, name in enumerate(self.bank_names):
                chosen, sizes = places, taken.sizes[opening:closing]
                mine = (self.bank[slots[chosen]] == number) & rates.known[chosen]
                if not mine.all():
                    sizes = np.add.reduceat(mine, np.cumsum(sizes) - sizes, dtype=np.int64)
                    chosen, sizes = chosen[mine], sizes[sizes > 0]
                if not len(chosen):
                    continue
                rows = self.row[slots[chosen]].astype(np.int64)
                done = 0
                for found in self.banks[name].steps(rows, t[chosen], v[chosen], sizes):
                    at = chosen[done : done + len(found.score)]
                    done += len(at)
                    score[at], level[at], interval[at] = found.score, found.level, found.interval
                    part[at], place[at] = len(verdicts), np.arange(len(at))
                    verdicts.append(found)
                    families.append(self.banks[name].families)
        # Where no rate is known the series' interval stays what it was at the event before.
        for where in np.flatnonzero(~rates.known[taken.order]).tolist():
            at = taken.order[where]
            interval[at] = self.core["interval"][slots[at]] if taken.first[where] else interval[taken.order[where - 1]]
        if len(self.predictions.bank):
            for chosen in np.split(taken.in_rounds, np.cumsum(taken.sizes)[:-1]):
                self.predictions.step(self.episodes, slots[chosen], t[chosen], raw[chosen], chosen, emitted)
        ordinal = np.zeros(size, np.int64)
        ordinal[taken.order] = self.core["count"][slots[taken.order]] + taken.nth + 1
        silent = _Told()
        if clock is not None:
            silent = self._keep_time(slots, t, interval, taken, clock)
        elif len(taken.order):
            self._together(slots, t, interval, taken, None)
        emitted = [*emitted[:limits], *silent.heard, *emitted[limits:]]
        self.correlations.step(self.episodes, slots, t, v, np.flatnonzero(part >= 0), emitted, self.dirty, self.rule)
        if self.config.rules:
            self._allow(slots, score, level, part, place, verdicts)
        told = self.memory.apply(slots, t, v, score, part, place, verdicts, families)
        self._apply_rules(slots, t, v, score, level, part, place, verdicts)
        self._episodes(slots, t, v, score, level, part, place, verdicts, told, ordinal, rates.rates, emitted, outcome, start)
        emitted += silent.judged
        emitted.sort(key=lambda pair: pair[0])
        outcome.insights.extend(insight for _, insight in emitted)
        if clock is not None:
            self._forget_daily(clock, outcome)
        if outcome.verdicts is not None:
            seen = np.flatnonzero(part >= 0)
            for number, found in enumerate(verdicts):
                here = seen[part[seen] == number]
                take = place[here]
                for name in ("expected_low", "expected", "expected_high", "warming"):
                    getattr(outcome.verdicts, name)[start + here] = getattr(found, name)[take]
            outcome.verdicts.score[start:end] = score
            outcome.verdicts.severity[start:end] = np.searchsorted(SEVERITY_SCORES, score, side="right")

    def _rates(self, slots: IntArray, t: IntArray, v: FloatArray, taken: _Taken) -> _Judged:
        """What detectors are given: rates instead of the values of counters; and which rounds go together."""
        rounds = len(taken.sizes)
        judged = _Judged(v, np.ones(len(v), np.bool_), np.zeros(len(v), np.bool_), {}, [(0, rounds)] if rounds else [])
        if not len(taken.order) or not self.counters.any(slots[taken.order]):
            return judged
        judged.values = v.copy()
        elapsed = np.empty(len(v), np.int64)
        elapsed[taken.order] = t[taken.order] - taken.before
        for number, chosen in enumerate(np.split(taken.in_rounds, np.cumsum(taken.sizes)[:-1])):
            rates = self.counters.step(slots[chosen], elapsed[chosen], v[chosen])
            if rates is None:
                continue
            judged.values[chosen], judged.rates[chosen], judged.known[chosen] = rates.values, rates.counter, rates.known
            if len(rates.anew):
                judged.anew[number] = rates.anew
        if judged.anew or not judged.known.all():
            judged.parts = [(number, number + 1) for number in range(rounds)]
        return judged

    def _slots(
        self, batch: EventBatch, start: int, end: int, outcome: Outcome, emitted: list[tuple[int, Insight]]
    ) -> IntArray:
        resources, shared = batch.resource[start:end], batch.shared[start:end]
        slots = self.resources.find_all(resources, map(_SERIES, shared))
        for index in np.flatnonzero(slots < 0).tolist():
            resource, one = resources[index], shared[index]
            slot = slots[index] = self.ensure(resource, one.series, one.metric, one.unit, one.dimensions)
            if slot < 0:
                outcome.surplus += 1
                # A shard that is full is no fault of the resource: an alarm tells of it.
                if self.resources.count(resource) < self.config.max_series_per_resource:
                    outcome.crowded += 1
                elif resource not in self.limited:
                    emitted.append((index, self._limit(resource, batch.timestamp[start + index])))
        return slots

    def _keep_time(self, slots: IntArray, t: IntArray, interval: FloatArray, taken: _Taken, clock: _Clock) -> _Told:
        """Move the clocks of the shard and of its series, and judge silence where a minute is crossed.

        Mostly nothing is silent at any of these minutes: then the events are taken in together. Else
        they are gone through again, from one minute that must be judged to the next.
        """
        told = _Told()
        if len(taken.order) and self._together(slots, t, interval, taken, clock):
            self.watermark, self.active = int(clock.watermark[-1]), int(clock.active[-1])
            return told
        accepted, begin = np.sort(taken.order), 0
        levels = clock.active[clock.crossings]
        while begin < len(slots):
            # Deadlines that this stretch itself sets lie at least two minutes ahead (``_patience``), so
            # nothing inside it can fall due before `horizon`.
            horizon = min(self._next_due, self.active + SHORTEST_PATIENCE)
            ahead = int(np.searchsorted(clock.crossings, begin))
            crossing = max(ahead, int(np.searchsorted(levels, horizon)))
            stop = int(clock.crossings[crossing]) + 1 if crossing < len(levels) else len(slots)
            heard: list[tuple[int, Insight]] = []
            self._heard(slots[begin:stop], t[begin:stop], clock.active[begin:stop], heard)
            told.heard += [(begin + index, insight) for index, insight in heard]
            here = accepted[np.searchsorted(accepted, begin) : np.searchsorted(accepted, stop)]
            for chosen in _rounds(slots[here]):
                at = here[chosen]
                self._clockwork(slots[at], t[at], clock.active[at], interval[at])
            self.watermark, self.active = int(clock.watermark[stop - 1]), int(clock.active[stop - 1])
            if self.watermark // MINUTE != clock.before[stop - 1] and self.active >= self._next_due:
                judged = Outcome()
                self._find_silent(judged)
                told.judged += [(stop - 1, insight) for insight in judged.insights]
            begin = stop
        return told

    def _together(self, slots: IntArray, t: IntArray, interval: FloatArray, taken: _Taken, clock: _Clock | None) -> bool:
        """Take in events of which none ends a silence and none is missed so long; False where that is not sure."""
        core, order = self.core, taken.order
        s, time, usual = slots[order], t[order], interval[order]
        first, nth = taken.first, taken.nth
        begins = np.flatnonzero(first)
        ends = np.append(begins[1:], len(order)) - 1
        mine = s[ends]
        if clock is None:
            core["count"][mine] += nth[ends] + 1
            core["last"][mine], core["interval"][mine] = time[ends], usual[ends]
            return True
        if core["silent"][mine].any():
            return False
        count = core["count"][s] + nth
        gap = np.where(count > 0, time - taken.before, 0).astype(np.float64)
        typical = np.nan_to_num(usual, nan=0.0)
        longest = _longest(gap, typical, core["gap"][mine], taken)
        active = clock.active[order]

        def deadlines(at: IntArray) -> tuple[IntArray, IntArray]:
            return self._deadlines(s[at], time[at], active[at], count[at] + 1, typical[at], longest[at])

        # Silence is judged after the event that crosses a minute: a series' next event must come before.
        until = clock.active[np.where(np.append(first[1:], True), len(slots), np.roll(order, -1)) - 1]
        apart = np.flatnonzero(until - active >= SHORTEST_PATIENCE)
        if (deadlines(apart)[0] <= until[apart]).any():
            return False
        due, alone = deadlines(ends)
        now = int(clock.active[-1])
        waiting = now >= self._next_due
        if waiting:
            used = len(self.info)
            before = np.full(used, now)
            head = order[begins]
            before[mine] = np.where(head > 0, clock.active[head - 1], self.active)
            silent = core["silent"][:used]
            if ((core["due"][:used] <= before) & (silent == 0)).any() or (
                (core["due_alone"][:used] <= now) & (silent == 2)
            ).any():
                return False
        core["count"][mine] += nth[ends] + 1
        core["last"][mine], core["interval"][mine], core["gap"][mine] = time[ends], usual[ends], longest[ends]
        core["due"][mine], core["due_alone"][mine] = due, alone
        self._next_due = self._earliest(now) if waiting else min(self._next_due, int(due.min()))
        return True

    def _deadlines(
        self, s: IntArray, t: IntArray, active: IntArray, count: IntArray, usual: FloatArray, longest: FloatArray
    ) -> tuple[IntArray, IntArray]:
        """Minutes of the active clock at which series count as silent, with their host and alone."""
        minutes, twice = _patience(t, usual, longest)
        watched = (count >= SILENCE_SAMPLES) & (usual > 0)
        if self.config.rules:
            watched &= np.array([rule.silence for rule in self._by_number], np.bool_)[self.obeyed[s]]
        due, alone = (np.where(watched, np.minimum(active + wait, NEVER), NEVER) for wait in (minutes, twice))
        return due, alone

    def _earliest(self, active: int) -> int:
        """The next minute at which a series, or a host for longer, will be silent."""
        used = len(self.info)
        due, alone, silent = (self.core[name][:used] for name in ("due", "due_alone", "silent"))
        late = np.where((due > active) & (silent == 0), due, np.where(alone > active, alone, NEVER))
        return int(late[(silent == 0) | (silent == 2)].min(initial=NEVER))

    def _clockwork(self, s: IntArray, t: IntArray, active: IntArray, interval: FloatArray) -> None:
        """Move the series' own clocks: last event, usual gap, and when they will count as silent."""
        core = self.core
        gap = np.where(core["count"][s] > 0, t - core["last"][s], 0).astype(np.float64)
        core["last"][s] = t
        core["count"][s] += 1
        core["interval"][s] = interval
        usual = np.nan_to_num(interval, nan=0.0)
        longest = _longer(gap, usual, core["gap"][s])
        core["gap"][s] = longest
        due, core["due_alone"][s] = self._deadlines(s, t, active, core["count"][s], usual, longest)
        core["due"][s] = due
        self._next_due = min(self._next_due, int(due.min()))

    def _apply_rules(
        self,
        slots: IntArray,
        t: IntArray,
        v: FloatArray,
        score: FloatArray,
        level: FloatArray,
        part: IntArray,
        place: IntArray,
        verdicts: list[Verdicts],
    ) -> None:
        """Direction, bounds, maintenance windows and the cap on severity, for the series that have any."""
        if not self.config.rules:
            return
        obeyed = self.obeyed[slots]
        outside = (v < self.floor[obeyed]) | (v > self.ceiling[obeyed])
        for index in np.flatnonzero((part >= 0) & self.special[obeyed] & ((level > 0) | outside)):
            rule = self.rule(int(slots[index]))
            found, at = verdicts[int(part[index])], place[index]
            wrong_way = (rule.direction == "up" and v[index] < found.expected[at]) or (
                rule.direction == "down" and v[index] > found.expected[at]
            )
            if wrong_way or rule.muted(int(t[index])):
                score[index] = level[index] = 0.0
            if outside[index] and not rule.muted(int(t[index])):
                score[index] = max(score[index], SEVERITY_SCORES[2])
                level[index] = max(level[index], SEVERITY_SCORES[2])
                # What is expected lies within the bounds.
                low, high = self.floor[obeyed[index]], self.ceiling[obeyed[index]]
                for band in (found.expected_low, found.expected, found.expected_high):
                    band[at] = min(max(band[at], low), high) if np.isfinite(band[at]) else min(max(v[index], low), high)
            bound = SEVERITY_ORDER[rule.at_most]
            if bound < len(SEVERITY_SCORES):
                score[index] = min(score[index], np.nextafter(SEVERITY_SCORES[bound], 0))

    def _allow(
        self,
        slots: IntArray,
        score: FloatArray,
        level: FloatArray,
        part: IntArray,
        place: IntArray,
        verdicts: list[Verdicts],
    ) -> None:
        """Scores anew, by the calibrated tail, of the series whose rule sets a rate of false alarms.

        HIGH begins where ordinary events show so much evidence as often as the rule allows.
        """
        allowance = self.allowance[self.obeyed[slots]]
        for number, found in enumerate(verdicts):
            here = np.flatnonzero((part == number) & (allowance > 0))
            if not len(here):
                continue
            at = place[here]
            wanted = np.log(np.clip(allowance[here] * np.nan_to_num(found.interval[at]), 1e-12, 0.5))
            judged = np.clip(SEVERITY_SCORES[2] * np.log(found.tail[at]) / wanted, 0.0, 1.0)
            judged[found.warming[at]] = 0.0
            # What the detector holds back, as it comes every day or follows a report, stays held.
            held = score[here] < np.minimum(level[here], SEVERITY_SCORES[2])
            score[here] = np.where(held, np.minimum(judged, score[here]), judged)
            level[here] = judged

    # ------------------------------------------------------------------ episodes

    def _episodes(
        self,
        slots: IntArray,
        t: IntArray,
        v: FloatArray,
        score: FloatArray,
        level: FloatArray,
        part: IntArray,
        place: IntArray,
        verdicts: list[Verdicts],
        told: dict[int, tuple[float, int]],
        ordinal: IntArray,
        rates: NDArray[np.bool_],
        emitted: list[tuple[int, Insight]],
        outcome: Outcome,
        start: int,
    ) -> None:
        """Open, escalate and close the anomalies of the series that show or have one."""
        judged = np.flatnonzero(part >= 0)
        if not len(judged):
            return
        hot = slots[judged[score[judged] >= SEVERITY_SCORES[0]]]
        if len(hot):
            busy = self.open.copy()
            busy[hot] = True
        elif self.open[slots[judged]].any():
            busy = self.open
        else:
            return
        for index in judged[busy[slots[judged]]].tolist():
            slot = int(slots[index])
            if score[index] < SEVERITY_SCORES[0] and not self.open[slot]:
                continue
            found, at = verdicts[int(part[index])], int(place[index])
            self._abnormal_or_not(
                slot,
                int(index),
                int(t[index]),
                float(v[index]),
                float(score[index]),
                float(level[index]),
                found,
                at,
                told.get(int(index), (0.0, 0)),
                int(ordinal[index]),
                bool(rates[index]),
                emitted,
            )
            if outcome.verdicts is not None and self.open[slot]:
                info = self._known(slot)
                outcome.verdicts.episode[start + int(index)] = self.episodes[
                    ("anomaly", info.resource, info.series)
                ].insight_id

    def _abnormal_or_not(
        self,
        slot: int,
        index: int,
        t: int,
        value: float,
        score: float,
        level: float,
        found: Verdicts,
        at: int,
        told: tuple[float, int],
        ordinal: int,
        rate: bool,
        emitted: list[tuple[int, Insight]],
    ) -> None:
        info = self._known(slot)
        key = ("anomaly", info.resource, info.series)
        severity = bisect_right(SEVERITY_SCORES, score)
        episode = self.episodes.get(key)
        if episode is not None:
            # A value out of bounds may open an episode before the series' interval is known.
            episode.interval = episode.interval or float(np.nan_to_num(found.interval[at]))
            gone = episode.interval > 0 and t - episode.last_abnormal > QUIET_INTERVALS * max(episode.interval, 1.0)
            if level < CALM_LEVEL and severity == 0:
                episode.quiet += 1
            elif not gone:
                episode.quiet, episode.last_abnormal = 0, t
            if episode.quiet >= QUIET_SAMPLES or gone or t - episode.opened_at > LONGEST_MS:
                emitted.extend((index, one) for one in self._end_anomaly(key, slot, t))
                episode = None
        shown = episode.shown() if episode is not None else 0
        if episode is not None and self.patterns.grows(episode, value):
            episode.observed, episode.peak_at = value, t
            if severity <= episode.severity and episode.shown() > shown:
                emitted.append((index, self._revise(episode, "escalated", t)))
        if severity == 0:
            return
        if episode is None:
            name = self.bank_names[self.bank[slot]]
            bank = self.banks[name]
            episode = Episode(
                kind="anomaly",
                resource=info.resource,
                series=info.series,
                metric=info.metric,
                opened_at=t,
                peak_at=t,
                last_abnormal=t,
                severity=severity,
                revision=0,
                insight_id=insight_id("anomaly", info.resource, info.series, bank.name, t),
                detector=bank.name,
                detector_version=bank.version,
                unit=rate_unit(info.unit) if rate else info.unit,
                rate=rate,
                dimensions=info.dimensions,
            )
            self._peak(slot, episode, t, value, score, found, at, bank, told, ordinal)
            self.episodes[key] = episode
            self.open[slot] = True
            patterns = self.patterns.opened(self.episodes, slot, episode, episode.interval)
            emitted.append((index, self._revise(episode, "opened", t)))
            emitted.extend((index, one) for one in patterns)
        elif score > episode.score:
            bank = self.banks[episode.detector]
            worse = severity > episode.severity
            episode.severity = max(severity, episode.severity)
            self._peak(slot, episode, t, value, score, found, at, bank, told, ordinal)
            if worse:
                if episode.shown() > shown:
                    emitted.append((index, self._revise(episode, "escalated", t)))
                emitted.extend((index, one) for one in self.patterns.rose(episode, t))

    def _end_anomaly(self, key: tuple[str, str, str], slot: int | None, t: int) -> list[Insight]:
        """Close an anomaly, and the group whose last member it was."""
        episode = self.episodes[key]
        return [self._close(key, t), *self.patterns.closed(slot, episode, t)]

    def _peak(
        self,
        slot: int,
        episode: Episode,
        t: int,
        value: float,
        score: float,
        found: Verdicts,
        at: int,
        bank: Bank,
        told: tuple[float, int],
        ordinal: int,
    ) -> None:
        episode.peak_at, episode.observed, episode.score = t, value, score
        episode.tail = float(found.tail[at])
        known = bool(np.isfinite(found.expected[at]))
        episode.expected_low = float(found.expected_low[at]) if known else None
        episode.expected = float(found.expected[at]) if known else None
        episode.expected_high = float(found.expected_high[at]) if known else None
        episode.interval = float(np.nan_to_num(found.interval[at]))
        bound = self.obeyed[slot]
        by_bound = not self.floor[bound] <= value <= self.ceiling[bound] and found.score[at] * STEP ** told[0] < score
        shares = found.evidence[at]
        episode.evidence = (
            {explain.BOUND: 1.0}
            if by_bound
            else {
                family: round(float(share), 3) for family, share in zip(bank.families, shares, strict=True) if share >= 0.005
            }
        )
        known_for = (ordinal - 1) * episode.interval
        seen = shape_of(t, value, found, at, bank.families)
        self.memory.remember(slot, episode, seen, known_for, told, by_bound=by_bound)

    def _revise(
        self,
        episode: Episode,
        transition: Literal["opened", "escalated", "closed"],
        t: int,
        closed_at: int | None = None,
    ) -> Insight:
        message, confidence = episode.message, 99
        rarity, told = _SPOKE.get(episode.kind, ("", ""))[1], (0.0, 0)
        if episode.kind == "anomaly":
            confidence = explain.confidence(episode.score)
            slot = self.resources.find(episode.resource, episode.series)
            message = explain.anomaly_over(episode, closed_at or t)
            if closed_at is None:
                bounds = self.rule(slot).bounds if slot >= 0 else None
                message = explain.anomaly(episode, bounds=bounds, worse=transition == "escalated")
                if note := episode.bound().note:
                    message = f"{message} {note}"
            kept = self.memory.find(slot, episode.insight_id)
            rarity, told = (kept.rarity, (kept.told, kept.told_at)) if kept else (explain.UNKNOWN, told)
        elif episode.kind == "alarm":
            message = explain.alarm(message, episode.opened_at, closed_at)
        message = explain.whole(message, episode.evidence, rarity, *told)
        return revise(
            episode,
            transition,
            at=t,
            message=message,
            confidence=confidence,
            rarity=rarity,
            closed_at=closed_at,
        )

    def _close(self, key: tuple[str, str, str], t: int) -> Insight:
        episode = self.episodes.pop(key)
        if episode.kind == "anomaly":
            slot = self.resources.find(episode.resource, episode.series)
            if slot >= 0:
                self.open[slot] = False
        return self._revise(episode, "closed", t, closed_at=t)

    def _known(self, slot: int) -> SeriesInfo:
        info = self.info[slot]
        if info is None:  # pragma: no cover - slots in use always have one
            raise LookupError(f"slot {slot} holds no series")
        return info

    def _simple(
        self,
        kind: EpisodeKind,
        resource: str,
        series: str,
        metric: str,
        t: int,
        severity: int,
        message: str,
        *,
        detector: str,
        source: str = "",
        identity: str = "",
        interval: float = 0.0,
    ) -> Episode:
        return Episode(
            kind=kind,
            resource=resource,
            series=series,
            metric=metric,
            opened_at=t,
            peak_at=t,
            last_abnormal=t,
            severity=severity,
            revision=0,
            detector=detector,
            detector_version=1,
            message=message,
            source=source,
            insight_id=insight_id(kind, resource, series + identity, detector, t),
            interval=interval,
            score=1.0,
            evidence={_SPOKE[kind][0] + source: 1.0},
        )

    def _limit(self, resource: str, t: int) -> Insight:
        self.limited.add(resource)
        message = explain.series_limit(resource, self.config.max_series_per_resource)
        episode = self._simple("series-limit", resource, "", "series", t, 2, message, detector="bounds")
        self.episodes["series-limit", resource, ""] = episode
        return self._revise(episode, "opened", t)

    # ------------------------------------------------------------------ silence

    def _forget_daily(self, clock: _Clock, outcome: Outcome) -> None:
        if self.watermark // DAY != int(clock.before[-1]) * MINUTE // DAY:
            self._new_day(outcome)

    def _judge(self, minute_before: int, outcome: Outcome) -> None:
        """Silence and forgetting, when the watermark has crossed a minute."""
        minute = self.watermark // MINUTE
        if minute == minute_before:
            return
        if self.active >= self._next_due:
            self._find_silent(outcome)
        if minute * MINUTE // DAY != minute_before * MINUTE // DAY:
            self._new_day(outcome)

    def _new_day(self, outcome: Outcome) -> None:
        names = {slot: (one.resource, one.series, one.metric) for slot in self.patterns.series if (one := self._known(slot))}
        outcome.insights.extend(self.patterns.day(self.watermark, names, self.dirty))
        self._forget_old(outcome)

    def _find_silent(self, outcome: Outcome) -> None:
        core, used = self.core, len(self.info)
        due, alone, silent = core["due"][:used], core["due_alone"][:used], core["silent"][:used]
        waiting = self._unmuted(np.flatnonzero((due <= self.active) & (silent == 0)))
        hosts = sorted({self._known(slot).resource for slot in waiting})
        for resource in hosts:
            series = self.resources[resource]
            watched = [slot for slot in series.values() if due[slot] < NEVER]
            if all(due[slot] <= self.active or silent[slot] for slot in watched):
                self._host_silent(resource, watched, outcome)
                continue
            for name in sorted(series):
                slot = series[name]
                if silent[slot] == 0 and alone[slot] <= self.active:
                    self._series_silent(slot, outcome)
        longer = self._unmuted(np.flatnonzero((alone <= self.active) & (silent == 2)))
        for resource in sorted({self._known(slot).resource for slot in longer}):
            gone = [slot for slot in self.resources.slots_of(resource) if silent[slot] == 2]
            if all(alone[slot] <= self.active for slot in gone):
                self._host_still_silent(resource, gone, outcome)
        self._next_due = self._earliest(self.active)

    def _unmuted(self, slots: IntArray) -> list[int]:
        """Those outside a maintenance window; the others are asked again each minute, until theirs is over."""
        chosen: list[int] = slots.tolist()
        if not self.config.rules:
            return chosen
        muted = [slot for slot in chosen if self.rule(slot).muted(self.watermark)]
        for name in ("due", "due_alone"):
            self.core[name][muted] = np.maximum(self.core[name][muted], self.active + 1)
        self.dirty[muted] = True
        return [slot for slot in chosen if slot not in set(muted)]

    def _host_silent(self, resource: str, slots: list[int], outcome: Outcome) -> None:
        last = max(int(self.core["last"][slot]) for slot in slots)
        interval = max(float(self.core["interval"][slot]) for slot in slots)
        for slot in slots:
            if self.core["silent"][slot] == 1:
                info = self._known(slot)
                outcome.insights.append(self._close(("silence", resource, info.series), last))
            self.core["silent"][slot] = 2
            self.dirty[slot] = True
        pause = max(float(self.core["gap"][slot]) for slot in slots)
        message = explain.silence(resource, "", last, interval, pause)
        episode = self._simple(
            "silence",
            resource,
            "",
            "*",
            last + round(interval),
            min(2, self._cap(slots)),
            message,
            detector="silence",
            interval=interval,
        )
        episode.last_abnormal = last
        self.episodes["silence", resource, ""] = episode
        outcome.insights.append(self._revise(episode, "opened", self.watermark))

    def _cap(self, slots: list[int]) -> int:
        """The worst severity that the rules of some series allow."""
        return max(SEVERITY_ORDER[self.rule(slot).at_most] for slot in slots)

    def _host_still_silent(self, resource: str, slots: list[int], outcome: Outcome) -> None:
        """A host that is silent for twice as long pages: until then it may have been restarted."""
        for slot in slots:
            self.core["silent"][slot] = 3
            self.dirty[slot] = True
        episode = self.episodes.get(("silence", resource, ""))
        severity = min(3, self._cap(slots))
        if episode is not None and episode.severity < severity:
            episode.severity, episode.peak_at = severity, self.watermark
            pause = max(float(self.core["gap"][slot]) for slot in slots)
            episode.message = explain.silence(resource, "", episode.last_abnormal, episode.interval, pause, still=True)
            outcome.insights.append(self._revise(episode, "escalated", self.watermark))

    def _series_silent(self, slot: int, outcome: Outcome) -> None:
        info = self._known(slot)
        last, interval = int(self.core["last"][slot]), float(self.core["interval"][slot])
        self.core["silent"][slot] = 1
        self.dirty[slot] = True
        message = explain.silence(info.resource, info.series, last, interval, float(self.core["gap"][slot]))
        episode = self._simple(
            "silence",
            info.resource,
            info.series,
            info.metric,
            last + round(interval),
            min(2, SEVERITY_ORDER[self.rule(slot).at_most]),
            message,
            detector="silence",
            interval=interval,
        )
        episode.last_abnormal = last
        self.episodes["silence", info.resource, info.series] = episode
        outcome.insights.append(self._revise(episode, "opened", self.watermark))

    def _heard(self, slots: IntArray, t: IntArray, active: IntArray, emitted: list[tuple[int, Insight]]) -> None:
        """End the silence of series, and of hosts, that report again."""
        valid = np.flatnonzero(slots >= 0)
        for index in valid[self.core["silent"][slots[valid]] != 0]:
            slot = int(slots[index])
            state = int(self.core["silent"][slot])
            if state == 0 or t[index] <= self.core["last"][slot]:  # its host was heard just before; a late event
                continue
            info = self._known(slot)
            series = info.series if state == 1 else ""
            self._expect_again([slot] if state == 1 else self.resources.slots_of(info.resource), int(active[index]))
            episode = self.episodes.get(("silence", info.resource, series))
            if episode is not None:
                now = int(t[index])
                episode.message = explain.silence_over(info.resource, series, episode.last_abnormal, now)
                emitted.append((int(index), self._close(("silence", info.resource, series), now)))

    def _expect_again(self, slots: list[int], active: int) -> None:
        for slot in slots:
            if self.core["silent"][slot]:
                self.core["silent"][slot] = 0
                # Counted from now, which is some part of a minute after its beginning, as the last event was.
                last, usual, gap = (self.core[name][slot : slot + 1] for name in ("last", "interval", "gap"))
                minutes, twice = (int(part[0]) for part in _patience(last, usual, gap))
                self.core["due"][slot], self.core["due_alone"][slot] = active + minutes, active + twice
                self._next_due = min(self._next_due, active + minutes)
                self.dirty[slot] = True

    def _forget_old(self, outcome: Outcome) -> None:
        horizon = self.watermark - self.config.forget_after_days * DAY
        used = len(self.info)
        old = [
            (info.resource, info.series)
            for slot in np.flatnonzero(self.core["last"][:used] < horizon)
            if (info := self.info[int(slot)]) is not None
        ]
        for resource, series in sorted(old):
            slot = self.resources.find(resource, series)
            for key in [(kind, resource, series) for kind in ("anomaly", "silence", "prediction")]:
                if key in self.episodes:
                    self.episodes[key].message = f"{series} of {resource} has not reported for long and is forgotten."
                    if key[0] == "anomaly":
                        outcome.insights.extend(self._end_anomaly(key, slot, self.watermark))
                    else:
                        outcome.insights.append(self._close(key, self.watermark))
            outcome.insights.extend(self.patterns.end(slot, resource, series, self._known(slot).metric, self.watermark))
            self.forget(resource, series)
            if resource not in self.resources:
                for kind in ("silence", "series-limit", "correlation"):
                    if (kind, resource, "") in self.episodes:
                        self.episodes[kind, resource, ""].message = f"{resource} has not reported for long and is forgotten."
                        outcome.insights.append(self._close((kind, resource, ""), self.watermark))
                self.limited.discard(resource)
        self.alarm_times = {key: last for key, last in self.alarm_times.items() if last >= horizon}

    # ------------------------------------------------------------------ signals

    def _signal(self, signal: AlarmSignal | Tick | Feedback, outcome: Outcome) -> None:
        if isinstance(signal, Tick):
            self._advance(signal.timestamp, outcome)
        elif isinstance(signal, AlarmSignal):
            self._alarm(signal, outcome)
        else:
            slot = self.resources.find(signal.resource, signal.series)
            if slot >= 0 and self.memory.judge(slot, signal, max(signal.timestamp, self.watermark)):
                self.dirty[slot] = True

    def _advance(self, timestamp: int, outcome: Outcome) -> None:
        """A tick counts only where nothing else has come since the one before: events tell the time better."""
        heard, self.heard = self.heard, False
        if heard or not self.watch_silence or timestamp <= self.watermark:
            return
        before = self.watermark // MINUTE
        self.watermark = timestamp
        self.active += min(timestamp // MINUTE - before, LONGEST_STEP)
        self._judge(before, outcome)

    def _alarm(self, signal: AlarmSignal, outcome: Outcome) -> None:
        key = ("alarm", signal.resource, signal.name)
        severity = SEVERITY_ORDER[signal.severity]
        episode = self.episodes.get(key)
        if signal.active is not None:
            # EventBridge may deliver twice and out of order: an alarm's state never goes back in time.
            if signal.timestamp <= self.alarm_times.get(key[1:], UNSEEN):
                return
            self.alarm_times[key[1:]] = signal.timestamp
            if len(self.alarm_times) > MAX_ALARMS:
                oldest = min(self.alarm_times, key=lambda k: (self.alarm_times[k], k))
                del self.alarm_times[oldest]
        if signal.active is False:
            if episode is not None:
                episode.message = signal.message
                outcome.insights.append(self._close(key, signal.timestamp))
            return
        if episode is not None:
            if severity > episode.severity:
                episode.severity, episode.message, episode.peak_at = (
                    severity,
                    signal.message,
                    signal.timestamp,
                )
                outcome.insights.append(self._revise(episode, "escalated", signal.timestamp))
            return
        identity = "" if signal.active else f"#{signal.event_id}"
        episode = self._simple(
            "alarm",
            signal.resource,
            signal.name,
            signal.name,
            signal.timestamp,
            severity,
            signal.message,
            detector=signal.detail_type,
            source=signal.source,
            identity=identity,
        )
        if signal.active is None:  # an event has no end: it is told once, already over
            outcome.insights.append(self._revise(episode, "opened", signal.timestamp, closed_at=signal.timestamp))
            return
        alarms = [k for k in self.episodes if k[0] == "alarm"] if len(self.episodes) >= MAX_ALARMS else []
        if len(alarms) >= MAX_ALARMS:
            oldest_open = min(alarms, key=lambda k: (self.episodes[k].opened_at, k))
            outcome.insights.append(self._close(oldest_open, signal.timestamp))
        self.episodes[key] = episode
        outcome.insights.append(self._revise(episode, "opened", signal.timestamp))


_SPOKE: dict[str, tuple[str, str]] = {
    "silence": ("silence", explain.SILENT),
    "alarm": ("alarm of ", explain.BY_SOURCE),
    "series-limit": ("number of series", explain.BY_LIMIT),
}
"""What speaks for an insight that no detector of values made, and how rare it is."""


def _rounds(slots: IntArray) -> list[IntArray]:
    """Positions of the events in rounds that hold each series at most once, order kept a series.

    A round goes through its series in the order of their slots, and so through memory in one direction.
    """
    valid = np.flatnonzero(slots >= 0)
    if not len(valid):
        return []
    order = valid[in_order(slots[valid])]
    first = _begins(slots[order])
    if first.all():
        return [order]
    nth = _nth(first)
    return np.split(order[in_order(nth)], np.cumsum(np.bincount(nth))[:-1])


def _taken(slots: IntArray, t: IntArray, last: IntArray) -> _Taken:
    """The events that are later than their series' last one, in rounds.

    A round goes through its series in the order of their slots, and so through memory in one direction.
    """
    valid = np.flatnonzero(slots >= 0)
    order = valid[in_order(slots[valid])]
    first = _begins(slots[order])
    time = t[order]
    before = np.where(first, last[slots[order]], np.roll(time, 1))
    if (time <= before).any():
        kept, latest = [], 0
        for begin, now, known in zip(first.tolist(), time.tolist(), before.tolist(), strict=True):
            latest = known if begin else latest
            kept.append(now > latest)
            latest = max(now, latest)
        order = order[np.array(kept, np.bool_)]
        first = _begins(slots[order])
        before = np.where(first, last[slots[order]], np.roll(t[order], 1))
    nth = _nth(first)
    turned = in_order(nth)
    return _Taken(order, first, before, nth, turned, order[turned], np.bincount(nth))


def _begins(ordered: IntArray) -> NDArray[np.bool_]:
    """True where a value differs from the one before it."""
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return first


def _nth(first: NDArray[np.bool_]) -> IntArray:
    """How many places each is behind the last one that is true."""
    places = np.arange(len(first))
    return places - np.maximum.accumulate(np.where(first, places, 0))


def _longer(gap: FloatArray, usual: FloatArray, known: FloatArray) -> FloatArray:
    """The longest recent gap, from that ``known`` before this gap.

    A restart is one long gap among regular ones; an irregular series shows long gaps again and again.
    """
    return _lengthened(known, gap, *_bounds_of(gap, usual))


def _bounds_of(gap: FloatArray, usual: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What a gap teaches at most and at least, and what is left of the longest one known by its end."""
    return GAP_CAP * usual, GAP_STEP * usual, 1.0 - np.minimum(gap, GAP_MEMORY) / GAP_MEMORY


def _lengthened(known: FloatArray, gap: FloatArray, most: FloatArray, least: FloatArray, left: FloatArray) -> FloatArray:
    bound = np.minimum(most, np.maximum(least, 1.5 * known))
    longest: FloatArray = np.maximum(np.minimum(gap, bound), known * left)
    return longest


def _patience(t: IntArray, interval: FloatArray, gap: FloatArray) -> tuple[IntArray, IntArray]:
    """Active minutes from an event until its series is silent, and until it is so for long.

    Silence is judged where a minute begins: the first one later than the wait, so that an event which is
    due at that very time has been missed.
    """
    wait = np.maximum(MISSED_INTERVALS * interval, gap + np.maximum(GAP_MARGIN * interval, 0.5 * gap - interval))
    longer = np.maximum(2.0 * MISSED_INTERVALS * interval, 1.5 * wait)
    into = t % MINUTE
    minutes, twice = (np.floor((into + span) / MINUTE).astype(np.int64) + 1 for span in (wait, longer))
    # The horizon of a stretch without a judgement is two minutes; a deadline lies beyond it.
    return np.maximum(minutes, SHORTEST_PATIENCE), np.maximum(twice, SHORTEST_PATIENCE + 1)


def _longest(gap: FloatArray, usual: FloatArray, known: FloatArray, taken: _Taken) -> FloatArray:
    """The longest recent gap after each event, from those ``known`` of the series, a round at a time."""
    turned = taken.turned
    gap = gap[turned]
    bounds = _bounds_of(gap, usual[turned])
    found, longest, begin = np.empty(len(gap)), known, 0
    for size in taken.sizes.tolist():
        end = begin + size
        if begin and size < len(longest):
            longest = found[turned[begin:end] - 1]
        longest = _lengthened(longest, gap[begin:end], *(bound[begin:end] for bound in bounds))
        found[turned[begin:end]] = longest
        begin = end
    return found
