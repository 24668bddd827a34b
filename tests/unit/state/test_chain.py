"""A chain of snapshots: deltas that join say what they said one by one, and the chain stays short."""

from __future__ import annotations

import io
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.records.batch import StreamRecord
from stream_processors.scoring import Scorer
from stream_processors.state.checkpoint import (
    FAN,
    LONGEST,
    MAX_DELTAS,
    Checkpoint,
    HashRange,
    Link,
    Restored,
    Shard,
    Touched,
    _fold,
    _touched,
)
from stream_processors.state.snapshot import Body, BodyWithPredictions, apply, decode, encode, mark_clean
from tests.support.batches import batch
from tests.support.simple_bank import banks

START = 1_750_000_000_000
HOSTS = [f"host-{number}" for number in range(5)]
Step = tuple[list[int], int | None]
STEPS = st.lists(st.tuples(st.lists(st.integers(0, 4), max_size=4), st.none() | st.integers(0, 4)), min_size=1, max_size=8)


@given(st.integers(1, LONGEST))
@settings(deadline=None, max_examples=30)
def test_a_chain_grows_with_the_logarithm_of_its_batches(batches: int) -> None:
    chain: tuple[Link, ...] = (Link("base", 1, "0"),)
    for number in range(1, batches + 1):
        kept, level = _fold(chain)
        assert kept >= 1, "the base is never taken in"
        chain = (*chain[:kept], Link(f"{number}", 1, f"{number}", level))
    assert sum(FAN**link.level for link in chain[1:]) == batches
    levels = [link.level for link in chain[1:]]
    assert levels == sorted(levels, reverse=True)
    assert batches == LONGEST or len(chain) <= MAX_DELTAS + 1


def work(scorer: Scorer, number: int, step: Step) -> None:
    """One batch: some series report, and one is forgotten."""
    touched, gone = step
    scorer.process(batch([(HOSTS[n], "cpu", START + number * 60_000, 50.0 + n) for n in touched]))
    if gone is not None and "cpu" in scorer.resources.get(HOSTS[gone], {}):
        scorer.forget(HOSTS[gone], "cpu")


@given(STEPS)
@settings(deadline=None, max_examples=60)
def test_one_joined_delta_equals_the_deltas_that_it_replaces(steps: list[Step]) -> None:
    scorer = Scorer(None, banks)
    work(scorer, 0, ([0, 1, 2], None))
    base = encode(scorer)
    mark_clean(scorer)
    deltas, joined = [], Touched(np.zeros(0, np.int64), frozenset())
    for number, step in enumerate(steps, 1):
        work(scorer, number, step)
        deltas.append(encode(scorer, full=False))
        joined = Touched(np.union1d(joined.slots, np.flatnonzero(scorer.dirty)), joined.removed | scorer.removed)
        mark_clean(scorer)
    one = encode(scorer, full=False, slots=joined.slots, removed=joined.removed)
    by_one, one_by_one = Scorer(None, banks), Scorer(None, banks)
    for made, chain in ((by_one, [one]), (one_by_one, deltas)):
        for data in (base, *chain):
            apply(made, decode(data))
    assert encode(by_one) == encode(one_by_one) == encode(scorer)
    # A process that has loaded the chain knows the same of each delta as the one that wrote it.
    again = [_touched(one_by_one, decode(data)) for data in deltas]
    slots = np.unique(np.concatenate([found.slots for found in again])) if again else np.zeros(0, np.int64)
    removed = frozenset().union(*(found.removed for found in again))
    assert encode(one_by_one, full=False, slots=slots, removed=removed) == one


class Services:
    """S3 and DynamoDB that take what is written; S3 neither lists nor deletes."""

    def __init__(self, problem: Exception) -> None:
        self.problem, self.refused = problem, 0

    def put_object(self, **_: Any) -> None:
        """A snapshot."""

    def put_item(self, **_: Any) -> None:
        """A pointer."""

    def list_objects_v2(self, **_: Any) -> Any:
        self.refused += 1
        raise self.problem

    delete_objects = list_objects_v2


@pytest.mark.parametrize(
    "problem",
    [ReadTimeoutError(endpoint_url="https://s3"), ClientError({"Error": {"Code": "SlowDown"}}, "DeleteObjects")],
    ids=["no answer", "refused"],
)
def test_old_snapshots_that_cannot_be_deleted_now_are_left_and_the_batch_is_done(problem: Exception) -> None:
    services = Services(problem)
    checkpoint = Checkpoint(services, services, table="t", bucket="b", stream="s")
    held = Restored(Scorer(None, banks), None, HashRange(), [], [])
    for number in range(FAN + 2):
        work(held.scorer, number, ([0], None))
        assert checkpoint.commit("shard", held, str(number)).version == number + 1
    assert services.refused


class Seen(BodyWithPredictions, frozen=True, weakref=True):
    """A snapshot's body of which can be told whether it is still in memory."""


class Objects:
    """S3 and DynamoDB in memory; ``alive`` are the snapshots decoded so far that are still in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.item: dict[str, Any] = {}
        self.decoded: list[weakref.ref[Body]] = []
        self.alive: list[int] = []

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> None:
        self.objects[Key] = Body

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self.alive.append(sum(one() is not None for one in self.decoded))
        return {"Body": io.BytesIO(self.objects[Key])}

    def put_item(self, *, Item: dict[str, Any], **_: Any) -> None:
        self.item = Item

    def get_item(self, *, Key: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"Item": self.item} if self.item.get("shardId") == Key["shardId"] else {}

    def list_objects_v2(self, **_: Any) -> dict[str, Any]:
        return {}

    def delete_objects(self, **_: Any) -> None:
        """Everything stays."""

    def shard(self, shard_id: str) -> Shard:
        return Shard(shard_id, HashRange(), ("parent",))

    def records(self, shard_id: str, after: str, until: str) -> Iterator[list[StreamRecord]]:
        raise LookupError


@pytest.mark.parametrize("shard", ["parent", "child"])
def test_of_a_chain_one_snapshot_is_in_memory_at_a_time(shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain is up to three times as large as its base, and memory is what bounds the series."""
    objects = Objects()
    checkpoint = Checkpoint(objects, objects, table="t", bucket="b", stream="s")
    held = Restored(Scorer(None, banks), None, HashRange(), [], [])
    for number, hosts in enumerate(([0, 1, 2, 3, 4], [0], [1], [2])):
        work(held.scorer, number, (hosts, None))
        checkpoint.commit("parent", held, str(number))
    assert held.pointer is not None
    assert len(held.pointer.chain) > 2

    def noted(data: bytes) -> Body:
        read = decode(data)
        body = Seen(**{name: getattr(read, name) for name in read.__struct_fields__})
        objects.decoded.append(weakref.ref(body))
        return body

    monkeypatch.setattr("stream_processors.state.checkpoint.decode", noted)
    loaded = checkpoint.load(shard, checkpoint.pointer(shard), lambda: Scorer(None, banks), objects)
    assert objects.alive == [0] * len(held.pointer.chain)
    if shard == "parent":
        assert encode(loaded.scorer) == encode(held.scorer)
    else:
        assert loaded.scorer.resources == held.scorer.resources
