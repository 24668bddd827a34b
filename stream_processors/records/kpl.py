"""KPL aggregates: many user records in one Kinesis record.

Format: 4 bytes of magic, a protobuf message ``AggregatedRecord``, 16 bytes of MD5 over the message
(https://github.com/awslabs/amazon-kinesis-producer, aggregation-format.md). A record that starts
with the magic is an aggregate or it is damaged; it is never read as a plain record.
"""

from __future__ import annotations

import hashlib

from aws_kinesis_agg.messages_pb2 import AggregatedRecord
from google.protobuf.message import DecodeError

MAGIC = b"\xf3\x89\x9a\xc2"
DIGEST_SIZE = 16


class DamagedAggregate(ValueError):
    """The bytes carry the magic of an aggregate and are not a whole one; the text says why."""


def is_aggregate(data: bytes) -> bool:
    """Whether the record claims to be an aggregate."""
    return data.startswith(MAGIC)


def deaggregate(data: bytes) -> list[tuple[str, bytes]]:
    """User records of an aggregate, in order, as (partition key, data).

    Raises DamagedAggregate where the checksum, the message or an index is wrong.
    """
    if len(data) < len(MAGIC) + DIGEST_SIZE:
        raise DamagedAggregate(f"aggregate of {len(data)} bytes is shorter than its magic and checksum")
    content = data[len(MAGIC) : -DIGEST_SIZE]
    if hashlib.md5(content, usedforsecurity=False).digest() != data[-DIGEST_SIZE:]:
        raise DamagedAggregate("aggregate's MD5 checksum does not match its content; it was cut or altered on the way")
    message = AggregatedRecord()
    try:
        message.ParseFromString(content)
    except DecodeError as error:
        raise DamagedAggregate(f"aggregate is not a valid protobuf message: {error}") from None
    keys = list(message.partition_key_table)
    try:
        found = [(keys[record.partition_key_index], record.data) for record in message.records]
    except IndexError:
        raise DamagedAggregate(f"aggregate names a partition key beyond its table of {len(keys)}") from None
    if not found:
        raise DamagedAggregate("aggregate holds no records")
    return found
