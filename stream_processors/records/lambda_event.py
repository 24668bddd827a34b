"""A Lambda invocation's Kinesis event as stream records.

Shape: "Using Lambda to process records from Amazon Kinesis Data Streams" in the AWS Lambda guide.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Mapping
from typing import Any

from stream_processors.records.batch import StreamRecord


def parse(event: Mapping[str, Any]) -> list[StreamRecord]:
    """Records of an event source mapping's invocation, in order.

    Raises ValueError naming what is wrong if the event is not Lambda's Kinesis event: a function
    wired to something else is a mistake of the deployment, not of one record.
    """
    try:
        return [_record(entry) for entry in event["Records"]]
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"the invocation's event is no Kinesis event of Lambda ({type(error).__name__}: {error}); "
            "connect this function to a Kinesis stream by an event source mapping"
        ) from error


def _record(entry: Mapping[str, Any]) -> StreamRecord:
    kinesis = entry["kinesis"]
    shard_id, separator, _ = entry["eventID"].rpartition(":")
    if not separator:
        raise ValueError(f"eventID {entry['eventID']!r} names no shard")
    return StreamRecord(
        shard_id=shard_id,
        sequence_number=kinesis["sequenceNumber"],
        partition_key=kinesis["partitionKey"],
        arrival=round(float(kinesis["approximateArrivalTimestamp"]) * 1000),
        data=a2b_base64(kinesis["data"], strict_mode=True),
    )
