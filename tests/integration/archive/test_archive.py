"""The archive: every event once, whatever comes again, in whatever cut, and while files are joined."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError

from consumers.archive import handler as root
from consumers.archive.compaction import Compactor
from consumers.archive.reader import ArchiveReader, DamagedFile, s3
from consumers.archive.writer import HOUR_MS, Archive, file_name, partition
from schemas.arrow import EVENTS, SCHEMAS
from tests.support.ministack import Emulator, emulator

pytestmark = pytest.mark.embedded

START = 1_790_000_000_000 - 1_790_000_000_000 % HOUR_MS
SHARD = "shardId-000000000000"
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
    root.archive.cache_clear()
    yield name
    root.archive.cache_clear()


def records(count: int = 300, hosts: int = 4) -> list[dict[str, Any]]:
    """Metrics of some hosts over three hours, one of them with a name that looks like a path."""
    names = [f"host-{n}" for n in range(hosts - 1)] + ["../../etc/passwd"]
    made = []
    for n in range(count):
        body = {"resource": names[n % hosts], "metric": "cpu", "timestamp": START + n * 3 * HOUR_MS // count, "value": n / 7,
                "unit": "Percent", "dimensions": {"core": str(n % 2)}}  # fmt: skip
        made.append({
            "eventID": f"{SHARD}:{10**20 + n}", "eventSource": "aws:kinesis",
            "kinesis": {"partitionKey": names[n % hosts], "sequenceNumber": str(10**20 + n),
                        "approximateArrivalTimestamp": (START + 4 * HOUR_MS) / 1000,
                        "data": base64.b64encode(json.dumps(body).encode()).decode()},
        })  # fmt: skip
    return made


def archive(rows: list[dict[str, Any]]) -> dict[str, Any]:
    answer: dict[str, Any] = root.handler({"Records": rows}, None)
    return answer


def reader(server: Emulator, bucket: str, **options: Any) -> ArchiveReader:
    return ArchiveReader(bucket, s3(server.client("s3")), **options)


def everything(server: Emulator, bucket: str) -> pa.Table:
    return reader(server, bucket).events(START - HOUR_MS, START + 5 * HOUR_MS)


def keys(table: pa.Table) -> list[str]:
    return sorted(table["sequence"].to_pylist())


def test_what_comes_again_in_other_cuts_is_still_one_row_each(server: Emulator, bucket: str) -> None:
    rows = records()
    for begin, end in ((0, 100), (0, 100), (50, 170), (100, 300), (299, 300)):
        assert archive(rows[begin:end]) == {"batchItemFailures": []}
    table = everything(server, bucket)
    assert keys(table) == [str(10**20 + n) for n in range(300)]
    assert table.schema.equals(EVENTS)
    first = table.slice(0, 1).to_pylist()[0]
    assert (first["resource"], first["value"], first["unit"]) == ("host-0", 0.0, "Percent")
    assert first["dimensions"] == [("core", "0")]


def test_a_batch_that_comes_again_writes_the_same_objects(server: Emulator, bucket: str) -> None:
    client = server.client("s3")
    archive(records())
    before = {o["Key"]: o["ETag"] for o in client.list_objects_v2(Bucket=bucket)["Contents"]}
    archive(records())
    assert {o["Key"]: o["ETag"] for o in client.list_objects_v2(Bucket=bucket)["Contents"]} == before
    assert len(before) == 3
    assert all(key.startswith("events/dt=2026-") and ".." not in key for key in before)


def test_compaction_joins_files_and_keeps_every_row_once(server: Emulator, bucket: str) -> None:
    rows = records()
    for begin in range(0, 300, 20):
        archive(rows[max(0, begin - 7) : begin + 20])
    before = everything(server, bucket)
    done = Compactor(server.client("s3"), bucket, reader(server, bucket)).run(START + 10 * HOUR_MS)
    assert sum(one.rows for one in done) == 300
    assert sum(one.rows_before for one in done) > 300
    after = everything(server, bucket)
    assert keys(after) == keys(before)
    found = reader(server, bucket)
    assert [len(found.files("events", START // HOUR_MS + h)) for h in range(3)] == [1, 1, 1]
    assert Compactor(server.client("s3"), bucket, found).run(START + 10 * HOUR_MS) == []


@pytest.mark.parametrize("after", range(4))
def test_compaction_that_is_killed_leaves_every_row_once_and_the_next_run_finishes(
    server: Emulator, bucket: str, after: int
) -> None:
    rows = records()
    for begin in range(0, 300, 50):
        archive(rows[begin : begin + 50])
    client = server.client("s3")
    calls = itertools.count()

    class Killed(BaseException):
        pass

    def die(**_: Any) -> None:
        if next(calls) == after:
            raise Killed

    for operation in ("PutObject", "DeleteObjects"):
        client.meta.events.register(f"before-call.s3.{operation}", die)
    with pytest.raises(Killed):
        Compactor(client, bucket, reader(server, bucket)).run(START + 10 * HOUR_MS)
    assert keys(everything(server, bucket)) == [str(10**20 + n) for n in range(300)]
    Compactor(server.client("s3"), bucket, reader(server, bucket)).run(START + 10 * HOUR_MS)
    assert keys(everything(server, bucket)) == [str(10**20 + n) for n in range(300)]


def test_late_events_of_a_joined_hour_are_joined_by_the_next_run(server: Emulator, bucket: str) -> None:
    rows = records()
    archive(rows[:200])
    archive(rows[200:290])
    Compactor(server.client("s3"), bucket, reader(server, bucket)).run(START + 10 * HOUR_MS)
    archive(rows[290:])
    Compactor(server.client("s3"), bucket, reader(server, bucket)).run(START + 10 * HOUR_MS)
    assert len(keys(everything(server, bucket))) == 300
    assert len(reader(server, bucket).files("events", START // HOUR_MS + 2)) == 1


def test_a_query_reads_no_more_files_than_its_hours_have(server: Emulator, bucket: str) -> None:
    archive(records())
    found = reader(server, bucket)
    table = found.events(START + HOUR_MS, START + 2 * HOUR_MS, resource="host-1")
    assert set(table["resource"].to_pylist()) == {"host-1"}
    assert len(found.read.files) == 1
    found.events(START + HOUR_MS, START + 2 * HOUR_MS, resource="no-such-host")
    assert found.read.row_groups == 0, "the statistics rule the file out"
    one = found.series("host-1", "cpu{core=1}", START, START + 3 * HOUR_MS)
    assert one["timestamp"].to_pylist() == sorted(one["timestamp"].to_pylist())
    assert len(one) == 75


def test_a_damaged_or_foreign_file_is_told_by_name(server: Emulator, bucket: str) -> None:
    archive(records())
    key = f"events/{partition(START // HOUR_MS)}/foreign.parquet"
    server.client("s3").put_object(Bucket=bucket, Key=key, Body=b"PAR1 this is no Parquet file PAR1")
    with pytest.raises(DamagedFile, match=r"foreign\.parquet"):
        everything(server, bucket)
    lenient = reader(server, bucket, skip_damaged=True)
    assert len(lenient.events(START, START + HOUR_MS)) == 100
    assert lenient.read.damaged == [f"{bucket}/{key}"]


def test_an_error_in_the_middle_brings_the_whole_batch_again(server: Emulator, bucket: str) -> None:
    client = server.client("s3")
    calls = itertools.count()

    def refuse(**_: Any) -> None:
        if next(calls) == 1:
            raise ClientError({"Error": {"Code": "SlowDown", "Message": "injected"}}, "PutObject")

    client.meta.events.register("before-call.s3.PutObject", refuse)
    root.archive.cache_clear()
    rows = records()
    original = root.clients.client
    root.clients.client = lambda service, **_: client  # type: ignore[assignment]
    try:
        answer = archive(rows)
        assert answer == {"batchItemFailures": [{"itemIdentifier": rows[0]["kinesis"]["sequenceNumber"]}]}
        assert archive(rows) == {"batchItemFailures": []}
    finally:
        root.clients.client = original
    assert len(keys(everything(server, bucket))) == 300


def test_older_and_newer_files_are_read_with_the_schema_of_today(tmp_path: Any) -> None:
    folder = tmp_path / "events" / partition(START // HOUR_MS)
    folder.mkdir(parents=True)
    rows = {
        "shard": ["s", "s"], "sequence": ["1", "2"], "sub_sequence": [0, 0], "item": [0, 0], "kind": ["metric"] * 2,
        "resource": ["a", "b"], "metric": ["m"] * 2, "series": ["m"] * 2, "timestamp": [START, START + 1],
        "arrival": [START] * 2, "value": [1.0, 2.0],
    }  # fmt: skip
    plain = pa.table({name: pa.array(values) for name, values in rows.items()})
    at = pa.timestamp("ms", tz="UTC")
    for name in ("timestamp", "arrival"):
        plain = plain.set_column(plain.schema.get_field_index(name), name, plain[name].cast(at))
    for name in ("sub_sequence", "item"):
        plain = plain.set_column(plain.schema.get_field_index(name), name, plain[name].cast(pa.int32()))
    pq.write_table(plain, folder / "yesterday.parquet")
    newer = plain.set_column(1, "sequence", pa.array(["3", "4"])).append_column("tomorrow", pa.array([1, 2]))
    pq.write_table(newer, folder / "tomorrow.parquet")
    table = ArchiveReader(str(tmp_path)).events(START, START + HOUR_MS)
    assert table.schema.equals(SCHEMAS["events"])
    assert keys(table) == ["1", "2", "3", "4"]
    assert table["unit"].null_count == 4


def test_names_from_outside_never_become_paths() -> None:
    assert "/" not in file_name("../../x", "1", "2")
    assert ".." not in file_name("../../x", "1", "2")
    assert file_name("a", "1", "2") != file_name("a", "12", "")


def test_an_archive_of_nothing_is_nothing(server: Emulator, bucket: str) -> None:
    from stream_processors.records.batch import EventBatch

    assert Archive(server.client("s3"), bucket).events(EventBatch(), SHARD) == 0
    assert len(everything(server, bucket)) == 0
