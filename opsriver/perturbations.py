"""Copies of labelled series under changes that leave the labels true.

A detector whose score falls under them has learned these series, not the task. Pure: the same seed
gives the same copies.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opsriver.evaluation import Labelled
from opsriver.labelled import Series

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
DAY = 86_400_000
SHIFT = 7 * 3_600_000


@dataclass(frozen=True, slots=True)
class Copy:
    """A series on its way to a changed copy: times in epoch ms, values, windows, and what is drawn."""

    times: IntArray
    values: FloatArray
    windows: tuple[tuple[int, int], ...]
    rng: np.random.Generator

    def valued(self, values: FloatArray) -> Copy:
        """The same rows with other values."""
        return Copy(self.times, values, self.windows, self.rng)

    def thinned(self, rows: IntArray) -> Copy:
        """Only some rows; a window keeps those inside it, or the row nearest to its start."""
        times = self.times[rows]
        windows = []
        for start, end in self.windows:
            inside = times[(times >= start) & (times <= end)]
            if not len(inside):
                inside = times[[int(np.argmin(np.abs(times - start)))]]
            windows.append((int(inside[0]), int(inside[-1])))
        return Copy(times, self.values[rows], tuple(windows), self.rng)


def deviation(values: FloatArray) -> float:
    """Standard deviation, 1 where there is none."""
    known = values[np.isfinite(values)]
    return (float(np.std(known)) if len(known) else 0.0) or 1.0


def ordinary(values: FloatArray) -> float:
    """Median distance from the median: the size of what is usual, whatever the anomalies."""
    known = values[np.isfinite(values)]
    return (float(np.median(np.abs(known - np.median(known)))) if len(known) else 0.0) or 0.1 * deviation(values)


def _negated(copy: Copy) -> Copy:
    return copy.valued(-copy.values)


def _scaled(copy: Copy) -> Copy:
    return copy.valued(1e6 * copy.values)


def _offset(copy: Copy) -> Copy:
    return copy.valued(copy.values + 1000 * deviation(copy.values))


def _noisy(copy: Copy) -> Copy:
    return copy.valued(copy.values + copy.rng.normal(0.0, 0.3 * ordinary(copy.values), len(copy.values)))


def _logged(copy: Copy) -> Copy:
    return copy.valued(np.copysign(np.log1p(np.abs(copy.values)), copy.values))


def _trending(copy: Copy) -> Copy:
    share = np.arange(len(copy.values)) / max(len(copy.values) - 1, 1)
    return copy.valued(copy.values + 2 * deviation(copy.values) * share)


def _seasonal(copy: Copy) -> Copy:
    wave = np.sin(2 * np.pi * (copy.times % DAY) / DAY)
    return copy.valued(copy.values + 1.5 * deviation(copy.values) * wave)


def _clock_shifted(copy: Copy) -> Copy:
    windows = tuple((start + SHIFT, end + SHIFT) for start, end in copy.windows)
    return Copy(copy.times + SHIFT, copy.values, windows, copy.rng)


def _half_cadence(copy: Copy) -> Copy:
    second = np.arange(1, len(copy.values), 2)
    values = copy.values.copy()
    values[second] = 0.5 * (copy.values[second - 1] + copy.values[second])
    return copy.valued(values).thinned(second)


def _missing(copy: Copy) -> Copy:
    left = np.flatnonzero(copy.rng.random(len(copy.values)) >= 0.1)
    return copy.thinned(left if len(left) else np.zeros(1, np.int64))  # of very few rows one stays


Changes = Mapping[str, Callable[[Copy], Copy]]

CHANGES: Changes = {
    "negated": _negated,
    "scaled": _scaled,
    "offset": _offset,
    "noisy": _noisy,
    "logged": _logged,
    "trending": _trending,
    "seasonal": _seasonal,
    "clock-shifted": _clock_shifted,
    "half cadence": _half_cadence,
    "missing": _missing,
}
"""By name: sign, scale (10⁶), offset (1,000 deviations), noise (0.3 of what is usual), logarithm, a trend
(two deviations), a daily rhythm (1.5 deviations), seven hours, means of two rows, a tenth of the rows."""


def changed(series: Sequence[Labelled], change: str, seed: int = 0, changes: Changes = CHANGES) -> list[Labelled]:
    """Copies of series under the change of that name."""
    return [_one(one, change, seed, changes[change]) for one in series]


def _one(one: Labelled, change: str, seed: int, how: Callable[[Copy], Copy]) -> Labelled:
    if len(one.series.times) < 2:
        return one
    rng = np.random.default_rng([seed, zlib.crc32(f"{change}/{one.key}".encode())])
    before = Copy(np.array(one.series.times, np.int64), np.array(one.series.values), one.windows, rng)
    with np.errstate(over="ignore", invalid="ignore"):  # near the largest number there is, a copy's values are infinite
        after = how(before)
    times = after.times.tolist()
    blank = [""] * len(times)
    return Labelled(Series(one.series.path, one.series.name, blank, blank, times, after.values.tolist()), after.windows)
