"""Sources of the notebooks: what is simulated is an archive like any other, and verdicts reach whoever learns from them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pandas
import polars
import pyarrow as pa
import pytest

from consumers.archive.training import build
from consumers.archive.verify import verify
from opsriver import analysis, charts
from opsriver.analysis import BEGIN, Source, false_positive, keep, kept, missed
from opsriver.errors import Problem
from opsriver.replay.order import shard_by_shard
from opsriver.replay.run import Replay
from stream_processors.detectors.config import DetectorConfig


HOUR = 3_600_000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "DAYS", 3)
        patch.setattr(analysis, "CADENCE_MS", 600_000)
        return analysis.open_source("simulated", folder=tmp_path_factory.mktemp("notebooks"), hosts=3)


def test_a_simulated_source_is_a_sound_archive_and_is_made_once(source: Source) -> None:
    found = verify(source.store.root, source.store.filesystem)
    assert (found.problems, found.repeated) == ([], 0)
    assert found.rows > 4_000
    fleets = list(source.folder.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "DAYS", 3)
        patch.setattr(analysis, "simulate", None)  # a second making would fail
        again = analysis.open_source("simulated", folder=source.folder, hosts=3)
    assert again.events(to="arrow").equals(source.events(to="arrow"))
    assert list(source.folder.iterdir()) == fleets


def test_its_insights_are_those_that_a_replay_of_it_gives(source: Source) -> None:
    replay = Replay(DetectorConfig())
    for shard, rows in shard_by_shard(source.archive, source.start, source.end):
        replay.feed(shard, rows)
    last = {one.insight_id: one for one in replay.insights}
    assert sorted(last.values(), key=lambda one: one.insight_id) == sorted(source.found(), key=lambda one: one.insight_id)
    assert last


def test_all_three_kinds_of_tables_hold_the_same(source: Source) -> None:
    host = "host-001"
    arrow = source.series(host, "cpuUsage", to="arrow")
    assert isinstance(arrow, pa.Table)
    frame, polar = source.series(host, "cpuUsage"), source.series(host, "cpuUsage", to="polars")
    assert isinstance(frame, pandas.DataFrame)
    assert isinstance(polar, polars.DataFrame)
    assert arrow["value"].to_pylist() == frame["value"].tolist() == polar["value"].to_list()
    assert len(source.events(BEGIN, BEGIN + HOUR, resource=host, to="arrow")) == 4 * len(
        source.series(host, "diskIO", end=BEGIN + HOUR)
    )
    insights = source.insights(to="arrow")
    assert len(insights) == len(set(insights["insight_id"].to_pylist())) == len(source.found())
    with pytest.raises(Problem, match="'excel' is unknown; choose arrow"):
        source.events(to="excel")  # type: ignore[arg-type]


def test_verdicts_are_kept_once_and_reach_the_training_set_however_often_they_are_sent(
    source: Source, tmp_path: Path
) -> None:
    insight = next(one for one in source.found() if one.kind == "anomaly")
    verdicts = [false_positive(insight), missed("host-002", "diskIO", "2026-11-17T12:00:00Z")]
    path = tmp_path / "labels" / "mine.jsonl"
    keep(verdicts, path)
    assert kept(keep(verdicts, path)) == verdicts
    assert source.send(kept(path)) == source.send(kept(path)) == 2
    rows = source.events(kind="feedback", to="arrow").to_pylist()
    assert sorted(json.loads(row["detail"])["verdict"] for row in rows) == ["false-positive", "missed"]
    made = build(source.store, source.start, source.end, 0.4, name="labelled")
    counts = made["labels"]
    assert (counts["falsePositive"], counts["missed"], counts["feedbackOfNoInsight"]) == (1, 1, 0)
    assert made["train"]["rowsByLabelSource"]["feedback"] >= 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"opsriver": "feedback", "resource": "a", "series": "b", "verdict": "so so", "timestamp": 1794787200}', "so so"),
        (b'{"opsriver": "tick", "timestamp": 1794787200}', "it is no feedback"),
        (b"not json", "line 2 is no verdict"),
    ],
)
def test_a_line_that_is_no_verdict_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    path = keep([missed("host", "cpu", 1_794_787_200_000)], tmp_path / "labels.jsonl")
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(Problem, match=said):
        kept(path)


def test_pictures_cope_with_what_is_missing(source: Source) -> None:
    result = source.judge("host-000", "cpuUsage")
    at = result.series.times[40]
    part = charts.cut(result, at, at + 3 * HOUR)
    assert part.series.times == [time for time in result.series.times if at <= time <= at + 3 * HOUR]
    assert len(part.score) == len(part.series.times)
    assert charts.fleet(source, "cpuUsage")._repr_png_().startswith(b"\x89PNG")
    lonely = msgspec.structs.replace(source.found()[0], resource="nowhere")
    quiet = Source("x", source.archive, source.store, BEGIN, BEGIN + HOUR, None, source.folder, len)
    assert lonely not in quiet.found()
    assert charts.by_day(quiet)._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(Problem, match="nothing to show"):
        charts.series(result, title="later", start=source.end, end=source.end + HOUR)
    with pytest.raises(Problem, match="no events of unheardOf"):
        charts.fleet(source, "unheardOf")
    with pytest.raises(Problem, match="no events of cpuUsage of nowhere"):
        source.judge("nowhere", "cpuUsage")


@pytest.mark.parametrize("name", ["", "simulate", "stack:", "remote:x"])
def test_an_unknown_source_is_told_with_those_there_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="choose simulated, local, local:FOLDER or stack:NAME"):
        analysis.open_source(name, folder=tmp_path)


def test_a_local_source_that_does_not_run_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="opsriver up"):
        analysis.open_source(f"local:{tmp_path}", folder=tmp_path)


def test_the_size_of_a_simulated_fleet_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(analysis.HOSTS_VARIABLE, "many")
    with pytest.raises(Problem, match="OPSRIVER_NOTEBOOK_HOSTS is 'many'; give a number"):
        analysis.open_source("simulated", folder=tmp_path)
