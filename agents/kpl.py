"""Writes KPL aggregates: many user records in one Kinesis record.

Format: magic, a protobuf message ``AggregatedRecord``, MD5 over the message
(https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md). The message
has two kinds of fields only, so it is written here by hand: importing aws_kinesis_agg edits
``sys.path`` and prints, and an agent should start small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

MAGIC = b"\xf3\x89\x9a\xc2"
_KEY_TABLE = b"\x0a"  # field 1 of AggregatedRecord, length-delimited
_RECORD = b"\x1a"  # field 3 of AggregatedRecord, length-delimited
_KEY_INDEX = b"\x08"  # field 1 of Record, varint
_DATA = b"\x1a"  # field 3 of Record, length-delimited


def aggregate(records: Sequence[tuple[str, bytes]]) -> bytes:
    """One aggregate of user records (partition key, data), in order. It travels to one shard as a whole."""
    index: dict[str, int] = {}
    parts: list[bytes] = []
    for key, data in records:
        inner = _KEY_INDEX + _varint(index.setdefault(key, len(index))) + _DATA + _varint(len(data)) + data
        parts += (_RECORD, _varint(len(inner)), inner)
    keys = [part for key in map(str.encode, index) for part in (_KEY_TABLE, _varint(len(key)), key)]
    content = b"".join((*keys, *parts))
    return MAGIC + content + hashlib.md5(content, usedforsecurity=False).digest()


def _varint(value: int) -> bytes:
    if value < 0x80:
        return value.to_bytes(1, "little")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
