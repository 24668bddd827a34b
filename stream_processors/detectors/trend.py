"""When a bounded resource will be exhausted: trends of many series in columns, NumPy alone.

A series is kept as its distance to the limit, signed so that it rises to zero. Values are gathered in
blocks of ten minutes (their mean), an hour, six hours and a day (each the median of the finer ones);
of each kind the latest 24 are remembered, and of all that went before only the highest. A trend is
looked for when a block closes and the series has entered territory it never was in, by a third of
what is left to the limit: a rhythm, a sawtooth that resets, or noise stays in known territory. Only
then the blocks are fitted: the bend where the rise begins, Theil and Sen's slope from there, Kendall's
test, and the time of day taken out. docs/detectors.md tells why.

Knows neither the clock nor randomness. Everything is a function of the row's own events.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from stream_processors.detectors.base import FloatArray, IntArray

NAME = "trend"
VERSION = 1
BLOCK = 600_000
"""Milliseconds of the finest block."""
SPANS = (1, 6, 36, 144)
"""Blocks of each scale, in finest ones: ten minutes, an hour, six hours, a day."""
SCALES = len(SPANS)
RING = 24
"""Blocks remembered of each scale: four hours, a day, six days, 24 days."""
HOUR = 6
"""Finest blocks of an hour."""
MATURE = (288, 288, 432, 1152)
"""Age of a series, in finest blocks, from which a scale is judged: two, two, three and eight days."""
NEW_TERRITORY = 1 / 3
"""A rise counts when it went beyond all that was known by this share of what is left to the limit."""
YOUNG_TERRITORY = 0.5
"""The same in the first nine days: nobody has yet shown a whole week and what follows."""
YOUNG = 1296
FARTHEST = 2016
"""Nothing is foretold further ahead than this (14 days), in finest blocks ..."""
OUTLOOK = 4.0
"""... nor further than so many times the length of the rise."""
LEAST = 7
"""Blocks a rise needs: with fewer Kendall's test cannot reach three standard deviations."""
SHORTEST = 4
"""Blocks after a bend that are looked at; a rise of fewer than ``LEAST`` is waited for."""
SURE = 3.0
MARGIN = 1.15
"""The interval's slopes are this much wider than what the blocks allow: trends are never quite straight."""
EPOCH = 2016
"""The highest of what left the ring is kept for this epoch of 14 days and the one before."""
PROFILE_GAIN = 0.15
"""Least weight of the latest day in the course of the day."""
ENDED = 0.5
"""A trend is over when it lost this share of its rise ..."""
ONGOING = 0.25
"""... or rose at less than this share of its usual pace for half as long as it had risen at first ..."""
FULL = 0.05
"""... unless less than this share of its rise is left to the limit."""
LARGEST = 1e30

_T = TypeVar("_T", bound=np.generic)
_STATE = np.dtype(
    [
        ("limit", "<f8"),
        ("sign", "<f8"),
        ("first", "<i8"),
        ("block", "<i8"),
        ("sum", "<f8"),
        ("count", "<f8"),
        ("ring", "<f4", (SCALES, RING)),
        ("peak", "<f4", SCALES),
        ("past", "<f4", SCALES),
        ("epoch", "<i4", SCALES),
        ("profile", "<f4", RING),
        ("visits", "u1", RING),
        ("scale", "<i8"),
        ("began", "<i8"),
        ("low", "<f8"),
        ("top", "<f8"),
        ("top_at", "<i8"),
        ("patience", "<i8"),
    ]
)
ROW_BYTES = _STATE.itemsize


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a closing block told of a row; ``index`` is the position of its event in the call.

    ``level`` and ``limit`` are in the metric's own unit, ``slope`` in that unit an hour; ``since``,
    ``at`` (reached in the middle case), ``earliest`` and ``latest`` are epoch milliseconds.
    ``sureness`` is Kendall's statistic in standard deviations. ``at`` is 0 where nothing new is known
    of the time.
    """

    index: int
    row: int
    what: Literal["raised", "moved", "withdrawn"]
    level: float
    limit: float
    slope: float = 0.0
    since: int = 0
    at: int = 0
    earliest: int = 0
    latest: int = 0
    sureness: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """A rise fitted to the blocks of one scale; times in finest blocks, ``now`` the middle of the last one."""

    start: int
    now: float
    level: float
    slope: float
    slow: float
    fast: float
    bend: float
    sureness: float
    recent: float


class TrendBank:
    """Trends of the series that have a limit.

    Rows are addressed by position; ``add`` makes one and ``reset`` makes a row fresh again.
    """

    def __init__(self) -> None:
        self._size = 0
        self._columns: dict[str, NDArray[Any]] = {
            name: np.zeros((0, *_STATE[name].shape), _STATE[name].base.newbyteorder("=")) for name in _STATE.names or ()
        }

    def __len__(self) -> int:
        """Number of rows."""
        return self._size

    def _column(self, name: str) -> NDArray[np.float64]:
        return self._columns[name]

    def add(self, limit: float, sign: float) -> int:
        """A new row of a series that must stay below (``sign`` 1) or above (-1) ``limit``; its position."""
        if self._size == len(self._columns["limit"]):
            more = max(16, self._size // 2)
            self._columns = {name: _grown(column, more) for name, column in self._columns.items()}
        self._size += 1
        self.reset(self._size - 1, limit, sign)
        return self._size - 1

    def reset(self, row: int, limit: float, sign: float) -> None:
        """Make a row that of an unseen series."""
        for name, column in self._columns.items():
            column[row] = {"limit": limit, "sign": sign}.get(name, 0)
            if name in ("first", "block"):
                column[row] = -1
            elif name == "ring":
                column[row] = np.nan
            elif name in ("peak", "past"):
                column[row] = -np.inf

    def dismiss(self, row: int) -> None:
        """Forget that the row's trend was raised: it may be raised anew."""
        self._columns["scale"][row] = 0

    def is_open(self, row: int) -> bool:
        """Whether a trend was raised and not withdrawn."""
        return bool(self._columns["scale"][row])

    def give_up(self, row: int) -> None:
        """Withdraw, when the next block closes, what an earlier state of the row had raised."""
        self._columns["scale"][row], self._columns["top"][row] = 1, LARGEST

    def dump(self, rows: IntArray) -> bytes:
        """State of the rows as ``len(rows) * ROW_BYTES`` bytes, little-endian."""
        made = np.zeros(len(rows), _STATE)
        for name, column in self._columns.items():
            made[name] = column[rows]
        return made.tobytes()

    def restore(self, rows: IntArray, data: bytes | memoryview) -> None:
        """Set the rows from ``dump``; rows that had another limit stay as they are. Wrong numbers are harmless.

        Raises ValueError if the length does not fit.
        """
        if len(data) != len(rows) * ROW_BYTES:
            raise ValueError(f"the state of {len(rows)} rows has {len(rows) * ROW_BYTES} bytes, not {len(data)}")
        block = np.frombuffer(data, _STATE)
        limit, sign = self._columns["limit"], self._columns["sign"]
        same = np.flatnonzero((block["limit"] == limit[rows]) & (block["sign"] == sign[rows]))
        rows, block = rows[same], block[same]
        for name, column in self._columns.items():
            column[rows] = block[name]
        scale, block, first = (self._columns[name] for name in ("scale", "block", "first"))
        scale[rows] = np.minimum(np.maximum(scale[rows], 0), SCALES)
        block[rows] = np.minimum(np.maximum(block[rows], -1), 2**50)
        first[rows] = np.minimum(np.maximum(first[rows], -1), block[rows])

    # ------------------------------------------------------------------ events

    def step(self, rows: IntArray, timestamps: IntArray, values: FloatArray) -> list[Forecast]:
        """Take in one event of each given row (distinct, in order of time a row) and tell what it led to."""
        current, total, count = self._column("block"), self._column("sum"), self._column("count")
        distance = np.minimum((values - self._column("limit")[rows]) * self._column("sign")[rows], 0.0)
        distance = np.maximum(distance, -LARGEST)
        block = timestamps // BLOCK
        same = block == current[rows]
        if same.all():
            total[rows] += distance
            count[rows] += 1.0
            return []
        inside = np.flatnonzero(same)
        total[rows[inside]] += distance[inside]
        count[rows[inside]] += 1.0
        crossing = np.flatnonzero(~same)
        found: list[Forecast] = []
        mine = rows[crossing]
        old = self._columns["block"][mine].astype(np.int64)
        known = old >= 0
        if known.any():
            here = mine[known]
            with np.errstate(all="ignore"):
                closed = (total[here] / count[here]).astype(np.float32)
                self._close(0, crossing[known], here, old[known], closed, block[crossing[known]], found)
        fresh = mine[~known]
        self._columns["first"][fresh] = block[crossing[~known]]
        self._columns["block"][mine] = block[crossing]
        total[mine] = distance[crossing]
        count[mine] = 1.0
        found.sort(key=lambda forecast: forecast.index)
        return found

    def _close(
        self,
        scale: int,
        index: IntArray,
        rows: IntArray,
        old: IntArray,
        closed: NDArray[np.float32],
        new: IntArray,
        found: list[Forecast],
    ) -> None:
        """Remember closed blocks ``old`` of one scale; those of the next scale close where they end."""
        ring = self._columns["ring"]
        place = old % RING
        self._leave(scale, rows, old, ring[rows, scale, place])
        ring[rows, scale, place] = closed
        self._judge(scale, index, rows, old, found)
        if scale + 1 < SCALES:
            factor = SPANS[scale + 1] // SPANS[scale]
            over = np.flatnonzero(new // factor > old // factor)
            if len(over):
                upper = old[over] // factor
                parts = upper[:, None] * factor + np.arange(factor)
                values = np.where(parts <= old[over, None], ring[rows[over, None], scale, parts % RING], np.nan)
                middle = _median(values)
                if scale == 0:
                    self._learn_profile(rows[over], upper)
                self._close(scale + 1, index[over], rows[over], upper, middle, new[over] // factor, found)
        # Blocks in which nothing came are holes.
        longest = int((new - old).max()) - 1
        for step in range(1, min(longest, RING - 1) + 1):
            hole = new - old > step
            where = rows[hole]
            place = (old[hole] + step) % RING
            self._leave(scale, where, old[hole], ring[where, scale, place])
            ring[where, scale, place] = np.nan

    def _leave(self, scale: int, rows: IntArray, ids: IntArray, value: NDArray[Any]) -> None:
        """Blocks that leave the ring, for those of number ``ids``: the highest of them is kept."""
        peak, past, epoch = self._columns["peak"], self._columns["past"], self._columns["epoch"]
        number = ids * SPANS[scale] // EPOCH
        before = epoch[rows, scale]
        if (number != before).any():
            past[rows, scale] = np.where(
                number == before, past[rows, scale], np.where(number == before + 1, peak[rows, scale], -np.inf)
            )
            peak[rows, scale] = np.where(number == before, peak[rows, scale], -np.inf)
            epoch[rows, scale] = number
        peak[rows, scale] = np.fmax(peak[rows, scale], value)

    def _learn_profile(self, rows: IntArray, hour: IntArray) -> None:
        """The course of the day: how an hour differs from the middle of the day around it.

        The hour is that of half a day ago, so that an even rise adds nothing, and the latest rise
        does not take itself for a rhythm.
        """
        day = self._columns["ring"][rows, 1]
        place = (hour - RING // 2) % RING
        value = day[np.arange(len(rows)), place]
        middle = _median(day)
        usable = (np.isfinite(day).sum(axis=1) >= RING * 3 // 4) & np.isfinite(value)
        rows, place, value, middle = rows[usable], place[usable], value[usable], middle[usable]
        visits, profile = self._columns["visits"], self._column("profile")
        # A rhythm cannot reach further up than to the limit; further down is as wild.
        difference = np.minimum(np.maximum(value - middle, middle), -middle)
        seen = visits[rows, place].astype(np.float32)
        gain = np.maximum(np.float32(1.0) / (seen + np.float32(1.0)), np.float32(PROFILE_GAIN))
        profile[rows, place] += gain * (difference - profile[rows, place])
        visits[rows, place] = np.minimum(seen + 1, 200).astype(np.uint8)

    # ------------------------------------------------------------------ trends

    def _judge(self, scale: int, index: IntArray, rows: IntArray, ids: IntArray, found: list[Forecast]) -> None:
        """Rows whose latest block of this scale lies in new territory, or whose trend is open."""
        state = self._columns["scale"][rows]
        age = ids - self._columns["first"][rows] // SPANS[scale] + 1
        ripe = age * SPANS[scale] >= MATURE[scale]
        watched = state > 0
        if not (ripe | watched).any():
            return
        ring = self._columns["ring"][rows, scale]
        kept = np.minimum(np.maximum(age, 1), RING)  # restored bytes may have put the beginning into the future
        offset = (ids[:, None] - np.arange(RING)) % RING  # how old the block in each column's place is: column 0 newest
        ordered = np.take_along_axis(ring, offset, axis=1)
        level = _level(scale, ordered)
        early = np.arange(RING) >= (kept - kept // 3)[:, None]
        highest = np.fmax.reduce(np.where(early, ordered, -np.inf), axis=1)
        highest = np.fmax(highest, np.fmax(self._columns["peak"][rows, scale], self._columns["past"][rows, scale]))
        share = np.where(age * SPANS[scale] >= YOUNG, NEW_TERRITORY, YOUNG_TERRITORY)
        beyond = (level > highest) & (level - highest >= share * -level) & (level < 0)
        for at in np.flatnonzero(watched | (ripe & beyond)):
            row = int(rows[at])
            last = int(ids[at])
            length = int(kept[at])
            z, days = self._rested(row, scale, last, ordered[at, :length])
            if state[at]:
                forecast = self._follow(int(index[at]), row, scale, last, z, days, float(level[at]))
            else:
                before = ordered[at, :length][::-1]
                forecast = self._raise(int(index[at]), row, scale, last, z, days, float(level[at]), before, float(share[at]))
            if forecast:
                found.append(forecast)

    def _rested(self, row: int, scale: int, last: int, newest_first: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
        """Blocks without the course of the day, oldest first, and that course by the hour."""
        values = newest_first[::-1].astype(np.float64)
        course = self._columns["profile"][row].astype(np.float64)
        if int(self._columns["visits"][row].min()) < 1:
            course = np.zeros(RING)
        ids = last - np.arange(len(values) - 1, -1, -1, dtype=np.int64)
        if scale == 0:
            return values - _course(course, ids + 0.5), course
        if scale == 1:
            return values - course[ids % RING], course
        if scale == 2:
            quarter = np.sort(course.reshape(4, 6), axis=1)
            return values - ((quarter[:, 2] + quarter[:, 3]) / 2)[ids % 4], course
        ordered = np.sort(course)
        return values - (ordered[11] + ordered[12]) / 2, course

    def _raise(
        self,
        index: int,
        row: int,
        scale: int,
        last: int,
        z: FloatArray,
        course: FloatArray,
        level: float,
        values: NDArray[Any],
        share: float,
    ) -> Forecast | None:
        line = fit(scale, last, z)
        if line is None or line.sureness < SURE or line.recent < line.slope / 3:
            return None
        before = values[: len(values) - (last + 1 - line.start // SPANS[scale])]
        if len(before) and not level - float(np.fmax.reduce(before)) >= share * -level:
            return None  # a tooth of a saw, within the height of an earlier one
        times = reach(line, course)
        span = line.now - line.start
        if times is None or times[1] > min(FARTHEST, OUTLOOK * span):
            return None
        columns = self._columns
        columns["scale"][row] = scale + 1
        columns["began"][row] = line.start
        columns["low"][row] = line.level - line.slope * span
        columns["top"][row] = line.level
        columns["top_at"][row] = last
        columns["patience"][row] = max(6, round(span / SPANS[scale] / 2))
        return self._forecast(index, row, "raised", level, line, times)

    def _follow(
        self, index: int, row: int, scale: int, last: int, z: FloatArray, course: FloatArray, level: float
    ) -> Forecast | None:
        columns = self._columns
        own = int(columns["scale"][row]) - 1
        if scale not in (own, 1) or scale > own:
            return None
        low, top = float(columns["low"][row]), float(columns["top"][row])
        now = float(np.nanmedian(z[-3:])) if scale == 0 else float(z[-1])
        rise = max(top - low, 0.0)
        over = now < top - ENDED * rise
        if scale == own:
            # Noise reaches a little higher now and then; a rise goes on at a fair share of its usual pace.
            since = last - int(columns["top_at"][row])
            usual = rise / max(1.0, float(columns["top_at"][row]) - float(columns["began"][row]) / SPANS[own])
            if now > top + ONGOING * usual * since:
                columns["top"][row], columns["top_at"][row] = now, last
            elif since >= int(columns["patience"][row]) and -level > FULL * rise:
                over = True
        if over:
            columns["scale"][row] = 0
            highest = float(np.fmax.reduce(columns["ring"][row, own]))
            columns["peak"][row] = np.fmax(columns["peak"][row], np.float32(highest))
            return Forecast(index, row, "withdrawn", self._outside(row, level), float(self._columns["limit"][row]))
        line = fit(scale, last, z) if scale == own else None
        times = reach(line, course) if line is not None and line.sureness >= SURE else None
        if line is None or times is None:
            return Forecast(index, row, "moved", self._outside(row, level), float(self._columns["limit"][row]))
        return self._forecast(index, row, "moved", level, line, times)

    def _outside(self, row: int, distance: float) -> float:
        return float(self._columns["limit"][row] + self._columns["sign"][row] * distance)

    def _forecast(
        self,
        index: int,
        row: int,
        what: Literal["raised", "moved"],
        level: float,
        line: Line,
        times: tuple[float, float, float],
    ) -> Forecast:
        earliest, middle, latest = (round((line.now + wait) * BLOCK) for wait in times)
        return Forecast(
            index=index,
            row=row,
            what=what,
            level=self._outside(row, level),
            limit=float(self._columns["limit"][row]),
            slope=float(self._columns["sign"][row]) * line.slope * HOUR,
            since=int(self._columns["began"][row]) * BLOCK,
            at=middle,
            earliest=earliest,
            latest=latest,
            sureness=line.sureness,
        )


def _grown(old: NDArray[_T], more: int) -> NDArray[_T]:
    return np.concatenate([old, np.zeros((more, *old.shape[1:]), old.dtype)])


def _median(values: NDArray[Any]) -> NDArray[np.float32]:
    """Median of each row without its holes; NaN where all are holes."""
    ordered = np.sort(values, axis=1)  # holes last
    count = np.isfinite(ordered).sum(axis=1)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0)[:, None] // 2, axis=1)[:, 0]
    high = np.take_along_axis(ordered, count[:, None] // 2 * (count[:, None] > 0), axis=1)[:, 0]
    high = np.where(count % 2 == 1, low, high)
    middle: NDArray[np.float32] = ((low + high) / 2).astype(np.float32)
    return middle


def _level(scale: int, newest_first: NDArray[Any]) -> NDArray[np.float64]:
    """Where the series is now: the latest block, of the finest ones the middle of three."""
    a, b, c = (newest_first[:, k].astype(np.float64) for k in range(3))
    if scale:
        return a
    middle = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
    return np.where(np.isnan(middle), a, middle)


def _course(course: FloatArray, block: NDArray[Any]) -> FloatArray:
    """The course of the day at positions in finest blocks, a straight line between the middles of hours."""
    hours = block / HOUR - 0.5
    before: FloatArray = np.floor(hours)
    part = hours - before
    number = before.astype(np.int64)
    from_hour, to_hour = course[number % RING], course[(number + 1) % RING]
    return from_hour + part * (to_hour - from_hour)


def fit(scale: int, last: int, z: FloatArray) -> Line | None:
    """The rise at the end of the blocks ``z`` (holes are NaN), the last of which has number ``last``; None if none.

    Slope and interval: Theil (1950) and Sen (1968); its test: Mann (1945) and Kendall (1975).
    """
    there = np.flatnonzero(np.isfinite(z))
    if len(there) < LEAST:
        return None
    t, y = there.astype(np.float64), z[there]
    start = _bend(t, y)
    t, y = t[start:], y[start:]
    n = len(t)
    if n < LEAST:
        return None
    before, after = np.triu_indices(n, 1)
    rise, run = y[after] - y[before], t[after] - t[before]
    slopes = np.sort(rise / run)
    pairs = len(slopes)
    spread = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    sureness = (float((rise > 0).sum()) - float((rise < 0).sum())) / spread
    slope = float(slopes[pairs // 2] + slopes[(pairs - 1) // 2]) / 2
    if slope <= 0:
        return None
    reach_out = 1.96 * spread
    slow = float(slopes[max(0, math.floor((pairs - reach_out) / 2))])
    fast = float(slopes[min(pairs - 1, math.ceil((pairs + reach_out) / 2))])
    half = n // 2
    recent = _slope(t[half:], y[half:])
    earlier = _slope(t[: n - half], y[: n - half])
    bend = (recent - earlier) / max(1.0, (t[-1] - t[0]) / 2)
    moved = y + max(slope, recent) * (t[-1] - t)
    level = float(np.median(moved[-max(3, n // 3) :]))
    width = SPANS[scale]
    end = len(z) - 1
    return Line(
        start=round((last - end + t[0]) * width),
        now=(last - end + t[-1] + 0.5) * width,
        level=level,
        slope=slope / width,
        slow=slow / width,
        fast=fast / width,
        bend=bend / (width * width),
        sureness=sureness,
        recent=recent / width,
    )


def _slope(t: FloatArray, y: FloatArray) -> float:
    before, after = np.triu_indices(len(t), 1)
    return float(np.median((y[after] - y[before]) / (t[after] - t[before])))


def _bend(t: FloatArray, y: FloatArray) -> int:
    """Position where the rise begins: flat, then a straight line; the bend that leaves the least squares.

    Single wild blocks are taken out first by a running median of three.
    """
    smooth = y.copy()
    smooth[1:-1] = np.maximum(np.minimum(y[:-2], y[1:-1]), np.minimum(np.maximum(y[:-2], y[1:-1]), y[2:]))
    best, least = 0, math.inf
    centred = smooth - smooth.mean()
    for start in range(len(t) - SHORTEST + 1):
        hinge = np.maximum(t - t[start], 0.0)
        hinge = hinge - hinge.mean()
        steep = float((hinge * centred).sum()) / float((hinge * hinge).sum())
        rest = centred - steep * hinge
        left = float((rest * rest).sum())
        if left < least * (1 - 1e-9):
            best, least = start, left
    return best


def reach(line: Line, course: FloatArray) -> tuple[float, float, float] | None:
    """Earliest, middle and latest time until the limit, in finest blocks from ``line.now``; None if too far."""
    span = line.now - line.start
    fast = max(line.fast, line.recent) * MARGIN
    slow = max(min(line.slow, line.recent) / MARGIN, line.slope / 3)
    step = 1.0 if span < 36 else float(HOUR)
    wait = np.arange(0.0, 3 * min(FARTHEST * 1.0, OUTLOOK * span) + step, step)
    rhythm = _course(course, line.now + wait)
    # A slope of the later half is that of three quarters of the way: what it gained since is added.
    gaining, losing = max(line.bend, 0.0), min(line.bend, 0.0)
    if line.recent > line.fast:
        middle = _first(wait, line.level + (line.recent + gaining * (span / 4 + wait / 2)) * wait + rhythm)
    else:
        middle = _first(wait, line.level + line.slope * wait + rhythm)
    if middle is None:
        return None
    earliest = _first(wait, line.level + (fast + gaining * (span / 4 + wait / 2)) * wait + rhythm)
    braked = np.maximum(slow + losing * (span / 4 + wait / 2), line.slope / 3)
    latest = _first(wait, line.level + braked * wait + rhythm)
    return (
        min(middle, earliest if earliest is not None else middle),
        middle,
        max(middle, latest if latest is not None else 3 * middle),
    )


def _first(wait: FloatArray, distance: FloatArray) -> float | None:
    there = np.flatnonzero(distance >= 0)
    if not len(there):
        return None
    at = int(there[0])
    if at == 0:
        return 0.0
    before, after = float(distance[at - 1]), float(distance[at])
    return float(wait[at - 1]) + (float(wait[at]) - float(wait[at - 1])) * (-before / (after - before))
