"""The checkpoint protocol against real conditional writes and real objects."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from botocore.exceptions import ClientError

from schemas.dead_letters import DeadLetter
from schemas.insights import Insight
from stream_processors.processor import ShardProcessor
from stream_processors.records.batch import EventBatch, StreamRecord
from stream_processors.scoring import Scorer
from stream_processors.state.checkpoint import MAX_DELTAS, Checkpoint, HashRange, Shard, StaleWriter
from stream_processors.state.snapshot import encode
from tests.support.batches import batch
from tests.support.ministack import Emulator, emulator
from tests.support.simple_bank import banks

pytestmark = pytest.mark.embedded

START = 1_750_000_000_000
NAMES = (f"cp{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("checkpoint")) as running:
        yield running


def new() -> Scorer:
    return Scorer(None, banks)


def decode(records: Sequence[StreamRecord]) -> EventBatch:
    made = batch(tuple(json.loads(record.data)) for record in records)
    made.arrival = [r.arrival for r in records]
    return made


def records(count: int, shard: str = "s0", first: int = 0) -> list[StreamRecord]:
    """One event a minute and host; every 37th is far away, so insights come and go."""
    return [
        StreamRecord(
            shard, str(1000 + n), f"h{n % 3}", START + n // 3 * 60_000,
            json.dumps([f"h{n % 3}", "cpu", START + n // 3 * 60_000, 50 if n % 37 or n < 40 else 500]).encode(),
        )
        for n in range(first, first + count)
    ]  # fmt: skip


class Kept:
    """An insight store and a dead-letter store that keep what the real ones would."""

    def __init__(self) -> None:
        self.insights: dict[str, dict[int, Insight]] = {}
        self.conflicts = 0

    def write(self, items: Sequence[Insight] | Sequence[DeadLetter]) -> int:
        for item in items:
            if isinstance(item, Insight):
                before = self.insights.setdefault(item.insight_id, {}).setdefault(item.revision, item)
                self.conflicts += before != item
        return len(items)


class FakeStream:
    """A stream that still has every record."""

    def __init__(self, shards: dict[str, Shard] | None = None, held: list[StreamRecord] | None = None) -> None:
        self.shards, self.held = shards or {}, held or []

    def shard(self, shard_id: str) -> Shard | None:
        return self.shards.get(shard_id)

    def records(self, shard_id: str, after: str, until: str) -> Iterator[list[StreamRecord]]:
        if not self.held:
            raise LookupError("trimmed")
        low = int(after) if after else -1
        yield [r for r in self.held if r.shard_id == shard_id and low < int(r.sequence_number) <= int(until)]


class Bench:
    """A table, a bucket and processors upon them."""

    def __init__(self, server: Emulator, stream: FakeStream | None = None) -> None:
        self.name = next(NAMES)
        self.dynamodb, self.s3 = server.client("dynamodb"), server.client("s3")
        self.dynamodb.create_table(
            TableName=self.name,
            KeySchema=[{"AttributeName": "shardId", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "shardId", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.s3.create_bucket(Bucket=f"{self.name}-state")
        self.stream, self.kept = stream or FakeStream(), Kept()
        self.checkpoint = self.checkpoint_with(self.dynamodb, self.s3)

    def checkpoint_with(self, dynamodb: Any, s3: Any) -> Checkpoint:
        return Checkpoint(dynamodb, s3, table=self.name, bucket=f"{self.name}-state", stream="stream")

    def processor(self, checkpoint: Checkpoint | None = None) -> ShardProcessor:
        return ShardProcessor(
            checkpoint=checkpoint or self.checkpoint, stream=self.stream, insights=self.kept,
            letters=self.kept, decode=decode, new=new,  # type: ignore[arg-type]
        )  # fmt: skip

    def state(self, shard: str = "s0") -> bytes:
        return encode(self.checkpoint.load(shard, self.checkpoint.pointer(shard), new, self.stream).scorer)

    def keys(self) -> list[str]:
        return [o["Key"] for o in self.s3.list_objects_v2(Bucket=f"{self.name}-state").get("Contents", [])]

    def damage(self, key: str) -> None:
        self.s3.put_object(Bucket=f"{self.name}-state", Key=key, Body=b"OPSRSNAP and then nonsense" * 9)


def feed(processor: ShardProcessor, rows: list[StreamRecord], size: int = 7) -> None:
    for begin in range(0, len(rows), size):
        processor.handle(rows[begin : begin + size])


def undisturbed(server: Emulator, rows: list[StreamRecord]) -> tuple[bytes, dict[str, dict[int, Insight]]]:
    bench = Bench(server)
    feed(bench.processor(), rows)
    assert bench.kept.insights
    return bench.state(), bench.kept.insights


def test_a_warm_processor_a_cold_one_each_time_and_any_repeat_agree(server: Emulator) -> None:
    rows = records(300)
    wanted = undisturbed(server, rows)
    cold = Bench(server)
    for begin in range(0, 300, 11):
        report = cold.processor().handle(rows[max(0, begin - 20) : begin + 11])
        assert report.repeated == min(begin, 20)
    assert (cold.state(), cold.kept.insights) == wanted
    assert cold.kept.conflicts == 0


def test_old_snapshots_are_pruned_and_the_chain_stays_short(server: Emulator) -> None:
    bench = Bench(server)
    feed(bench.processor(), records(400), size=4)
    pointer = bench.checkpoint.pointer("s0")
    assert pointer is not None
    assert pointer.version == 100
    assert len(pointer.chain) <= MAX_DELTAS + 1
    assert set(bench.keys()) == {link.key for link in (*pointer.chain, *pointer.previous)}


def test_a_stalled_writer_that_wakes_moves_nothing_and_harms_nothing(server: Emulator) -> None:
    rows = records(300)
    wanted = undisturbed(server, rows)
    bench = Bench(server)
    stalled = bench.processor()
    feed(stalled, rows[:100])
    other = bench.processor()
    feed(other, rows[100:200])
    real = bench.checkpoint.pointer
    told = ""
    pointer_then = bench.checkpoint.pointer("s0")
    assert pointer_then is not None

    # The stalled one read the pointer before the other moved it: it scores, writes and tries to move.
    held = stalled._warm["s0"]
    old = held.pointer
    bench.checkpoint.pointer = lambda shard: old  # type: ignore[method-assign]
    try:
        stalled.handle(rows[100:107])
    except StaleWriter as error:
        told = str(error)
    finally:
        bench.checkpoint.pointer = real  # type: ignore[method-assign]
    assert "another invocation" in told
    assert bench.checkpoint.pointer("s0") == pointer_then
    stalled.handle(rows[100:107])
    feed(stalled, rows[200:])
    assert (bench.state(), bench.kept.insights) == wanted
    assert bench.kept.conflicts == 0


@pytest.mark.parametrize("which", ["last delta", "first delta", "base", "whole chain", "missing base"])
def test_a_damaged_snapshot_is_passed_over_and_made_good_from_the_stream(server: Emulator, which: str) -> None:
    rows = records(400)
    wanted = undisturbed(server, rows)
    bench = Bench(server, FakeStream(held=rows))
    feed(bench.processor(), rows[:200], size=4)
    at = 200
    while (pointer := bench.checkpoint.pointer("s0")) is None or len(pointer.chain) < 3 or not pointer.previous:
        bench.processor().handle(rows[at : at + 4])
        at += 4
    chosen = {
        "last delta": [pointer.chain[-1]], "first delta": [pointer.chain[1]], "base": [pointer.chain[0]],
        "whole chain": [*pointer.chain, *pointer.previous], "missing base": [pointer.chain[0]],
    }[which]  # fmt: skip
    for link in chosen:
        if which == "missing base":
            bench.s3.delete_object(Bucket=f"{bench.name}-state", Key=link.key)
        else:
            bench.damage(link.key)
    report = bench.processor().handle(rows[at : at + 7])
    assert report.damaged, "the damage must be reported, or no alarm can be raised"
    feed(bench.processor(), rows[at + 7 :])
    assert (bench.state(), bench.kept.insights) == wanted
    assert bench.kept.conflicts == 0


def test_damage_behind_the_streams_retention_is_told_and_nothing_is_doubled(server: Emulator) -> None:
    rows = records(200)
    bench = Bench(server)
    feed(bench.processor(), rows[:140])
    pointer = bench.checkpoint.pointer("s0")
    assert pointer is not None
    bench.damage(pointer.chain[0].key)
    report = bench.processor().handle(rows[140:150])
    assert any("have left the stream" in note for note in report.notes)
    assert bench.processor().handle(rows[140:150]).repeated == 10


def test_a_failed_write_leaves_the_pointer_and_the_next_try_agrees(server: Emulator) -> None:
    rows = records(200)
    wanted = undisturbed(server, rows)
    bench = Bench(server)
    dynamodb, s3 = server.client("dynamodb"), server.client("s3")
    failing = itertools.count()

    def refuse(**_: Any) -> None:
        if next(failing) % 3 == 1:
            raise ClientError({"Error": {"Code": "SlowDown", "Message": "injected"}}, "PutObject")

    s3.meta.events.register("before-call.s3.PutObject", refuse)
    dynamodb.meta.events.register("before-call.dynamodb.PutItem", refuse)
    processor = bench.processor(bench.checkpoint_with(dynamodb, s3))
    failures = 0
    for begin in range(0, 200, 7):
        for _ in range(10):
            try:
                processor.handle(rows[begin : begin + 7])
                break
            except ClientError:
                failures += 1
    assert failures > 10
    assert (bench.state(), bench.kept.insights) == wanted
    assert bench.kept.conflicts == 0


def test_children_take_the_models_of_their_parents(server: Emulator) -> None:
    middle = 2**127
    low, high = HashRange("0", str(middle - 1)), HashRange(str(middle), str(2**128 - 1))
    hosts = [f"host-{n}" for n in range(12)]

    def row(shard: str, host: str, minute: int) -> StreamRecord:
        body = [host, "cpu", START + minute * 60_000, 50 if (minute + 5 * hosts.index(host)) % 61 else 400]
        sequence = str(10_000 + minute * 100 + hosts.index(host))
        return StreamRecord(shard, sequence, host, START + minute * 60_000, json.dumps(body).encode())

    calm = Bench(server)
    feed(calm.processor(), [row("s0", h, m) for m in range(120) for h in hosts], size=60)

    shards = {
        "s0": Shard("s0", HashRange(), ()),
        "s1": Shard("s1", low, ("s0",)),
        "s2": Shard("s2", high, ("s0",)),
        "s3": Shard("s3", HashRange(), ("s1", "s2")),
    }
    bench = Bench(server, FakeStream(shards))
    feed(bench.processor(), [row("s0", h, m) for m in range(50) for h in hosts], size=60)
    for shard, hash_range in (("s1", low), ("s2", high)):
        mine = [h for h in hosts if hash_range.holds(h)]
        assert mine
        feed(bench.processor(), [row(shard, h, m) for m in range(50, 90) for h in mine], size=13)
    feed(bench.processor(), [row("s3", h, m) for m in range(90, 120) for h in hosts], size=60)
    assert bench.kept.insights == calm.kept.insights
    ours, theirs = (b.checkpoint.load(s, b.checkpoint.pointer(s), new, b.stream).scorer
                    for b, s in ((bench, "s3"), (calm, "s0")))  # fmt: skip
    assert ours.banks["seasonal"].dump(ours.row[:12][[ours.resources[h]["cpu"] for h in hosts]]) == theirs.banks[
        "seasonal"
    ].dump(theirs.row[:12][[theirs.resources[h]["cpu"] for h in hosts]])
