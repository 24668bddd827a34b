"""The rules of an event source mapping, as pure functions: what is tried again, split, given up, and told.

Knows neither AWS clients nor threads; ``opsriver.embedded.mapper`` drives it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import takewhile
from typing import Any, Literal

MAX_PAYLOAD = 5_500_000
"""Bytes of records in one invocation; Lambda takes 6 MB."""

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]
"""Why records were given up, in Lambda's words."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of either kind of stream, as the function is given it. ``arrival`` is epoch seconds."""

    sequence: str
    arrival: float
    body: dict[str, Any]
    size: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """The part of an event source mapping that the mapper honours."""

    uuid: str
    function: str
    source: str
    batch_size: int
    window: float
    bisect: bool
    attempts: int
    """Retries after the first try; -1 for ever."""
    max_age: float
    """Seconds; -1 for ever."""
    reports: bool
    start: str
    on_failure: str

    @property
    def kinesis(self) -> bool:
        """Whether the source is a Kinesis stream (else a DynamoDB stream)."""
        return ":kinesis:" in self.source


def mapping(described: dict[str, Any]) -> Mapping:
    """A mapping from ListEventSourceMappings."""

    def number(name: str, default: float) -> float:
        value = described.get(name)
        return default if value is None else float(value)

    return Mapping(
        uuid=described["UUID"],
        function=described["FunctionArn"],
        source=described["EventSourceArn"],
        batch_size=max(1, int(number("BatchSize", 100))),
        window=number("MaximumBatchingWindowInSeconds", 0),
        bisect=bool(described.get("BisectBatchOnFunctionError")),
        attempts=int(number("MaximumRetryAttempts", -1)),
        max_age=number("MaximumRecordAgeInSeconds", -1),
        reports="ReportBatchItemFailures" in (described.get("FunctionResponseTypes") or []),
        start=described.get("StartingPosition") or "TRIM_HORIZON",
        on_failure=((described.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination") or "",
    )


def cut(held: list[Record], batch_size: int) -> list[Record]:
    """The records from the front that make one batch: at most ``batch_size`` and what Lambda takes at once."""
    size = 0
    for count, record in enumerate(held[:batch_size]):
        size += record.size
        if size > MAX_PAYLOAD and count:
            return held[:count]
    return held[:batch_size]


@dataclass(slots=True)
class Piece:
    """Records that are tried together, and how often they failed."""

    records: list[Record]
    failures: int = 0


def understand(records: list[Record], answer: dict[str, Any] | None, *, reports: bool) -> int:
    """How many records from the front a function's answer calls done; None is an error of the function.

    A report that names nothing of the batch says that all of it failed, as Lambda reads it.
    """
    if answer is None:
        return 0
    failures = answer.get("batchItemFailures") if reports else None
    if not failures:
        return len(records)
    try:
        named = {str(failure["itemIdentifier"]) for failure in failures}
    except (KeyError, TypeError):
        return 0
    return next((place for place, record in enumerate(records) if record.sequence in named), 0)


def work_through(
    records: list[Record],
    rules: Mapping,
    *,
    invoke: Callable[[list[Record]], dict[str, Any] | None],
    done: Callable[[Record], None],
    give_up: Callable[[list[Record], Condition, int], None],
    wait: Callable[[int], None],
    now: Callable[[], float],
) -> None:
    """Bring records to the function, in order, until each is done or given up.

    ``done`` is told the last record of each finished stretch, ``give_up`` the records, the condition
    and the number of failed tries of what goes to the on-failure destination; ``wait`` is called
    with the number of failures before each retry. What a report of failures leaves is tried anew
    from the first that failed. A split uses up no retry: a bad record is alone before its tries count.
    """
    pieces = [Piece(records)]
    while pieces:
        piece = pieces.pop(0)
        if rules.max_age >= 0:
            instant = now()
            old = list(takewhile(lambda r: instant - r.arrival > rules.max_age, piece.records))  # noqa: B023
            if old:
                give_up(old, "RecordAgeExceeded", piece.failures)
                done(old[-1])
                if fresh := piece.records[len(old) :]:
                    pieces.insert(0, Piece(fresh, piece.failures))
                continue
        finished = understand(piece.records, invoke(piece.records), reports=rules.reports)
        if finished:
            done(piece.records[finished - 1])
        rest = piece.records[finished:]
        if not rest:
            continue
        if rules.bisect and len(rest) > 1 and not finished:
            half = len(rest) // 2
            pieces[:0] = [Piece(rest[:half], piece.failures), Piece(rest[half:], piece.failures)]
            wait(1)
            continue
        failures = 1 if finished else piece.failures + 1
        if 0 <= rules.attempts < failures:
            give_up(rest, "RetryAttemptsExhausted", failures)
            done(rest[-1])
            continue
        pieces.insert(0, Piece(rest, failures))
        wait(failures)


def failure_message(
    rules: Mapping, shard: str, records: list[Record], condition: Condition, tries: int, now: float
) -> dict[str, Any]:
    """The message of an on-failure destination, in the shape Lambda gives it. ``now`` is epoch seconds."""
    info = {
        "shardId": shard,
        "startSequenceNumber": records[0].sequence,
        "endSequenceNumber": records[-1].sequence,
        "approximateArrivalOfFirstRecord": _iso(records[0].arrival),
        "approximateArrivalOfLastRecord": _iso(records[-1].arrival),
        "batchSize": len(records),
        "streamArn": rules.source,
    }
    message: dict[str, Any] = {
        "requestContext": {
            "requestId": sha256(f"{rules.uuid}{shard}{records[0].sequence}{tries}".encode()).hexdigest()[:32],
            "functionArn": rules.function,
            "condition": condition,
            "approximateInvokeCount": tries,
        },
        "version": "1.0",
        "timestamp": _iso(now),
        "KinesisBatchInfo" if rules.kinesis else "DDBStreamBatchInfo": info,
    }
    if tries:
        message["responseContext"] = {
            "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled",
        }  # fmt: skip
    return message


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
