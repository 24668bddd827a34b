"""The deep detector as a bank: the default one, and a memory of days in which the present looks for its like.

For series that matter, as it takes sixteen times the state. The default detector knows the rhythm of a
day and of a week only; here the present is compared with itself at every lag of the past days, and is
strange where no lag fits. That sees rhythms of any length, and courses rather than values.
docs/detectors.md tells how much this brings.

Knows neither the clock nor randomness, and imports neither river nor SciPy.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from stream_processors.detectors.base import FloatArray, IntArray, enlarged
from stream_processors.detectors.seasonal import bank as seasonal
from stream_processors.detectors.seasonal.bank import HOUR, MINUTE, SeasonalBank

_LAGS = 2048
"""Values kept of the past, and lags compared: a week of five minutes."""
_SLOT = 5 * MINUTE
"""Values of less than this time are one, their mean: the memory is a memory of time, however often it is sampled."""
_COURSES = (HOUR / 2, 2 * HOUR)
"""Over these times the differences at a lag are averaged: the lengths of a course."""
_SHORTEST = 2.0
"""A course is at least so many slots, and its like must lie at least so many courses back."""
_LONGEST_GAP = 8.0
"""A gap counts as at most so many slots."""
_WEIGHT = 0.5
"""Weight of one course's channel, that of most channels of the default detector."""
_SHARE = 6.5 / (6.5 + len(_COURSES) * _WEIGHT)
"""The default detector's divisor is made for weights of 6.5 in all; these more are brought back to them."""
_FAMILY = SeasonalBank.families.index("range")
"""A course never seen is evidence of the kind of a value never seen."""
_CHUNK = 16
"""Rows that are compared at once: their memories stay in the processor's cache."""

_COLUMNS = ("kept", "pushed", "sum", "values", *(f"loud{n}" for n in range(2)), *(f"usual{n}" for n in range(2)),
            *(f"judged{n}" for n in range(2)))  # fmt: skip
_AT = {name: position for position, name in enumerate(_COLUMNS)}


class DeepBank(SeasonalBank):
    """The evidence of ``SeasonalBank`` and self-similarity at every lag of some days.

    Parameters
    ----------
    rows
        Number of rows to start with.
    without
        Families that say nothing, and ``single values``: for experiments.

    """

    name: ClassVar[str] = "deep"
    version: ClassVar[int] = 5
    families: ClassVar[tuple[str, ...]] = tuple("course" if name == "range" else name for name in SeasonalBank.families)
    _record: ClassVar[np.dtype[np.void]] = np.dtype(
        [
            *((name, SeasonalBank._record[name]) for name in SeasonalBank._record.names or ()),
            ("memory", "<f8", len(_COLUMNS)),
            ("past", "<f8", _LAGS),
            ("apart", "<f8", (len(_COURSES), _LAGS)),
        ]
    )
    row_bytes: ClassVar[int] = _record.itemsize

    def __init__(self, rows: int = 0, *, without: Collection[str] = ()) -> None:
        self._memory: FloatArray = np.zeros((0, len(_COLUMNS)))
        self._past: FloatArray = np.zeros((0, _LAGS))
        self._apart: FloatArray = np.zeros((0, len(_COURSES), _LAGS))
        super().__init__(rows, without=without, compiled=False)

    def append(self, count: int) -> None:
        """Add ``count`` rows of an unseen series (amortised constant time a row)."""
        super().append(count)
        self._memory, self._past, self._apart = (
            enlarged(part, len(self), 0.0) for part in (self._memory, self._past, self._apart)
        )

    def _parts(self) -> dict[str, NDArray[np.generic]]:
        return {**super()._parts(), "memory": self._memory, "past": self._past, "apart": self._apart}

    def _further(
        self, families: FloatArray, rows: IntArray, time: FloatArray, value: FloatArray, interval: FloatArray
    ) -> None:
        m = self._memory[rows].T.copy()
        new = m[_AT["pushed"]] == 0.0
        m[_AT["pushed"]] = np.where(new, time - _SLOT, m[_AT["pushed"]])
        m[_AT["sum"]] += value
        m[_AT["values"]] += 1.0
        # A slot ends with the event that lies nearest to its end.
        full = np.flatnonzero(time - m[_AT["pushed"]] + interval / 2.0 >= _SLOT)
        for begin in range(0, len(full), _CHUNK):
            at = full[begin : begin + _CHUNK]
            few = m[:, at]
            self._compare(few, rows[at], time[at], np.maximum(interval[at], _SLOT))
            m[:, at] = few
        self._memory[rows] = m.T
        for course in range(len(_COURSES)):
            families[_FAMILY, : len(rows)] += _WEIGHT * m[_AT["loud0"] + course]
        families *= _SHARE

    def _compare(self, m: FloatArray, rows: IntArray, time: FloatArray, slot: FloatArray) -> None:
        """Compare the mean of the slot that is over with the past, and learn it; ``m`` has shape (columns, n)."""
        mean = m[_AT["sum"]] / m[_AT["values"]]
        lapse = np.minimum(time - m[_AT["pushed"]], _LONGEST_GAP * slot)
        past = self._past[rows]
        lags = np.arange(1.0, _LAGS + 1.0)
        kept = lags <= m[_AT["kept"]][:, np.newaxis]
        distance = mean[:, np.newaxis] - past
        distance *= distance
        distance *= kept
        calibration = seasonal._blend(lapse, seasonal._MEMORY)
        for course, length in enumerate(_COURSES):
            length_now = np.maximum(length, _SHORTEST * slot)
            apart = self._apart[rows, course]
            apart += seasonal._blend(lapse, length_now)[:, np.newaxis] * (distance - apart)
            self._apart[rows, course] = apart
            fits = kept & (lags * slot[:, np.newaxis] > _SHORTEST * length_now[:, np.newaxis])
            least = np.where(fits, apart, np.inf).min(axis=1)
            self._judge(m, course, least, calibration)
        self._past[rows, 1:] = past[:, :-1]
        self._past[rows, 0] = mean
        m[_AT["kept"]] = np.minimum(m[_AT["kept"]] + 1.0, _LAGS)
        m[_AT["sum"]] = m[_AT["values"]] = 0.0
        m[_AT["pushed"]] = time

    def _judge(self, m: FloatArray, course: int, least: FloatArray, calibration: FloatArray) -> None:
        """Surprise of the least mean square at any lag against its own past, as that of all channels."""
        known = np.isfinite(least)
        usual, judged = m[_AT["usual0"] + course], m[_AT["judged0"] + course]
        ratio = np.where(known & (usual > 0.0), least / (seasonal._QUIET * np.where(usual > 0.0, usual, 1.0)), 0.0) + 0.5
        padded = np.ones(len(ratio) + -len(ratio) % seasonal._LANES)
        padded[: len(ratio)] = np.minimum(np.maximum(ratio, 1.0), 1e30)
        surprise = np.minimum(0.5 * np.log(padded)[: len(ratio)], seasonal._LOUDEST)
        root = np.sqrt(surprise)
        m[_AT["loud0"] + course] = root * np.sqrt(np.sqrt(root))  # to the power 5/8
        judged += known
        taken = np.minimum(least, np.where(usual > 0.0, seasonal._CLIP * usual, math.inf))
        gain = np.maximum(calibration, 1.0 / np.maximum(judged, 1.0))
        usual += np.where(known, gain * (np.where(known, taken, 0.0) - usual), 0.0)
