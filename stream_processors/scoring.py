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

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from schemas.events import AlarmSignal, Feedback, Tick
from schemas.insights import SEVERITY_ORDER, Insight
from stream_processors import explain
from stream_processors.correlations import Correlations
from stream_processors.counters import Counters, rate_unit
from stream_processors.detectors.base import SEVERITY_SCORES, Bank, FloatArray, IntArray, Verdicts
from stream_processors.detectors.config import OWN, DetectorConfig, Rule
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

MINUTE = 60_000
DAY = 86_400_000
DAY_MINUTES = DAY // MINUTE
LONGEST_STEP = 2
"""Most minutes by which one event moves the active clock."""
NEVER = np.iinfo(np.int64).max // 4
UNSEEN = -NEVER
SILENCE_SAMPLES = 60
"""Events a series must have shown before its silence is noticed."""
MISSED_INTERVALS = 3.0
"""A series is silent after this many of its intervals, or after ``GAP_FACTOR`` of its longest recent gap."""
GAP_FACTOR = 1.5
GAP_CAP = 6.0
"""The longest gap that is remembered as usual, in intervals."""
GAP_MEMORY = 14 * DAY
MAX_ALARMS = 10_000
"""Alarms remembered a shard; the oldest gives way."""
CALM_LEVEL = SEVERITY_SCORES[0] * 2 / 3
"""Evidence below this counts as ordinary while an episode is open."""

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


@dataclass(slots=True)
class SeriesInfo:
    """What does not change about a series."""

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
    """What a batch led to. ``insights`` are revisions in order of the events that caused them."""

    insights: list[Insight] = field(default_factory=list)
    scored: int = 0
    late: int = 0
    surplus: int = 0
    verdicts: EventVerdicts | None = None


def default_banks(config: DetectorConfig | None = None, *, compiled: bool | None = None) -> dict[str, Bank]:
    """The default detector's bank and those of the river models that a configuration names, by name.

    river is imported only where a rule names one of its models. ``compiled`` is the seasonal bank's:
    False keeps it to NumPy where numba is installed.
    """
    from stream_processors.detectors.seasonal.bank import SeasonalBank

    banks: dict[str, Bank] = {SeasonalBank.name: SeasonalBank(compiled=compiled)}
    for rule in config.rules if config else ():
        if rule.detector not in OWN and rule.bank not in banks:
            from stream_processors.detectors.river_adapter import river_bank

            banks[rule.bank] = river_bank(rule.detector, rule.parameters)
    return banks


class Scorer:
    """State of one shard and the function that moves it on."""

    def __init__(
        self,
        config: DetectorConfig | None = None,
        banks: Callable[[], dict[str, Bank]] | None = None,
        *,
        watch_silence: bool = True,
    ) -> None:
        self.config = config or DetectorConfig()
        self.banks = banks() if banks else default_banks(self.config)
        self.bank_names = sorted(self.banks)
        self._blank = {}
        for name, bank in self.banks.items():
            bank.append(1)  # row 0 stays fresh: it is what a reused row is set to
            self._blank[name] = bank.dump(np.zeros(1, np.int64))
        self._free_rows: dict[str, list[int]] = {name: [] for name in self.banks}
        self.predictions = Predictions()
        self.correlations = Correlations()
        self.counters = Counters()
        self.memory = Memory()
        self.patterns = Patterns(groups=watch_silence)  # both look at the shard as a whole
        self.watch_silence = watch_silence
        self.watermark = 0
        self.active = 0
        self.heard = False
        self.resources: dict[str, dict[str, int]] = {}
        self.info: list[SeriesInfo | None] = []
        self.rules: list[Rule] = []
        self.episodes: dict[tuple[str, str, str], Episode] = {}
        self.limited: set[str] = set()
        self.alarm_times: dict[tuple[str, str], int] = {}
        self.removed: set[tuple[str, str]] = set()
        self._free: list[int] = []
        self._next_due = NEVER
        size = 64
        self.row = np.zeros(size, np.int32)
        self.bank = np.full(size, -1, np.int16)
        self.core = {name: np.zeros(size, SERIES_FIELDS[name].newbyteorder("=")) for name in SERIES_FIELDS.names or ()}
        self.special = np.zeros(size, np.bool_)
        self.floor = np.full(size, -np.inf)
        self.ceiling = np.full(size, np.inf)
        self.allowance = np.zeros(size)
        self.open = np.zeros(size, np.bool_)
        self.dirty = np.zeros(size, np.bool_)

    # ------------------------------------------------------------------ series

    def series_count(self) -> int:
        """Number of series known."""
        return len(self.info) - len(self._free)

    def ensure(self, resource: str, series: str, metric: str, unit: str | None, dimensions: dict[str, str] | None) -> int:
        """Slot of a series, made where it is new; -1 where a bound forbids another one."""
        known = self.resources.setdefault(resource, {})
        slot = known.get(series)
        if slot is not None:
            return slot
        if len(known) >= self.config.max_series_per_resource or self.series_count() >= self.config.max_series:
            if not known:
                del self.resources[resource]
            return -1
        info = SeriesInfo(resource, series, metric, unit, dimensions)
        rule = self.config.rule(resource, metric)
        if self._free:
            slot = self._free.pop()
            self.info[slot], self.rules[slot] = info, rule
        else:
            slot = len(self.info)
            self.info.append(info)
            self.rules.append(rule)
            self._grow(slot + 1)
        known[series] = slot
        for name, column in self.core.items():
            column[slot] = UNSEEN if name == "last" else NEVER if name.startswith("due") else 0
        if rule.bank in self.banks:
            self.bank[slot] = self.bank_names.index(rule.bank)
            self.row[slot] = self._take_row(rule.bank)
        else:
            self.bank[slot] = -1
        self.obey(slot, rule)
        self.predictions.watch(slot, resource, series, metric, unit, dimensions, rule)
        self.correlations.watch(slot, resource, series, rule)
        self.counters.watch(np.array([slot]), [unit], rule)
        self.open[slot] = False
        self.dirty[slot] = True
        self.removed.discard((resource, series))
        return slot

    def obey(self, slots: int | IntArray, rule: Rule) -> None:
        """What a rule sets of series beside their detector: direction, cap, maintenance, bounds, rate of false alarms."""
        self.special[slots] = rule.direction != "both" or rule.at_most != "CRITICAL" or bool(rule.maintenance or rule.bounds)
        low, high = (rule.bounds.low, rule.bounds.high) if rule.bounds else (None, None)
        self.floor[slots] = -np.inf if low is None else low
        self.ceiling[slots] = np.inf if high is None else high
        self.allowance[slots] = rule.false_alarm_rate

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
        have = len(self.row)
        if needed <= have:
            return
        extra = max(have, needed - have)
        self.row = np.concatenate([self.row, np.zeros(extra, np.int32)])
        self.bank = np.concatenate([self.bank, np.full(extra, -1, np.int16)])
        self.core = {k: np.concatenate([c, np.zeros(extra, c.dtype)]) for k, c in self.core.items()}
        self.special = np.concatenate([self.special, np.zeros(extra, np.bool_)])
        self.floor = np.concatenate([self.floor, np.full(extra, -np.inf)])
        self.ceiling = np.concatenate([self.ceiling, np.full(extra, np.inf)])
        self.allowance = np.concatenate([self.allowance, np.zeros(extra)])
        self.open = np.concatenate([self.open, np.zeros(extra, np.bool_)])
        self.dirty = np.concatenate([self.dirty, np.zeros(extra, np.bool_)])

    def forget(self, resource: str, series: str) -> None:
        """Drop a series and its detector's state; its slot and row are used again."""
        known = self.resources[resource]
        slot = known.pop(series)
        if not known:
            del self.resources[resource]
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
        timestamps = np.array(batch.timestamp, np.int64)
        values = np.array(batch.value, np.float64)
        bounded = np.minimum(timestamps, np.array(batch.arrival, np.int64))
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
            if not self.watch_silence:
                self._segment(batch, t, v, None, start, end, outcome)
                return
            watermark = np.maximum.accumulate(np.maximum(bounded[start:end], self.watermark))
            minutes = watermark // MINUTE
            before = np.concatenate([[self.watermark // MINUTE], minutes[:-1]])
            passed = np.minimum(minutes - before, LONGEST_STEP)
            active = self.active + np.cumsum(passed)
            # Deadlines that this stretch itself sets lie at least MISSED_INTERVALS minutes-rounded-up
            # ahead, so nothing inside it can fall due before `horizon`.
            horizon = min(self._next_due, self.active + 2)
            crossing = (active >= horizon) & (passed > 0)
            if int(minutes[-1]) // DAY_MINUTES > int(before[0]) // DAY_MINUTES:
                # A new day is judged where it begins, wherever batches are cut.
                crossing |= minutes // DAY_MINUTES > before // DAY_MINUTES
            crossings = np.flatnonzero(crossing)
            stop = start + int(crossings[0]) + 1 if len(crossings) else end
            self._segment(batch, t, v, active, start, stop, outcome)
            self.watermark = int(watermark[stop - start - 1])
            self.active = int(active[stop - start - 1])
            self._judge(int(before[stop - start - 1]), outcome)
            start = stop

    def _segment(
        self,
        batch: EventBatch,
        t: IntArray,
        v: FloatArray,
        active: IntArray | None,
        start: int,
        end: int,
        outcome: Outcome,
    ) -> None:
        """Score events between two judgements of silence."""
        emitted: list[tuple[int, Insight]] = []
        slots = self._slots(batch, start, end, outcome, emitted)
        size = end - start
        t, v = t[start:end], v[start:end]
        score, level = np.zeros(size), np.zeros(size)
        verdicts: list[Verdicts] = []
        families: list[tuple[str, ...]] = []
        part, place = np.full(size, -1, np.int64), np.zeros(size, np.int64)
        if active is not None:
            active = active[: end - start]
            self._heard(slots, t, active, emitted)
        for chosen in _rounds(slots):
            s = slots[chosen]
            fresh = t[chosen] > self.core["last"][s]
            if not fresh.all():
                outcome.late += int((~fresh).sum())
                chosen, s = chosen[fresh], s[fresh]
            if not len(chosen):
                continue
            outcome.scored += len(chosen)
            self.dirty[s] = True
            raw, interval = v[chosen], np.full(len(s), np.nan)
            rates = self.counters.step(s, t[chosen] - self.core["last"][s], raw)
            if rates is not None:
                v[chosen] = rates.values
                self._begin_anew(rates.anew)
                interval = np.where(rates.known, interval, self.core["interval"][s])
            for number, name in enumerate(self.bank_names):
                mine = (
                    np.flatnonzero(self.bank[s] == number)
                    if len(self.bank_names) > 1 or (self.bank[s] < 0).any()
                    else np.arange(len(s))
                )
                if rates is not None:
                    mine = mine[rates.known[mine]]
                if not len(mine):
                    continue
                at = chosen[mine]
                found = self.banks[name].step(self.row[s[mine]].astype(np.int64), t[at], v[at])
                score[at], level[at] = found.score, found.level
                part[at], place[at] = len(verdicts), np.arange(len(at))
                verdicts.append(found)
                families.append(self.banks[name].families)
                interval[mine] = found.interval
            self._clockwork(s, t[chosen], None if active is None else active[chosen], interval)
            self.predictions.step(self.episodes, s, t[chosen], raw, chosen, emitted)
        self.correlations.step(self.episodes, slots, t, v, np.flatnonzero(part >= 0), emitted, self.dirty)
        if self.config.rules:
            self._allow(slots, score, level, part, place, verdicts)
        told = self.memory.apply(slots, t, v, score, part, place, verdicts, families)
        self._apply_rules(slots, t, v, score, level, part, place, verdicts)
        self._episodes(slots, t, v, score, level, part, place, verdicts, told, emitted, outcome, start)
        emitted.sort(key=lambda pair: pair[0])
        outcome.insights.extend(insight for _, insight in emitted)
        if outcome.verdicts is not None:
            seen = np.flatnonzero(part >= 0)
            for number, found in enumerate(verdicts):
                here = seen[part[seen] == number]
                take = place[here]
                for name in ("expected_low", "expected", "expected_high", "warming"):
                    getattr(outcome.verdicts, name)[start + here] = getattr(found, name)[take]
            outcome.verdicts.score[start:end] = score
            outcome.verdicts.severity[start:end] = np.searchsorted(SEVERITY_SCORES, score, side="right")

    def _slots(
        self, batch: EventBatch, start: int, end: int, outcome: Outcome, emitted: list[tuple[int, Insight]]
    ) -> IntArray:
        resources, series = batch.resource[start:end], batch.series[start:end]
        known = self.resources
        try:
            return np.array([known[r][s] for r, s in zip(resources, series, strict=True)], np.int64)
        except KeyError:
            pass
        slots = np.empty(end - start, np.int64)
        for index, (resource, name) in enumerate(zip(resources, series, strict=True)):
            at = start + index
            slot = self.ensure(resource, name, batch.metric[at], batch.unit[at], batch.dimensions[at])
            slots[index] = slot
            if slot < 0:
                outcome.surplus += 1
                if resource in self.resources and resource not in self.limited:
                    emitted.append((index, self._limit(resource, batch.timestamp[at])))
        return slots

    def _clockwork(self, s: IntArray, t: IntArray, active: IntArray | None, interval: FloatArray) -> None:
        """Move the series' own clocks: last event, usual gap, and when they will count as silent."""
        core = self.core
        gap = np.where(core["count"][s] > 0, t - core["last"][s], 0).astype(np.float64)
        core["last"][s] = t
        core["count"][s] += 1
        core["interval"][s] = interval
        if active is None:
            return
        usual = np.nan_to_num(interval, nan=0.0)
        longest = np.maximum(
            np.minimum(gap, GAP_CAP * usual),
            core["gap"][s] * (1.0 - np.minimum(gap, GAP_MEMORY) / GAP_MEMORY),
        )
        core["gap"][s] = longest
        wait = np.maximum(MISSED_INTERVALS * usual, GAP_FACTOR * longest)
        minutes = np.ceil(wait / MINUTE).astype(np.int64) + 1
        watched = (core["count"][s] >= SILENCE_SAMPLES) & (usual > 0)
        if self.config.rules:
            watched &= np.array([self.rules[int(slot)].silence for slot in s], np.bool_)
        due = np.where(watched, active + minutes, NEVER)
        core["due"][s] = due
        core["due_alone"][s] = np.where(watched, active + 2 * minutes, NEVER)
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
        outside = (v < self.floor[slots]) | (v > self.ceiling[slots])
        for index in np.flatnonzero((part >= 0) & self.special[slots] & ((level > 0) | outside)):
            rule = self.rules[int(slots[index])]
            found, at = verdicts[int(part[index])], place[index]
            wrong_way = (rule.direction == "up" and v[index] < found.expected[at]) or (
                rule.direction == "down" and v[index] > found.expected[at]
            )
            if wrong_way or rule.muted(int(t[index])):
                score[index] = level[index] = 0.0
            if outside[index] and not rule.muted(int(t[index])):
                score[index] = max(score[index], SEVERITY_SCORES[2])
                level[index] = max(level[index], SEVERITY_SCORES[2])
                # What is expected lies within the bounds: the message tells the bound that was passed.
                low, high = self.floor[slots[index]], self.ceiling[slots[index]]
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
        for number, found in enumerate(verdicts):
            here = np.flatnonzero((part == number) & (self.allowance[slots] > 0))
            if not len(here):
                continue
            at = place[here]
            wanted = np.log(np.clip(self.allowance[slots[here]] * np.nan_to_num(found.interval[at]), 1e-12, 0.5))
            judged = np.clip(SEVERITY_SCORES[2] * np.log(found.tail[at]) / wanted, 0.0, 1.0)
            judged[found.warming[at]] = 0.0
            score[here] = np.where(score[here] > 0, judged, 0.0)
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
        for index in judged[busy[slots[judged]]]:
            slot = int(slots[index])
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
        emitted: list[tuple[int, Insight]],
    ) -> None:
        info = self._known(slot)
        key = ("anomaly", info.resource, info.series)
        severity = int(np.searchsorted(SEVERITY_SCORES, score, side="right"))
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
                unit=rate_unit(info.unit) if self.counters.counts(slot) else info.unit,
                rate=self.counters.counts(slot),
                dimensions=info.dimensions,
            )
            self._peak(slot, episode, t, value, score, found, at, bank, told)
            self.episodes[key] = episode
            self.open[slot] = True
            patterns = self.patterns.opened(self.episodes, slot, episode, episode.interval)
            emitted.append((index, self._revise(episode, "opened", t)))
            emitted.extend((index, one) for one in patterns)
        elif score > episode.score:
            bank = self.banks[episode.detector]
            worse = severity > episode.severity
            episode.severity = max(severity, episode.severity)
            self._peak(slot, episode, t, value, score, found, at, bank, told)
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
    ) -> None:
        episode.peak_at, episode.observed, episode.score = t, value, score
        episode.tail = float(found.tail[at])
        known = bool(np.isfinite(found.expected[at]))
        episode.expected_low = float(found.expected_low[at]) if known else None
        episode.expected = float(found.expected[at]) if known else None
        episode.expected_high = float(found.expected_high[at]) if known else None
        episode.interval = float(np.nan_to_num(found.interval[at]))
        by_bound = not self.floor[slot] <= value <= self.ceiling[slot] and found.score[at] * STEP ** told[0] < score
        shares = found.evidence[at]
        episode.evidence = (
            {explain.BOUND: 1.0}
            if by_bound
            else {
                family: round(float(share), 3) for family, share in zip(bank.families, shares, strict=True) if share >= 0.005
            }
        )
        known_for = (int(self.core["count"][slot]) - 1) * episode.interval
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
            message = explain.anomaly_over(episode, closed_at or t)
            if closed_at is None:
                message = explain.anomaly(episode, worse=transition == "escalated")
                if note := episode.bound().note:
                    message = f"{message} {note}"
            slot = self.resources.get(episode.resource, {}).get(episode.series, -1)
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
            slot = self.resources.get(episode.resource, {}).get(episode.series)
            if slot is not None:
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

    def _judge(self, minute_before: int, outcome: Outcome) -> None:
        """Silence and forgetting, when the watermark has crossed a minute."""
        minute = self.watermark // MINUTE
        if minute == minute_before:
            return
        if self.active >= self._next_due:
            self._find_silent(outcome)
        if minute * MINUTE // DAY != minute_before * MINUTE // DAY:
            names = {
                slot: (one.resource, one.series, one.metric) for slot in self.patterns.series if (one := self._known(slot))
            }
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
            gone = [slot for slot in self.resources[resource].values() if silent[slot] == 2]
            if all(alone[slot] <= self.active for slot in gone):
                self._host_still_silent(resource, gone, outcome)
        late = np.where((due > self.active) & (silent == 0), due, np.where(alone > self.active, alone, NEVER))
        self._next_due = int(late[(silent == 0) | (silent == 2)].min(initial=NEVER))

    def _unmuted(self, slots: IntArray) -> list[int]:
        """Those outside a maintenance window; the others are asked again each minute, until theirs is over."""
        chosen: list[int] = slots.tolist()
        if not self.config.rules:
            return chosen
        muted = [slot for slot in chosen if self.rules[slot].muted(self.watermark)]
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
        return max(SEVERITY_ORDER[self.rules[slot].at_most] for slot in slots)

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
            min(2, SEVERITY_ORDER[self.rules[slot].at_most]),
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
            self._expect_again([slot] if state == 1 else list(self.resources[info.resource].values()), int(active[index]))
            episode = self.episodes.get(("silence", info.resource, series))
            if episode is not None:
                now = int(t[index])
                episode.message = explain.silence_over(info.resource, series, episode.last_abnormal, now)
                emitted.append((int(index), self._close(("silence", info.resource, series), now)))

    def _expect_again(self, slots: list[int], active: int) -> None:
        for slot in slots:
            if self.core["silent"][slot]:
                self.core["silent"][slot] = 0
                wait = max(MISSED_INTERVALS * self.core["interval"][slot], GAP_FACTOR * self.core["gap"][slot])
                minutes = int(np.ceil(wait / MINUTE)) + 1
                self.core["due"][slot] = active + minutes
                self.core["due_alone"][slot] = active + 2 * minutes
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
            for key in [(kind, resource, series) for kind in ("anomaly", "silence", "prediction")]:
                if key in self.episodes:
                    self.episodes[key].message = f"{series} of {resource} has not reported for long and is forgotten."
                    if key[0] == "anomaly":
                        outcome.insights.extend(self._end_anomaly(key, self.resources[resource][series], self.watermark))
                    else:
                        outcome.insights.append(self._close(key, self.watermark))
            slot = self.resources[resource][series]
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
            slot = self.resources.get(signal.resource, {}).get(signal.series)
            if slot is not None and self.memory.judge(slot, signal, max(signal.timestamp, self.watermark)):
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
    order = valid[np.argsort(slots[valid], kind="stable")]
    ordered = slots[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    if first.all():
        return [order]
    begin = np.maximum.accumulate(np.where(first, np.arange(len(ordered)), 0))
    nth = np.arange(len(ordered)) - begin
    by_round = np.argsort(nth, kind="stable")
    ends = np.cumsum(np.bincount(nth))
    return np.split(order[by_round], ends[:-1])
