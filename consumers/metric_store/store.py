"""One item for each host and minute, written so that order and repetition do not matter.

The four columns of the host sample are attributes of their own; every other series of the minute is
a key of the map ``metrics``. Of several values of one series in one minute the last by event time
stays: each value carries its time in the map ``times``, and an older one never replaces it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from schemas.events import HOST_METRICS
from stream_processors.records.batch import EventBatch

MINUTE = 60_000
MAX_SERIES = 300
"""Series of one host and minute that are kept beside the host sample's; an item holds 400 KB."""
WRITERS = 8
LARGEST, SMALLEST = 9.9e125, 1e-130
"""Bounds of DynamoDB's numbers."""


@dataclass(slots=True)
class Minute:
    """What a batch says of one host and minute: series name to (event time, value)."""

    hostname: str
    start: int
    values: dict[str, tuple[int, float]] = field(default_factory=dict)
    records: set[int] = field(default_factory=set)
    refused: int = 0


def fold(batch: EventBatch) -> list[Minute]:
    """The batch by host and minute; of several values of a series the last by event time stays."""
    minutes: dict[tuple[str, int], Minute] = {}
    columns = zip(batch.resource, batch.series, batch.timestamp, batch.value, batch.record, strict=True)
    for resource, series, timestamp, value, record in columns:
        start = timestamp // MINUTE * MINUTE
        minute = minutes.get((resource, start))
        if minute is None:
            minute = minutes[resource, start] = Minute(resource, start)
        minute.records.add(record)
        held = minute.values.get(series)
        if held is None and len(minute.values) >= MAX_SERIES + len(HOST_METRICS):
            minute.refused += 1
        elif held is None or timestamp >= held[0]:
            minute.values[series] = (timestamp, value)
    return list(minutes.values())


class MetricStore:
    """The Metrics table. ``dynamodb`` is a low-level boto3 client."""

    def __init__(self, dynamodb: Any, table: str, ttl_days: int) -> None:
        self._dynamodb, self._table = dynamodb, table
        self._ttl = ttl_days * 86_400

    def write(self, minutes: Iterable[Minute]) -> list[tuple[Minute, Exception]]:
        """Write minutes; returns those that the table did not take, with the error."""

        def attempt(minute: Minute) -> tuple[Minute, Exception] | None:
            try:
                self._write(minute)
            except Exception as error:
                return minute, error
            return None

        with ThreadPoolExecutor(WRITERS) as pool:
            return [failed for failed in pool.map(attempt, minutes) if failed is not None]

    def _write(self, minute: Minute) -> None:
        """One conditional update for all; only where an older value meets a newer one, one for each series."""
        everything = list(minute.values.items())
        try:
            self._update(minute, everything, self._ensure)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            for one in everything:
                try:
                    self._update(minute, [one], self._ensure)
                except ClientError as older:
                    if older.response["Error"]["Code"] != "ConditionalCheckFailedException":
                        raise

    def _ensure(self, minute: Minute) -> None:
        """Make the item with its maps, where it is new."""
        self._dynamodb.update_item(
            TableName=self._table,
            Key=_key(minute),
            UpdateExpression="SET #m = if_not_exists(#m, :empty), #t = if_not_exists(#t, :empty), #x = :ttl",
            ExpressionAttributeNames={"#m": "metrics", "#t": "times", "#x": "ttl"},
            ExpressionAttributeValues={":empty": {"M": {}}, ":ttl": {"N": str(minute.start // 1000 + self._ttl)}},
        )

    def _update(
        self, minute: Minute, items: list[tuple[str, tuple[int, float]]], ensure: Callable[[Minute], None]
    ) -> None:
        names: dict[str, str] = {"#t": "times", "#x": "ttl", "#m": "metrics"}
        values: dict[str, Any] = {":ttl": {"N": str(minute.start // 1000 + self._ttl)}}
        sets, conditions = ["#x = :ttl"], ["attribute_exists(#m)"]
        for place, (series, (timestamp, value)) in enumerate(items):
            names[f"#s{place}"] = series
            values[f":v{place}"], values[f":t{place}"] = {"N": _number(value)}, {"N": str(timestamp)}
            target = f"#s{place}" if series in HOST_METRICS else f"#m.#s{place}"
            sets += [f"{target} = :v{place}", f"#t.#s{place} = :t{place}"]
            conditions.append(f"(attribute_not_exists(#t.#s{place}) OR #t.#s{place} <= :t{place})")
        request = {
            "TableName": self._table,
            "Key": _key(minute),
            "UpdateExpression": "SET " + ", ".join(sets),
            "ConditionExpression": " AND ".join(conditions),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
        }
        # A new minute is the usual case: its whole item is written at once. An expression has at most 4 KB.
        if len(request["UpdateExpression"]) + len(request["ConditionExpression"]) > 4000 and len(items) > 1:  # type: ignore[arg-type]
            half = len(items) // 2
            self._update(minute, items[:half], ensure)
            self._update(minute, items[half:], ensure)
            return
        try:
            self._dynamodb.update_item(**request)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("ConditionalCheckFailedException", "ValidationException"):
                raise
            ensure(minute)
            self._dynamodb.update_item(**request)


def _key(minute: Minute) -> dict[str, Any]:
    return {"hostname": {"S": minute.hostname}, "timestamp": {"N": str(minute.start)}}


def _number(value: float) -> str:
    if abs(value) > LARGEST:
        value = LARGEST if value > 0 else -LARGEST
    return repr(value if abs(value) >= SMALLEST else 0.0)
