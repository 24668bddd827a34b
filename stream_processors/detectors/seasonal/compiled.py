"""The bank's recurrence as compiled loops, where numba is installed: the same bits as NumPy's, sooner.

Each row is read once, changed in place and left; no columns are gathered. Bits are the same because
the operations are, in the same order: nothing is reassociated or fused, and logarithms and
exponentials are NumPy's own, whose last bit the C library's need not share. That is why the work is
cut in two kernels with NumPy's functions between them. What a number means is told in ``bank``.

numba keeps what it compiled beside this file or, where that cannot be written, in the user's cache
(``NUMBA_CACHE_DIR`` moves it); the first process on a machine compiles for some seconds.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from stream_processors.detectors import base
from stream_processors.detectors.base import CALM_LEVEL, FloatArray, IntArray, Verdicts
from stream_processors.detectors.seasonal import bank
from stream_processors.detectors.seasonal.bank import (
    _AT,
    _BAR_LONGEST,
    _BAR_RISE,
    _BAR_SHARE,
    _BAR_START,
    _BAR_TOP,
    _BASE,
    _BINS,
    _CHANNELS,
    _CLIP,
    _COLUMNS,
    _DAY_BIN,
    _DAY_BINS,
    _DAY_GAIN,
    _DOWN,
    _EPOCH_HOUR,
    _FACTOR,
    _FACTOR_GROWTH,
    _FACTOR_STEP,
    _FACTOR_USUAL,
    _FAMILIES,
    _FEWEST,
    _GAINS,
    _GRADES,
    _GRAIN,
    _HABIT,
    _HALF_HOUR,
    _HELD,
    _KNOWN,
    _LANES,
    _LARGEST,
    _LATELY,
    _LATELY_FEWEST,
    _LATELY_SHARE,
    _LEVELS,
    _LONGEST_STEP,
    _LOUDEST,
    _LOUDNESS,
    _MEMORY,
    _N,
    _PAIR_MOST,
    _QUANTUM_MOVES,
    _QUANTUM_RATE,
    _QUANTUM_SHARE,
    _QUIET,
    _RARE,
    _RUN_CUT,
    _RUN_MOVES,
    _RUN_POWER,
    _SCALES,
    _SEASON_MEMORY,
    _SHAPE_BIAS,
    _SHAPE_LEAST,
    _SHAPE_MOST,
    _SMOOTH,
    _STANDSTILL,
    _TAIL_CUT,
    _TAIL_MEAN,
    _TAIL_MEMORY,
    _TAIL_PRIOR,
    _TAIL_PRIOR_EVENTS,
    _TAIL_RATE,
    _TAIL_START,
    _UP,
    _VISITS_DAY,
    _VISITS_WEEK,
    _WARM_EVENTS,
    _WEEK_BIN,
    _WEEK_BINS,
    _WEEK_GAIN,
    _YOUNG,
    DAY,
    HOUR,
    MINUTE,
    WEEK,
)

_BLOCK = 1024
"""Rows computed at once: what passes between the kernels stays in the processor's cache."""

_AHEAD = 4
"""Events whose state is asked for ahead: a row that no cache holds is there by the time its turn comes."""
_ROW = len(_COLUMNS)

_COUNT, _ORIGIN, _FIRST, _LAST, _INTERVAL = (_AT[n] for n in ("count", "origin", "first", "last", "interval"))
_LOW, _LOW_REST, _LOW_2H, _LOW_8H = (_AT[n] for n in ("low", "low_rest", "low_2h", "low_8h"))
_MEAN, _MEAN_FAST, _MEAN_WEEK = _AT["mean0"], _AT["mean_fast"], _AT["mean_week"]
_ERROR_SEASON, _ERROR_MEAN, _SEASONS, _WEEKS = (_AT[n] for n in ("error_season", "error_mean", "seasons", "weeks"))
_DAY_REST, _DAY_REST_SLOW, _PREVIOUS = _AT["day_rest"], _AT["day_rest_slow"], _AT["previous"]
_STEP_SHORT, _STEP_LONG = _AT["step_short"], _AT["step_long"]
_SMOOTH0, _SHARE, _GAIN, _KIND = _AT["smooth0"], _AT["share0"], _AT["gain0"], _AT["kind"]
_USUAL, _DAY_PEAK, _DAY_START, _DAYS, _BAR = (_AT[n] for n in ("usual", "day_peak", "day_start", "days", "bar"))
_WAITED, _HALF_HOUR_PEAK, _HOUR_PEAK = (_AT[n] for n in ("waited", "half_hour_peak", "hour_peak"))
_ONE, _TWO = _AT["one_noise"], _AT["two_noise"]
_UNEXPLAINED, _RECENTLY = _AT["unexplained"], _AT["lately"]
_RARE_DAY, _RARE_PAIR, _RARE_DAYS = (_AT[n] for n in ("rare_day", "rare_pair", "rare_days"))
_TAIL_FACTOR, _PAIR_FACTOR = _AT["tail_factor"], _AT["pair_factor"]
_STARTS, _RATES, _ASSUMED = (tuple(float(one) for one in column[:, 0]) for column in (_TAIL_START, _TAIL_RATE, _TAIL_MEAN))
_TENTH, _HUNDREDTH = _AT["tenth"], _AT["hundredth"]
_WIDTH, _WIDTH_UP, _WIDTH_DOWN = _AT["width"], _AT["width_up"], _AT["width_down"]
_RUN, _RUN_TOLD, _MOVES, _RUNS, _RUN_ON, _QUANTUM = (
    _AT[n] for n in ("run", "run_told", "moves", "runs", "run_on", "quantum")
)
_FAMILY_OF = tuple(family for family, _ in _CHANNELS)
_WEIGHTS = tuple(weight for _, weight in _CHANNELS)
_KINDS = len(_FAMILIES)
_DECADE = -math.log(10.0)

# What passes from the first kernel to the second: arguments of logarithms (the channels first) ...
_LOG_SHARE, _LOG_WANTED, _LOG_ORDINARY, _LOG_BEGINS, _LOG_GOES_ON = _N, _N + 2, _N + 3, _N + 4, _N + 5
_LOGS = _N + 6
# ... of exponentials ...
_EXP_SHARES, _EXP_KEPT, _EXPS = range(3)
# ... of the exponentials of what the second kernel itself moves ...
_MARK_TENTH, _MARK_HUNDREDTH, _MARK_UP, _MARK_DOWN = range(4)
_MARKS = (_TENTH, _HUNDREDTH, _WIDTH_UP, _WIDTH_DOWN)
# ... and plain numbers; shape and beyond are two each, of single values and of pairs.
(_H_N, _H_V, _H_BOUNDED, _H_EXPECTED, _H_LAPSE, _H_ELAPSED, _H_AGE, _H_SHAPE) = range(8)
_H_BEYOND, _H_INTERVAL, _H_RUN, _HAVE = 9, 11, 12, 13

_jit: Callable[[Any], Any] = numba.njit(cache=True, error_model="numpy", fastmath=False)
_part: Callable[[Any], Any] = numba.njit(error_model="numpy", fastmath=False)
"""Of what the kernels call. It is kept within them only: kept by itself it would be used again with constants of then."""


def _py_least(a: float, b: float) -> float:
    """NumPy's minimum: NaN passes, and of equals the second is taken."""
    return a if a < b or a != a else b


def _py_most(a: float, b: float) -> float:
    """NumPy's maximum."""
    return a if a > b or a != a else b


_least, _most = _part(_py_least), _part(_py_most)


def _py_blend(interval: float, memory: float) -> float:
    return interval / (interval + memory)


def _py_beyond(value: float, low: float, high: float, grain: float) -> float:
    over = value - high if value > high + grain else value - low if value < low - grain else 0.0
    width = high - low
    return _least(_most(over / width, -_LARGEST), _LARGEST) if width > grain else 0.0


def _py_widen(s: FloatArray, low: int, value: float, grain: float) -> None:
    width = s[low + 1] - s[low]
    most = width if width > 0.0 else np.inf
    over = _least(value - s[low + 1], most) if value > s[low + 1] + grain else 0.0
    under = _least(s[low] - value, most) if value < s[low] - grain else 0.0
    s[low + 1] += over
    s[low] -= under


def _py_nearest(least: float, most: float) -> float:
    return least if least > 0.0 else most if most < 0.0 else 0.0


def _of_prefetch(typing: Any, columns: Any, place: Any) -> Any:
    """Ask for the cache line of an element of contiguous columns, by its place in all of them: it will be written."""
    del typing, place

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        wanted = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        at = builder.bitcast(builder.gep(array.data, [arguments[1]]), pointer)
        builder.call(wanted, [at, number(1), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(columns, types.intp), generate


_prefetch: Callable[..., None] = intrinsic(_of_prefetch)

_blend, _beyond, _widen, _nearest = _part(_py_blend), _part(_py_beyond), _part(_py_widen), _part(_py_nearest)


def _py_farther(factor: float) -> float:
    farther: float = _most(factor, 1.0) + _FACTOR_GROWTH * _most(factor - _FACTOR_USUAL, 0.0)
    return farther


def _py_tail(
    s: FloatArray, number: int, residual: float, scale: float, least: float, lapse: float, n: float
) -> tuple[float, float, float, bool]:
    """As ``bank._rarity``, but for the logarithms: growth, share beyond, shape, and whether it lies beyond."""
    at = _TWO if number else _ONE
    start, rate, mean = _STARTS[number], _RATES[number], _ASSUMED[number]
    noise = s[at]
    ready = noise > 0.0 and n > _WARM_EVENTS
    size = abs(residual) / math.sqrt(_most(noise * scale if noise > 0.0 else 1.0, least * least))
    excess = size - start if ready else 0.0
    beyond = excess > 0.0
    events, sum1, sum2 = s[at + 2], s[at + 3], s[at + 4]
    first = (_TAIL_PRIOR * mean + sum1) / (_TAIL_PRIOR + events)
    second = (_TAIL_PRIOR * 2.0 * mean * mean + sum2) / (_TAIL_PRIOR + events)
    spread = _most(second - first * first, 1e-6 * first * first)
    shape = 0.5 * (1.0 - first * first / spread) + _SHAPE_BIAS
    shape = _least(_most(shape, _SHAPE_LEAST), _SHAPE_MOST)
    share = (rate * _TAIL_PRIOR_EVENTS + events) / (_TAIL_PRIOR_EVENTS + 2.0 * s[at + 1])
    growth = _least(shape * _most(excess, 0.0) / (first * (1.0 - shape)), 1e30)

    keep = 1.0 - _blend(lapse, _TAIL_MEMORY) if ready else 1.0
    taken = _least(_most(excess, 0.0), _TAIL_CUT * first)
    s[at + 2] *= keep
    s[at + 3] *= keep
    s[at + 4] *= keep
    s[at + 2] += 1.0 if beyond else 0.0
    s[at + 3] += taken if beyond else 0.0
    s[at + 4] += taken * taken if beyond else 0.0
    s[at + 1] *= keep
    s[at + 1] += 1.0 if ready else 0.0
    squared = residual * residual
    squared = _least(squared, 25.0 * noise if noise > 0.0 else np.inf)
    gain = _most(_blend(lapse, _SEASON_MEMORY), 1.0 / _most(n - 5.0, 1.0))
    s[at] = noise + (gain * (squared - noise) if n > 5.0 else 0.0)
    return growth, share, shape, beyond


def _py_of_two(bins: FloatArray, visits: NDArray[np.uint16], row: int, first: int) -> float:
    mean: float = bins[row, first] + bins[row, first + 1]
    return mean * (0.5 if visits[row, first] > 0 and visits[row, first + 1] > 0 else 1.0)


_tail, _farther, _of_two = _part(_py_tail), _part(_py_farther), _part(_py_of_two)


@cache
def _kernels(stamp: int) -> tuple[Any, Any]:
    """Both kernels. ``stamp`` tells the sources of constants: numba compares what a function encloses, not
    what it imports, and would go on using what it compiled from constants that have changed since."""

    def first(
        state: FloatArray,
        bins: FloatArray,
        visits: NDArray[np.uint16],
        rows: IntArray,
        timestamps: IntArray,
        values: FloatArray,
        logs: FloatArray,
        growths: FloatArray,
        exps: FloatArray,
        have: FloatArray,
        out: FloatArray,
    ) -> int:
        r = np.zeros(_N)
        for i in range(len(rows)):
            if i + _AHEAD < len(rows):
                coming, then = rows[i + _AHEAD], timestamps[i + _AHEAD]
                for line in range(0, _ROW, 8):
                    _prefetch(state, coming * _ROW + line)
                hour = then % 86_400_000 // 3_600_000
                for place in (2 * hour, _DAY_BINS + (then // 86_400_000 + 3) % 7 * 24 + hour):
                    _prefetch(bins, coming * _BINS + place)
                    _prefetch(visits, coming * _BINS + place)
            row = rows[i]
            s = state[row]
            stamp_ms = timestamps[i]
            time = float(stamp_ms)
            value = _least(_most(values[i], -_LARGEST), _LARGEST)

            # the series' clock
            n = s[_COUNT]
            new = n == 0.0
            if new:
                s[_ORIGIN], s[_FIRST], s[_LAST], s[_DAY_START] = value, time, time, time
                s[_TAIL_FACTOR] = s[_PAIR_FACTOR] = _FACTOR
            elapsed = _most(time - s[_LAST], 0.0)
            interval = s[_INTERVAL]
            rate = _most(0.02, 1.0 / _most(n, 1.0))
            factor = 1.0 + rate if elapsed > 1.001 * interval else 1.0 / (1.0 + rate) if elapsed < 0.999 * interval else 1.0
            moved = elapsed if n < 2.0 or interval <= 0.0 else interval * factor
            if elapsed > 0.0:
                interval = s[_INTERVAL] = moved
            lapse = interval if elapsed > _LONGEST_STEP * interval else elapsed
            age = time - s[_FIRST]
            first_gain = 1.0 / (n + 1.0)
            v = value - s[_ORIGIN]
            grain = _GRAIN * abs(value)
            settled = n > 5.0

            # what the season says
            of_day = stamp_ms % 86_400_000
            day_bin = of_day // _HALF_HOUR
            hour = (stamp_ms // 86_400_000 + 3) % 7 * 24 + of_day // 3_600_000
            week_bin = _DAY_BINS + hour
            day_mean, week_mean = bins[row, day_bin], bins[row, week_bin]
            day_visits, week_visits = float(visits[row, day_bin]), float(visits[row, week_bin])
            earlier = (of_day - 900_000) // _HALF_HOUR % _DAY_BINS
            later = (earlier + 1) % _DAY_BINS
            part = float((of_day + 900_000) % _HALF_HOUR) / _DAY_BIN
            from_bin, to_bin = bins[row, earlier], bins[row, later]
            straight = visits[row, earlier] > 0 and visits[row, later] > 0
            day_line = from_bin + part * (to_bin - from_bin) if straight else day_mean
            slow = s[_MEAN_WEEK]
            by_day = day_line + slow
            by_day_known = day_visits > 0.0 and age >= DAY
            by_week_known = week_visits > 0.0 and age >= WEEK
            mean, recent = s[_MEAN + 4], s[_MEAN + 2]
            error_season, error_mean = s[_ERROR_SEASON], s[_ERROR_MEAN]
            belief = _most(0.0, 1.0 - error_season / error_mean) if by_day_known and error_mean > 0.0 else 0.0
            season = belief * (by_day - mean)
            day_rest = v - by_day if by_day_known else 0.0

            # a value counts as at most one range beyond the range seen so far
            low, high = s[_LOW], s[_LOW + 1]
            width = high - low
            bounded = _least(_most(v, low - width), high + width) if settled and width > 0.0 else v
            rest, bounded_rest = v - season, bounded - season

            r[0] = v - (mean + season) if settled else 0.0
            bounded_day_rest = bounded - by_day if by_day_known else 0.0
            s[_DAY_REST] += _blend(lapse, HOUR / 4) * (bounded_day_rest - s[_DAY_REST])
            s[_DAY_REST_SLOW] += _blend(lapse, 4 * HOUR) * (bounded_day_rest - s[_DAY_REST_SLOW])
            r[1] = s[_DAY_REST] if by_day_known else 0.0
            r[2] = s[_DAY_REST_SLOW] if by_day_known else 0.0
            r[3] = v - slow - week_mean if by_week_known else 0.0
            r[4] = _beyond(v, low, high, grain)
            r[5] = _beyond(rest, s[_LOW_REST], s[_LOW_REST + 1], grain)

            # single values
            plain = rest - s[_MEAN]
            a, b = rest - s[_MEAN + 1], rest - s[_MEAN_FAST]
            c = day_rest if belief > 0.0 else plain
            line_rest = v - by_day
            by_week = line_rest - (week_mean - _of_two(bins, visits, row, 2 * (hour % 24)))
            for other in ((hour + _WEEK_BINS - 1) % _WEEK_BINS, (hour + 1) % _WEEK_BINS):
                near = _DAY_BINS + other
                if visits[row, near] > 0:
                    beside = line_rest - (bins[row, near] - _of_two(bins, visits, row, 2 * (other % 24)))
                    by_week = _nearest(_least(by_week, beside), _most(by_week, beside))
            d = by_week if by_week_known else plain
            lowest = _least(_least(_least(_least(plain, a), b), c), d)
            unexplained = _nearest(lowest, _most(_most(_most(_most(plain, a), b), c), d))
            unexplained = unexplained if settled and abs(unexplained) > grain else 0.0
            before = s[_UNEXPLAINED]
            pair = _nearest(_least(unexplained, before), _most(unexplained, before))
            noise, lately = s[_ONE], s[_RECENTLY]
            scale = (1.0 - _LATELY_SHARE) + _LATELY_SHARE * (lately / noise) if noise > 0.0 else 1.0
            gain = _most(_blend(lapse, _most(_LATELY, _LATELY_FEWEST * interval)), 1.0 / _most(n - 5.0, 1.0))
            squared = _least(before * before, 25.0 * noise if noise > 0.0 else np.inf)
            s[_RECENTLY] = lately + (gain * (squared - lately) if n > 5.0 else 0.0)
            s[_UNEXPLAINED] = unexplained
            restless = s[_MOVES] >= _most(_QUANTUM_MOVES, _QUANTUM_RATE * s[_ONE + 1])
            least = _QUANTUM_SHARE * (s[_QUANTUM] if restless else 0.0)
            for tail in range(2):
                growth, share, shape, beyond = _tail(
                    s, tail, pair if tail else unexplained, scale if tail else 1.0, least, lapse, n
                )
                growths[tail, i] = growth
                logs[_LOG_SHARE + tail, i] = share
                have[_H_SHAPE + tail, i] = shape
                have[_H_BEYOND + tail, i] = 1.0 if beyond else 0.0

            # means over five time scales
            s[_MEAN_FAST] += _most(0.2, first_gain) * (bounded_rest - s[_MEAN_FAST])
            for scale in range(len(_SCALES)):
                gain = _most(_blend(lapse, _SCALES[scale]), first_gain)
                s[_MEAN + scale] += gain * (bounded_rest - s[_MEAN + scale])
            for scale in range(len(_SCALES) - 1):
                r[8 + scale] = s[_MEAN + scale] - s[_MEAN + scale + 1]
            if n <= 3.0:
                s[_LOW_2H] = s[_LOW_2H + 1] = s[_MEAN + 1]
                s[_LOW_8H] = s[_LOW_8H + 1] = s[_MEAN + 2]
            r[6] = _beyond(s[_MEAN + 1], s[_LOW_2H], s[_LOW_2H + 1], grain)
            r[7] = _beyond(s[_MEAN + 2], s[_LOW_8H], s[_LOW_8H + 1], grain)
            step = 0.0 if new else math.sqrt(abs(bounded - s[_PREVIOUS]))
            s[_STEP_SHORT] += _most(_blend(lapse, HOUR / 2), first_gain) * (step - s[_STEP_SHORT])
            s[_STEP_LONG] += _most(_blend(lapse, 16 * HOUR), first_gain) * (step - s[_STEP_LONG])
            r[12] = s[_STEP_SHORT] - s[_STEP_LONG]

            # a run of equal values; it is learned once it is over
            step = np.inf if new else abs(bounded - s[_PREVIOUS])
            same = step <= grain
            kept = 1.0 - _blend(lapse, _TAIL_MEMORY)
            s[_MOVES] *= kept
            s[_RUNS] *= kept
            s[_RUN_ON] *= kept
            if same:
                s[_RUN] += 1.0
            else:
                if s[_RUN] > 0.0:
                    most = _RUN_CUT * (s[_RUN_ON] + 1.0) / (s[_RUNS] + 1.0)
                    s[_RUN_ON] += _least(s[_RUN] - 1.0, most)
                    s[_RUNS] += 1.0
                s[_MOVES] += 1.0
                s[_RUN] = s[_RUN_TOLD] = 0.0
                if step < (s[_QUANTUM] if s[_QUANTUM] > 0.0 else np.inf):
                    s[_QUANTUM] = step
            fewest = _most(_RUN_MOVES * s[_ONE + 1], _WARM_EVENTS)
            stands = s[_RUN] >= 2.0 and s[_MOVES] >= fewest and s[_RUN] * interval <= DAY and age >= _KNOWN * DAY
            logs[_LOG_BEGINS, i] = (s[_RUNS] + 1.0) / (s[_MOVES] + 2.0) if stands else 1.0
            logs[_LOG_GOES_ON, i] = (s[_RUN_ON] + 1.0) / (s[_RUN_ON] + s[_RUNS] + 2.0) if stands else 1.0
            have[_H_RUN, i] = s[_RUN] if stands else 0.0
            s[_PREVIOUS] = bounded

            # how well the season has predicted, against the plain mean
            learn = by_day_known and n > 0.0
            memory_gain = _most(_blend(lapse, _SEASON_MEMORY), 1.0 / _most(n, 1.0))
            most = 25.0 * error_mean if error_mean > 0.0 else np.inf
            from_mean = v - mean
            squared_season = _least(day_rest * day_rest, most)
            squared_mean = _least(from_mean * from_mean, most)
            s[_ERROR_SEASON] += memory_gain * (squared_season - error_season) if learn else 0.0
            s[_ERROR_MEAN] += memory_gain * (squared_mean - error_mean) if learn else 0.0

            # evidence: every channel against its own past
            s[_SEASONS] += 1.0 if by_day_known else 0.0
            s[_WEEKS] += 1.0 if by_week_known else 0.0
            calibration = _blend(lapse, _MEMORY)
            gain = _most(calibration, first_gain)
            gain_day = _most(calibration, 1.0 / _most(s[_SEASONS], 1.0)) * (1.0 if by_day_known else 0.0)
            gain_week = _most(calibration, 1.0 / _most(s[_WEEKS], 1.0)) * (1.0 if by_week_known else 0.0)
            for channel in range(_N):
                residual = r[channel]
                if not 4 <= channel <= 7:
                    residual = residual if abs(residual) > grain else 0.0
                up, down = s[_UP + channel], s[_DOWN + channel]
                squared = residual * residual
                rising = residual > 0.0
                usual = up if rising else down
                ratio = squared / (_QUIET * usual) if usual > 0.0 else 0.0
                logs[channel, i] = _least(_most(ratio + 0.5, 1.0), 1e30)
                channel_gain = gain_week if channel == 3 else gain_day if channel in (1, 2) else gain
                squared_up = squared if rising else 0.0
                squared_down = squared - squared_up
                squared_up = _least(squared_up, _CLIP * up if up > 0.0 else np.inf)
                squared_down = _least(squared_down, _CLIP * down if down > 0.0 else np.inf)
                s[_UP + channel] = up + channel_gain * (squared_up - up)
                s[_DOWN + channel] = down + channel_gain * (squared_down - down)

            # learn
            _widen(s, _LOW, v, grain)
            _widen(s, _LOW_REST, rest, grain)
            _widen(s, _LOW_2H, s[_MEAN + 1], grain)
            _widen(s, _LOW_8H, s[_MEAN + 2], grain)
            slow += _most(_blend(lapse, WEEK), first_gain) * (bounded - slow)
            s[_MEAN_WEEK] = slow
            day_gain = _most(1.0 / (day_visits + 1.0), _blend(lapse, _VISITS_DAY * _DAY_BIN))
            week_gain = _most(1.0 / (week_visits + 1.0), _blend(lapse, _VISITS_WEEK * _WEEK_BIN))
            bins[row, day_bin] = day_mean + day_gain * (bounded - slow - day_mean)
            bins[row, week_bin] = week_mean + week_gain * (bounded - slow - week_mean)
            visits[row, day_bin] = np.uint16(_least(day_visits + 1.0, 65535.0))
            visits[row, week_bin] = np.uint16(_least(week_visits + 1.0, 65535.0))
            s[_COUNT] = n + 1.0
            s[_LAST] = _most(time, s[_LAST])

            # for the second kernel
            days_known = age / DAY
            shortest = _most(MINUTE * (1.0 - days_known / _KNOWN), 1.0)
            logs[_LOG_WANTED, i] = _most(_RARE / _most(interval, shortest), 2.0)
            logs[_LOG_ORDINARY, i] = _most(_most(DAY, _FEWEST * interval) / _most(interval, 1.0), 2.0)
            memory = _most(_SMOOTH, interval)
            exps[_EXP_SHARES, i] = -lapse / memory
            exps[_EXP_KEPT, i] = -lapse / (3.0 * memory)
            have[_H_N, i], have[_H_V, i], have[_H_BOUNDED, i], have[_H_INTERVAL, i] = n, v, bounded, interval
            have[_H_EXPECTED, i] = season + recent
            have[_H_LAPSE, i], have[_H_ELAPSED, i], have[_H_AGE, i] = lapse, elapsed, age
            out[_O_INTERVAL, i] = interval if interval > 0.0 else np.nan
        return stamp

    def second(
        state: FloatArray,
        reached: NDArray[np.uint8],
        rows: IntArray,
        timestamps: IntArray,
        logs: FloatArray,
        growths: FloatArray,
        exps: FloatArray,
        have: FloatArray,
        begin: int,
        places: IntArray,
        marks: FloatArray,
        moved_marks: FloatArray,
        gains: FloatArray,
        out: FloatArray,
        shares: FloatArray,
        decades_out: FloatArray,
    ) -> int:
        """Events ``begin`` to ``begin + len(places)``; ``places`` are those of their rows among the marks."""
        families = np.zeros(_KINDS)
        loud = np.zeros(_KINDS)
        for i in range(begin, begin + len(places)):
            if i + _AHEAD < begin + len(places):
                coming = rows[i + _AHEAD]
                for line in range(0, _ROW, 8):
                    _prefetch(state, coming * _ROW + line)
                hour = timestamps[i + _AHEAD] // (2 * _HALF_HOUR)
                _prefetch(reached, coming * _BINS + 2 * (hour % 24))
                _prefetch(reached, coming * _BINS + _DAY_BINS + (hour + _EPOCH_HOUR) % _WEEK_BINS)
            s, usually = state[rows[i]], reached[rows[i]]
            mark = places[i - begin]
            time = float(timestamps[i])
            n, v, bounded, expected = have[_H_N, i], have[_H_V, i], have[_H_BOUNDED, i], have[_H_EXPECTED, i]
            lapse, elapsed, age = have[_H_LAPSE, i], have[_H_ELAPSED, i], have[_H_AGE, i]
            one = growths[0, i] / have[_H_SHAPE, i] - logs[_LOG_SHARE, i] if have[_H_BEYOND, i] > 0.0 else 0.0
            two = growths[1, i] / have[_H_SHAPE + 1, i] - logs[_LOG_SHARE + 1, i] if have[_H_BEYOND + 1, i] > 0.0 else 0.0

            families[:] = 0.0
            for channel in range(_N):
                surprise = _least(0.5 * logs[channel, i], _LOUDEST)
                root = math.sqrt(surprise)
                families[_FAMILY_OF[channel]] += _WEIGHTS[channel] * (root * math.sqrt(math.sqrt(root)))
            total = 0.0
            smoothing = 1.0 - exps[_EXP_SHARES, i]
            for family in range(_KINDS):
                gain = s[_GAIN + family]
                steps = _least(_most(0.0 if gain != gain else gain, -float(_LOUDNESS)), float(_LOUDNESS))
                loud[family] = gains[int(steps) + _LOUDNESS]
                share = families[family] * loud[family]
                total += share
                s[_SHARE + family] += smoothing * (share - s[_SHARE + family])
            kept = exps[_EXP_KEPT, i]
            evidence = 0.0
            for back in range(3):
                at = _SMOOTH0 + 2 - back
                s[at] += (1.0 - kept) * (total - s[at])
                evidence += s[at] / 3.0
                kept = kept * kept * kept

            # strength: against what an ordinary day reaches
            days_known = age / DAY
            divisor = _BASE + s[_USUAL] + _YOUNG / (1.0 + days_known)
            slow_strength = evidence / divisor
            wanted = logs[_LOG_WANTED, i] * (1.0 + 1.4 * _most(1.0 - days_known / _KNOWN, 0.0))
            alone = 0.5 * one / (wanted * _farther(s[_TAIL_FACTOR]))
            beside = 0.5 * two / (wanted * _farther(s[_PAIR_FACTOR]))
            single = _most(alone, _least(beside, _PAIR_MOST))
            single = _least(single * loud[0], 1.0)
            strength = _least(_most(slow_strength, single), _BAR_TOP)
            strength = strength if strength >= 1e-6 else 0.0
            still = 0.0
            if have[_H_RUN, i] > 0.0:
                rarity = -logs[_LOG_BEGINS, i] - (have[_H_RUN, i] - 1.0) * logs[_LOG_GOES_ON, i]
                still = _least(0.5 / _RUN_POWER * rarity / wanted * loud[_STANDSTILL], _PAIR_MOST)
                still = still if still >= 0.5 else 0.0

            # the end of a day
            s[_RARE_DAY], s[_RARE_PAIR] = _most(s[_RARE_DAY], one), _most(s[_RARE_PAIR], two)
            over = time - s[_DAY_START] >= _most(DAY, _FEWEST * have[_H_INTERVAL, i])
            judged = over and age > 1.5 * DAY
            s[_RARE_DAYS] += 1.0 if judged else 0.0
            usual = s[_USUAL]
            ordinary = logs[_LOG_ORDINARY, i] + 0.577
            weight = 1.0 / (2.0 + _least(s[_RARE_DAYS], 15.0))
            for at, rarest in ((_TAIL_FACTOR, _RARE_DAY), (_PAIR_FACTOR, _RARE_PAIR)):
                factor = s[at]
                shown = _least(s[rarest] / ordinary, _FACTOR_STEP * factor)
                s[at] = factor + (weight * (shown - factor) if judged else 0.0)
            s[_DAYS] += 1.0 if over else 0.0
            peak = _least(s[_DAY_PEAK], 2.0 * (usual + _BASE)) if s[_DAYS] > 1.0 else s[_DAY_PEAK]
            weight = _most(_DAY_GAIN, 1.0 / (s[_DAYS] + 1.0))
            s[_USUAL] = usual + (weight * (peak - usual) if over else 0.0)
            if over:
                s[_RARE_DAY], s[_RARE_PAIR], s[_DAY_PEAK], s[_DAY_START] = 0.0, 0.0, 0.0, time
            s[_DAY_PEAK] = _most(s[_DAY_PEAK], evidence)

            # one report per incident; what comes at this time every day or week is none
            sinking = _least(_BAR_START + _BAR_SHARE * age, _BAR_LONGEST)
            s[_BAR] *= sinking / (sinking + elapsed)
            warming = n < _WARM_EVENTS
            level = 0.0 if warming else _least(strength, 1.0)
            last = int(time - elapsed) // _HALF_HOUR
            half_hour, hour = timestamps[i] // _HALF_HOUR, timestamps[i] // (2 * _HALF_HOUR)
            if half_hour != last:
                at = last % _DAY_BINS
                known = float(usually[at])
                usually[at] = np.uint8(known + _DAY_GAIN * (_LEVELS * s[_HALF_HOUR_PEAK] - known) + 0.5)
                s[_HALF_HOUR_PEAK] = 0.0
            if hour != last // 2:
                at = _DAY_BINS + (last // 2 + _EPOCH_HOUR) % _WEEK_BINS
                known = float(usually[at])
                usually[at] = np.uint8(known + _WEEK_GAIN * (_LEVELS * s[_HOUR_PEAK] - known) + 0.5)
                s[_HOUR_PEAK] = 0.0
            s[_HALF_HOUR_PEAK], s[_HOUR_PEAK] = _most(s[_HALF_HOUR_PEAK], level), _most(s[_HOUR_PEAK], level)
            most = max(usually[(half_hour - 1) % _DAY_BINS], usually[half_hour % _DAY_BINS])
            most = max(most, usually[(half_hour + 1) % _DAY_BINS])
            for other in (hour + _EPOCH_HOUR - 1, hour + _EPOCH_HOUR):
                most = max(most, usually[_DAY_BINS + other % _WEEK_BINS])
            told = still > strength and s[_RUN_TOLD] > 0.0
            strength, level = _most(strength, still), _most(level, still)
            above, habit = strength > s[_BAR] and not told, strength <= _BAR_RISE * (float(most) / _LEVELS)
            incident = level >= 0.5 and not habit
            waits = incident and not above and s[_WAITED] >= 0.0
            if level < CALM_LEVEL:
                s[_WAITED] = 0.0
            if waits:
                s[_WAITED] += lapse
                above = s[_WAITED] >= _BAR_START
            if incident and above:
                s[_WAITED], s[_BAR] = -1.0, _most(s[_BAR], _BAR_RISE * strength)
                s[_RUN_TOLD] += 1.0 if still > 0.0 else 0.0
            score = level if level < 0.5 else math.floor(_GRADES * level) / _GRADES
            score = _least(score, _HABIT if habit else 1.0)
            score = score if above else _HELD if waits else 0.0

            # shares of the families
            total = 0.0
            for family in range(_KINDS):
                total += s[_SHARE + family]
            at_once = _most(single, still)
            by_one = (at_once - slow_strength) / at_once if at_once > slow_strength else 0.0
            by_one = by_one if total > 0.0 else 1.0
            scale = (1.0 - by_one) / (total if total > 0.0 else 1.0)
            spoken = 0
            for family in range(_KINDS):
                share = s[_SHARE + family] * scale
                if family == (_STANDSTILL if still > single else 0):
                    share += by_one
                share *= 1.0 if level > 0.0 else 0.0
                shares[i, family] = share
                if share > shares[i, spoken]:
                    spoken = family
            if level >= 0.15:
                s[_KIND] = spoken + 1.0

            # calibrated tail, but for its exponential
            tenth = 0.1 * marks[_MARK_TENTH, mark]
            hundredth = _most(0.25 * marks[_MARK_HUNDREDTH, mark], 1.2 * tenth)
            decades = strength / tenth if strength <= tenth else 1.0 + (strength - tenth) / (hundredth - tenth)
            decades_out[i] = _DECADE * _least(decades, 12.0)
            moved = s[_TENTH] + (0.0 if warming else 0.05 * ((1.0 if strength > tenth else 0.0) - 0.1))
            s[_TENTH] = _least(_most(moved, -8.0), 3.0)
            moved = s[_HUNDREDTH] + (0.0 if warming else 0.05 * ((1.0 if strength > hundredth else 0.0) - 0.01))
            s[_HUNDREDTH] = _least(_most(moved, -8.0), 3.0)

            # band
            width = s[_WIDTH]
            up, down = width * 3.23 * marks[_MARK_UP, mark], width * 3.23 * marks[_MARK_DOWN, mark]
            moved = s[_WIDTH_UP] + 0.05 * ((1.0 if v > expected + up else 0.0) - 0.005)
            s[_WIDTH_UP] = _least(_most(moved, -0.7), 1.4)
            moved = s[_WIDTH_DOWN] + 0.05 * ((1.0 if v < expected - down else 0.0) - 0.005)
            s[_WIDTH_DOWN] = _least(_most(moved, -0.7), 1.4)
            deviation = abs(bounded - expected)
            deviation = _least(deviation, 10.0 * width if width > 0.0 else np.inf)
            s[_WIDTH] = width + _most(_blend(lapse, 2.0 * DAY), 1.0 / (n + 1.0)) * (deviation - width)

            moved_marks[_MARK_TENTH, mark], moved_marks[_MARK_HUNDREDTH, mark] = s[_TENTH], s[_HUNDREDTH]
            moved_marks[_MARK_UP, mark], moved_marks[_MARK_DOWN, mark] = s[_WIDTH_UP], s[_WIDTH_DOWN]

            middle = np.nan if n < 2.0 else expected + s[_ORIGIN]
            out[_O_SCORE, i] = score
            out[_O_LEVEL, i] = level
            out[_O_LOW, i], out[_O_EXPECTED, i], out[_O_HIGH, i] = middle - down, middle, middle + up
            out[_O_WARMING, i] = 1.0 if warming else 0.0
            out[_O_PLAIN, i] = 1.0 if warming or strength <= 0.0 else 0.0
        return stamp

    return _jit(first), _jit(second)


(_O_SCORE, _O_LEVEL, _O_LOW, _O_EXPECTED, _O_HIGH, _O_INTERVAL, _O_WARMING, _O_PLAIN, _O_TAIL, _OUTS) = range(10)


def step(
    state: FloatArray,
    bins: FloatArray,
    visits: NDArray[np.uint16],
    reached: NDArray[np.uint8],
    rows: IntArray,
    timestamps: IntArray,
    values: FloatArray,
) -> Verdicts:
    """Score and then learn one event of each given row, in place. Rows must be in range and differ."""
    sizes = np.diff([*range(0, len(rows), _BLOCK), len(rows)])
    return steps(state, bins, visits, reached, rows, timestamps, values, sizes)


def steps(
    state: FloatArray,
    bins: FloatArray,
    visits: NDArray[np.uint16],
    reached: NDArray[np.uint8],
    rows: IntArray,
    timestamps: IntArray,
    values: FloatArray,
    sizes: IntArray,
) -> Verdicts:
    """As ``step``, for rounds of few events, of ``sizes``; rows must differ within a round only."""
    count = len(rows)
    out, shares = np.empty((_OUTS, count)), np.empty((count, _KINDS))
    ends = np.cumsum(sizes)
    with np.errstate(all="ignore"):
        start = first = 0
        while start < count:
            last = max(int(np.searchsorted(ends, start + _BLOCK, side="right")), first + 1)
            block = slice(start, int(ends[last - 1]))
            some = sizes[first:last]
            _block(
                *(state, bins, visits, reached, rows[block], timestamps[block], values[block]),
                *(some, out[:, block], shares[block]),
            )
            start, first = block.stop, last
    return _verdicts(out, shares)


def _block(
    state: FloatArray,
    bins: FloatArray,
    visits: NDArray[np.uint16],
    reached: NDArray[np.uint8],
    rows: IntArray,
    timestamps: IntArray,
    values: FloatArray,
    sizes: IntArray,
    out: FloatArray,
    shares: FloatArray,
) -> None:
    """Some rounds. The first kernel needs nothing of what the second learns, so it goes ahead of it through all of them.

    The second needs exponentials of what it itself has moved an event before: they are NumPy's, a round at a time.
    """
    first, second = _kernels(_stamp())
    count = len(rows)
    # One lane more, as of lengths that are powers of two all numbers of an event would share a place in the cache.
    padded = count + -count % _LANES + _LANES
    logs, growths, exps = np.ones((_LOGS, padded)), np.ones((2, padded)), np.ones((_EXPS, padded))
    have, decades = np.empty((_HAVE, padded)), np.ones(padded)
    first(state, bins, visits, rows, timestamps, values, logs, growths, exps, have, out)
    np.log(logs, out=logs)
    np.log1p(growths, out=growths)
    np.exp(exps, out=exps)
    distinct, places = rows[: sizes[0]], np.arange(count)
    if len(sizes) > 1:
        distinct, places = np.unique(rows, return_inverse=True)
    marks = np.zeros((len(_MARKS), len(distinct) + -len(distinct) % _LANES))
    for number, name in enumerate(_MARKS):
        marks[number, : len(distinct)] = state[distinct, name]
    exponentials = np.empty(marks.shape)
    begin = 0
    for size in sizes.tolist():
        np.exp(marks, out=exponentials)
        second(
            *(state, reached, rows, timestamps, logs, growths, exps, have, begin, places[begin : begin + size]),
            *(exponentials, marks, _GAINS, out, shares, decades),
        )
        begin += size
    np.exp(decades, out=decades)
    out[_O_TAIL] = np.where(out[_O_PLAIN] > 0.0, 1.0, decades[:count])


def _verdicts(out: FloatArray, shares: FloatArray) -> Verdicts:
    return Verdicts(
        score=out[_O_SCORE],
        level=out[_O_LEVEL],
        tail=out[_O_TAIL],
        expected_low=out[_O_LOW],
        expected=out[_O_EXPECTED],
        expected_high=out[_O_HIGH],
        warming=out[_O_WARMING] > 0.0,
        evidence=shares,
        interval=out[_O_INTERVAL],
    )


@cache
def _stamp() -> int:
    return zlib.crc32(Path(base.__file__).read_bytes() + Path(bank.__file__).read_bytes())
