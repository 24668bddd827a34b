"""A training set is split by time without a leak, labelled by people before detectors, and always the same."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.archive import training
from consumers.archive.compaction import Compactor
from consumers.archive.layout import HOUR_MS
from consumers.archive.store import FolderStore
from consumers.archive.training import FEATURES, LOOKBACK_MS, MISSED_MS, TrainingSetError, build, check_past_only, features
from opsriver import cli
from schemas.insights import Insight
from stream_processors.records.batch import StreamRecord
from tests.support.streams import START, archive, archive_insights

MINUTE = 60_000
END = START + 30 * HOUR_MS
SHARD = "shardId-000000000000"


def insight(host: str, metric: str, opened: int, closed: int | None, **other: Any) -> Insight:
    fields: dict[str, Any] = {
        "insight_id": f"{host}-{metric}-{opened - START}", "timestamp": opened, "type": "anomaly", "kind": "anomaly",
        "severity": "HIGH", "confidence": 90, "message": "", "affected_hosts": [host], "resource": host, "metric": metric,
        "state": "open", "opened_at": opened, "peak_at": opened, "revision": 1, "transition": "opened",
        "detector": "seasonal", "detector_version": 1, "ttl": 0, "closed_at": closed,
    }  # fmt: skip
    return Insight(**{**fields, **other})


FIRST = insight("web-1", "memory", START + 5 * HOUR_MS, START + 5 * HOUR_MS + 20 * MINUTE)
WRONG = insight("web-2", "memory", START + 9 * HOUR_MS, START + 9 * HOUR_MS + 20 * MINUTE)
STRADDLING = insight("web-1", "memory", START + 21 * HOUR_MS, START + 25 * HOUR_MS)
LATE = insight("web-2", "memory", START + 28 * HOUR_MS, None)
SILENCE = insight("web-1", "memory", START + 7 * HOUR_MS, START + 8 * HOUR_MS, kind="silence", insight_id="silence")
MISSED = START + 15 * HOUR_MS


def records(hosts: tuple[str, ...] = ("web-1", "web-2"), minutes: int = 30 * 60) -> list[StreamRecord]:
    rng = np.random.default_rng(3)
    number = itertools.count(10**20)
    made = []

    def put(now: int, host: str, **body: Any) -> None:
        made.append(StreamRecord(SHARD, str(next(number)), host, now, json.dumps({"timestamp": now, **body}).encode()))

    for minute in range(0, minutes, 3):
        for host in hosts:
            value = 3e7 + 10 * float(rng.normal())
            put(START + minute * MINUTE, host, resource=host, metric="memory", value=value, unit="Bytes")
    told = {"opsriver": "feedback", "series": "memory"}
    put(WRONG.opened_at + 5 * MINUTE, "web-2", resource="web-2", verdict="false-positive", **told)
    put(MISSED, "web-1", resource="web-1", verdict="missed", **told)
    put(MISSED, "web-1", resource="web-1", verdict="false-positive", insightId="unheard-of", **told)
    return made


@pytest.fixture
def world(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    archive(root, records(), seed=1)
    archive_insights(root, [FIRST, WRONG, STRADDLING, SILENCE, msgspec.structs.replace(LATE, severity="LOW"),
                            msgspec.structs.replace(LATE, revision=2, transition="escalated")])  # fmt: skip
    return root


def parts(root: Path, made: dict[str, Any]) -> tuple[pa.Table, pa.Table]:
    train, validation = (
        pa.concat_tables([pq.read_table(root / file["key"]) for file in made[part]["files"]])
        for part in ("train", "validation")
    )
    return train, validation


def test_the_parts_lie_apart_and_hold_every_row_of_their_time(world: Path) -> None:
    made = build(FolderStore(world), START, END)
    train, validation = parts(world, made)
    split = START + round(0.8 * (30 * HOUR_MS - 3 * MINUTE + 1))
    times = train["timestamp"].cast(pa.int64()), validation["timestamp"].cast(pa.int64())
    assert pc.max(times[0]).as_py() < split - LOOKBACK_MS
    assert split <= pc.min(times[1]).as_py() < split + 3 * MINUTE
    assert pc.max(times[1]).as_py() == END - 3 * MINUTE
    straddling = made["labels"]["rowsOfAnomaliesInBothParts"]
    assert straddling > 0
    assert "web-1-memory-75600000" not in train["label_id"].to_pylist()
    assert len(train) + straddling == 2 * -(-(split - LOOKBACK_MS - START) // (3 * MINUTE))
    assert (made["train"]["rows"], made["validation"]["rows"]) == (len(train), len(validation))


def test_people_go_before_insights_and_insights_before_silence_of_both(world: Path) -> None:
    made = build(FolderStore(world), START, END, name="set")
    train, validation = parts(world, made)
    rows = train.to_pylist()

    def by_source(source: str) -> list[dict[str, Any]]:
        return [row for row in rows if row["label_source"] == source]

    assert {(r["label"], r["label_id"]) for r in by_source("insight")} == {(1, FIRST.insight_id)}
    assert len(by_source("insight")) == 7
    told = by_source("feedback")
    assert {(r["resource"], r["label_id"]) for r in told if not r["label"]} == {("web-2", WRONG.insight_id)}
    missed = [r for r in told if r["label"]]
    assert {r["resource"] for r in missed} == {"web-1"}
    assert all(abs(r["timestamp"].timestamp() * 1000 - MISSED) <= MISSED_MS for r in missed)
    assert len(missed) == 11
    assert all(r["label"] == 0 and r["label_id"] is None for r in by_source("none"))
    late = [r for r in validation.to_pylist() if r["label_id"] == LATE.insight_id]
    assert {r["severity"] for r in late} == {"HIGH"}
    assert len(late) == 40  # it is open still: to the end of the range
    assert made["labels"] | {"rowsOfAnomaliesInBothParts": 0} == {
        "insights": 4, "falsePositive": 1, "missed": 1, "feedbackOfNoInsight": 1, "rowsOfAnomaliesInBothParts": 0,
    }  # fmt: skip


def test_a_set_is_the_same_to_the_byte_again_and_after_compaction(world: Path) -> None:
    store = FolderStore(world)

    def content(name: str) -> dict[str, bytes]:
        folder = world / "training" / name
        found = {str(p.relative_to(folder)): p.read_bytes().replace(name.encode(), b"NAME") for p in folder.rglob("*")
                 if p.is_file()}  # fmt: skip
        assert set(found) == {"README.md", "schema.json", "manifest.json", "train/part-00000.parquet",
                              "validation/part-00000.parquet"}  # fmt: skip
        return found

    build(store, START, END, name="once")
    build(store, START, END, name="again")
    assert Compactor(store).run(END + 4 * HOUR_MS).done
    build(store, START, END, name="after")
    assert content("once") == content("again") == content("after")


def test_the_documents_beside_a_set_tell_of_every_column(world: Path) -> None:
    made = build(FolderStore(world), START, END, name="set")
    folder = world / "training" / "set"
    schema = json.loads((folder / "schema.json").read_text())
    train, _ = parts(world, made)
    assert [one["name"] for one in schema["columns"]] == train.column_names
    assert [one["name"] for one in schema["columns"] if one["role"] == "feature"] == list(FEATURES)
    assert all(f"| {name} |" in (folder / "README.md").read_text() for name in train.column_names)
    assert json.loads((folder / "manifest.json").read_text()) == {k: v for k, v in made.items() if k != "location"}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 400), st.floats(-1e9, 1e9)), min_size=1, max_size=60))
def test_features_are_what_their_description_says_of_any_events(events: list[tuple[int, int, float]]) -> None:
    events.sort(key=lambda one: one[:2])
    series, minutes, values = (np.array(column) for column in zip(*events, strict=True))
    times = START + minutes * MINUTE
    made, oldest = features(series.astype(np.int64), times, values.astype(np.float64))
    for at, (one, minute, value) in enumerate(events):
        before = [v for s, m, v in events if s == one and minute - 120 <= m < minute]
        short = [v for s, m, v in events if s == one and minute - 15 <= m < minute]
        assert made["count_2h"][at] == len(before)
        assert made["count_15m"][at] == len(short)
        assert START + (minute - 120) * MINUTE <= oldest[at] <= times[at]
        if not before:
            assert all(
                np.isnan(made[name][at]) for name in ("since_last_s", "change", "mean_2h", "min_2h", "max_2h", "z_2h")
            )
            continue
        assert (made["min_2h"][at], made["max_2h"][at]) == (min(before), max(before))
        assert made["change"][at] == value - before[-1]
        assert np.isclose(made["mean_2h"][at], np.mean(before), rtol=1e-9, atol=1e-3)
        if len(before) > 1:
            assert np.isclose(made["std_2h"][at], np.std(before), rtol=1e-6, atol=1e-3)
    check_past_only(series.astype(np.int64), times, values.astype(np.float64))


def test_a_feature_that_sees_the_future_is_found_out() -> None:
    times = START + np.arange(50) * MINUTE
    values = np.arange(50.0)

    def centred(s: Any, t: Any, v: Any) -> Any:
        made, oldest = features(s, t, v)
        return {**made, "mean_2h": np.full(len(v), v.mean())}, oldest

    with pytest.raises(TrainingSetError, match="'mean_2h' sees what comes after"):
        check_past_only(np.zeros(50, np.int64), times, values, centred)


def test_parts_that_know_of_each_other_are_refused(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Features that look back further than the gap, as a careless change would make them.
    monkeypatch.setattr(training, "SHORT_MS", 3 * HOUR_MS)
    monkeypatch.setattr(training, "LOOKBACK_MS", 3 * HOUR_MS)
    with pytest.raises(TrainingSetError, match="would leak"):
        build(FolderStore(world), START, END)
    monkeypatch.setattr(training, "_check_arguments", lambda *_: None)
    with pytest.raises(TrainingSetError, match=r"reach back to .* leave a longer gap"):
        build(FolderStore(world), START, END)
    assert not (world / "training").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"begin": START + 90 * 24 * HOUR_MS, "end": START + 91 * 24 * HOUR_MS}, "no metric events from 2026"),
        ({"end": START + 2 * HOUR_MS}, "1.9 hours: too few to hold back 20% and leave 2 hours"),
        ({"end": START + 4 * HOUR_MS}, "labelled anomalous; take a longer range, or give feedback"),
        ({"begin": END, "end": START}, "exchange them"),
        ({"validation": 1.0}, "validation is 1; give a share"),
        ({"gap_hours": 0.5}, "a gap of 0.5 hours would leak"),
        ({"gap_hours": float("nan")}, "would leak"),
        ({"name": "../../etc"}, "cannot be a set's name"),
        ({"name": "there"}, "there is a training set 'there' already"),
    ],
)
def test_what_makes_no_set_is_said_and_nothing_is_stored(world: Path, change: dict[str, Any], said: str) -> None:
    folder = world / "training"
    if change.get("name") == "there":
        (folder / "there").mkdir(parents=True)
        (folder / "there" / "manifest.json").write_text("{}")
    before = sorted(world.rglob("*"))
    with pytest.raises(TrainingSetError, match=said.replace("(", r"\(")):
        build(FolderStore(world), **{"begin": START, "end": END, **change})
    assert sorted(world.rglob("*")) == before


def test_what_a_killed_run_left_is_replaced(world: Path) -> None:
    left = world / "training" / "set" / "train" / "part-00007.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    build(FolderStore(world), START, END, name="set")
    assert not left.exists()


def run(*arguments: str) -> None:
    cli.application()(list(arguments), standalone_mode=False)


def test_the_command_stores_a_set_and_says_what_is_in_it(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    span = ("--from", "2026-09-21T00:00:00Z", "--to", "2026-09-24T00:00:00Z", "--folder", str(world))
    run("archive", "training-set", *span, "--json")
    made = json.loads(capsys.readouterr().out)
    assert Path(made["location"]).is_dir()
    assert made["name"] == made["validation"]["to"][:10]
    with pytest.raises(cli.Problem, match="already; choose another name"):
        run("archive", "training-set", *span)
    run("archive", "training-set", *span, "--name", "second")
    told = capsys.readouterr().out
    assert "labelled anomalous" in told
    assert "validation" in told


def test_a_damaged_file_stops_a_set_or_is_named_in_it(world: Path) -> None:
    hour = next((world / "events").glob("dt=*/hr=*"))
    (hour / "broken.parquet").write_bytes(b"PAR1 not really")
    span = ("--from", "2026-09-21T00:00:00Z", "--to", "2026-09-24T00:00:00Z", "--folder", str(world))
    with pytest.raises(cli.Problem, match=r"broken\.parquet .*--skip-damaged"):
        run("archive", "training-set", *span)
    run("archive", "training-set", *span, "--skip-damaged", "--name", "without")
    manifest = json.loads((world / "training" / "without" / "manifest.json").read_text())
    assert [Path(name).name for name in manifest["damaged"]] == ["broken.parquet"]
