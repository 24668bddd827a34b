"""What the scoring core asks of a detector.

A *bank* holds the state of many series in columns and applies one recurrence to the rows of a
batch. A *row* is one series. The river estimator of the same detector is a bank with one row.

This module knows neither AWS nor the clock: time is the event's, in epoch milliseconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T", bound=np.generic)
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SEVERITIES = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
"""Severity names; the level of a name is its index plus one, and 0 means no anomaly."""

SEVERITY_SCORES = (0.3, 0.4, 0.5, 0.75)
"""Smallest anomaly score of LOW, MEDIUM, HIGH and CRITICAL. HIGH and CRITICAL page."""
CALM_LEVEL = SEVERITY_SCORES[0] * 2 / 3
"""Evidence below this counts as ordinary while an incident goes on."""


@dataclass(slots=True)
class Verdicts:
    """What a bank says of *n* events; every array has length *n* in the order of the call.

    score
        Anomaly score in [0, 1] with the detector's own suppression applied: it is high where an
        anomaly starts or worsens, and low again while a reported one merely goes on.
        ``SEVERITY_SCORES`` turns it into a severity. 0 while warming.
    level
        The evidence of this event in [0, 1] on the same scale without suppression: it stays high
        as long as the series is abnormal, and is what keeps an episode open.
    tail
        Calibrated probability, in (0, 1], that an ordinary event of this series shows at least
        this much evidence. 1 where nothing is unusual or the series is warming.
    expected_low, expected, expected_high
        The band in which this value was expected, before it was learned; NaN while unknown.
    warming
        True while the series has not been seen long enough to judge.
    evidence
        Shape (n, len(bank.families)). The share of each family of evidence in ``level``; a row
        sums to 1, or to 0 where nothing is unusual.
    interval
        Typical time between the events of the series, in milliseconds; NaN while unknown.
    """

    score: FloatArray
    level: FloatArray
    tail: FloatArray
    expected_low: FloatArray
    expected: FloatArray
    expected_high: FloatArray
    warming: NDArray[np.bool_]
    evidence: FloatArray
    interval: FloatArray


_BY_RADIX = 4096
"""Numbers of four bytes that are sorted sooner by two passes of radix than by NumPy's merging."""
SMALL_ROUND = 256
"""Verdicts of rounds with fewer events are handed on together."""


def joined(parts: list[Verdicts]) -> Verdicts:
    """Verdicts one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Verdicts(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Verdicts)))


def enlarged(column: NDArray[_T], needed: int, fill: float) -> NDArray[_T]:
    """A column with room for ``needed`` entries, the same one where it has; new entries are ``fill``.

    It grows by half. What is filled with zeros takes no memory before it is used.
    """
    have = len(column)
    if needed <= have:
        return column
    shape = (max(needed, have + have // 2), *column.shape[1:])
    grown = np.zeros(shape, column.dtype)
    grown[:have] = column
    if fill:
        grown[have:] = fill
    return grown


def in_order(numbers: IntArray) -> IntArray:
    """Places of numbers from the least on, equal ones as they come.

    NumPy sorts numbers of two bytes by radix, three times as fast as larger ones: many are sorted by their lower and then by
    their upper bytes.
    """
    highest = int(numbers.max(initial=0))
    if numbers.min(initial=0) < 0 or highest >= 2**32 or (highest >= 2**16 and len(numbers) < _BY_RADIX):
        return np.argsort(numbers, kind="stable")
    order = np.argsort(numbers.astype(np.uint16), kind="stable")
    if highest < 2**16:
        return order
    return order[np.argsort((numbers >> 16).astype(np.uint16)[order], kind="stable")]


def _alike(rows: IntArray, sizes: list[int]) -> Iterator[tuple[int, int]]:
    """Lengths of rounds, and how many of them, one after the other, are of the same rows."""
    begin = times = 0
    for size, following in zip_longest(sizes, sizes[1:]):
        end = begin + size
        times += 1
        if size != following or not np.array_equal(rows[begin:end], rows[end : end + size]):
            yield size, times
            times = 0
        begin = end


class Bank(ABC):
    """Detector state of many series in columns.

    Rows are addressed by position; ``append`` makes new ones and none is ever removed. All
    arithmetic is a function of the row's own past events only, so the order of calls for other
    rows, and the cut of events into calls, cannot change a bit of the result.
    """

    name: ClassVar[str]
    """Name by which configuration chooses the detector and insights report it."""
    version: ClassVar[int]
    """Rises when the state or the meaning of a score changes."""
    families: ClassVar[tuple[str, ...]]
    """Names of the families of evidence, in plain words, e.g. ``"range"`` or ``"time of day"``."""
    row_bytes: ClassVar[int]
    """Size of one serialised row, in bytes."""

    @property
    def memory_bytes(self) -> int:
        """Bytes that a row takes in memory."""
        return self.row_bytes

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def append(self, count: int) -> None:
        """Add ``count`` rows of an unseen series (amortised constant time a row)."""

    @abstractmethod
    def step(self, rows: IntArray, timestamps: IntArray, values: FloatArray) -> Verdicts:
        """Score and then learn one event of each given row.

        rows, timestamps, values
            Equal length *n*; ``rows`` are distinct; timestamps are epoch milliseconds, each
            later than the row's last one; values are finite (non-finite ones are refused before).
        """

    def steps(self, rows: IntArray, timestamps: IntArray, values: FloatArray, sizes: IntArray) -> list[Verdicts]:
        """Score and learn rounds of events, one after the other; verdicts of parts, in the order of the call.

        ``sizes`` are the rounds' lengths, none greater than the one before; each round is what ``step`` takes.
        """
        parts: list[Verdicts] = []
        small: list[Verdicts] = []
        begin = 0
        for size, times in _alike(rows, sizes.tolist()):
            end, shape = begin + times * size, (times, size)
            found = self._rounds(
                rows[begin : begin + size], timestamps[begin:end].reshape(shape), values[begin:end].reshape(shape)
            )
            (small if size < SMALL_ROUND else parts).extend(found)
            begin = end
        return [*parts, joined(small)] if small else parts

    def _rounds(self, rows: IntArray, timestamps: IntArray, values: FloatArray) -> list[Verdicts]:
        """As ``step`` for rounds of the same rows, of shape (rounds, n); each in parts where these are computed apart."""
        return [self.step(rows, *turn) for turn in zip(timestamps, values, strict=True)]

    @abstractmethod
    def dump(self, rows: IntArray) -> bytes:
        """State of the rows as ``len(rows) * row_bytes`` bytes, little-endian, no pickle."""

    @abstractmethod
    def restore(self, rows: IntArray, data: bytes | memoryview) -> None:
        """Set the state of the rows from ``dump`` of the same version.

        Raises ValueError if the length does not fit. Any bytes of the right length are safe to
        load: they may hold wrong numbers, but must not run code or reach outside the row.
        """

    @abstractmethod
    def feedback(self, row: int, *, missed: bool) -> None:
        """Learn a person's verdict on the series' latest anomaly.

        A false positive (``missed=False``) makes the next occurrence of the same kind quieter, a
        missed anomaly louder; the effect is bounded, and one undoes the other.
        """
