"""docs/cost.md shows what benchmarks/cost.py computes from the template."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cost import (
    BEGIN,
    END,
    EVENT_BYTES,
    FULL_CPU_MB,
    MICROSECONDS,
    Traffic,
    at_once,
    parts,
    readers,
    shards,
    table,
    template,
)


def test_the_documented_table_is_the_computed_one(root: Path) -> None:
    shown = (root / "docs" / "cost.md").read_text().partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0]
    assert shown == table(), "run `python -m benchmarks.cost --write`"


def test_a_longer_window_costs_less_and_more_hosts_cost_more() -> None:
    def whole(traffic: Traffic, window: float | None = None) -> float:
        return sum(sum(items.values()) for items in parts(traffic, window).values())

    assert whole(Traffic(500), 5.0) < whole(Traffic(500), 1.0) < whole(Traffic(5_000), 1.0)


def test_shards_are_bought_for_what_is_written_and_for_what_all_readers_read() -> None:
    """Readers without a pipe of their own share a shard's 2 MB a second (Kinesis, quotas and limits)."""
    assert readers() == 3
    assert [shards(Traffic(hosts, interval=10.0)) for hosts in (1, 8_700, 8_800, 87_000)] == [1, 1, 2, 10]


@pytest.mark.parametrize("name", MICROSECONDS)
def test_a_function_on_the_stream_has_the_cpu_for_all_that_a_shard_takes(name: str) -> None:
    function = template()["Resources"][name]
    needed = 2_000_000 / readers() / EVENT_BYTES * MICROSECONDS[name] / 1e6
    assert needed < at_once(function) * min(1.0, function["Properties"]["MemorySize"] / FULL_CPU_MB)


def test_the_template_says_what_a_shard_takes_in_the_long_run() -> None:
    told = template()["Parameters"]["ShardCount"]["Description"]
    assert f"{2_000_000 / readers() / EVENT_BYTES // 100 * 100:,.0f} aggregated events a second" in told


def test_the_alarms_that_are_counted_are_the_templates() -> None:
    alarms = sum(
        one["Type"] == "AWS::CloudWatch::Alarm" and "Condition" not in one for one in template()["Resources"].values()
    )
    assert alarms
    assert parts(Traffic(1))["CloudWatch"]["alarms"] == pytest.approx(0.10 * alarms)
