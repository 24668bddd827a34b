"""What the scorer may load before its first event is scored: structure, not time.

`python -m benchmarks.cold_start` tells the time.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from benchmarks.cold_start import Aws, in_fresh_process

HEAVY = (
    *("river", "scipy", "sklearn", "pandas", "polars", "pyarrow", "duckdb", "matplotlib", "IPython"),
    *("pydantic", "aws_kinesis_agg", "faust", "aiohttp", "localstack_client", "typer", "rich", "psutil", "hypothesis"),
    *("opsriver", "agents", "consumers.archive", "consumers.alerts", "consumers.metric_store"),
)
"""Packages that a scorer with the default detector has no use for."""


@pytest.fixture(scope="module")
def fresh() -> tuple[dict[str, Any], str]:
    """A fresh process that has imported the handler and scored one event."""
    with Aws() as endpoint:
        return in_fresh_process(endpoint, "-X", "importtime")


def test_the_first_event_is_scored_and_its_shard_checkpointed(fresh: tuple[dict[str, Any], str]) -> None:
    (line,) = [line for line in fresh[0]["log"] if line.get("message") == "batch scored"]
    assert (line["events"], line["scored"], line["series"]) == (1, 1, 1)


@pytest.mark.parametrize("name", HEAVY)
def test_nothing_heavy_is_loaded_before_it(fresh: tuple[dict[str, Any], str], name: str) -> None:
    loaded = [module for module in fresh[0]["modules"] if module == name or module.startswith(name + ".")]
    assert not loaded, f"{loaded[:3]} are imported; import them where they are used"


def test_no_module_was_loaded_and_dropped_again(fresh: tuple[dict[str, Any], str]) -> None:
    traced = {line.rpartition("|")[2].strip() for line in re.findall(r"^import time:.*$", fresh[1], re.MULTILINE)}
    assert "stream_processors.scoring" in traced
    assert not traced & set(HEAVY)
