"""The archive on S3: every event once, whatever comes again, in whatever cut, and while files are joined."""

from __future__ import annotations

import gzip
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from botocore.exceptions import ClientError

from consumers.archive import compactor_handler
from consumers.archive import handler as root
from consumers.archive.compaction import Compactor
from consumers.archive.layout import HOUR_MS, partition
from consumers.archive.reader import Archive, DamagedFile
from consumers.archive.store import BucketStore, filesystem
from consumers.archive.verify import verify
from consumers.insights.store import to_item
from schemas.insights import Insight
from tests.support.archive import FIRST, HOSTILE, START, numbers, record, records
from tests.support.forked import Forked
from tests.support.ministack import Emulator, emulator

pytestmark = pytest.mark.embedded

LATER = START + 10 * HOUR_MS
NAMES = (f"archive-{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("archive")) as running:
        yield running


@pytest.fixture
def bucket(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = next(NAMES)
    server.client("s3").create_bucket(Bucket=name)
    for key, value in {**server.environment(), "OPSRIVER_ARCHIVE_BUCKET": name}.items():
        monkeypatch.setenv(key, value)
    for composed in (root.archive, compactor_handler.compactor):
        composed.cache_clear()
    yield name
    for composed in (root.archive, compactor_handler.compactor):
        composed.cache_clear()


def archive(rows: list[dict[str, Any]]) -> dict[str, Any]:
    answer: dict[str, Any] = root.handler({"Records": rows}, None)
    return answer


def reader(server: Emulator, bucket: str, **options: Any) -> Archive:
    return Archive(bucket, filesystem(server.client("s3")), **options)


def compact(server: Emulator, bucket: str, now: int = LATER) -> Any:
    report = Compactor(BucketStore(server.client("s3"), bucket), run_rows=40).run(now)
    assert report.problems == []
    return report


def everything(server: Emulator, bucket: str) -> pa.Table:
    return reader(server, bucket).events(START - HOUR_MS, START + 5 * HOUR_MS)


def objects(server: Emulator, bucket: str) -> dict[str, str]:
    listed = server.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
    return {one["Key"]: one["ETag"] for one in listed}


def test_what_comes_again_in_other_cuts_is_one_row_each_before_and_after_compaction(server: Emulator, bucket: str) -> None:
    rows = records()
    for begin, end in ((0, 100), (0, 100), (50, 170), (100, 300), (299, 300)):
        assert archive(rows[begin:end]) == {"batchItemFailures": []}
    table = everything(server, bucket)
    assert numbers(table) == list(range(300))
    first = table.slice(0, 1).to_pylist()[0]
    assert (first["resource"], first["value"], first["unit"]) == ("host-0", 0.0, "Percent")
    assert first["dimensions"] == [("core", "0")]
    assert HOSTILE in table["resource"].to_pylist()
    compact(server, bucket)
    assert everything(server, bucket).equals(table)
    assert compact(server, bucket, LATER + HOUR_MS).deleted > 0
    assert everything(server, bucket).equals(table)
    assert len([key for key in objects(server, bucket) if key.endswith(".parquet")]) == 3
    found = verify(bucket, filesystem(server.client("s3")))
    assert (found.rows, found.repeated, found.problems) == (300, 0, [])


def test_a_batch_that_comes_again_writes_the_same_objects(server: Emulator, bucket: str) -> None:
    archive(records())
    before = objects(server, bucket)
    archive(records())
    assert objects(server, bucket) == before
    assert len(before) == 3
    assert all(key.startswith("events/dt=2026-") and ".." not in key for key in before)


def test_signals_are_archived_with_their_arrival_and_what_they_say(server: Emulator, bucket: str) -> None:
    feedback = {"opsriver": "feedback", "resource": "host-1", "series": "cpu", "verdict": "missed", "timestamp": START + 5}
    archive([record(0, {"opsriver": "tick", "timestamp": START + 1}), record(1, feedback), *records()[2:5]])
    rows = everything(server, bucket).to_pylist()
    assert [row["kind"] for row in rows] == ["tick", "feedback", *["metric"] * 3]
    assert json.loads(rows[1]["detail"]) == {
        "type": "feedback", "resource": "host-1", "series": "cpu", "verdict": "missed", "timestamp": START + 5,
        "insightId": "",
    }  # fmt: skip
    assert {row["arrival"].timestamp() * 1000 for row in rows} == {START + 4 * HOUR_MS}


def test_packed_records_make_files_of_bounded_size_under_names_that_stay(
    server: Emulator, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root, "FILE_ROWS", 50)
    lines = "\n".join(
        json.dumps({"resource": f"h{n}", "metric": "m", "timestamp": START + n, "value": n}) for n in range(40)
    ).encode()
    rows = [record(n, gzip.compress(lines, mtime=0)) for n in range(5)]
    archive(rows)
    before = objects(server, bucket)
    assert len(before) == 3, "80, 80 and 40 rows"
    archive(rows)
    assert objects(server, bucket) == before
    assert len(everything(server, bucket)) == 200


def test_an_error_in_the_middle_brings_the_whole_batch_again(server: Emulator, bucket: str) -> None:
    client = root.archive()._s3
    calls = itertools.count()

    def refuse(**_: Any) -> None:
        if next(calls) == 1:
            raise ClientError({"Error": {"Code": "SlowDown", "Message": "injected"}}, "PutObject")

    client.meta.events.register("before-call.s3.PutObject", refuse)
    rows = records()
    assert archive(rows) == {"batchItemFailures": [{"itemIdentifier": rows[0]["kinesis"]["sequenceNumber"]}]}
    assert archive(rows) == {"batchItemFailures": []}
    assert numbers(everything(server, bucket)) == list(range(300))


def insight(number: int, revision: int, **changed: Any) -> Insight:
    fields: dict[str, Any] = {
        "insight_id": f"i-{number}", "timestamp": START + number, "type": "anomaly", "kind": "point", "severity": "HIGH",
        "confidence": 90, "message": "cpu of host-1 is high", "affected_hosts": ["host-1"], "resource": f"host-{number % 3}",
        "metric": "cpu", "state": "open", "opened_at": START + number, "peak_at": START + number, "revision": revision,
        "transition": "opened" if revision == 1 else "updated", "detector": "seasonal", "detector_version": 2, "ttl": 9,
        "score": 7.5, "evidence": {"level": 1.0},
    }  # fmt: skip
    return Insight(**{**fields, **changed})


def images(insights: list[Insight], first: int = 0) -> list[dict[str, Any]]:
    return [
        {"eventName": "MODIFY", "eventSource": "aws:dynamodb",
         "dynamodb": {"SequenceNumber": str(FIRST + first + n), "NewImage": to_item(one)}}
        for n, one in enumerate(insights)
    ]  # fmt: skip


def test_every_revision_of_an_insight_is_a_row_and_what_is_none_is_told(
    server: Emulator, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = [insight(n, revision) for n in range(20) for revision in (1, 2)]
    rows = images(made)
    rows.insert(7, {"eventName": "REMOVE", "dynamodb": {"SequenceNumber": "1", "Keys": {}}})
    rows.append({"eventName": "INSERT", "dynamodb": {"SequenceNumber": "2", "NewImage": {"insightId": {"S": "broken"}}}})
    assert archive(rows) == {"batchItemFailures": []}
    assert [record.insight for record in caplog.records if record.message == "no insight"] == ["{'S': 'broken'}"]
    archive(images(made[10:20], 10))
    found = reader(server, bucket)
    table = found.insights(START, LATER)
    assert [(row["insight_id"], row["revision"]) for row in table.to_pylist()] == [(i.insight_id, i.revision) for i in made]
    assert [msgspec.json.decode(text, type=Insight) for text in table["insight"].to_pylist()] == made
    assert set(found.insights(START, LATER, "host-1")["resource"].to_pylist()) == {"host-1"}
    assert found.insights(START, LATER, metric="cpu").equals(table)
    assert len(found.insights(START, LATER, metric="memory")) == 0
    compact(server, bucket)
    compact(server, bucket, LATER + HOUR_MS)
    assert reader(server, bucket).insights(START, LATER).equals(table)
    assert len([key for key in objects(server, bucket) if key.endswith(".parquet")]) == 1


def test_the_scheduled_function_compacts_and_names_what_it_cannot_read(server: Emulator, bucket: str) -> None:
    for begin in range(0, 300, 50):
        archive(records()[begin : begin + 50])
    key = f"events/{partition(START // HOUR_MS)}/foreign.parquet"
    server.client("s3").put_object(Bucket=bucket, Key=key, Body=b"PAR1 this is no Parquet file PAR1")
    compactor_handler.compactor()
    real = compactor_handler.time.time
    compactor_handler.time.time = lambda: LATER / 1000  # type: ignore[method-assign]
    try:
        assert compactor_handler.handler({}, None) == {"hours": 3, "deleted": 0}
    finally:
        compactor_handler.time.time = real  # type: ignore[method-assign]
    with pytest.raises(DamagedFile, match=r"foreign\.parquet"):
        everything(server, bucket)
    assert key in objects(server, bucket)


def test_s3_errors_leave_the_hour_as_it_was_and_the_others_go_on(server: Emulator, bucket: str) -> None:
    for begin in range(0, 300, 50):
        archive(records()[begin : begin + 50])
    client = server.client("s3")
    calls = itertools.count()

    def refuse(**_: Any) -> None:
        if next(calls) == 2:
            raise ClientError({"Error": {"Code": "SlowDown", "Message": "injected"}}, "PutObject")

    client.meta.events.register("before-call.s3.PutObject", refuse)
    report = Compactor(BucketStore(client, bucket)).run(LATER)
    assert len(report.done) == 2
    assert len(report.problems) == 1
    assert "hr=" in report.problems[0]
    assert numbers(everything(server, bucket)) == list(range(300))
    assert len(compact(server, bucket, LATER + HOUR_MS).done) == 1


def killed(server: Emulator, bucket: str, now: int, step: int, errors: Path) -> bool:
    arguments = [bucket, str(now), str(step), str(errors.parent)]
    process = Forked("tests.support.killed_compaction", arguments, env=server.environment(), stderr=errors)
    process.stdin.close()
    with process.stdout:
        status = process.wait(300)
    assert status in (0, -9), errors.read_text()
    return status == -9


@pytest.mark.chaos
def test_killed_at_every_step_a_reader_beside_it_sees_every_row_once_at_every_moment(
    server: Emulator, bucket: str, tmp_path: Path
) -> None:
    rows = records(100)
    for begin in range(0, 100, 25):
        archive(rows[begin : begin + 25])
    archive(rows[10:40])
    wrong: list[Any] = []
    reads = itertools.count()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            try:
                seen = numbers(everything(server, bucket))
                next(reads)
                if seen != list(range(100)):
                    wrong.append(seen)
            except Exception as error:
                wrong.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        kills = 0
        # Each try begins an hour later, so that what the one before replaced may go.
        for step in itertools.count():
            if not killed(server, bucket, LATER + step * HOUR_MS, step, tmp_path / "errors"):
                break
            kills += 1
    finally:
        over.set()
        watcher.join()
    assert not wrong, wrong[:1]
    assert kills >= 8
    assert next(reads) > 3
    compact(server, bucket, LATER + 300 * HOUR_MS)
    compact(server, bucket, LATER + 400 * HOUR_MS)
    assert numbers(everything(server, bucket)) == list(range(100))
    found = verify(bucket, filesystem(server.client("s3")))
    assert (found.rows, found.repeated, found.files, found.problems) == (100, 0, 3, [])


def test_an_archive_of_nothing_is_nothing(server: Emulator, bucket: str) -> None:
    assert archive([]) == {"batchItemFailures": []}
    assert archive([record(0, b"not json")]) == {"batchItemFailures": []}
    assert len(everything(server, bucket)) == 0
    assert objects(server, bucket) == {}
