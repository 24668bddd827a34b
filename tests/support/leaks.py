"""Series with a limit of 100: leaks of several shapes, and what only looks like one. Repeatable by seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream_processors.detectors.trend import Forecast, TrendBank

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_789_948_800_000
"""A midnight."""

Floats = NDArray[np.float64]
SHAPES: dict[str, Callable[[Floats], Floats]] = {
    "linear": lambda p: p,
    "step-wise": lambda p: np.floor(p * 20) / 20,
    "accelerating": lambda p: p**1.7,
    "slowing": lambda p: (1 - (1 - np.minimum(p / 1.3, 1)) ** 1.3) / (1 - (1 - 1 / 1.3) ** 1.3),
}
"""Share of the way to the limit by share of the leak's time."""


def leak(
    rng: np.random.Generator,
    shape: str,
    length: int,
    *,
    quiet: int,
    cadence: int,
    noise: float = 0.5,
    daily: float = 0.0,
) -> tuple[Floats, int, int]:
    """Values, when the leak begins, and when the limit is reached (milliseconds from the first value)."""
    at = np.arange(0, quiet + int(1.3 * length), cadence)
    progress = SHAPES[shape](np.maximum(0.0, (at - quiet) / length))
    base, phase = rng.uniform(35, 80), rng.uniform(0, 24)
    value = base + (100 - base) * progress + daily * np.cos((at / HOUR - phase) / 24 * 2 * np.pi)
    full = int(at[np.flatnonzero(value >= 100)[0]])
    return np.clip(value + noise * rng.normal(size=len(at)), 0, 100), quiet, full


def teeth(rng: np.random.Generator, count: int, period: float, low: float, high: float, wobble: float) -> Floats:
    """A saw: rises of about ``period`` samples to about ``high``, each ended by a reset."""
    made = np.empty(count)
    at = 0
    while at < count:
        length = max(3, int(period * rng.uniform(1 - wobble, 1 + wobble)))
        tooth = np.linspace(low, low + (high - low) * length / period, length)
        made[at : at + length] = tooth[: count - at]
        at += length
    return np.clip(made + 0.5 * rng.normal(size=count), 0, 100)


def run(series: list[Floats], cadence: int, limit: float = 100.0, sign: float = 1.0) -> list[list[tuple[int, Forecast]]]:
    """What a bank tells of each series, with the milliseconds from the first value; NaN is a missing sample."""
    bank = TrendBank()
    rows = np.array([bank.add(limit, sign) for _ in series])
    values = np.full((len(series), max(map(len, series))), np.nan)
    for row, one in enumerate(series):
        values[row, : len(one)] = one
    told: list[list[tuple[int, Forecast]]] = [[] for _ in series]
    for column in range(values.shape[1]):
        there = np.flatnonzero(np.isfinite(values[:, column]))
        at = column * cadence
        for forecast in bank.step(rows[there], np.full(len(there), START + at), values[there, column]):
            told[forecast.row].append((at, forecast))
    return told


def raised(told: list[tuple[int, Forecast]]) -> list[tuple[int, Forecast]]:
    """The forecasts that were raised."""
    return [(at, forecast) for at, forecast in told if forecast.what == "raised"]
