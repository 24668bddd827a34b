"""What the benchmarks rest on, and what they show that no clock is needed for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import peer
from benchmarks.child import Child, Ended
from benchmarks.path import Stretches
from benchmarks.scale import Load, chains, fit
from stream_processors.records.decode import decode
from stream_processors.scoring import Scorer


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work") / "work.bin"


@given(st.lists(st.tuples(st.text(st.characters(codec="ascii"), max_size=20), st.binary(max_size=200))))
@settings(deadline=None, max_examples=20)
def test_peers_get_the_very_records(file: Path, items: list[tuple[str, bytes]]) -> None:
    peer.write(file, items)
    assert peer.read(file) == items


def test_stretches_follow_one_another_so_that_no_event_is_late() -> None:
    scorer, stretches = Scorer(), iter(Stretches(50, 120))
    for _ in range(3):
        outcome = scorer.process(decode(next(stretches)))
        assert (outcome.scored, outcome.late) == (120, 0)


def test_hot_batches_repeat_a_few_series_in_order() -> None:
    batch = Load().even(3, 10)
    assert len(set(zip(batch.resource, batch.series, strict=True))) == 3
    assert Scorer().process(batch).scored == 10


def test_a_line_is_found() -> None:
    found = fit([1, 2, 3, 4], [3, 5, 7, 9])
    assert found["slope"] == pytest.approx(2)
    assert found["r2"] == pytest.approx(1)


def test_a_child_that_ends_says_why() -> None:
    with pytest.raises(Ended, match="No module named"):
        Child("none", [sys.executable, "-m", "no_such_module_here"], Path.cwd())


def test_what_checkpoints_write_depends_on_what_was_touched_and_not_on_how_much_there_is() -> None:
    found = chains(sizes=(2_000, 8_000), touched=10, batches=64)["sizes"]
    few, many = found["2000"], found["8000"]
    assert many["timesTouched"] == pytest.approx(few["timesTouched"], rel=0.1)
    assert many["timesTouched"] < 5
    assert many["longestChain"] == few["longestChain"]
    assert many["objects"] < 16, "joined deltas are deleted"


def test_the_parts_that_make_bench_runs_go_through_on_a_small_load(tmp_path: Path) -> None:
    from benchmarks import archive, limits, pipeline

    found = pipeline.run(series=50, count=500, rounds=1)
    assert found["contestants"]["numpy"]["eventsPerSecond"] > 0
    assert limits.run(50, 500, 1)
    assert archive.writing(500, 1)["rows"] == 500
    work = archive.stored(tmp_path, hosts=2, hours=3)
    assert archive.query(tmp_path, 3, 1)["rows"] > 0
    assert archive.replaying(tmp_path, work, 3, 1)["events"] == 2 * 10 * 60 * 3
