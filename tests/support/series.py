"""Simple series for testing detectors: rhythm, noise of several kinds, faults."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_processors.detectors.base import Bank, Verdicts

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_790_000_000_000 // DAY * DAY

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """Verdicts of a bank over time: each array has the shape (events, series)."""

    score: FloatArray
    level: FloatArray
    tail: FloatArray
    expected_low: FloatArray
    expected: FloatArray
    expected_high: FloatArray
    warming: NDArray[np.bool_]
    interval: FloatArray
    evidence: FloatArray

    @property
    def pages(self) -> NDArray[np.bool_]:
        """Where the score says HIGH or CRITICAL."""
        return self.score >= 0.5


def times(count: int, cadence: int = MINUTE, start: int = START) -> IntArray:
    """``count`` timestamps from ``start``, ``cadence`` milliseconds apart."""
    return start + np.arange(count, dtype=np.int64) * cadence


def rhythm(stamps: IntArray, size: float = 4.0) -> FloatArray:
    """A smooth daily rhythm of amplitude ``size``."""
    return size * np.sin(2 * np.pi * (stamps % DAY) / DAY)


def noise(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Noise of unit scale: gaussian, heavy-tailed (Student's t, 5) or bursty (doubled now and then)."""
    if kind == "heavy-tailed":
        return rng.standard_t(5, shape)
    gaussian = rng.normal(size=shape)
    if kind == "bursty":
        blocks = rng.random((shape[0] // 12 + 1, *shape[1:])) < 0.2
        gaussian *= np.where(np.repeat(blocks, 12, axis=0)[: shape[0]], 2.0, 1.0)
    return gaussian


def run(bank: Bank, stamps: IntArray, values: FloatArray, present: NDArray[np.bool_] | None = None) -> Run:
    """Feed ``values`` of shape (events, series) to the first rows of a bank, in order of time.

    Where ``present`` is false the sample is missing; its verdict is zero, its band NaN.
    """
    count, series = values.shape
    result = Run(
        *(np.zeros((count, series)) for _ in range(3)),
        *(np.full((count, series), np.nan) for _ in range(3)),
        np.zeros((count, series), np.bool_),
        np.full((count, series), np.nan),
        np.zeros((count, series, len(bank.families))),
    )
    everything = np.arange(series)
    for at in range(count):
        rows = everything if present is None else np.flatnonzero(present[at])
        verdicts: Verdicts = bank.step(rows, np.full(len(rows), stamps[at]), values[at, rows])
        for field in Run.__dataclass_fields__:
            getattr(result, field)[at, rows] = getattr(verdicts, field)
    return result
