"""The default detector as a bank: the state of many series in columns, NumPy alone.

Every family of evidence is a number whose ordinary size the series' own past tells. What is larger
than usual counts by its logarithm, families add up concavely, the sum is smoothed, divided by what
the series reaches on its ordinary days, and an incident is reported once: a bar rises when it starts
and sinks afterwards. See docs/detectors.md.

Knows neither the clock nor randomness, and imports neither river nor SciPy.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from stream_processors.detectors.base import Bank, FloatArray, IntArray, Verdicts

HOUR = 3_600_000.0
DAY = 24 * HOUR
DAY_BINS = 48
WEEK_BINS = 168

LARGEST = 1e100
"""Values are cut here: their squares still fit into a double with room to spare."""
SMALLEST = 1e-100
"""A mean square below this counts as no variation at all."""

_COLUMNS = (
    "count", "origin", "first", "last", "interval", "low", "high", "smoothed", "short", "medium", "long",
    *(f"square{i}" for i in range(10)),
    "evidence", "day_start", "day_peak", "days", "usual", "bar", "spread", "gain",
)  # fmt: skip
_AT = {name: position for position, name in enumerate(_COLUMNS)}


class SeasonalBank(Bank):
    """Seasonal, level and range evidence of many series, calibrated by their own past.

    Parameters
    ----------
    rows
        Number of rows to start with.

    """

    name: ClassVar[str] = "seasonal"
    version: ClassVar[int] = 1
    families: ClassVar[tuple[str, ...]] = ("time of day", "time of week", "range", "recent level", "level")
    row_bytes: ClassVar[int] = 8 * (len(_COLUMNS) + 2 * DAY_BINS + 2 * WEEK_BINS)

    def __init__(self, rows: int = 0) -> None:
        self._size = 0
        self._scalars: FloatArray = np.zeros((0, len(_COLUMNS)))
        self._tables: FloatArray = np.zeros((0, 2 * DAY_BINS + 2 * WEEK_BINS))
        self.append(rows)

    def __len__(self) -> int:
        """Number of rows."""
        return self._size

    def append(self, count: int) -> None:
        """Add ``count`` rows of an unseen series."""
        size = self._size + count
        if size > len(self._scalars):
            capacity = max(size, 2 * len(self._scalars))
            for field in ("_scalars", "_tables"):
                old = getattr(self, field)
                new = np.zeros((capacity, old.shape[1]))
                new[: self._size] = old[: self._size]
                setattr(self, field, new)
        self._size = size

    def step(self, rows: IntArray, timestamps: IntArray, values: FloatArray) -> Verdicts:
        """Score and then learn one event of each given row."""
        with np.errstate(all="ignore"):
            return self._step(np.asarray(rows), np.asarray(timestamps), np.asarray(values, dtype=np.float64))

    def _step(self, rows: IntArray, timestamps: IntArray, values: FloatArray) -> Verdicts:
        s = np.ascontiguousarray(self._scalars[rows].T)
        at = _AT
        time = timestamps.astype(np.float64)
        value = np.minimum(np.maximum(values, -LARGEST), LARGEST)
        count = s[at["count"]]
        new = count == 0
        for name, start in (("origin", value), ("first", time), ("day_start", time), ("last", time)):
            s[at[name]] = np.where(new, start, s[at[name]])
        v = value - s[at["origin"]]
        elapsed = np.maximum(time - s[at["last"]], 0.0)
        second = (count >= 1) & (s[at["interval"]] == 0)
        s[at["interval"]] = np.where(second, elapsed, s[at["interval"]])
        interval = s[at["interval"]]
        rate = np.maximum(0.02, 1.0 / np.maximum(count, 1.0))
        grow = 1.0 + rate
        moved = np.where(
            elapsed > 1.001 * interval, interval * grow, np.where(elapsed < 0.999 * interval, interval / grow, interval)
        )
        interval = np.where(elapsed > 0, moved, interval)
        s[at["interval"]] = interval
        age = time - s[at["first"]]

        minute = timestamps % 86_400_000
        day_bin = minute // 1_800_000
        week_bin = (timestamps // 86_400_000 + 3) % 7 * 24 + minute // 3_600_000
        t_mean = self._tables[rows, day_bin]
        t_count = self._tables[rows, DAY_BINS + day_bin]
        w_mean = self._tables[rows, 2 * DAY_BINS + week_bin]
        w_count = self._tables[rows, 2 * DAY_BINS + WEEK_BINS + week_bin]

        known = t_count > 0
        t_rest = np.where(known, v - t_mean, 0.0)
        share = interval / np.maximum(interval, 600_000.0)
        s[at["smoothed"]] += share * (t_rest - s[at["smoothed"]])
        day_rest = np.where(known, s[at["smoothed"]], 0.0)
        week_rest = np.where((w_count > 0) & (age > 7 * DAY), v - w_mean, 0.0)

        low, high = s[at["low"]], s[at["high"]]
        width = high - low
        beyond = np.where(v > high, v - high, np.where(v < low, v - low, 0.0))
        range_rest = np.where(width > 0, beyond / np.where(width > 0, width, 1.0), 0.0)
        reach = np.where(width > 0, width, np.abs(beyond))
        high += np.minimum(np.maximum(beyond, 0.0), reach)
        low -= np.minimum(np.maximum(-beyond, 0.0), reach)

        center = s[at["long"]].copy()
        start_gain = 1.0 / (count + 1.0)
        for name, hours in (("short", 0.5), ("medium", 4.0), ("long", 48.0)):
            tau = hours * HOUR
            gain = np.maximum(np.minimum(1.0, interval / tau), start_gain)
            s[at[name]] += gain * (v - s[at[name]])
        recent = s[at["short"]] - s[at["medium"]]
        level = s[at["medium"]] - s[at["long"]]

        gain = np.maximum(1e-4, start_gain)
        n = len(rows)
        parts = np.zeros((n, len(self.families)))
        rests = (day_rest, week_rest, range_rest, recent, level)
        for family, rest in enumerate(rests):
            for sign in (0, 1):
                column = at["square0"] + 2 * family + sign
                z = np.maximum(-rest if sign else rest, 0.0)
                z = z * z
                square = s[column]
                known_square = square > SMALLEST
                ratio = np.where(known_square, z / np.where(known_square, 4.0 * square, 1.0), 0.0)
                surprise = 0.5 * np.log(np.maximum(ratio, 1.0))
                parts[:, family] += np.sqrt(surprise)
                bound = np.where(known_square, 100.0 * square, z)
                square += gain * (np.minimum(z, bound) - square)
        total = parts[:, 0] + parts[:, 1] + parts[:, 2] + parts[:, 3] + parts[:, 4]

        evidence = s[at["evidence"]]
        evidence += 0.4 * (total - evidence)
        strength = evidence / (3.0 + s[at["usual"]]) * np.where(s[at["gain"]] == 0, 1.0, s[at["gain"]])

        over = time - s[at["day_start"]] >= DAY
        s[at["days"]] += over
        usual_gain = np.maximum(0.2, 1.0 / np.maximum(s[at["days"]], 1.0))
        s[at["usual"]] += np.where(over, usual_gain * (s[at["day_peak"]] - s[at["usual"]]), 0.0)
        s[at["day_start"]] = np.where(over, time, s[at["day_start"]])
        s[at["day_peak"]] = np.maximum(np.where(over, 0.0, s[at["day_peak"]]), evidence)

        hours_known = age / HOUR
        sink = np.minimum(21.0, 4.0 + 0.04 * hours_known) * HOUR
        bar = s[at["bar"]] * (sink / (sink + interval))
        reported = strength > bar
        s[at["bar"]] = np.where(reported & (strength >= 0.5), 2.0 * strength, bar)

        warming = (count < 60) | (age < HOUR)
        level_score = np.where(warming, 0.0, np.minimum(strength, 1.0))
        score = np.where(reported, level_score, 0.0)

        expected = np.where(known & (age > 2 * DAY), t_mean, center)
        spread = np.sqrt(s[at["spread"]])
        rest = v - expected
        bound = np.where(s[at["spread"]] > 0, 25.0 * s[at["spread"]], rest * rest)
        s[at["spread"]] += np.maximum(start_gain, interval / (7 * DAY)) * (
            np.minimum(rest * rest, bound) - s[at["spread"]]
        )

        t_gain = np.maximum(1.0 / (t_count + 1.0), interval / (14 * 1_800_000.0))
        w_gain = np.maximum(1.0 / (w_count + 1.0), interval / (8 * 3_600_000.0))
        self._tables[rows, day_bin] = t_mean + np.minimum(t_gain, 1.0) * (v - t_mean)
        self._tables[rows, DAY_BINS + day_bin] = t_count + 1.0
        self._tables[rows, 2 * DAY_BINS + week_bin] = w_mean + np.minimum(w_gain, 1.0) * (v - w_mean)
        self._tables[rows, 2 * DAY_BINS + WEEK_BINS + week_bin] = w_count + 1.0
        s[at["count"]] += 1.0
        s[at["last"]] = time
        self._scalars[rows] = s.T

        unknown = count < 2
        middle = np.where(unknown, np.nan, expected + s[at["origin"]])
        sums = np.where(total > 0, total, 1.0)
        quiet = warming | (level_score <= 0) | (total <= 0)
        return Verdicts(
            score=score,
            level=level_score,
            tail=np.where(warming, 1.0, np.maximum(np.exp(-8.0 * level_score), 1e-12)),
            expected_low=middle - 2.6 * spread,
            expected=middle,
            expected_high=middle + 2.6 * spread,
            warming=warming,
            evidence=np.where(quiet[:, None], 0.0, parts / sums[:, None]),
            interval=np.where(interval > 0, interval, np.nan),
        )

    def dump(self, rows: IntArray) -> bytes:
        """State of the rows as ``len(rows) * row_bytes`` bytes, little-endian."""
        return np.hstack((self._scalars[rows], self._tables[rows])).astype("<f8").tobytes()

    def restore(self, rows: IntArray, data: bytes) -> None:
        """Set the state of the rows from ``dump`` of the same version."""
        if len(data) != len(rows) * self.row_bytes:
            message = f"state of {len(rows)} rows must be {len(rows) * self.row_bytes} bytes long, not {len(data)}"
            raise ValueError(message)
        block = np.frombuffer(data, "<f8").reshape(len(rows), -1)
        self._scalars[rows] = block[:, : len(_COLUMNS)]
        self._tables[rows] = block[:, len(_COLUMNS) :]

    def feedback(self, row: int, *, missed: bool) -> None:
        """Make the row a quarter louder (missed) or quieter, within a factor of two."""
        old = self._scalars[row, _AT["gain"]] or 1.0
        new = old * 1.25 if missed else old / 1.25
        self._scalars[row, _AT["gain"]] = min(max(new, 0.5), 2.0)
