"""Events for tests of the archive: Lambda events, and tables as the archiver makes them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pyarrow as pa

from consumers.archive.layout import HOUR_MS
from consumers.archive.writer import events_table
from stream_processors.records.decode import decode
from stream_processors.records.lambda_event import parse

START = 1_790_000_000_000 - 1_790_000_000_000 % HOUR_MS
SHARD = "shardId-000000000000"
FIRST = 10**20
HOSTILE = "../../etc/passwd"


def record(number: int, body: Any, shard: str = SHARD) -> dict[str, Any]:
    """One record of a Lambda event with this number on its shard."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {
        "eventID": f"{shard}:{FIRST + number}",
        "eventSource": "aws:kinesis",
        "kinesis": {
            "partitionKey": "key",
            "sequenceNumber": str(FIRST + number),
            "approximateArrivalTimestamp": (START + 4 * HOUR_MS) / 1000,
            "data": base64.b64encode(data).decode(),
        },
    }


def records(count: int = 300, hosts: int = 4) -> list[dict[str, Any]]:
    """Metrics of some hosts over three hours, one of them with a name that looks like a path."""
    names = [f"host-{n}" for n in range(hosts - 1)] + [HOSTILE]
    return [
        record(n, {"resource": names[n % hosts], "metric": "cpu", "timestamp": START + n * 3 * HOUR_MS // count,
                   "value": n / 7, "unit": "Percent", "dimensions": {"core": str(n % 2)}})
        for n in range(count)
    ]  # fmt: skip


def table(rows: list[dict[str, Any]]) -> pa.Table:
    """What the archiver makes of records."""
    return events_table(decode(parse({"Records": rows})), SHARD)


def numbers(found: pa.Table) -> list[int]:
    """Numbers of the records whose events a table holds, sorted."""
    return sorted(int(sequence) - FIRST for sequence in found["sequence"].to_pylist())
