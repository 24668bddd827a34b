"""Who may import whom, what a cold start loads, and that pins and packages fit together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_imports_point_one_way() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def loaded_by(statement: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sorted(sys.modules))"], cwd=ROOT, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def test_a_cold_start_of_the_scorer_loads_neither_river_nor_scipy_nor_pandas() -> None:
    loaded = loaded_by("import stream_processors.lambda_handler; from stream_processors.scoring import Scorer; Scorer()")
    assert not loaded & {"river", "scipy", "pandas", "pyarrow", "pydantic", "typer", "rich"}
    assert "numpy" in loaded


LIGHT = (
    "consumers.metric_store.handler",
    "consumers.alerts.publisher_handler",
    "consumers.alerts.sweeper_handler",
    "consumers.alerts.notifier_handler",
    "consumers.metric_stream.handler",
    "agents.heartbeat_handler",
)


def test_functions_that_only_decode_load_neither_numpy_nor_pyarrow() -> None:
    for handler in LIGHT:
        assert not loaded_by(f"import {handler}") & {"numpy", "pyarrow", "river"}, handler


def test_the_core_knows_neither_the_clock_nor_randomness_nor_the_environment() -> None:
    for name in ("scoring", "episodes", "explain"):
        text = (ROOT / "stream_processors" / f"{name}.py").read_text()
        for forbidden in ("import time", "import random", "import os", "datetime.now", "boto3"):
            assert forbidden not in text, (name, forbidden)


def test_installed_packages_fit_together() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_pins_name_no_registry_and_every_pin_has_a_hash() -> None:
    for lock in (ROOT / "requirements.lock", *(ROOT / "requirements").glob("*.lock")):
        text = lock.read_text()
        assert "://" not in text, lock
        pins = [line for line in text.splitlines() if line and line[0].isalnum()]
        assert pins
        assert all(line.rstrip().endswith("\\") for line in pins), lock
    assert "resolved" not in (ROOT / "tests" / "support" / "kinesis-local" / "package-lock.json").read_text()
