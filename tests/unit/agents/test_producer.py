"""The producer: order a shard, refused entries again, nothing lost silently."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import kpl
from agents.heartbeat import beat
from agents.producer import MAX_CALL_BYTES, MAX_CALL_RECORDS, MAX_RECORD, NotDelivered, Producer
from stream_processors.records.batch import StreamRecord
from stream_processors.records.decode import decode
from stream_processors.records.kpl import deaggregate
from stream_processors.state.checkpoint import HashRange

SPAN = 2**128


class Kinesis:
    """A stream whose PutRecords refuses what ``refuse`` says, entry by entry; no part of AWS is at hand for that."""

    def __init__(self, shards: int, refuse: Any = lambda: False) -> None:
        self.ranges = [HashRange(str(n * SPAN // shards), str((n + 1) * SPAN // shards - 1)) for n in range(shards)]
        self.refuse = refuse
        self.taken: dict[int, list[bytes]] = {n: [] for n in range(shards)}
        self.names = [f"s{n}" for n in range(shards)]
        self.calls = 0

    def list_shards(self, **_: Any) -> dict[str, Any]:
        return {
            "Shards": [
                {"ShardId": self.names[n], "SequenceNumberRange": {"StartingSequenceNumber": "0"},
                 "HashKeyRange": {"StartingHashKey": r.start, "EndingHashKey": r.end}}
                for n, r in enumerate(self.ranges)
            ]
        }  # fmt: skip

    def put_records(self, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:
        self.calls += 1
        assert len(Records) <= MAX_CALL_RECORDS
        assert sum(len(r["Data"]) + len(r["PartitionKey"]) for r in Records) <= MAX_CALL_BYTES
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
            answers.append({"SequenceNumber": "1", "ShardId": self.names[shard]})
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


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.sampled_from([10, 3_000, 190_000, 700_000, MAX_RECORD - 2]), min_size=1, max_size=20),
)
def test_records_of_any_size_stay_within_the_limits_of_a_call(seed: int, sizes: list[int]) -> None:
    rng = random.Random(seed)
    kinesis = Kinesis(6, lambda: rng.random() < 0.2)
    made = [(f"h{rng.randrange(9)}", bytes([65 + n]) * size) for n, size in enumerate(sizes)]
    assert Producer(kinesis, "stream", tries=200, sleep=lambda _: None).send(made) == len(made)
    got: dict[str, list[bytes]] = {}
    for data in (one for taken in kinesis.taken.values() for one in taken):
        for key, user in read(data):
            got.setdefault(key, []).append(user)
    by_first = {user[:1]: key for key, user in made}
    for key, users in got.items():  # a record that is no aggregate does not carry its key in the data
        for user in users:
            assert key in ("", by_first[user[:1]])
    assert sorted(user for users in got.values() for user in users) == sorted(user for _, user in made)


def read(data: bytes) -> list[tuple[str, bytes]]:
    """User records by the independent reader of aws-kinesis-agg; a plain record has no key here."""
    from aws_kinesis_agg.deaggregator import deaggregate_records

    kinesis = {"data": base64.b64encode(data), "partitionKey": "", "sequenceNumber": "1", "kinesisSchemaVersion": "1.0",
               "approximateArrivalTimestamp": 1}  # fmt: skip
    record = {"kinesis": kinesis, "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": "s:1",
              "eventName": "aws:kinesis:record", "invokeIdentityArn": "", "awsRegion": "", "eventSourceARN": ""}  # fmt: skip
    return [(r["kinesis"]["partitionKey"], base64.b64decode(r["kinesis"]["data"])) for r in deaggregate_records([record])]


@settings(deadline=None, max_examples=60)
@given(records=st.lists(st.tuples(st.text(min_size=1, max_size=200), st.binary(max_size=400)), min_size=1, max_size=300))
def test_an_aggregate_is_read_by_others_as_it_was_written(records: list[tuple[str, bytes]]) -> None:
    keys, users = deaggregate(kpl.aggregate(records))
    assert list(zip(keys, users, strict=True)) == records
    assert read(kpl.aggregate(records)) == records


def test_an_event_that_no_record_holds_is_refused_before_anything_is_sent() -> None:
    kinesis = Kinesis(1)
    with pytest.raises(ValueError, match="at most 1048576"):
        Producer(kinesis, "stream").send([("a", b"1"), ("a", b"x" * MAX_RECORD)])
    with pytest.raises(ValueError, match="1 to 256"):
        Producer(kinesis, "stream").send([("", b"1")])
    assert kinesis.calls == 0


def test_an_error_that_trying_again_does_not_cure_is_told_at_once() -> None:
    class Gone(Kinesis):
        def put_records(self, **_: Any) -> Any:
            self.calls += 1
            raise ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "no stream"}}, "PutRecords")

    kinesis = Gone(2)
    made = events(40, 7)
    with pytest.raises(NotDelivered) as caught:
        Producer(kinesis, "stream", sleep=lambda _: pytest.fail("there is nothing to wait for")).send(made)
    assert caught.value.code == "ResourceNotFoundException"
    assert sorted(caught.value.events) == sorted(made)
    assert kinesis.calls == 1


def test_a_reshard_in_the_middle_of_a_send_leaves_no_later_aggregate_on_a_wrong_shard() -> None:
    kinesis = Kinesis(1)
    producer = Producer(kinesis, "stream", sleep=lambda _: None)
    producer.send(events(10, 7))
    split = Kinesis(2)
    kinesis.ranges, kinesis.taken, kinesis.names = split.ranges, split.taken, ["s1", "s2"]
    made = [(key, data + b" " * 3_000) for key, data in events(700, 7)]  # many aggregates
    producer.send(made)
    order: dict[str, list[float]] = {}
    strangers = 0
    for shard, taken in kinesis.taken.items():
        for data in taken:
            batch = decode([StreamRecord("s", "1", "k", 1_790_000_500_000, data)])
            strangers += not all(kinesis.ranges[shard].holds(resource) for resource in batch.resource)
            for resource, value in zip(batch.resource, batch.value, strict=True):
                order.setdefault(resource, []).append(value)
    assert strangers <= 1, "only what was under way when the answer told of it"
    assert sum(map(len, order.values())) == 700


def test_when_the_stream_is_resharded_hosts_go_to_their_new_shards_in_order() -> None:
    kinesis = Kinesis(1)
    producer = Producer(kinesis, "stream", sleep=lambda _: None)
    producer.send(events(70, 7))
    split = Kinesis(2)
    kinesis.ranges, kinesis.taken, kinesis.names = split.ranges, split.taken, ["s1", "s2"]
    # The first record after the split is under way by the old map; each host's own is right all the same.
    for host in range(7):
        producer.send([e for e in events(70, 7) if e[0] == f"h{host}"])
    producer.send(events(210, 7))
    wanted: dict[str, list[float]] = {}
    for host, data in events(70, 7) + events(210, 7):
        wanted.setdefault(host, []).append(json.loads(data)["value"])
    assert arrived(kinesis) == wanted


def test_the_heartbeat_ticks_every_open_shard() -> None:
    kinesis = Kinesis(3)
    assert beat(kinesis, "stream", 1_790_000_000_000) == 3
    for data in kinesis.taken.values():
        batch = decode([StreamRecord("s", "1", "opsriver:tick", 1_790_000_000_000, data[0])])
        assert batch.signals[0].signal.timestamp == 1_790_000_000_000
