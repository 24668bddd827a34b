"""Puts events on a Kinesis stream: aggregated by KPL's format, retried where refused, in order a shard.

An aggregate goes to one shard as a whole, so its user records must all belong there: the producer asks
the stream for its shards and aggregates for each. At most one record a shard is under way at a time;
a refused one is sent again before any later one of its shard, and so before any of the same key. An
answer that comes from another shard than expected tells that the stream was resharded: what is left
is then divided anew. Delivery is at least once: a call without an answer is made again.
"""

from __future__ import annotations

import hashlib
import random
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from agents import kpl

MAX_AGGREGATE = 200_000
"""Bytes of user data in one aggregate: large enough to be cheap, small enough to be retried."""
MAX_USER_RECORDS = 1_000
MAX_RECORD = 1 << 20
"""Bytes of data and partition key of one Kinesis record."""
MAX_CALL_RECORDS, MAX_CALL_BYTES = 500, 5 << 20
"""Limits of one PutRecords call."""
TRIES = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
SHARDS_FRESH = 60.0
"""Seconds after which the stream is asked for its shards again."""
HOPELESS = frozenset({
    "ResourceNotFoundException", "AccessDeniedException", "ValidationException", "InvalidArgumentException",
    "UnrecognizedClientException", "InvalidSignatureException", "IncompleteSignature",
})  # fmt: skip
"""Errors that trying again at once does not cure."""

Event = tuple[str, bytes]
"""Partition key (the resource) and payload."""


class NotDelivered(RuntimeError):
    """The stream did not take everything within the bounded retries.

    ``events`` are what it did not take, those of one key in order; ``code`` is AWS' error code where
    there is one.
    """

    def __init__(self, reason: str, events: list[Event], code: str = "") -> None:
        super().__init__(f"{len(events)} events were not taken by the stream: {reason}")
        self.events, self.code = events, code


@dataclass(frozen=True, slots=True)
class Range:
    """Hash keys of one open shard, both ends included."""

    shard: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Aggregate:
    """User records that travel as one Kinesis record."""

    events: list[Event]
    data: bytes

    @property
    def key(self) -> str:
        """Partition key of the Kinesis record: that of the first event, which lies on the shard of all."""
        return self.events[0][0]

    def size(self) -> int:
        """Bytes that count against Kinesis' limits."""
        return len(self.data) + len(self.key.encode())


class Producer:
    """Sends events to one stream. ``kinesis`` is a boto3 client; not for several threads at once."""

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
        self._asked: float | None = None

    def send(self, events: Iterable[Event]) -> int:
        """Send events, those of one key in their order; returns how many.

        Raises NotDelivered with what the stream did not take, and ValueError, before anything is sent,
        for an event that no Kinesis record can hold.
        """
        everything = list(events)
        for key, data in everything:
            if len(data) + len(key.encode()) > MAX_RECORD:
                raise ValueError(f"an event of {key[:60]} has {len(data)} bytes; a record holds at most {MAX_RECORD}")
            if not 0 < len(key) <= 256:
                raise ValueError(f"partition key {key[:40]!r} has {len(key)} characters; 1 to 256 are allowed")
        if everything:
            self._deliver(everything)
        return len(everything)

    # ------------------------------------------------------------------ shards

    def _refresh(self) -> None:
        if self._asked is not None and self._clock() - self._asked < SHARDS_FRESH:
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
        ranges.sort(key=lambda one: one.start)
        self._ranges, self._asked = ranges, self._clock()

    def _range(self, key: str) -> Range:
        place = int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")
        at = bisect_right(self._ranges, place, key=lambda one: one.start) - 1
        if at >= 0 and place <= self._ranges[at].end:
            return self._ranges[at]
        # No open shard takes it at the moment, in the middle of a reshard: the key travels by itself.
        return Range(f"key {key}", place, place)

    def _queues(self, events: Iterable[Event]) -> dict[Range, deque[Aggregate]]:
        waiting: dict[Range, list[Event]] = {}
        places: dict[str, Range] = {}
        for event in events:
            place = places.get(event[0])
            if place is None:
                place = places[event[0]] = self._range(event[0])
            waiting.setdefault(place, []).append(event)
        return {place: deque(_aggregates(mine)) for place, mine in waiting.items()}

    # ------------------------------------------------------------------ delivery

    def _deliver(self, events: list[Event]) -> None:
        left, failures, code, reason = events, 0, "", ""
        while left:
            try:
                self._refresh()
            except (ClientError, BotoCoreError) as error:
                code, reason = _told(error)
                failures += 1
                if failures >= self._tries or code in HOPELESS:
                    raise NotDelivered(reason, left, code) from error
                self._pause(failures)
                continue
            left = self._drain(self._queues(left))

    def _drain(self, queues: dict[Range, deque[Aggregate]]) -> list[Event]:
        """Send queues empty, or until a reshard shows; returns what is then left."""
        failures = dict.fromkeys(queues, 0)
        while any(queues.values()):
            heads = [(place, queue[0]) for place, queue in queues.items() if queue]
            code, reason, worst = "", "throttled", 0
            for part in _calls(heads):
                try:
                    refused = self._put(part)
                except (ClientError, BotoCoreError) as error:
                    refused = {place for place, _ in part}
                    code, reason = _told(error)
                for place, _ in part:
                    if place in refused:
                        failures[place] += 1
                        worst = max(worst, failures[place])
                    else:
                        queues[place].popleft()
                        failures[place] = 0
                if code in HOPELESS:
                    raise NotDelivered(reason, _remaining(queues), code)
            if worst >= self._tries:
                raise NotDelivered(reason, _remaining(queues), code)
            if self._asked is None:
                return _remaining(queues)
            if worst:
                self._pause(worst)
        return []

    def _pause(self, failures: int) -> None:
        self._sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**failures) * random.uniform(0.5, 1.0))

    def _put(self, part: list[tuple[Range, Aggregate]]) -> set[Range]:
        """Make one call; returns the shards whose record was refused."""
        entries = [{"Data": one.data, "PartitionKey": one.key} for _, one in part]
        answer = self._kinesis.put_records(StreamName=self._stream, Records=entries)
        refused = set()
        for (place, _), result in zip(part, answer["Records"], strict=True):
            if result.get("ErrorCode"):
                refused.add(place)
            elif result.get("ShardId", place.shard) != place.shard:
                self._asked = None  # resharded: ask again
        return refused


def _told(error: ClientError | BotoCoreError) -> tuple[str, str]:
    code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
    return code, str(error)


def _remaining(queues: dict[Range, deque[Aggregate]]) -> list[Event]:
    return [event for queue in queues.values() for one in queue for event in one.events]


def _calls(heads: list[tuple[Range, Aggregate]]) -> Iterator[list[tuple[Range, Aggregate]]]:
    """Records in as few calls as PutRecords' limits allow."""
    held: list[tuple[Range, Aggregate]] = []
    size = 0
    for place, one in heads:
        if held and (len(held) >= MAX_CALL_RECORDS or size + one.size() > MAX_CALL_BYTES):
            yield held
            held, size = [], 0
        held.append((place, one))
        size += one.size()
    if held:
        yield held


def _aggregates(events: list[Event]) -> Iterator[Aggregate]:
    held: list[Event] = []
    size = 0
    for event in events:
        more = len(event[1]) + len(event[0].encode()) + 16  # the format's own bytes, and more
        if held and (size + more > MAX_AGGREGATE or len(held) >= MAX_USER_RECORDS):
            yield _aggregate(held)
            held, size = [], 0
        held.append(event)
        size += more
    if held:
        yield _aggregate(held)


def _aggregate(events: list[Event]) -> Aggregate:
    return Aggregate(events, events[0][1] if len(events) == 1 else kpl.aggregate(events))
