"""``python -m benchmarks.nested DIR``: the default detector where its constants, too, are chosen on the other half.

Its constants were chosen while looking at labelled series. Here those that have a name are moved one at a time, most to a
half and to the double; of each random half-split one half chooses among these settings and their thresholds, and the other
is scored with both. The values that they are moved from are among the settings, and these have seen both halves: what the
choice loses against them is its price, and they themselves are judged by unseen series alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from opsriver import evaluation
from opsriver.evaluation import DEFAULT, Labelled, Sweep, Terrain
from stream_processors.detectors.base import Bank
from stream_processors.detectors.config import DetectorConfig
from stream_processors.detectors.seasonal import bank

AS_IS = "as they are"
Settings = Mapping[str, Mapping[str, Any]]
"""Values of constants by their attribute, by the setting's name."""

CONSTANTS: tuple[tuple[str, tuple[str, ...], float], ...] = (
    # name, attributes that are moved together, factor by which they are, either way
    *((name, (f"_{name.upper().replace(' ', '_')}",), 2.0) for name in (
        "visits day", "visits week", "memory", "season memory", "smooth", "fewest", "longest step", "quiet", "day gain",
        "week gain", "young", "bar rise", "bar start", "bar share", "bar longest", "grades", "lately", "lately share",
        "tail memory", "tail cut", "tail start", "tail prior", "known", "pair most", "factor", "factor step",
        "factor usual", "factor growth", "loudest", "bar top", "base", "quantum moves", "quantum rate", "quantum share",
        "run cut", "run moves", "run power",
    )),
    ("scales", ("_SCALES", "_SCALE_COLUMN"), 2.0),
    ("rare", ("_RARE",), 3.0),  # its logarithm counts
)  # fmt: skip


def settings() -> dict[str, dict[str, Any]]:
    """The constants as they are; each one moved alone, either way; and so the weight of each family of channels."""
    found: dict[str, dict[str, Any]] = {AS_IS: {}}
    for name, attributes, factor in CONSTANTS:
        for by, sign in ((1.0 / factor, "/"), (factor, "×")):
            found[f"{name} {sign} {factor:g}"] = {one: _times(getattr(bank, one), by) for one in attributes}
    families = np.array([family for family, _ in bank._CHANNELS])
    for number in np.unique(families).tolist():
        name = bank.SeasonalBank.families[number]
        for by, sign in ((0.5, "/"), (2.0, "×")):
            found[f"weight of {name} {sign} 2"] = {"_WEIGHTS": np.where(families == number, by, 1.0) * bank._WEIGHTS}
    return found


def _times(value: Any, by: float) -> Any:
    return tuple(one * by for one in value) if isinstance(value, tuple) else value * by


def scored(
    series: Sequence[Labelled], chosen_from: Settings, progress: Callable[[int], object] = abs
) -> dict[str, list[Sweep]]:
    """Sweeps of the series by the setting; constants are moved for the time of one scoring, by NumPy alone."""
    terrains = [Terrain(one) for one in series]
    found = {}
    for name, values in chosen_from.items():
        with ExitStack() as moved:
            for attribute, value in values.items():
                moved.enter_context(patch.object(bank, attribute, value))
            told = evaluation.scores_of({name: series}, DetectorConfig(), progress, _banks)[name]
        found[name] = [evaluation.sweep(terrain, one) for terrain, one in zip(terrains, told, strict=True)]
    return found


def _banks() -> dict[str, Bank]:
    return {bank.SeasonalBank.name: bank.SeasonalBank(compiled=False)}


def judged(runs: Mapping[str, Sequence[Sweep]], splits: int = 100) -> dict[str, Any]:
    """Half-splits where setting and threshold, the threshold alone or nothing is chosen on the other half; each setting.

    The first of ``runs`` are the constants as they are, which are kept where another setting is no better.
    """
    halves = evaluation.half_splits(runs, splits)
    first = next(iter(runs))
    return {
        "nested": halves["chosen"],
        "threshold": halves["detectors"][first],
        "own": halves["own"][first],
        "settings": {
            name: {
                "best": evaluation.standing(sweeps, "standard").score,
                "own": evaluation.standing(sweeps, "standard", DEFAULT).score,
                "chosen": halves["choices"][name],
            }
            for name, sweeps in runs.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The default detector, its constants chosen on the other half.")
    parser.add_argument("folder", type=Path, help="labelled series, as docs/evaluation.md lays them out")
    parser.add_argument("--splits", type=int, default=100, help="random half-splits")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    series, chosen_from = evaluation.load(options.folder), settings()
    rows = sum(np.isfinite(one.series.values).sum() for one in series)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scoring", total=float(rows * len(chosen_from)))
        runs = scored(series, chosen_from, lambda rows: progress.advance(task, rows))
    told = judged(runs, max(options.splits, 1))
    if options.json:
        print(json.dumps(told, indent=1))
        return
    _print(told)


def _print(told: Mapping[str, Any]) -> None:
    console = Console()
    halves = (("setting and threshold", "nested"), ("threshold", "threshold"), (f"nothing (threshold {DEFAULT:g})", "own"))
    table = Table("chosen on the other half", box=SIMPLE_HEAD, title="Half-splits, standard profile", title_justify="left")
    for column in ("mean", "deviation", "worst", "splits"):
        table.add_column(column, justify="right")
    for title, kind in halves:
        one = told[kind] or dict.fromkeys(("mean", "deviation", "worst", "splits"), np.nan)
        table.add_row(title, *(f"{one[part]:.1f}" for part in ("mean", "deviation", "worst")), f"{one['splits']:g}")
    console.print(table)
    table = Table("setting", box=SIMPLE_HEAD, title="All series", title_justify="left")
    for column in ("best threshold", "own threshold", "chosen"):
        table.add_column(column, justify="right")
    for name, one in told["settings"].items():
        table.add_row(name, f"{one['best']:.1f}", f"{one['own']:.1f}", str(one["chosen"]))
    console.print(table)


if __name__ == "__main__":
    main()
