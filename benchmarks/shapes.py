"""``python -m benchmarks.shapes``: how often the default detector pages on ordinary series of many shapes.

The simulator's fleet is smooth; what people watch is not. Every shape is drawn for some series, a value a minute,
and nothing is wrong with any of them: what pages is false, or the first time that a rhythm shows itself.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from stream_processors.detectors.base import FloatArray, IntArray
from stream_processors.detectors.seasonal.bank import SeasonalBank

START = 1_790_000_000_000
MINUTE = 60_000
Random = np.random.Generator
Shape = Callable[[IntArray, Random], FloatArray]


def wave(minute: IntArray, rng: Random) -> FloatArray:
    """A rhythm of a day, between −1 and 1."""
    swing: FloatArray = np.sin(2 * np.pi * (minute / 1440 - rng.uniform()))
    return swing


def wander(count: int, minutes: float, rng: Random) -> FloatArray:
    """A walk of unit size that is drawn back to 0 over these minutes."""
    keep, level, walk = 1 - 1 / minutes, 0.0, []
    for step in (rng.normal(size=count) * np.sqrt(1 - keep * keep)).tolist():
        level = keep * level + step
        walk.append(level)
    return np.array(walk)


def _noise(minute: IntArray, rng: Random) -> FloatArray:
    return rng.normal(size=len(minute))


def _bursts(minute: IntArray, rng: Random) -> FloatArray:
    values = 5 + 0.3 * _noise(minute, rng)
    for begin in np.flatnonzero(rng.random(len(minute)) < 5 / 1440):
        values[begin : begin + rng.integers(3, 20)] += 20
    return values


def _workdays(minute: IntArray, rng: Random) -> FloatArray:
    weekend = minute // 1440 % 7 >= 5
    return np.where(weekend, 5 + 0.5 * _noise(minute, rng), 40 + 15 * wave(minute, rng) + 2 * _noise(minute, rng))


def _every(period: int, most: int) -> Shape:
    """A job of up to ``most`` minutes that comes every ``period`` minutes."""

    def shape(minute: IntArray, rng: Random) -> FloatArray:
        since = (minute - rng.integers(0, period)) % period
        return 10 + 0.5 * _noise(minute, rng) + 15.0 * (since < rng.integers(most // 4, most))

    return shape


SHAPES: dict[str, Shape] = {
    "daily rhythm": lambda t, rng: 50 + 10 * wave(t, rng) + _noise(t, rng),
    "trend": lambda t, rng: 50 + rng.uniform(-1, 1) * t / 1440 + 5 * wave(t, rng) + _noise(t, rng),
    "noise that grows with it": lambda t, rng: 100 * np.exp(wave(t, rng)) * (1 + 0.15 * _noise(t, rng)),
    "heavy-tailed (t, 3)": lambda t, rng: 50 + 10 * wave(t, rng) + rng.standard_t(3, len(t)),
    "log-normal": lambda t, rng: np.exp(_noise(t, rng)),
    "latency": lambda t, rng: (
        20 * np.exp(0.2 * _noise(t, rng)) * np.where(rng.random(len(t)) < 1 / 300, rng.uniform(2, 8, len(t)), 1.0)
    ),
    "few counts": lambda t, rng: rng.poisson(0.9 * (1 + 0.8 * wave(t, rng))).astype(np.float64),
    "many counts": lambda t, rng: rng.poisson(30 * (1 + 0.7 * wave(t, rng))).astype(np.float64),
    "rare errors": lambda t, rng: np.where(rng.random(len(t)) < 0.002, rng.poisson(2, len(t)), 0.0),
    "whole percent": lambda t, rng: np.round(35 + 3 * wave(t, rng) + 0.3 * wander(len(t), 20, rng)),
    "told five times": lambda t, rng: np.repeat(50 + 10 * wave(t[::5], rng) + _noise(t[::5], rng), 5)[: len(t)],
    "full at times": lambda t, rng: np.minimum(100, 85 + 25 * wave(t, rng) + 4 * wander(len(t), 10, rng)),
    "idle at night": lambda t, rng: np.where(wave(t, rng) > 0, 30 + 5 * _noise(t, rng), 0.0),
    "workdays": _workdays,
    "sawtooth": lambda t, rng: 40 + 30 * (t % rng.integers(60, 240)) / 100 + 0.3 * _noise(t, rng),
    "job of an hour": _every(60, 8),
    "job of a day": _every(1440, 30),
    "job of a week": _every(7 * 1440, 180),
    "bursts": _bursts,
    "wanders over 100 min": lambda t, rng: 50 + 10 * wave(t, rng) + 3 * wander(len(t), 100, rng),
    "wanders over 6 h": lambda t, rng: 50 + 5 * wander(len(t), 360, rng) + 0.3 * _noise(t, rng),
    "two regimes": lambda t, rng: 20 + 30.0 * (np.cumsum(rng.random(len(t)) < 1 / 240) % 2) + 2 * _noise(t, rng),
    "bursty noise": lambda t, rng: 50 + 8 * wave(t, rng) + np.exp(wander(len(t), 200, rng)) * _noise(t, rng),
}


def run(days: int, series: int, seed: int, console: Console | None = None) -> dict[str, dict[str, object]]:
    """Pages a series and 30 days, by shape: in all, after half of the days, and by what spoke loudest."""
    count = days * 1440
    minute = START // MINUTE // 1440 * 1440 + np.arange(count, dtype=np.int64)
    values = np.column_stack(
        [
            make(minute, np.random.default_rng([seed, at, one]))
            for at, make in enumerate(SHAPES.values())
            for one in range(series)
        ]
    )
    bank, rows = SeasonalBank(values.shape[1]), np.arange(values.shape[1])
    pages = {name: Counter[str]() for name in SHAPES}
    late = Counter[str]()
    names = list(SHAPES)
    for number in track(range(count), "scoring", console=console or Console(stderr=True), transient=True):
        told = bank.step(rows, np.full(len(rows), minute[number] * MINUTE), values[number])
        for row in np.flatnonzero(told.score >= 0.5).tolist():
            name = names[row // series]
            pages[name][bank.families[int(told.evidence[row].argmax())]] += 1
            late[name] += number >= count // 2
    months = series * days / 30
    return {
        name: {
            "pagesASeriesMonth": by.total() / months,
            "secondHalf": 2 * late[name] / months,
            "loudest": dict(by.most_common()),
        }
        for name, by in pages.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="How often the default detector pages on ordinary series of many shapes.")
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--series", type=int, default=24, help="series of each shape")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if min(options.days, options.series) < 1:
        parser.error("--days and --series must be at least 1")
    found = run(options.days, options.series, options.seed)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    table = Table(box=SIMPLE_HEAD, title="Pages a series and 30 days; nothing is wrong", title_justify="left")
    table.add_column("shape", no_wrap=True)
    for column in ("all", "second half"):
        table.add_column(column, justify="right")
    table.add_column("loudest")
    for name, one in found.items():
        loudest = ", ".join(one["loudest"]) if isinstance(one["loudest"], dict) else ""
        table.add_row(name, f"{one['pagesASeriesMonth']:.2f}", f"{one['secondHalf']:.2f}", loudest)
    Console().print(table)


if __name__ == "__main__":
    main()
