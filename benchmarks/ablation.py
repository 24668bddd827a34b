"""``python -m benchmarks.ablation DIR``: what each family of evidence brings to the default detector.

Scores the labelled series of DIR and their changed copies with everything, and again with each family
switched off; the standard profile at the best threshold and at the detector's own. Nothing else is
changed: the divisor, made for all families, stays.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from opsriver import evaluation, perturbations
from opsriver.evaluation import Labelled, Terrain
from stream_processors.detectors.config import DetectorConfig
from stream_processors.detectors.seasonal.bank import SINGLE, SeasonalBank

ALL = "everything"


def run(series: Sequence[Labelled], changes: Sequence[str], console: Console | None = None) -> dict[str, dict[str, float]]:
    """Scores by what is left out: of the plain series, and the mean over them and their changed copies."""
    copies = {"plain": list(series), **{change: perturbations.changed(series, change) for change in changes}}
    grounds = {name: [Terrain(one) for one in copy] for name, copy in copies.items()}
    found = {}
    variants = (ALL, *SeasonalBank.families, SINGLE)
    for variant in track(variants, "scoring", console=console or Console(stderr=True), transient=True):
        without = () if variant == ALL else (variant,)
        told = evaluation.scores_of(
            copies, DetectorConfig(), banks=lambda without=without: {SeasonalBank.name: SeasonalBank(without=without)}
        )
        scored = [evaluation.both(ground, told[name]) for name, ground in grounds.items()]
        best, own = ([one[kind] for one in scored] for kind in ("best", "default"))
        found[variant] = {"best": best[0], "own": own[0], "meanBest": float(np.mean(best)), "meanOwn": float(np.mean(own))}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What each family of evidence brings to the default detector.")
    parser.add_argument("folder", type=Path, help="labelled series, as docs/evaluation.md lays them out")
    parser.add_argument("--copies", type=int, default=len(perturbations.CHANGES), help="changed copies to judge on too")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    changes = list(perturbations.CHANGES)[: max(options.copies, 0)]
    found = run(evaluation.load(options.folder), changes)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    table = Table(box=SIMPLE_HEAD, title="Standard profile", title_justify="left")
    table.add_column("without", no_wrap=True, min_width=13)
    for column in ("best threshold", "own threshold", "best, mean", "own, mean", "the family brings"):
        table.add_column(column, justify="right")
    whole = found[ALL]["meanBest"]
    for name, one in sorted(found.items(), key=lambda pair: (pair[0] != ALL, pair[1]["meanBest"])):
        cells = (f"{one[kind]:.1f}" for kind in ("best", "own", "meanBest", "meanOwn"))
        table.add_row("nothing" if name == ALL else name, *cells, "" if name == ALL else f"{whole - one['meanBest']:+.1f}")
    console = Console()
    console.print(table)
    console.print(f"means are over the plain series and {len(changes)} changed copies")


if __name__ == "__main__":
    main()
