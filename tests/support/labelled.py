"""Small folders of labelled series for tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.support.series import DAY, START, rhythm

CADENCE = 300_000


def folder(place: Path, *, folders: int = 3, files: int = 1, rows: int = 1000) -> Path:
    """Series of five minutes with a daily rhythm, each with one level shift that is labelled."""
    rng = np.random.default_rng(11)
    labels = {}
    stamps = START + CADENCE * np.arange(rows)
    for group in range(folders):
        for number in range(files):
            key = f"group{group}/series{number}.csv"
            values = 50 + rhythm(stamps) + rng.normal(size=rows)
            at = int(rng.integers(rows * 6 // 10, rows * 8 // 10))
            values[at : at + 30] += 40
            path = place / "data" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("timestamp,value\n" + "".join(f"{t},{v:.4f}\n" for t, v in zip(stamps, values, strict=True)))
            labels[key] = [[int(stamps[at - 20]), int(stamps[at + 60])]]
    (place / "labels").mkdir(parents=True)
    (place / "labels" / "combined_windows.json").write_text(json.dumps(labels))
    return place


def fleet(place: Path, *, hosts: int = 3, days: float = 2.5, faults: int = 3, seed: int = 2) -> Path:
    """A simulated fleet of few hosts, as the command writes it."""
    from typer.testing import CliRunner

    from opsriver.cli import application

    given = ["simulate", "--hosts", hosts, "--days", days, "--seed", seed, "--faults", faults, "--cadence", 300,
             "--start", START // 1000 - START // 1000 % (DAY // 1000), "--out", place]  # fmt: skip
    done = CliRunner().invoke(application(), [str(part) for part in given])
    assert done.exit_code == 0, done.output
    return place
