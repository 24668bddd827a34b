"""KPL aggregates: many user records in one Kinesis record.

Format: 4 bytes of magic, a protobuf message ``AggregatedRecord``, 16 bytes of MD5 over the message
(https://github.com/awslabs/amazon-kinesis-producer, aggregation-format.md). A record that starts
with the magic is an aggregate or it is damaged; it is never read as a plain record.
"""

from __future__ import annotations

import hashlib
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

MAGIC = b"\xf3\x89\x9a\xc2"
DIGEST_SIZE = 16


def _message_type() -> type[Message]:
    """The message of the format's specification, in a pool of its own.

    The library's generated modules find each other through an edited import path; these do not need to.
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="opsriver/kpl.proto", package="opsriver.kpl", syntax="proto2")
    record = file.message_type.add(name="Record")
    for number, (name, kind, label) in enumerate(
        (
            ("partition_key_index", kinds.TYPE_UINT64, kinds.LABEL_REQUIRED),
            ("explicit_hash_key_index", kinds.TYPE_UINT64, kinds.LABEL_OPTIONAL),
            ("data", kinds.TYPE_BYTES, kinds.LABEL_REQUIRED),
        ),
        start=1,
    ):
        record.field.add(name=name, number=number, type=kind, label=label)
    whole = file.message_type.add(name="AggregatedRecord")
    whole.field.add(name="partition_key_table", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_REPEATED)
    whole.field.add(name="explicit_hash_key_table", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_REPEATED)
    whole.field.add(
        name="records", number=3, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_REPEATED, type_name=".opsriver.kpl.Record"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("opsriver.kpl.AggregatedRecord"))


_AggregatedRecord = _message_type()


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
    message: Any = _AggregatedRecord()
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
