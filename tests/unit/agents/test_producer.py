"""The producer: order a shard, refused entries again, nothing lost silently."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.heartbeat import beat
from agents.producer import NotDelivered, Producer
from stream_processors.records.batch import StreamRecord
from stream_processors.records.decode import decode
from stream_processors.state.checkpoint import HashRange

SPAN = 2**128


class Kinesis:
    """A stream whose PutRecords refuses what ``refuse`` says, entry by entry; no part of AWS is at hand for that."""

    def __init__(self, shards: int, refuse: Any = lambda: False) -> None:
        self.ranges = [HashRange(str(n * SPAN // shards), str((n + 1) * SPAN // shards - 1)) for n in range(shards)]
        self.refuse = refuse
        self.taken: dict[int, list[bytes]] = {n: [] for n in range(shards)}
        self.calls = 0

    def list_shards(self, **_: Any) -> dict[str, Any]:
        return {
            "Shards": [
                {"ShardId": f"s{n}", "SequenceNumberRange": {"StartingSequenceNumber": "0"},
                 "HashKeyRange": {"StartingHashKey": r.start, "EndingHashKey": r.end}}
                for n, r in enumerate(self.ranges)
            ]
        }  # fmt: skip

    def put_records(self, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:
        self.calls += 1
        answers, failed = [], 0
        for record in Records:
            if self.refuse():
                failed += 1
                answers.append({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "no"})
                continue
            if "ExplicitHashKey" in record:
                place = int(record["ExplicitHashKey"])
                shard = next(n for n, r in enumerate(self.ranges) if int(r.start) <= place <= int(r.end))
            else:
                shard = next(n for n, r in enumerate(self.ranges) if r.holds(record["PartitionKey"]))
            self.taken[shard].append(record["Data"])
            answers.append({"SequenceNumber": "1", "ShardId": f"s{shard}"})
        return {"FailedRecordCount": failed, "Records": answers}


def events(count: int, hosts: int) -> list[tuple[str, bytes]]:
    made = []
    for n in range(count):
        body = {"resource": f"h{n % hosts}", "metric": "m", "timestamp": 1_790_000_000 + n, "value": n}
        made.append((f"h{n % hosts}", json.dumps(body).encode()))
    return made


def arrived(kinesis: Kinesis) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for shard, data in kinesis.taken.items():
        records = [StreamRecord(f"s{shard}", str(n), "k", 1_790_000_500_000, d) for n, d in enumerate(data)]
        batch = decode(records)
        assert not batch.dead_letters
        for resource, value in zip(batch.resource, batch.value, strict=True):
            assert kinesis.ranges[shard].holds(resource), "an aggregate must not carry what belongs to another shard"
            found.setdefault(resource, []).append(value)
    return found


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), shards=st.integers(1, 5), share=st.floats(0, 0.6), count=st.integers(1, 200))
def test_under_any_refusals_each_host_arrives_whole_and_in_order(seed: int, shards: int, share: float, count: int) -> None:
    rng = random.Random(seed)
    kinesis = Kinesis(shards, lambda: rng.random() < share)
    made = events(count, 7)
    producer = Producer(kinesis, "stream", tries=200, sleep=lambda _: None)
    assert producer.send(made) == count
    wanted: dict[str, list[float]] = {}
    for host, data in made:
        wanted.setdefault(host, []).append(json.loads(data)["value"])
    assert arrived(kinesis) == wanted


def test_what_is_not_taken_is_given_back_in_order() -> None:
    kinesis = Kinesis(1, lambda: True)
    made = events(50, 3)
    pauses: list[float] = []
    with pytest.raises(NotDelivered) as caught:
        Producer(kinesis, "stream", tries=4, sleep=pauses.append).send(made)
    assert caught.value.events == made
    assert len(pauses) == 3
    assert all(0 < pause <= 5 for pause in pauses)


def test_a_stream_out_of_reach_gives_everything_back() -> None:
    class Away:
        def list_shards(self, **_: Any) -> Any:
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    with pytest.raises(NotDelivered, match="2 events"):
        Producer(Away(), "stream", sleep=lambda _: None).send(events(2, 1))


def test_the_heartbeat_ticks_every_open_shard() -> None:
    kinesis = Kinesis(3)
    assert beat(kinesis, "stream", 1_790_000_000_000) == 3
    for data in kinesis.taken.values():
        batch = decode([StreamRecord("s", "1", "opsriver:tick", 1_790_000_000_000, data[0])])
        assert batch.signals[0].signal.timestamp == 1_790_000_000_000
