"""``python -m benchmarks.copies DIR``: detectors on labelled series changed in further ways, and with faults put into them.

Beside the ten changes of ``opsriver evaluate --perturbed`` ten others leave the labels true. And twelve copies have two
further faults in each series, of ten kinds, at random places outside the labelled windows and with windows of their own:
there are more of them than of labelled ones, so small differences show. As these copies have twice the windows in as many
rows, a false detection costs twice as much there (profile "low FP"): the price of a window stays what it is.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from opsriver import evaluation, perturbations
from opsriver.evaluation import DEFAULT, Labelled, Terrain
from opsriver.labelled import Series
from opsriver.perturbations import DAY, Copy, FloatArray

_HOUR = DAY // 24
_FAULTS = 2
"""Faults that are put into each series of a copy."""
_NEAR = 0.03
"""Share of a series' rows: a fault lasts a third to all of it; its window begins half of it before, ends all of it after."""


def _correlated(copy: Copy) -> Copy:
    drawn = copy.rng.normal(0.0, np.sqrt(1.0 - 0.9**2), len(copy.values))
    noise = np.zeros(len(drawn))
    for row in range(1, len(drawn)):
        noise[row] = 0.9 * noise[row - 1] + drawn[row]
    return copy.valued(copy.values + 0.3 * perturbations.ordinary(copy.values) * noise)


def _heavy(copy: Copy) -> Copy:
    noise = copy.rng.standard_t(3, len(copy.values))
    return copy.valued(copy.values + 0.3 * perturbations.ordinary(copy.values) * noise)


def _rounded(copy: Copy) -> Copy:
    step = 0.5 * perturbations.ordinary(copy.values)
    return copy.valued(np.round(copy.values / step) * step)


def _moved(copy: Copy) -> Copy:
    by = 67 * _HOUR
    return Copy(copy.times + by, copy.values, tuple((start + by, end + by) for start, end in copy.windows), copy.rng)


def _wave(days: float, deviations: float, phase: float = 0.0) -> Callable[[Copy], Copy]:
    def change(copy: Copy) -> Copy:
        wave = np.sin(2 * np.pi * copy.times / (days * DAY) + phase)
        return copy.valued(copy.values + deviations * perturbations.deviation(copy.values) * wave)

    return change


def _third_cadence(copy: Copy) -> Copy:
    last = np.arange(2, len(copy.values), 3)
    values = copy.values.copy()
    values[last] = (values[last - 2] + values[last - 1] + values[last]) / 3
    return copy.valued(values).thinned(last)


FURTHER: perturbations.Changes = {
    "root": lambda copy: copy.valued(np.sign(copy.values) * np.sqrt(np.abs(copy.values))),
    "power 1.5": lambda copy: copy.valued((copy.values - np.nanmin(copy.values)) ** 1.5),
    "correlated noise": _correlated,
    "heavy-tailed noise": _heavy,
    "rounded": _rounded,
    "moved by 67 hours": _moved,
    "wave of a week": _wave(7, 1.5),
    "wave of 2.3 days": _wave(2.3, 1.5),
    "half the daily wave": _wave(1, 0.75, phase=1.0),
    "a third of the cadence": _third_cadence,
}

# ------------------------------------------------------------------ faults

Fault = Callable[[FloatArray, int, int, float, np.random.Generator], FloatArray]
"""New values of rows ``begin`` to ``end`` of a series, by its usual deviation."""


def _spike(values: FloatArray, begin: int, end: int, usual: float, rng: np.random.Generator) -> FloatArray:
    part = values[begin:end].copy()
    part[: int(rng.integers(1, 4))] += _side(rng) * rng.uniform(1.5, 4) * max(usual, 4 * _step(values))
    return part


def _noise(values: FloatArray, begin: int, end: int, usual: float, rng: np.random.Generator) -> FloatArray:
    size = rng.uniform(0.7, 1.5) * max(usual, 3 * _step(values))
    return values[begin:end] + rng.normal(0.0, size, end - begin)


def _swing(values: FloatArray, begin: int, end: int, _usual: float, rng: np.random.Generator) -> FloatArray:
    part = values[begin:end]
    grown: FloatArray = np.nanmean(part) + (part - np.nanmean(part)) * rng.uniform(2, 3.5)
    return grown


def _elsewhere(values: FloatArray, begin: int, end: int, _usual: float, rng: np.random.Generator) -> FloatArray:
    at = int(rng.integers(0, max(begin - (end - begin), 1)))
    course: FloatArray = values[at : at + end - begin] - values[at] + values[begin]
    return course


def _side(rng: np.random.Generator) -> float:
    return float(rng.choice([-1.0, 1.0]))


def _step(values: FloatArray) -> float:
    steps = np.diff(values)
    return float(1.4826 * np.nanmedian(np.abs(steps - np.nanmedian(steps))) / np.sqrt(2.0))


FAULTS: Mapping[str, Fault] = {
    "spike": _spike,
    "shift": lambda v, a, b, usual, rng: v[a:b] + _side(rng) * rng.uniform(1.5, 3.5) * usual,
    "frozen": lambda v, a, b, _, _rng: np.full(b - a, np.nanmedian(v[max(a - 5, 0) : max(a, 1)])),
    "wider swing": _swing,
    "earlier course": lambda v, a, b, _, _rng: v[max(a - 2 * (b - a), 0) :][: b - a],
    "reversed": lambda v, a, b, _, _rng: v[a:b][::-1],
    "noise": _noise,
    "drift": lambda v, a, b, usual, rng: v[a:b] + _side(rng) * rng.uniform(2, 5) * usual * np.linspace(0, 1, b - a),
    "course of any time": _elsewhere,
    "bump": lambda v, a, b, usual, rng: (
        v[a:b] + _side(rng) * rng.uniform(1.5, 4) * usual * np.sin(np.pi * np.linspace(0, 1, b - a))
    ),
}


def injected(one: Labelled, seed: int) -> tuple[Labelled, dict[tuple[int, int], str]]:
    """A series with faults put into it, and their kinds by their windows."""
    rng = np.random.default_rng([seed, zlib.crc32(one.key.encode())])
    times, values = np.array(one.series.times, np.int64), np.array(one.series.values)
    rows = len(times)
    near = max(int(_NEAR * rows), 6)
    taken = [(int(a) - near, int(b) + near) for a, b in np.searchsorted(times, np.array(one.windows).reshape(-1, 2))]
    least, most = np.nanquantile(values, (0.01, 0.99))
    usual = max(float(np.nanstd(np.clip(values, least, most))), 1e-9)
    kinds = {}
    for _ in range(_FAULTS):
        places = np.arange(int(0.2 * rows), rows - near - 2)
        free = np.ones(len(places), bool)
        for first, last in taken:
            free &= (places + near < first) | (places - near > last)
        if not free.any():
            break
        begin = int(rng.choice(places[free]))
        end = begin + int(rng.uniform(0.33, 1) * near)
        kind = str(rng.choice(list(FAULTS)))
        values[begin:end] = FAULTS[kind](values, begin, end, usual, rng)
        taken.append((begin - near, begin + 2 * near))
        kinds[int(times[begin - near // 2]), int(times[begin + near])] = kind
    windows = tuple(sorted((*one.windows, *kinds)))
    blank = [""] * rows
    return Labelled(Series(one.series.path, one.series.name, blank, blank, times.tolist(), values.tolist()), windows), kinds


def run(
    series: Sequence[Labelled], detector: str, copies: int = 12, progress: Callable[[int], object] = abs
) -> dict[str, dict[str, Any]]:
    """Scores by the change, those of the copies with faults, and how many of each kind are found at the own threshold."""
    config = evaluation.named([detector], None)[detector]
    further = {name: perturbations.changed(series, name, changes=FURTHER) for name in FURTHER}
    spoiled = {f"faults {seed}": [injected(one, seed) for one in series] for seed in range(copies)}
    kinds = {name: [by for _, by in copy] for name, copy in spoiled.items()}
    everything = {**further, **{name: [one for one, _ in copy] for name, copy in spoiled.items()}}
    told = evaluation.scores_of(everything, config, progress)
    scored, found, all_of = {}, Counter[str](), Counter[str]()
    for name, copy in everything.items():
        grounds = [Terrain(one) for one in copy]
        scored[name] = evaluation.both(grounds, told[name], "low FP" if name in spoiled else "standard")
        for one, terrain, scores, by in zip(copy, grounds, told[name], kinds.get(name, [{}] * len(copy)), strict=True):
            for window, (first, last) in zip(one.windows, terrain.spans, strict=True):
                if window in by:
                    all_of[by[window]] += 1
                    found[by[window]] += bool((scores[max(first, terrain.probation) : last + 1] >= DEFAULT).any())
    return {
        "further": {name: scored[name] for name in further},
        "faults": {name: scored[name] for name in spoiled},
        "kinds": {kind: {"number": all_of[kind], "found": found[kind]} for kind in FAULTS if all_of[kind]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Detectors on labelled series changed in further ways, and with faults.")
    parser.add_argument("folder", type=Path, help="labelled series, as docs/evaluation.md lays them out")
    parser.add_argument("--detector", default="seasonal", help="seasonal, deep or a river model's import path")
    parser.add_argument("--copies", type=int, default=12, help="copies with faults put into them")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    series = evaluation.load(options.folder)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scoring", total=None)
        told = run(series, options.detector, max(options.copies, 1), lambda rows: progress.advance(task, rows))
    if options.json:
        print(json.dumps(told, indent=1))
        return
    console = Console()
    table = Table("copy", *(_right(name) for name in ("best threshold", "own threshold")), box=SIMPLE_HEAD)
    table.title, table.title_justify = f"{options.detector}: further copies, standard; faults put in, low FP", "left"
    for name, one in told["further"].items():
        table.add_row(name, f"{one['best']:.1f}", f"{one['default']:.1f}")
    for title, group in (("mean of these", told["further"]), (f"{len(told['faults'])} with faults, mean", told["faults"])):
        table.add_row(title, *(f"{np.mean([one[kind] for one in group.values()]):.1f}" for kind in ("best", "default")))
    console.print(table)
    table = Table("fault put in", *(_right(name) for name in ("number", "found", "share")), box=SIMPLE_HEAD)
    for name, one in told["kinds"].items():
        table.add_row(name, str(one["number"]), str(one["found"]), f"{one['found'] / one['number']:.0%}")
    console.print(table)


def _right(name: str) -> Column:
    return Column(name, justify="right")


if __name__ == "__main__":
    main()
