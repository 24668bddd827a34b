"""Puts events on a Kinesis stream: aggregated by KPL's format, retried where refused, in order a shard.

An aggregate goes to the shard of its first user record, so the user records of one aggregate must all
belong to one shard: the producer asks the stream for its shards and aggregates for each. At most one
record a shard is under way at a time; a refused one is sent again before any later one of its shard.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

MAX_AGGREGATE = 200_000
"""Bytes of user data in one aggregate: large enough to be cheap, small enough to be retried."""
MAX_USER_RECORDS = 1_000
TRIES = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
SHARDS_FRESH = 60.0
"""Seconds after which the stream is asked for its shards again."""

Event = tuple[str, bytes]
"""Partition key (the resource) and payload."""


class NotDelivered(RuntimeError):
    """The stream did not take everything within the bounded retries; ``events`` are what it did not take, in order."""

    def __init__(self, reason: str, events: list[Event]) -> None:
        super().__init__(f"{len(events)} events were not taken by the stream: {reason}")
        self.events = events


@dataclass(frozen=True, slots=True)
class Range:
    """Hash keys of one open shard."""

    shard: str
    start: int
    end: int


@dataclass(slots=True)
class Aggregate:
    """User records that travel as one Kinesis record."""

    events: list[Event]
    data: bytes
    key: str


def aggregate(events: list[Event]) -> Aggregate:
    """One aggregated record of these events, in order."""
    from aws_kinesis_agg.aggregator import RecordAggregator

    if len(events) == 1:
        return Aggregate(events, events[0][1], events[0][0])
    gathering = RecordAggregator()
    for key, data in events:
        gathering.add_user_record(key, data)
    _, _, whole = gathering.clear_and_get().get_contents()
    return Aggregate(events, bytes(whole), events[0][0])


class Producer:
    """Sends events to one stream. ``kinesis`` is a boto3 client."""

    def __init__(
        self,
        kinesis: Any,
        stream: str,
        *,
        tries: int = TRIES,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kinesis, self._stream = kinesis, stream
        self._tries, self._sleep, self._clock = tries, sleep, clock
        self._ranges: list[Range] = []
        self._asked = -SHARDS_FRESH

    def send(self, events: Iterable[Event]) -> int:
        """Send events, those of one shard in their order; returns how many.

        Raises NotDelivered with what the stream did not take.
        """
        waiting: dict[str, list[Event]] = {}
        count = 0
        everything = list(events)
        try:
            self._refresh()
        except (ClientError, BotoCoreError) as error:
            raise NotDelivered(str(error), everything) from error
        for event in everything:
            waiting.setdefault(self._range(event[0]).shard, []).append(event)
            count += 1
        queues = {shard: deque(_aggregates(mine)) for shard, mine in waiting.items()}
        self._deliver(queues)
        return count

    def _refresh(self) -> None:
        if self._clock() - self._asked < SHARDS_FRESH:
            return
        ranges: list[Range] = []
        request: dict[str, Any] = {"StreamName": self._stream}
        while True:
            answer = self._kinesis.list_shards(**request)
            for shard in answer["Shards"]:
                if "EndingSequenceNumber" not in shard["SequenceNumberRange"]:
                    keys = shard["HashKeyRange"]
                    ranges.append(Range(shard["ShardId"], int(keys["StartingHashKey"]), int(keys["EndingHashKey"])))
            if not answer.get("NextToken"):
                break
            request = {"NextToken": answer["NextToken"]}
        self._ranges, self._asked = ranges, self._clock()

    def _range(self, key: str) -> Range:
        place = int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")
        for one in self._ranges:
            if one.start <= place <= one.end:
                return one
        return Range("unknown", place, place)

    def _deliver(self, queues: dict[str, deque[Aggregate]]) -> None:
        tries, reason = 0, ""
        while any(queues.values()):
            heads = [(shard, queue[0]) for shard, queue in queues.items() if queue]
            try:
                refused = self._put(heads)
            except (ClientError, BotoCoreError) as error:
                refused, reason = {shard for shard, _ in heads}, str(error)
            for shard, _ in heads:
                if shard not in refused:
                    queues[shard].popleft()
            if not refused:
                tries = 0
                continue
            tries += 1
            if tries >= self._tries:
                left = [event for queue in queues.values() for one in queue for event in one.events]
                raise NotDelivered(reason or "throttled", left)
            self._sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2**tries) * random.uniform(0.5, 1.0))

    def _put(self, heads: list[tuple[str, Aggregate]]) -> set[str]:
        refused: set[str] = set()
        for begin in range(0, len(heads), 4):  # a call takes 5 MiB; aggregates are far smaller than 1 MiB
            part = heads[begin : begin + 4]
            entries = []
            for shard, one in part:
                entry: dict[str, Any] = {"Data": one.data, "PartitionKey": one.key}
                known = next((r for r in self._ranges if r.shard == shard), None)
                if known is not None and len(one.events) > 1:
                    entry["ExplicitHashKey"] = str(known.start)
                entries.append(entry)
            answer = self._kinesis.put_records(StreamName=self._stream, Records=entries)
            if answer.get("FailedRecordCount"):
                refused |= {s for (s, _), r in zip(part, answer["Records"], strict=True) if r.get("ErrorCode")}
        return refused


def _aggregates(events: list[Event]) -> Iterable[Aggregate]:
    held: list[Event] = []
    size = 0
    for event in events:
        if held and (size + len(event[1]) > MAX_AGGREGATE or len(held) >= MAX_USER_RECORDS):
            yield aggregate(held)
            held, size = [], 0
        held.append(event)
        size += len(event[1]) + len(event[0])
    if held:
        yield aggregate(held)
