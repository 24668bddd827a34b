"""The default detector as a bank: the state of many series in columns, NumPy alone.

Thirteen channels of evidence look at a value: its distance from what is expected, the residual
against the time of day and of the week, ranges never seen before, differences of means over five
time scales, and restlessness. Each is measured against the mean square of its own past, counts by
its logarithm, and the channels add up concavely. The sum, smoothed over minutes to an hour, is
divided by what the series reaches on an ordinary day. A second judge, for single values, compares
what no predictor explains with an extreme-value tail fitted to the series' own past. An incident is
reported once: a bar rises when it starts and sinks afterwards. docs/detectors.md tells why.

Knows neither the clock nor randomness, and imports neither river nor SciPy.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from types import ModuleType
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from stream_processors.detectors.base import CALM_LEVEL, SMALL_ROUND, Bank, FloatArray, IntArray, Verdicts, joined

_T = TypeVar("_T", bound=np.generic)

MINUTE = 60_000.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

# Tables of the season: half-hours of a day and hours of a week, in UTC.
_DAY_BINS, _DAY_BIN = 48, HOUR / 2
_HALF_HOUR = 1_800_000
_WEEK_BINS, _WEEK_BIN = 168, HOUR
_BINS = _DAY_BINS + _WEEK_BINS
_EPOCH_HOUR = 72
"""Hour of the week, from Monday on, at which the epoch began: on a Thursday."""
_VISITS_DAY = 28.0
"""The time-of-day table forgets over this many visits of a bin, that is days."""
_VISITS_WEEK = 8.0
"""The hour-of-week table forgets over this many visits of a bin, that is weeks."""

_SCALES = tuple(HOUR / 2 * 4**k for k in range(5))
"""Time constants of the means: half an hour to 128 hours, four times longer each."""
_MEMORY = 100 * DAY
"""Calibration of the channels forgets over this time; until then every event counts alike."""
_SEASON_MEMORY = 8 * DAY
"""Over this time the errors of the season and of the plain mean are compared, and what no predictor explains is measured."""
_SMOOTH = 24 * MINUTE
"""Evidence is the mean of three smoothings: over a third of this time, over it, and over three times as long.
It is at least one typical interval, as a single sample of an hour is no more certain than one of a minute."""
_FEWEST = 48.0
"""What an ordinary day reaches is learned over a day or so many typical intervals: of fewer the peak is chance."""
_LONGEST_STEP = 8.0
"""A gap longer than this many typical intervals counts as one of them: nobody knows what was in it, and one sample after it
must not weigh as many."""

_QUIET = 4.0
"""Evidence starts near this many mean squares, i.e. twice the ordinary size."""
_CLIP = 400.0
"""A channel's calibration takes in at most this many mean squares at once."""
_LOUDEST = math.log(100.0)
"""The evidence of one channel is bounded: a hundred times the usual size is enough."""
_DAY_GAIN, _WEEK_GAIN = 0.2, 0.3
"""Weight of the latest day in what an ordinary day or a half-hour of it reaches, and of the latest week in what an hour of
it reaches: what comes every week is known the third time."""
_LEVELS = 255.0
"""What a half-hour or an hour of the week reaches is kept in so many steps, a byte each."""
_YOUNG = 6.0
"""Added to the divisor of a new series, falling as 1 / (1 + days)."""
_BAR_RISE, _BAR_TOP = 2.0, 2.0
"""A report raises the bar to twice its strength, of which at most this much counts."""
_BAR_START, _BAR_SHARE, _BAR_LONGEST = 2 * HOUR, 0.05, WEEK
"""The bar sinks over two hours plus a twentieth of the series' age, at most a week."""
_HELD = 0.4375
"""Score of an incident after a calm that the bar holds: MEDIUM. It is reported once it has lasted as long as the bar of a
new series takes to sink to a half."""
_HABIT = 0.375
"""Most that is scored of what is not stronger than this time of the day or week usually is: LOW, which pages nobody."""
_GRADES = 8.0
"""A report's score is rounded down to a multiple of one over this: by how much a rise happens to overshoot says nothing."""

_TAIL_START = np.array([[3.0], [2.5]])
"""Residuals, and pairs of neighbours, beyond this many root mean squares belong to the fitted tail."""
_TAIL_RATE, _TAIL_MEAN = np.array([[0.0015], [0.025]]), np.array([[0.4], [1.0]])
"""Share beyond, on one side, and mean excess: what is assumed of either before it is learned."""
_LATELY, _LATELY_FEWEST, _LATELY_SHARE = 15 * MINUTE, 5.0, 0.5
"""Pairs are measured by the mean square of always and that of this time, in this share: noise comes in bursts."""
_TAIL_PRIOR, _TAIL_PRIOR_EVENTS = 10.0, 1000.0
"""Weight of these assumptions, in exceedances and in events."""
_TAIL_MEMORY = 30 * DAY
_QUANTUM_MOVES, _QUANTUM_RATE, _QUANTUM_SHARE = 3.0, 1 / 60, 0.5
"""After so many moves, and if more than this share of the values move, the smallest move is a series' resolution, and its
noise at least the third of these of it: a step of one is then ordinary, one of two is judged by the tail."""
_TAIL_CUT = 4.0
"""An excess counts as at most this many mean excesses; 0.065 undoes the cut's bias of the shape."""
_SHAPE_BIAS, _SHAPE_LEAST, _SHAPE_MOST = 0.065, 1e-3, 0.15
_KNOWN = 4.0
"""Days after which a series' tail is trusted as it is: that long a rhythm, its workdays and its bursts show themselves."""
_RARE = 365 * DAY
"""A single value pages when the fitted tail expects it, on one side, about once in this time."""
_PAIR_MOST = 0.7
"""Two neighbours alone are HIGH and never CRITICAL; this is less than twice what two days leave of the highest level, 0.36,
so that what comes every night is known on the third."""
_FACTOR, _FACTOR_STEP = 1.3, 1.75
"""First factor by which a value must be rarer than its tail says, and most by which one day may raise it."""
_FACTOR_USUAL, _FACTOR_GROWTH = 1.15, 0.5
"""What a factor exceeds the first of these by counts half again (the second): a fit that is off at what is rare in a day
is off by more at what is rare in a year."""

_RUN_CUT = 8.0
"""A run of equal values teaches at most this many times the mean run: one standstill does not make the next ordinary."""
_RUN_MOVES = 0.5
"""Of a series that moves less often than this a run is no evidence: how long it lasts depends on too much else."""
_RUN_POWER = 2.0
"""Runs are taken for geometric, which real ones are not quite: one must be rarer than a value that pages, by this power."""

_WARM_EVENTS = 60.0
_LARGEST = 1e100
"""Values are cut here, and so are distances in widths of a range: their squares still fit into a double with room."""
_GRAIN = 1e-13
"""Differences below this share of a value are rounding, not evidence."""

SINGLE = "single values"
_FAMILIES = ("spike", "time of day", "time of week", "range", "level", "restlessness", "standstill")
_STANDSTILL = _FAMILIES.index("standstill")
_CHANNELS = (
    # family, weight
    (0, 0.5),  # distance from what is expected
    (1, 0.75),  # time of day, smoothed over a quarter of an hour
    (1, 0.25),  # time of day, smoothed over four hours
    (2, 1.5),  # hour of the week
    (3, 0.25),  # beyond the range of the values
    (3, 0.25),  # beyond the range of the values without their rhythm
    (3, 0.25),  # beyond the range of the two-hour means
    (3, 0.25),  # beyond the range of the eight-hour means
    (4, 0.5),  # half an hour against two hours
    (4, 0.5),  # two hours against eight
    (4, 0.5),  # eight hours against 32
    (4, 0.5),  # 32 hours against 128
    (5, 0.5),  # size of the steps, half an hour against 16 hours
)
_N = len(_CHANNELS)
_GROUPS = ((0, 4), (4, 8), (8, _N))
"""Channels that are computed together: a nearer cache holds their columns. The second are the ranges."""
_BASE = 3.5
"""Divisor of a series that is quiet on ordinary days: about half of the channels' weights, 6.5."""
_LOUDNESS = 4
"""Feedback moves a family's gain by at most this many steps of a quarter, either way."""
_GAINS = np.array([1.25**k for k in range(-_LOUDNESS, _LOUDNESS + 1)])

_TAIL_PARTS = ("noise", "events", "beyond", "beyond1", "beyond2")
_COLUMNS = (
    *("count", "origin", "first", "last", "interval"),
    *("low", "high", "low_rest", "high_rest", "low_2h", "high_2h", "low_8h", "high_8h"),
    *("mean0", "mean1", "mean2", "mean3", "mean4", "mean_fast", "mean_week"),
    *("error_season", "error_mean", "seasons", "weeks"),
    *("day_rest", "day_rest_slow", "previous", "step_short", "step_long"),
    *(f"up{i}" for i in range(_N)),
    *(f"down{i}" for i in range(_N)),
    *("smooth0", "smooth1", "smooth2"),
    *(f"share{i}" for i in range(len(_FAMILIES))),
    *("usual", "day_peak", "day_start", "days", "bar", "waited", "half_hour_peak", "hour_peak"),
    *(f"{tail}_{part}" for tail in ("one", "two") for part in _TAIL_PARTS),
    *("unexplained", "lately", "rare_day", "rare_pair", "tail_factor", "pair_factor", "rare_days"),
    *("tenth", "hundredth"),
    *("width", "width_up", "width_down"),
    *("run", "run_told", "moves", "runs", "run_on", "quantum"),
    *(f"gain{i}" for i in range(len(_FAMILIES))),
    "kind",
)
_AT = {name: position for position, name in enumerate(_COLUMNS)}
_UP, _DOWN = _AT["up0"], _AT["down0"]
# Blocks of columns that are computed together.
_RANGES, _MEANS, _TAILS, _SHARE, _GAIN = (_AT[name] for name in ("low", "mean0", "one_noise", "share0", "gain0"))
_WEIGHTS = np.array([weight for _, weight in _CHANNELS])
_SCALE_COLUMN = np.array([[scale] for scale in _SCALES])
_LANES = 16
"""Rows are computed in multiples of this, so that no result depends on a vector's ragged end."""
_BLOCK = 6144
"""Rows that NumPy computes at once: more share the cost of a call, fewer a nearer cache. A multiple of ``_LANES``."""
_CHUNK = 256
"""Rows that are turned from rows into columns at once: what is read stays in the fastest cache."""
_APART = 8
"""Room between columns: of lengths that are powers of two, all columns' values of one row would compete for the same few
places of the processor's cache."""


def _blend(interval: FloatArray, memory: float | FloatArray) -> FloatArray:
    """Gain of an exponential mean of time constant ``memory`` after ``interval`` milliseconds."""
    return interval / (interval + memory)


class SeasonalBank(Bank):
    """Seasonal, level, range and spike evidence of many series, calibrated by their own past.

    Parameters
    ----------
    rows
        Number of rows to start with.
    without
        Families that say nothing, and ``single values`` for the judge of these: for experiments, with
        NumPy alone.
    compiled
        True computes with the compiled loops (ImportError where they were not built), False with
        NumPy alone; by default with the loops where they are. The bits of the results are the same.

    """

    name: ClassVar[str] = "seasonal"
    version: ClassVar[int] = 7
    families: ClassVar[tuple[str, ...]] = _FAMILIES
    _record: ClassVar[np.dtype[np.void]] = np.dtype(
        [("state", "<f8", len(_COLUMNS)), ("bins", "<f8", _BINS), ("visits", "<u2", _BINS), ("reached", "u1", _BINS)]
    )
    row_bytes: ClassVar[int] = _record.itemsize

    def __init__(self, rows: int = 0, *, without: Collection[str] = (), compiled: bool | None = None) -> None:
        if unknown := set(without) - {*_FAMILIES, SINGLE}:
            raise ValueError(
                f"no evidence is called {', '.join(sorted(unknown))}; there are {', '.join((*_FAMILIES, SINGLE))}"
            )
        if without and compiled:
            raise ValueError("what is compiled leaves no evidence out; take compiled=False")
        self._without = [_FAMILIES.index(name) for name in without if name != SINGLE]
        self._singles = SINGLE not in without
        self._compiled = _loops(False if without else compiled)
        self._columns: FloatArray = np.empty((len(_COLUMNS), 0))
        self._size = 0
        self._state: FloatArray = np.zeros((0, len(_COLUMNS)))
        self._bins: FloatArray = np.zeros((0, _BINS))
        self._visits: NDArray[np.uint16] = np.zeros((0, _BINS), np.uint16)
        self._reached: NDArray[np.uint8] = np.zeros((0, _BINS), np.uint8)
        self.append(rows)

    def __getstate__(self) -> dict[str, object]:
        """What is pickled and copied: neither modules nor room to work in."""
        return {**self.__dict__, "_compiled": self.compiled, "_columns": np.empty((len(_COLUMNS), 0))}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Go on as before; with NumPy alone, to the same bits, where nothing was compiled."""
        self.__dict__.update(state)
        self._compiled = _loops(None if state["_compiled"] else False)

    def __len__(self) -> int:
        """Number of rows."""
        return self._size

    def append(self, count: int) -> None:
        """Add ``count`` rows of an unseen series (amortised constant time a row)."""
        size = self._size + count
        if size > len(self._state):
            capacity = max(size, len(self._state) + len(self._state) // 2)
            self._state = _grown(self._state, self._size, capacity)
            self._bins = _grown(self._bins, self._size, capacity)
            self._visits = _grown(self._visits, self._size, capacity)
            self._reached = _grown(self._reached, self._size, capacity)
        self._size = size

    def step(self, rows: IntArray, timestamps: IntArray, values: FloatArray) -> Verdicts:
        """Score and then learn one event of each given row."""
        return joined(self._rounds(rows, np.asarray(timestamps)[np.newaxis], np.asarray(values)[np.newaxis]))

    def _rounds(self, rows: IntArray, timestamps: IntArray, values: FloatArray) -> list[Verdicts]:
        count = len(rows)
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        timestamps = np.ascontiguousarray(timestamps, dtype=np.int64)
        values = np.ascontiguousarray(values, dtype=np.float64)
        if count and (rows.min() < 0 or rows.max() >= self._size):
            message = f"rows must lie in 0 to {self._size - 1}, not {rows.min()} to {rows.max()}"
            raise IndexError(message)
        if count == 0:
            empty = np.zeros(0)
            return [Verdicts(*(empty,) * 6, np.zeros(0, np.bool_), np.zeros((0, len(_FAMILIES))), empty)]
        if self._compiled:
            kept = self._state, self._bins, self._visits, self._reached
            return [self._compiled.step(*kept, rows, *turn) for turn in zip(timestamps, values, strict=True)]
        with np.errstate(all="ignore"):
            blocks = [
                self._block(rows[block], timestamps[:, block], values[:, block])
                for block in (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))
            ]
        return [found for turn in zip(*blocks, strict=True) for found in turn]

    def steps(self, rows: IntArray, timestamps: IntArray, values: FloatArray, sizes: IntArray) -> list[Verdicts]:
        """Rounds of ``step``, one after the other; what is compiled takes small ones together."""
        large = int(np.count_nonzero(sizes >= SMALL_ROUND))
        begin = int(sizes[:large].sum())
        if not self._compiled or large == len(sizes):
            return super().steps(rows, timestamps, values, sizes)
        if rows.min() < 0 or rows.max() >= self._size:
            raise IndexError(f"rows must lie in 0 to {self._size - 1}, not {rows.min()} to {rows.max()}")
        parts = super().steps(rows[:begin], timestamps[:begin], values[:begin], sizes[:large])
        kinds = ((rows, np.int64), (timestamps, np.int64), (values, np.float64))
        columns = (np.ascontiguousarray(column[begin:], dtype=kind) for column, kind in kinds)
        return [*parts, self._compiled.steps(self._state, self._bins, self._visits, self._reached, *columns, sizes[large:])]

    @property
    def compiled(self) -> bool:
        """Whether the compiled loops compute."""
        return self._compiled is not None

    def _block(self, rows: IntArray, timestamps: IntArray, values: FloatArray) -> list[Verdicts]:
        """Rounds of the same rows, whose state is turned into columns once for all of them."""
        count = len(rows)
        rows, timestamps, values = _padded(rows), _padded(timestamps), _padded(values)
        s, chunk = self._room(len(rows)), np.empty((min(len(rows), _CHUNK), len(_COLUMNS)))
        for begin in range(0, len(rows), _CHUNK):
            some = rows[begin : begin + _CHUNK]
            # The rows are in range; asked to raise, take would read into room of its own first.
            s[:, begin : begin + _CHUNK] = self._state.take(some, axis=0, out=chunk[: len(some)], mode="clip").T
        found = [self._step(s, count, rows, *turn) for turn in zip(timestamps, values, strict=True)]
        self._state[rows[:count]] = s[:, :count].T
        return found

    def _room(self, count: int) -> FloatArray:
        """The columns of some rows; of many in memory that is there already, as new pages cost more than that."""
        if count < _CHUNK:
            return np.empty((len(_COLUMNS), count))
        if self._columns.shape[1] < count + _APART:
            self._columns = np.empty((len(_COLUMNS), count + _APART))
        return self._columns[:, :count]

    def _step(self, s: FloatArray, count: int, rows: IntArray, timestamps: IntArray, values: FloatArray) -> Verdicts:
        """One round of ``rows``, whose columns are ``s``; those behind ``count`` are padding, all like the first."""
        column = dict(zip(_COLUMNS, s, strict=True))  # views: assign into them, never over them
        time = timestamps.astype(np.float64)
        value = np.minimum(np.maximum(values, -_LARGEST), _LARGEST)

        # --- the series' clock: typical interval, elapsed time, age -------------------------------
        n = column["count"]
        new = n == 0.0
        for name, start in (("origin", value), ("first", time), ("last", time), ("day_start", time)):
            np.copyto(column[name], start, where=new)
        for name in ("tail_factor", "pair_factor"):
            np.copyto(column[name], _FACTOR, where=new)
        elapsed = np.maximum(time - column["last"], 0.0)
        interval = column["interval"]
        rate = np.maximum(0.02, 1.0 / np.maximum(n, 1.0))
        moved = interval * np.where(
            elapsed > 1.001 * interval, 1.0 + rate, np.where(elapsed < 0.999 * interval, 1.0 / (1.0 + rate), 1.0)
        )
        moved = np.where((n < 2.0) | (interval <= 0.0), elapsed, moved)
        np.copyto(interval, moved, where=elapsed > 0.0)
        lapse = np.where(elapsed > _LONGEST_STEP * interval, interval, elapsed)
        age = time - column["first"]
        first_gain = 1.0 / (n + 1.0)
        v = value - column["origin"]
        grain = _GRAIN * np.abs(value)
        settled = n > 5.0

        # --- what the season says -----------------------------------------------------------------
        day, of_day = _divided(timestamps, 86_400_000)
        day_bin, into_bin = _divided(of_day, _HALF_HOUR)
        hour = _divided(day + 3, 7)[1] * 24 + of_day // 3_600_000
        hour_before, hour_after = (hour + (_WEEK_BINS - 1)) % _WEEK_BINS, (hour + 1) % _WEEK_BINS
        # Places in the tables as one number: NumPy takes and puts by one index much faster than by two.
        bins, visits, table = self._bins.reshape(-1), self._visits.reshape(-1), rows * _BINS
        day_place, week_place = table + day_bin, table + _DAY_BINS + hour
        day_mean, week_mean = bins.take(day_place), bins.take(week_place)
        day_visits = visits.take(day_place).astype(np.float64)
        # Between the middles of two known half-hours the expectation is a straight line.
        second_half = into_bin >= _HALF_HOUR // 2
        before, after = np.where(day_bin > 0, day_bin - 1, _DAY_BINS - 1), np.where(day_bin < _DAY_BINS - 1, day_bin + 1, 0)
        earlier, later = np.where(second_half, day_bin, before), np.where(second_half, after, day_bin)
        part = np.where(second_half, into_bin - _HALF_HOUR // 2, into_bin + _HALF_HOUR // 2) / _DAY_BIN
        from_place, to_place = table + earlier, table + later
        from_bin, to_bin = bins.take(from_place), bins.take(to_place)
        straight = (visits.take(from_place) > 0) & (visits.take(to_place) > 0)
        day_line = np.where(straight, from_bin + part * (to_bin - from_bin), day_mean)
        week_visits = visits.take(week_place).astype(np.float64)
        slow = column["mean_week"]
        by_day = day_line + slow
        by_day_known = (day_visits > 0.0) & (age >= DAY)
        by_week_known = (week_visits > 0.0) & (age >= WEEK)
        mean, recent = column["mean4"].copy(), column["mean2"].copy()
        error_season, error_mean = column["error_season"], column["error_mean"]
        belief = np.where(
            by_day_known & (error_mean > 0.0),
            np.maximum(0.0, 1.0 - error_season / np.where(error_mean > 0.0, error_mean, 1.0)),
            0.0,
        )
        season = belief * (by_day - mean)
        day_rest = np.where(by_day_known, v - by_day, 0.0)

        # --- a value counts as at most one range beyond the range seen so far ---------------------
        low, high = column["low"], column["high"]
        width = high - low
        cut = settled & (width > 0.0)
        bounded = np.where(cut, np.minimum(np.maximum(v, low - width), high + width), v)
        rest, bounded_rest = v - season, bounded - season

        r = np.zeros((_N, len(rows)))
        r[0] = np.where(settled, v - (mean + season), 0.0)
        bounded_day_rest = np.where(by_day_known, bounded - by_day, 0.0)
        for channel, name, memory in ((1, "day_rest", HOUR / 4), (2, "day_rest_slow", 4 * HOUR)):
            column[name] += _blend(lapse, memory) * (bounded_day_rest - column[name])
            r[channel] = np.where(by_day_known, column[name], 0.0)
        r[3] = np.where(by_week_known, v - slow - week_mean, 0.0)

        # --- single values: what no predictor explains --------------------------------------------
        plain = rest - column["mean0"]
        # By how much an hour of the week differs from that hour of all days lies between this one and its neighbours, as
        # what begins or ends does so within one.
        line_rest = v - by_day
        by_week = line_rest - (week_mean - _of_two(bins, visits, table + 2 * (hour % 24)))
        for other in (hour_before, hour_after):
            near = table + _DAY_BINS + other
            beside = line_rest - (bins.take(near) - _of_two(bins, visits, table + 2 * (other % 24)))
            by_week = np.where(visits.take(near) > 0, _smallest(by_week, beside), by_week)
        unexplained = _smallest(
            plain,
            rest - column["mean1"],
            rest - column["mean_fast"],
            np.where(belief > 0.0, day_rest, plain),
            np.where(by_week_known, by_week, plain),
        )
        unexplained = np.where(settled & (np.abs(unexplained) > grain), unexplained, 0.0)
        pair = _smallest(unexplained, column["unexplained"])
        scale = _scale(column, lapse, interval, n)
        column["unexplained"][:] = unexplained
        tails = s[_TAILS : _TAILS + 2 * len(_TAIL_PARTS)].reshape(2, len(_TAIL_PARTS), -1)
        restless = column["moves"] >= np.maximum(_QUANTUM_MOVES, _QUANTUM_RATE * column["one_events"])
        least = _QUANTUM_SHARE * np.where(restless, column["quantum"], 0.0)
        one, two = _rarity(tails, np.stack((unexplained, pair)), np.stack((np.ones(len(rows)), scale)), least, lapse, n)

        # --- means over five time scales ----------------------------------------------------------
        column["mean_fast"] += np.maximum(0.2, first_gain) * (bounded_rest - column["mean_fast"])
        means = s[_MEANS : _MEANS + len(_SCALES)]
        means += np.maximum(_blend(lapse, _SCALE_COLUMN), first_gain) * (bounded_rest - means)
        r[8:12] = means[:-1] - means[1:]
        start = n <= 3.0
        for bound in (4, 5):  # of the two-hour and the eight-hour means
            np.copyto(s[_RANGES + bound : _RANGES + 8 : 2], means[1:3], where=start)
        seen = np.stack((v, rest, means[1], means[2]))
        r[4:8] = _ranged(s[_RANGES : _RANGES + 8 : 2], s[_RANGES + 1 : _RANGES + 8 : 2], seen, grain)
        step = np.where(new, 0.0, np.sqrt(np.abs(bounded - column["previous"])))
        for name, memory in (("step_short", HOUR / 2), ("step_long", 16 * HOUR)):
            column[name] += np.maximum(_blend(lapse, memory), first_gain) * (step - column[name])
        r[12] = column["step_short"] - column["step_long"]
        _count_run(column, np.where(new, np.inf, np.abs(bounded - column["previous"])), grain, lapse)
        column["previous"][:] = bounded

        # --- how well the season has predicted, against the plain mean ----------------------------
        learn = by_day_known & (n > 0.0)
        memory_gain = np.maximum(_blend(lapse, _SEASON_MEMORY), 1.0 / np.maximum(n, 1.0))
        most = np.where(error_mean > 0.0, 25.0 * error_mean, np.inf)
        from_mean = v - mean
        squared_season = np.minimum(day_rest * day_rest, most)
        squared_mean = np.minimum(from_mean * from_mean, most)
        error_season += np.where(learn, memory_gain * (squared_season - error_season), 0.0)
        error_mean += np.where(learn, memory_gain * (squared_mean - error_mean), 0.0)

        # --- evidence: every channel against its own past ------------------------------------------
        column["seasons"] += by_day_known
        column["weeks"] += by_week_known
        calibration = _blend(lapse, _MEMORY)
        gain = np.maximum(calibration, first_gain)
        gain_day = np.maximum(calibration, 1.0 / np.maximum(column["seasons"], 1.0)) * by_day_known
        gain_week = np.maximum(calibration, 1.0 / np.maximum(column["weeks"], 1.0)) * by_week_known
        ratio = np.zeros(r.shape)
        for begin, end in _GROUPS:
            mine = r[begin:end]
            if begin != 4:  # ranges are ratios and have their own grain
                np.copyto(mine, 0.0, where=~(np.abs(mine) > grain))
            # Of both sides' squares one is 0, and so is what it says. A side not known says nothing and cuts nothing.
            for place, part in ((_UP, np.maximum(mine, 0.0)), (_DOWN, np.minimum(mine, 0.0, out=mine))):
                side = s[place + begin : place + end]
                part *= part
                usual = side.copy()
                np.putmask(usual, ~(side > 0.0), np.inf)
                ratio[begin:end] += part / (_QUIET * usual)
                usual *= _CLIP
                np.minimum(part, usual, out=part)
                part -= side
                if begin:
                    part *= gain
                else:
                    part[0] *= gain
                    part[1:3] *= gain_day
                    part[3] *= gain_week
                side += part
        loud = _loudness(ratio)
        families = np.zeros((len(_FAMILIES), len(rows)))
        for channel, (family, _) in enumerate(_CHANNELS):
            families[family] += loud[channel]
        loudness = s[_GAIN : _GAIN + len(_FAMILIES)]
        moved_gains = bool((loudness != 0.0).any())  # without feedback every gain is 1
        gains = _GAINS[_level(loudness)] if moved_gains else np.ones((1, 1))
        self._further(families, rows[:count], time[:count], bounded[:count], interval[:count])
        smooth = np.maximum(_SMOOTH, interval)
        smoothing = 1.0 - np.exp(-lapse / smooth)
        for family in self._without:
            families[family] = 0.0
        if moved_gains:
            families *= gains
        total = np.zeros(len(rows))
        for parts in families:
            total += parts
        spoken = s[_SHARE : _SHARE + len(_FAMILIES)]
        spoken += smoothing * (families - spoken)
        kept = np.exp(-lapse / (3.0 * smooth))
        evidence = np.zeros(len(rows))
        for name in ("smooth2", "smooth1", "smooth0"):
            column[name] += (1.0 - kept) * (total - column[name])
            evidence += column[name] / 3.0
            kept = kept * kept * kept

        # --- strength: against what an ordinary day reaches -----------------------------------------
        days_known = age / DAY
        divisor = _BASE + column["usual"] + _YOUNG / (1.0 + days_known)
        slow_strength = evidence / divisor
        # A series that is sampled every second still shows a gross jump in its first hours.
        # Few values lie in a tail; the others' rarity is 0, and so is what they say alone.
        single = np.zeros(len(rows))
        few = np.flatnonzero(np.maximum(one, two))
        if len(few) and self._singles:
            known = days_known[few]
            shortest = np.maximum(MINUTE * (1.0 - known / _KNOWN), 1.0)
            wanted = _log(np.maximum(_RARE / np.maximum(interval[few], shortest), 2.0))
            first, second = _farther(column["tail_factor"][few]), _farther(column["pair_factor"][few])
            # Before some days have shown the rhythm, a single value must be rarer by up to this power.
            wanted *= 1.0 + 1.4 * np.maximum(1.0 - known / _KNOWN, 0.0)
            alone, beside = 0.5 * one[few] / (wanted * first), 0.5 * two[few] / (wanted * second)
            alone = np.maximum(alone, np.minimum(beside, _PAIR_MOST))
            single[few] = np.minimum(alone * (gains[0, few] if moved_gains else 1.0), 1.0)
        strength = np.minimum(np.maximum(slow_strength, single), _BAR_TOP)
        strength = np.where(strength >= 1e-6, strength, 0.0)
        still = np.zeros(len(rows))
        few = np.flatnonzero(_may_stand(column, interval, days_known))
        if len(few) and _STANDSTILL not in self._without:
            standing = _standing({name: column[name][few] for name in ("run", "moves", "runs", "run_on")}, interval[few])
            standing = np.minimum(standing * (gains[_STANDSTILL, few] if moved_gains else 1.0), _PAIR_MOST)
            still[few] = np.where(standing >= 0.5, standing, 0.0)
        _close_day(column, time, age, interval, evidence, one, two)

        # --- one report per incident; what comes at this time every day or week is none ---------------
        bar = column["bar"]
        sinking = np.minimum(_BAR_START + _BAR_SHARE * age, _BAR_LONGEST)
        bar *= sinking / (sinking + elapsed)
        warming = n < _WARM_EVENTS
        level = np.where(warming, 0.0, np.minimum(strength, 1.0))
        times = (before, day_bin, after, _DAY_BINS + hour_before, _DAY_BINS + hour)
        usually = _BAR_RISE * self._usually(column, rows, count, timestamps, elapsed, level, times)
        # How long runs usually are is known: no half-hour gets used to them as well. A run that goes on is told once.
        told = (still > strength) & (column["run_told"] > 0.0)
        strength, level = np.maximum(strength, still), np.maximum(level, still)
        above, habit = (strength > bar) & ~told, strength <= usually
        waited = column["waited"]
        np.copyto(waited, 0.0, where=level < CALM_LEVEL)
        incidents = np.flatnonzero((level >= 0.5) & ~habit)  # few go on at a time
        waiting = waited[incidents]
        holds = ~above[incidents] & (waiting >= 0.0)
        waiting += np.where(holds, lapse[incidents], 0.0)
        late = holds & (waiting >= _BAR_START)
        above[incidents[late]] = True
        reported = above[incidents]
        waited[incidents] = np.where(reported, -1.0, waiting)
        column["run_told"][incidents] += reported & (still[incidents] > 0.0)
        raised = np.maximum(bar[incidents], _BAR_RISE * strength[incidents])
        bar[incidents] = np.where(reported, raised, bar[incidents])
        score = np.where(level < 0.5, level, np.floor(_GRADES * level) / _GRADES)
        score = np.where(above, np.minimum(score, np.where(habit, _HABIT, 1.0)), 0.0)
        score[incidents[holds & ~late]] = _HELD

        # --- explanation ------------------------------------------------------------------------------
        shares = _shares(column, spoken, slow_strength, single, still, level)
        tail = _calibrated(column, strength, warming)
        expected = season + recent
        width_low, width_high = _band(column, v, bounded, expected, lapse, first_gain)
        unknown = n < 2.0
        middle = np.where(unknown, np.nan, expected + column["origin"])

        # --- learn --------------------------------------------------------------------------------------
        slow += np.maximum(_blend(lapse, WEEK), first_gain) * (bounded - slow)
        real = slice(0, count)
        day_gain = np.maximum(1.0 / (day_visits + 1.0), _blend(lapse, _VISITS_DAY * _DAY_BIN))
        week_gain = np.maximum(1.0 / (week_visits + 1.0), _blend(lapse, _VISITS_WEEK * _WEEK_BIN))
        day_mean += day_gain * (bounded - slow - day_mean)
        week_mean += week_gain * (bounded - slow - week_mean)
        bins[day_place[real]] = day_mean[real]
        bins[week_place[real]] = week_mean[real]
        visits[day_place[real]] = np.minimum(day_visits + 1.0, 65535.0)[real]
        visits[week_place[real]] = np.minimum(week_visits + 1.0, 65535.0)[real]
        n += 1.0
        column["last"][:] = np.maximum(time, column["last"])

        return Verdicts(
            score=score[real],
            level=level[real],
            tail=tail[real],
            expected_low=(middle - width_low)[real],
            expected=middle[real],
            expected_high=(middle + width_high)[real],
            warming=warming[real],
            evidence=shares[:, real].T,
            interval=np.where(interval > 0.0, interval, np.nan)[real],
        )

    def _further(
        self, families: FloatArray, rows: IntArray, time: FloatArray, value: FloatArray, interval: FloatArray
    ) -> None:
        """Evidence of more channels than these, added into ``families`` of shape (families, lanes); here there is none.

        ``value`` is bounded and relative to the first one; lanes behind the rows are padding.
        """

    def _parts(self) -> dict[str, NDArray[np.generic]]:
        return {"state": self._state, "bins": self._bins, "visits": self._visits, "reached": self._reached}

    def _usually(
        self,
        column: dict[str, FloatArray],
        rows: IntArray,
        count: int,
        timestamps: IntArray,
        elapsed: FloatArray,
        level: FloatArray,
        times: tuple[IntArray, ...],
    ) -> FloatArray:
        """The highest level that these bins of day and week, ``times``, reach on the mean of the last days and weeks.

        Takes in the level, and learns what the bins of the series' last event reached once they are over. ``rows``
        behind ``count`` are padding, all of one row.
        """
        reached, table = self._reached.reshape(-1), rows * _BINS
        before = (timestamps - elapsed).astype(np.int64)
        for name, length, first, bins, offset, gain in (
            ("half_hour_peak", _HALF_HOUR, 0, _DAY_BINS, 0, _DAY_GAIN),
            ("hour_peak", 2 * _HALF_HOUR, _DAY_BINS, _WEEK_BINS, _EPOCH_HOUR, _WEEK_GAIN),
        ):
            peak, last = column[name], before // length
            over = timestamps // length != last
            ended = np.flatnonzero(over[:count])
            if len(ended):
                at = table[ended] + first + (last[ended] + offset) % bins
                known = reached.take(at).astype(np.float64)
                reached[at] = (known + gain * (_LEVELS * peak[ended] - known) + 0.5).astype(np.uint8)
                np.copyto(peak, 0.0, where=over)
            np.maximum(peak, level, out=peak)
        most = reached.take(table + times[0])
        for time in times[1:]:
            np.maximum(most, reached.take(table + time), out=most)
        return most / _LEVELS

    def dump(self, rows: IntArray) -> bytes:
        """State of the rows as ``len(rows) * row_bytes`` bytes, little-endian."""
        block = np.empty(len(rows), self._record)
        for name, part in self._parts().items():
            block[name] = part[rows]
        return block.tobytes()

    def restore(self, rows: IntArray, data: bytes | memoryview) -> None:
        """Set the state of the rows from ``dump`` of the same version.

        Raises ValueError if the length does not fit.
        """
        if len(data) != len(rows) * self.row_bytes:
            message = f"the state of {len(rows)} rows has {len(rows) * self.row_bytes} bytes, not {len(data)}"
            raise ValueError(message)
        block = np.frombuffer(data, self._record)
        for some in (slice(start, start + _CHUNK) for start in range(0, len(rows), _CHUNK)):  # read from memory once
            for name, part in self._parts().items():
                part[rows[some]] = block[name][some]

    def feedback(self, row: int, *, missed: bool) -> None:
        """Make the family that spoke last in this row a quarter louder (missed) or quieter.

        Every family stays within four such steps of its start, and a false positive and a missed
        anomaly undo each other. Where no family has spoken yet all of them move.
        """
        state = self._state[row]
        kind = state[_AT["kind"]]
        spoke = [int(kind) - 1] if 1 <= kind <= len(_FAMILIES) else range(len(_FAMILIES))
        for family in spoke:
            at = _AT[f"gain{family}"]
            moved = np.nan_to_num(state[at]) + (1.0 if missed else -1.0)
            state[at] = min(max(moved, -float(_LOUDNESS)), float(_LOUDNESS))


def _loops(wanted: bool | None) -> ModuleType | None:
    """The compiled steps, or None for NumPy's. ImportError where they are wanted and were not built."""
    if wanted is False:
        return None
    from stream_processors.detectors.seasonal import compiled

    if wanted:
        compiled.halves()
    return compiled if compiled.KERNEL.available else None


def _grown(old: NDArray[_T], used: int, capacity: int) -> NDArray[_T]:
    new = np.zeros((capacity, old.shape[1]), old.dtype)
    new[:used] = old[:used]
    return new


def _padded(column: NDArray[_T]) -> NDArray[_T]:
    """Rows to a multiple of ``_LANES``: the first one again, along the last axis."""
    padding = -column.shape[-1] % _LANES
    return np.concatenate((column, np.repeat(column[..., :1], padding, axis=-1)), axis=-1) if padding else column


def _divided(number: IntArray, by: int) -> tuple[IntArray, IntArray]:
    """Quotient and rest; NumPy divides by one number much faster than it takes the rest."""
    whole = number // by
    return whole, number - whole * by


def _of_two(bins: FloatArray, visits: NDArray[np.uint16], first: IntArray) -> FloatArray:
    """Mean of the known ones of two bins that follow one another; what is not known is 0."""
    mean = bins.take(first) + bins.take(first + 1)
    mean *= np.where((visits.take(first) > 0) & (visits.take(first + 1) > 0), 0.5, 1.0)
    return mean


def _loudness(ratio: FloatArray) -> FloatArray:
    """Weighted evidence of the channels, by the ratio of their size to the usual; 0 where that is ordinary, as most are."""
    found = np.zeros(ratio.shape)
    few = np.flatnonzero(~(ratio <= 0.5))
    surprise = _log(np.minimum(ratio.reshape(-1)[few] + 0.5, 1e30))
    surprise *= 0.5
    root = np.sqrt(np.minimum(surprise, _LOUDEST, out=surprise))
    loud = np.sqrt(root)
    np.sqrt(loud, out=loud)
    loud *= root  # to the power 5/8
    ends = np.searchsorted(few, ratio.shape[1] * np.arange(1, _N + 1))
    loud *= np.repeat(_WEIGHTS, np.diff(ends, prepend=0))
    found.reshape(-1)[few] = loud
    return found


def _log(few: FloatArray) -> FloatArray:
    """Logarithms of some rows' numbers, in whole lanes as for all rows."""
    padded = np.ones(len(few) + -len(few) % _LANES)
    padded[: len(few)] = few
    logarithms: FloatArray = np.log(padded, out=padded)[: len(few)]
    return logarithms


def _ranged(low: FloatArray, high: FloatArray, value: FloatArray, grain: FloatArray) -> FloatArray:
    """How far outside of low..high a value lies, signed, in widths of the range; 0 while it has none.

    Widens the range by the value, by at most its own width: a wild value doubles it and no more.
    """
    found = np.zeros(value.shape)
    above = value > high + grain
    few = _places(above | (value < low - grain))
    if len(few[0]):
        v, least, most, over = value[few], low[few], high[few], above[few]
        width = most - least
        outside = np.where(over, v - most, v - least)
        real = width > grain[few[1]]
        widths = np.where(real, outside / np.where(real, width, 1.0), 0.0)
        found[few] = np.minimum(np.maximum(widths, -_LARGEST), _LARGEST)
        step = np.minimum(np.abs(outside), np.where(width > 0.0, width, np.inf))
        high[few] = np.where(over, most + step, most)
        low[few] = np.where(over, least, least - step)
    return found


def _places(chosen: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """Rows and columns of what is true; for few of them sooner than NumPy's ``nonzero``."""
    row, column = _divided(np.flatnonzero(chosen), chosen.shape[1])
    return row, column


def _smallest(first: FloatArray, *others: FloatArray) -> FloatArray:
    """The residual nearest to zero if all have one sign, else 0."""
    least, most = first, first
    for other in others:
        least, most = np.minimum(least, other), np.maximum(most, other)
    nearest: FloatArray = np.fmax(least, 0.0)
    nearest += np.fmin(most, 0.0)
    return nearest


def _scale(column: dict[str, FloatArray], lapse: FloatArray, interval: FloatArray, n: FloatArray) -> FloatArray:
    """Mean square of what was unexplained of late, in part, over that of always; learns the event before this one.

    A neighbour is so not measured by its own neighbour.
    """
    noise, lately, before = column["one_noise"], column["lately"], column["unexplained"]
    known = noise > 0.0
    share = lately / np.where(known, noise, 1.0)
    scale = np.where(known, (1.0 - _LATELY_SHARE) + _LATELY_SHARE * share, 1.0)
    squared = np.minimum(before * before, np.where(known, 25.0 * noise, np.inf))
    memory = np.maximum(_LATELY, _LATELY_FEWEST * interval)
    gain = np.maximum(_blend(lapse, memory), 1.0 / np.maximum(n - 5.0, 1.0))
    lately += np.where(n > 5.0, gain * (squared - lately), 0.0)
    return scale


def _count_run(column: dict[str, FloatArray], step: FloatArray, grain: FloatArray, lapse: FloatArray) -> None:
    """Count the values that equal the one before them; a run of them is learned once it is over.

    ``step`` is the distance of both, infinite for a first value. The least one is the series' resolution.
    """
    same, quantum = step <= grain, column["quantum"]
    np.copyto(quantum, step, where=~same & (step < np.where(quantum > 0.0, quantum, np.inf)))
    run, moves, runs, run_on = (column[name] for name in ("run", "moves", "runs", "run_on"))
    kept = 1.0 - _blend(lapse, _TAIL_MEMORY)
    for counted in (moves, runs, run_on):
        counted *= kept
    over = ~same & (run > 0.0)
    most = _RUN_CUT * (run_on + 1.0) / (runs + 1.0)
    run_on += np.where(over, np.minimum(run - 1.0, most), 0.0)
    runs += over
    moves += ~same
    run[:] = np.where(same, run + 1.0, 0.0)
    column["run_told"] *= same


def _may_stand(column: dict[str, FloatArray], interval: FloatArray, days: FloatArray) -> NDArray[np.bool_]:
    """Whether a series whose values repeat, as a rule, at most every other time has not moved for a while.

    After a day without a move it is one that stands still.
    """
    run, fewest = column["run"], np.maximum(_RUN_MOVES * column["one_events"], _WARM_EVENTS)
    may: NDArray[np.bool_] = (run >= 2.0) & (column["moves"] >= fewest) & (run * interval <= DAY) & (days >= _KNOWN)
    return may


def _standing(column: dict[str, FloatArray], interval: FloatArray) -> FloatArray:
    """Level of the present run of equal values.

    It begins and goes on with constant probabilities, that is, its length is geometric; both are estimated with one
    success and one failure more than were counted (Laplace's rule of succession).
    """
    runs, run_on = column["runs"], column["run_on"]
    begins, goes_on = (runs + 1.0) / (column["moves"] + 2.0), (run_on + 1.0) / (run_on + runs + 2.0)
    rarity = -_log(begins) - (column["run"] - 1.0) * _log(goes_on)
    level: FloatArray = 0.5 / _RUN_POWER * rarity / _log(np.maximum(_RARE / np.maximum(interval, 1.0), 2.0))
    return level


def _farther(factor: FloatArray) -> FloatArray:
    """By how much a value of a year must be rarer than its tail says, where one of a day must be by this factor."""
    farther: FloatArray = np.maximum(factor, 1.0) + _FACTOR_GROWTH * np.maximum(factor - _FACTOR_USUAL, 0.0)
    return farther


def _rarity(
    tails: FloatArray, residual: FloatArray, scale: FloatArray, least: FloatArray, lapse: FloatArray, n: FloatArray
) -> FloatArray:
    """Minus the logarithm of the probability of a residual in its tail, on one side, 0 inside; learns the tail.

    ``tails`` has shape (tails, parts, n), ``residual``, the result, and ``scale``, by which the mean square of the
    moment exceeds the usual one, have shape (tails, n). The noise is taken for at least ``least``.

    Peaks over a threshold with a generalised Pareto tail fitted by its first two moments
    (Hosking & Wallis, Technometrics 29, 1987), one for both sides.
    """
    noise, count = tails[:, 0], tails[:, 1]
    ready = (noise > 0.0) & (n > _WARM_EVENTS)
    size = np.abs(residual) / np.sqrt(np.maximum(np.where(noise > 0.0, noise * scale, 1.0), least * least))
    excess = np.where(ready, size - _TAIL_START, 0.0)
    rarity = np.zeros(residual.shape)
    tail, at = _places(excess > 0.0)  # few are
    if len(at):
        beyond = excess[tail, at]
        events, sum1, sum2 = (tails[tail, part, at] for part in range(2, 5))
        mean = _TAIL_MEAN[tail, 0]
        first = (_TAIL_PRIOR * mean + sum1) / (_TAIL_PRIOR + events)
        second = (_TAIL_PRIOR * 2.0 * mean * mean + sum2) / (_TAIL_PRIOR + events)
        spread = np.maximum(second - first * first, 1e-6 * first * first)
        shape = 0.5 * (1.0 - first * first / spread) + _SHAPE_BIAS
        shape = np.minimum(np.maximum(shape, _SHAPE_LEAST), _SHAPE_MOST)
        share = (_TAIL_RATE[tail, 0] * _TAIL_PRIOR_EVENTS + events) / (_TAIL_PRIOR_EVENTS + 2.0 * count[tail, at])
        growth = np.ones(len(at) + -len(at) % _LANES)
        growth[: len(at)] = np.minimum(shape * beyond / (first * (1.0 - shape)), 1e30)
        rarity[tail, at] = np.log1p(growth)[: len(at)] / shape - _log(share)

    tails[:, 1:] *= np.where(ready, 1.0 - _blend(lapse, _TAIL_MEMORY), 1.0)[:, np.newaxis]
    if len(at):
        taken = np.minimum(beyond, _TAIL_CUT * first)
        tails[tail, 2, at] += 1.0
        tails[tail, 3, at] += taken
        tails[tail, 4, at] += taken * taken
    count += ready
    squared = residual * residual
    squared = np.minimum(squared, np.where(noise > 0.0, 25.0 * noise, np.inf))
    settled = n > 5.0
    gain = np.maximum(_blend(lapse, _SEASON_MEMORY), 1.0 / np.maximum(n - 5.0, 1.0))
    noise += np.where(settled, gain * (squared - noise), 0.0)
    return rarity


def _close_day(
    column: dict[str, FloatArray],
    time: FloatArray,
    age: FloatArray,
    interval: FloatArray,
    evidence: FloatArray,
    one: FloatArray,
    two: FloatArray,
) -> None:
    """At the end of a day learn what it reached; take in the present event."""
    np.maximum(column["rare_day"], one, out=column["rare_day"])
    np.maximum(column["rare_pair"], two, out=column["rare_pair"])
    over = np.flatnonzero(time - column["day_start"] >= np.maximum(DAY, _FEWEST * interval))
    if len(over):
        _learn_day({name: column[name][over] for name in _OF_A_DAY}, column, over, age[over], interval[over])
        for name in ("rare_day", "rare_pair", "day_peak"):
            column[name][over] = 0.0
        column["day_start"][over] = time[over]
    np.maximum(column["day_peak"], evidence, out=column["day_peak"])


_OF_A_DAY = ("rare_day", "rare_pair", "rare_days", "tail_factor", "pair_factor", "days", "day_peak", "usual")


def _learn_day(
    day: dict[str, FloatArray], column: dict[str, FloatArray], rows: IntArray, age: FloatArray, interval: FloatArray
) -> None:
    """Take in what the day that is over reached, in ``rows``; ``day`` are these rows' columns."""
    # A calibrated tail reaches about log(events a day) on an ordinary day; how much more it does
    # is by how much the fit is too light.
    judged = age > 1.5 * DAY
    usual, days = day["usual"], day["days"] + 1.0
    rare_days = day["rare_days"] + judged
    ordinary = _log(np.maximum(np.maximum(DAY, _FEWEST * interval) / np.maximum(interval, 1.0), 2.0)) + 0.577
    weight = 1.0 / (2.0 + np.minimum(rare_days, 15.0))
    for name, rarest in (("tail_factor", "rare_day"), ("pair_factor", "rare_pair")):
        factor = day[name]
        reached = np.minimum(day[rarest] / ordinary, _FACTOR_STEP * factor)
        column[name][rows] = factor + np.where(judged, weight * (reached - factor), 0.0)
    column["rare_days"][rows] = rare_days
    column["days"][rows] = days
    peak = np.where(days > 1.0, np.minimum(day["day_peak"], 2.0 * (usual + _BASE)), day["day_peak"])
    weight = np.maximum(_DAY_GAIN, 1.0 / (days + 1.0))
    column["usual"][rows] = usual + weight * (peak - usual)


def _shares(
    column: dict[str, FloatArray],
    spoken: FloatArray,
    slow: FloatArray,
    single: FloatArray,
    still: FloatArray,
    level: FloatArray,
) -> FloatArray:
    """Share of each family in the level, shape (families, n); remembers which one spoke last."""
    shares = spoken.copy()
    total = np.zeros(len(level))
    for share in shares:
        total += share
    by_one = np.zeros(len(level))  # by a single value or a standstill
    one = np.maximum(single, still)
    few = np.flatnonzero(one > slow)
    by_one[few] = (one[few] - slow[few]) / one[few]
    np.copyto(by_one, 1.0, where=~(total > 0.0))
    shares *= (1.0 - by_one) / np.where(total > 0.0, total, 1.0)
    shares[0] += np.where(still > single, 0.0, by_one)
    shares[_STANDSTILL] += np.where(still > single, by_one, 0.0)
    shares *= level > 0.0
    few = np.flatnonzero(level >= 0.15)
    column["kind"][few] = shares[:, few].argmax(axis=0) + 1.0
    return shares


def _calibrated(column: dict[str, FloatArray], strength: FloatArray, warming: NDArray[np.bool_]) -> FloatArray:
    """Probability that an ordinary event of the series shows at least this strength; learns it.

    Follows the strengths that one event in ten and one in a hundred exceed (stochastic
    approximation, Robbins & Monro 1951), joined and continued by exponential tails.
    """
    tenth = 0.1 * np.exp(column["tenth"])
    hundredth = np.maximum(0.25 * np.exp(column["hundredth"]), 1.2 * tenth)
    decades = np.where(strength <= tenth, strength / tenth, 1.0 + (strength - tenth) / (hundredth - tenth))
    tail = np.exp(-math.log(10.0) * np.minimum(decades, 12.0))
    for name, mark, share in (("tenth", tenth, 0.1), ("hundredth", hundredth, 0.01)):
        moved = column[name] + np.where(warming, 0.0, 0.05 * ((strength > mark) - share))
        column[name][:] = np.minimum(np.maximum(moved, -8.0), 3.0)
    return np.where(warming | (strength <= 0.0), 1.0, tail)


def _band(
    column: dict[str, FloatArray],
    value: FloatArray,
    bounded: FloatArray,
    expected: FloatArray,
    lapse: FloatArray,
    first_gain: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Distances of the band's ends from the expected value; learns them after.

    The mean deviation times a factor for either side that moves until one in 200 ordinary values
    lies beyond it (stochastic approximation of a quantile, Robbins & Monro 1951).
    """
    width = column["width"]
    up = width * 3.23 * np.exp(column["width_up"])
    down = width * 3.23 * np.exp(column["width_down"])
    for name, over in (("width_up", value > expected + up), ("width_down", value < expected - down)):
        moved = column[name] + 0.05 * (over - 0.005)
        column[name][:] = np.minimum(np.maximum(moved, -0.7), 1.4)
    deviation = np.abs(bounded - expected)
    deviation = np.minimum(deviation, np.where(width > 0.0, 10.0 * width, np.inf))
    width += np.maximum(_blend(lapse, 2.0 * DAY), first_gain) * (deviation - width)
    return down, up


def _level(gain: FloatArray) -> IntArray:
    steps = np.minimum(np.maximum(np.nan_to_num(gain), -float(_LOUDNESS)), float(_LOUDNESS))
    return steps.astype(np.int64) + _LOUDNESS
