"""Splits and merges under load: the models move with their resources, and nothing is lost or doubled.

The real mapper reads a Kinesis engine that closes parents properly; the real handler scores, with
its checkpoints on an emulator's DynamoDB and S3. The insights and the models are compared with a
run of the core over the same events on one shard.
"""

from __future__ import annotations

import io
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from consumers.insights.store import from_item
from opsriver.embedded.mapper import Clients, Mapper, Positions
from schemas.insights import Insight
from stream_processors.records.batch import StreamRecord
from stream_processors.records.decode import decode
from stream_processors.scoring import Scorer
from stream_processors.state.checkpoint import Checkpoint
from stream_processors.state.stream import KinesisStream
from tests.chaos.scorer import Stage
from tests.support.kinesis_local import kinesis
from tests.support.ministack import REGION, Emulator, emulator

pytestmark = [pytest.mark.embedded, pytest.mark.slow]

START = int(time.time() * 1000) - 200 * 60_000
HOSTS = [f"host-{n:02d}" for n in range(12)]
MINUTES = 120


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with kinesis(tmp_path_factory.mktemp("engine")) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("reshard")) as running:
        yield running


def minute_of(number: int) -> list[tuple[str, bytes]]:
    made = []
    for place, host in enumerate(HOSTS):  # spikes lie five minutes apart: a group of three would be a shard's own
        rng = random.Random(f"{host}/{number}")
        value = 50 + rng.gauss(0, 1) + (200 if number > 70 and (number + 5 * place) % 61 == 0 else 0)
        body = {"resource": host, "metric": "cpu", "timestamp": START + number * 60_000, "value": value}
        made.append((host, json.dumps(body).encode()))
    return made


@pytest.fixture(scope="module")
def wanted() -> tuple[dict[str, Insight], dict[str, bytes]]:
    """Insights and models of the same events on one shard that nobody disturbs."""
    scorer, last = Scorer(), dict[str, Insight]()
    for number in range(MINUTES):
        rows = [
            StreamRecord("one", str(number * 100 + place), host, int(time.time() * 1000), data)
            for place, (host, data) in enumerate(minute_of(number))
        ]
        for insight in scorer.process(decode(rows)).insights:
            last[insight.insight_id] = insight
    assert len(last) > 5
    return last, models(scorer)


def models(scorer: Scorer) -> dict[str, bytes]:
    """The serialised model of each host's series."""
    found = {}
    for host, series in scorer.resources.items():
        slot = series["cpu"]
        found[host] = scorer.banks["seasonal"].dump(scorer.row[[slot]])
    return found


class Functions:
    """Lambda as the mapper sees it: one mapping, whose function is the real handler in this process."""

    def __init__(self, handler: Callable[[Any, Any], Any], stream_arn: str) -> None:
        self._handler, self._arn = handler, stream_arn
        self._one_at_a_time = threading.Lock()
        self.seen: dict[str, list[str]] = {}

    def get_paginator(self, _: str) -> Functions:
        return self

    def paginate(self) -> list[dict[str, Any]]:
        return [
            {"EventSourceMappings": [{
                "UUID": "u", "FunctionArn": "arn:aws:lambda:us-east-1:0:function:scorer", "EventSourceArn": self._arn,
                "BatchSize": 100, "MaximumBatchingWindowInSeconds": 0, "StartingPosition": "TRIM_HORIZON",
                "FunctionResponseTypes": ["ReportBatchItemFailures"], "BisectBatchOnFunctionError": True,
            }]}
        ]  # fmt: skip

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        event = json.loads(Payload)
        with self._one_at_a_time:
            answer = self._handler(event, None)
        if not answer["batchItemFailures"]:
            for record in event["Records"]:
                shard, _, sequence = record["eventID"].rpartition(":")
                self.seen.setdefault(shard, []).append(sequence)
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}


class Bench:
    """A stream on the engine, stores on the emulator, and a mapper between them."""

    def __init__(self, engine: str, server: Emulator, name: str, shards: int, monkeypatch: pytest.MonkeyPatch, folder: Path):
        from stream_processors import lambda_handler

        self.kinesis = boto3.client(
            "kinesis", endpoint_url=engine, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
        )
        self.name, self.server = name, server
        self.kinesis.create_stream(StreamName=name, ShardCount=shards)
        self._active()
        self.stage = Stage(server, name).build()
        for key, value in self.stage.environment().items():
            if key not in ("PATH", "POWERTOOLS_METRICS_DISABLED"):
                monkeypatch.setenv(key, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", engine)
        self._root = lambda_handler
        self._root.processor.cache_clear()
        arn = self.kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
        self.functions = Functions(lambda_handler.handler, arn)
        self.folder = folder
        self.mapper: Mapper | None = None

    def _active(self) -> None:
        until = time.monotonic() + 60
        while True:
            found = self.kinesis.describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]
            if found["StreamStatus"] == "ACTIVE":
                return
            assert time.monotonic() < until, "the stream never became active"
            time.sleep(0.05)

    def start(self) -> None:
        self.mapper = Mapper(
            Clients(kinesis=self.kinesis, streams=None, functions=self.functions, sqs=None, sns=None),
            Positions(self.folder), REGION,
        )  # fmt: skip
        self.thread = threading.Thread(target=self.mapper.run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        if self.mapper is not None:
            self.mapper.stop.set()
            self.thread.join(60)
            assert not self.thread.is_alive()
            self.mapper = None

    def restart(self) -> None:
        """A new mapper and a cold handler, as after a crash of both."""
        self.stop()
        self._root.processor.cache_clear()
        self.start()

    def put(self, begin: int, end: int) -> None:
        for number in range(begin, end):
            entries = [{"PartitionKey": host, "Data": data} for host, data in minute_of(number)]
            left = entries
            while left:
                answer = self.kinesis.put_records(StreamName=self.name, Records=left)
                left = [e for e, r in zip(left, answer["Records"], strict=True) if r.get("ErrorCode")]

    def open_shards(self) -> list[dict[str, Any]]:
        return [
            s for s in self.kinesis.list_shards(StreamName=self.name)["Shards"]
            if "EndingSequenceNumber" not in s["SequenceNumberRange"]
        ]  # fmt: skip

    def split(self) -> None:
        for shard in self.open_shards():
            keys = shard["HashKeyRange"]
            middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"])) // 2
            self.kinesis.split_shard(StreamName=self.name, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle))
            self._active()

    def merge(self) -> None:
        shards = sorted(self.open_shards(), key=lambda s: int(s["HashKeyRange"]["StartingHashKey"]))
        for left, right in zip(shards[::2], shards[1::2], strict=True):
            self.kinesis.merge_shards(
                StreamName=self.name, ShardToMerge=left["ShardId"], AdjacentShardToMerge=right["ShardId"]
            )
            self._active()

    def drained(self) -> None:
        until = time.monotonic() + 120
        while sum(len(seen) for seen in self.functions.seen.values()) < MINUTES * len(HOSTS):
            assert time.monotonic() < until, "the stream was not drained"
            time.sleep(0.1)

    def outcome(self) -> tuple[dict[str, Insight], dict[str, bytes]]:
        dynamodb, s3 = self.server.client("dynamodb"), self.server.client("s3")
        pages = dynamodb.get_paginator("scan").paginate(TableName=f"{self.name}-insights")
        insights = {i.insight_id: i for page in pages for i in map(from_item, page["Items"])}
        checkpoint = Checkpoint(dynamodb, s3, table=f"{self.name}-checkpoint", bucket=f"{self.name}-state", stream=self.name)
        kept: dict[str, bytes] = {}
        for shard in self.open_shards():
            pointer = checkpoint.pointer(shard["ShardId"])
            loaded = checkpoint.load(shard["ShardId"], pointer, Scorer, KinesisStream(self.kinesis, self.name))
            assert not loaded.damaged
            kept |= models(loaded.scorer)
        return insights, kept


def split_under_load(bench: Bench) -> None:
    bench.start()
    bench.put(0, 50)
    bench.split()
    bench.put(50, MINUTES)


def merge_under_load(bench: Bench) -> None:
    bench.start()
    bench.put(0, 50)
    bench.merge()
    bench.put(50, MINUTES)


def split_then_merge(bench: Bench) -> None:
    bench.start()
    bench.put(0, 40)
    bench.split()
    bench.put(40, 80)
    bench.merge()
    bench.put(80, MINUTES)


def restart_while_parents_are_half_drained(bench: Bench) -> None:
    bench.put(0, 50)
    bench.split()
    bench.put(50, 90)
    bench.start()
    time.sleep(0.3)
    bench.restart()
    bench.merge()
    bench.put(90, MINUTES)
    bench.restart()


def backlog_before_anyone_reads(bench: Bench) -> None:
    bench.put(0, 40)
    bench.split()
    bench.put(40, 80)
    bench.merge()
    bench.put(80, MINUTES)
    bench.start()


def parents_that_have_expired(bench: Bench) -> None:
    bench.start()
    bench.put(0, 60)
    bench.split()
    until = time.monotonic() + 60
    while len(bench.functions.seen) == 0 or sum(map(len, bench.functions.seen.values())) < 60 * len(HOSTS):
        assert time.monotonic() < until
        time.sleep(0.1)
    listed = bench.kinesis.list_shards
    gone = {s["ShardId"] for s in listed(StreamName=bench.name)["Shards"]} - {s["ShardId"] for s in bench.open_shards()}

    def without(**request: Any) -> Any:
        answer = listed(**request)
        return {**answer, "Shards": [s for s in answer["Shards"] if s["ShardId"] not in gone]}

    bench.kinesis.list_shards = without  # the stream's retention is over: the parents are listed no more
    bench.put(60, MINUTES)


@pytest.mark.parametrize(
    ("name", "shards", "story"),
    [
        ("split", 2, split_under_load),
        ("merge", 4, merge_under_load),
        ("both", 2, split_then_merge),
        ("restart", 2, restart_while_parents_are_half_drained),
        ("backlog", 2, backlog_before_anyone_reads),
        ("expired", 2, parents_that_have_expired),
    ],
)
def test_models_move_with_their_resources(
    engine: str, server: Emulator, wanted: tuple[dict[str, Insight], dict[str, bytes]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, name: str, shards: int, story: Callable[[Bench], None],
) -> None:  # fmt: skip
    bench = Bench(engine, server, name, shards, monkeypatch, tmp_path / "positions")
    try:
        story(bench)
        bench.drained()
    finally:
        bench.stop()
    insights, kept = bench.outcome()
    assert kept.keys() == wanted[1].keys()
    assert [h for h in HOSTS if kept[h] != wanted[1][h]] == []
    assert insights == wanted[0]
    for sequences in bench.functions.seen.values():
        numbers = [int(s) for s in sequences]
        assert numbers == sorted(numbers)
