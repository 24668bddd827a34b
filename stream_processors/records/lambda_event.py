"""A Lambda invocation's Kinesis event as stream records."""

from __future__ import annotations

import base64
from typing import Any

from stream_processors.records.batch import StreamRecord


def parse(event: dict[str, Any]) -> list[StreamRecord]:
    """Records of an event source mapping's invocation, in order."""
    return [
        StreamRecord(
            shard_id=record["eventID"].rpartition(":")[0],
            sequence_number=record["kinesis"]["sequenceNumber"],
            partition_key=record["kinesis"]["partitionKey"],
            arrival=round(float(record["kinesis"]["approximateArrivalTimestamp"]) * 1000),
            data=base64.b64decode(record["kinesis"]["data"]),
        )
        for record in event["Records"]
    ]
