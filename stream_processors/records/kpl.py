"""KPL aggregates: many user records in one Kinesis record.

Format: 4 bytes of magic, a protobuf message ``AggregatedRecord``, 16 bytes of MD5 over the message
(https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md). A record that
starts with the magic is an aggregate or it is damaged; it is never read as a plain record.

The message type is declared here, because importing aws_kinesis_agg's edits ``sys.path`` and prints,
and registers its names in the process-wide pool.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from stream_processors.records.refused import Refused

MAGIC = b"\xf3\x89\x9a\xc2"
DIGEST_SIZE = 16
MISSING = 2**64 - 1
"""What stands for a partition key's index that is not there."""
MAX_USER_RECORDS = 100_000
"""Most user records of one aggregate: 10 MiB, the largest Kinesis record, in records of 100 bytes."""


_HEAD = 12
"""Bytes by which the head of a user record is known: its tags, the index of its key, its two lengths and what follows."""
_KNOWN = 16_384
_heads: dict[bytes, tuple[int, int, int]] = {}
"""Where a user record's data begins and ends, counted from its head, and the index of its key; bounded by ``_walk``."""


class Keys:
    """The partition keys of an aggregate's user records by their places; looked up only where one is told of."""

    __slots__ = ("_content", "_index", "_table")

    def __init__(self, table: Sequence[str], content: memoryview) -> None:
        self._table, self._content = table, content
        self._index: list[int] | None = None

    def __getitem__(self, place: int) -> str:
        if self._index is None:
            message = _message()[0].FromString(self._content)
            self._index = [record.partition_key_index for record in message.records]
        return self._table[self._index[place]]


def deaggregate(data: bytes) -> tuple[Keys, list[bytes]]:
    """User records of an aggregate in order: their partition keys, and their data.

    Raises Refused (``damaged-aggregate``) where checksum, message or an index is wrong, and
    (``too-large``) where there are absurdly many.
    """
    size = len(data)
    if size < len(MAGIC) + DIGEST_SIZE:
        raise _damaged(f"it has {size} bytes, fewer than its magic and checksum alone")
    content = memoryview(data)[len(MAGIC) : -DIGEST_SIZE]
    if hashlib.md5(content, usedforsecurity=False).digest() != data[-DIGEST_SIZE:]:
        raise _damaged(f"the MD5 checksum at its end does not match its {size} bytes; it was cut or altered on the way")
    table, users = _walk(data) or _parse(content)
    return Keys(table, content), users


def _walk(data: bytes) -> tuple[list[str], list[bytes]] | None:
    """Keys and user records of an aggregate as producers write them; None for any other, damaged or not.

    That is keys of less than 128 bytes and then records of an index and data, in this order and with nothing else. The
    heads of records are few and come again.
    """
    if len(_heads) > _KNOWN:
        _heads.clear()
    known, table, users = _heads, list[str](), list[bytes]()
    at, end = len(MAGIC), len(data) - DIGEST_SIZE
    try:
        while data[at] == 0x0A and data[at + 1] < 0x80:
            begin, at = at + 2, at + 2 + data[at + 1]
            table.append(data[begin:at].decode())
        count = len(table)
        while at < end:
            head = data[at : at + _HEAD]
            try:
                begin, size, index = known[head]
            except KeyError:
                begin, size, index = known[head] = _read_head(head)
            if index >= count:
                return None
            stop = at + size
            users.append(data[at + begin : stop])
            at = stop
    except (ValueError, IndexError):
        return None
    return (table, users) if at == end and 0 < len(users) <= MAX_USER_RECORDS else None


def _read_head(head: bytes) -> tuple[int, int, int]:
    """Begin and end of the data behind a head, and the index of its key. Raises ValueError or IndexError for others."""
    whole, begin = _varint(head, 0, 0x1A)
    end = begin + whole
    index, begin = _varint(head, begin, 0x08)
    size, begin = _varint(head, begin, 0x1A)
    if begin + size != end:
        raise ValueError
    return begin, end, index


def _varint(head: bytes, at: int, tag: int) -> tuple[int, int]:
    """The number behind a tag of protobuf, of up to four bytes, and where it ends."""
    if head[at] != tag:
        raise ValueError
    number = 0
    for shift in (0, 7, 14, 21):
        at += 1
        number |= (head[at] & 0x7F) << shift
        if head[at] < 0x80:
            return number, at + 1
    raise ValueError


def _parse(content: memoryview) -> tuple[list[str], list[bytes]]:
    """Keys and user records of any aggregate, by protobuf. Raises Refused where it is damaged."""
    message_type, decode_error = _message()
    message = message_type()
    try:
        message.MergeFromString(content)
    except decode_error as error:
        raise _damaged(f"its content is no valid protobuf message ({str(error)[:100]})") from None
    count = len(message.records)
    if not count:
        raise _damaged("it holds no user records")
    if count > MAX_USER_RECORDS:
        raise Refused("too-large", f"KPL aggregate holds {count} user records; at most {MAX_USER_RECORDS} are allowed")
    try:
        table = [key.decode() for key in message.partition_key_table]
    except UnicodeDecodeError:
        raise _damaged("a partition key is not UTF-8") from None
    # Kept while both columns are read: each access would make the message's wrapper anew.
    records = list(message.records)
    users = [record.data for record in records]
    index = [record.partition_key_index for record in records]
    # Looked at in all records only where one may lack a field, which protobuf reads as its default.
    if (max(index) == MISSING or b"" in users) and not message.IsInitialized():
        raise _damaged("a user record in it lacks its data or its partition key")
    if max(index) >= len(table):
        raise _damaged(f"a user record points beyond its table of {len(table)} partition keys")
    return table, users


def _damaged(why: str) -> Refused:
    return Refused("damaged-aggregate", f"KPL aggregate is damaged: {why}; the producer must send it again")


@cache
def _message() -> tuple[Any, type[Exception]]:
    """``AggregatedRecord`` and the error of parsing one; imported when the first aggregate comes."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

    kind = descriptor_pb2.FieldDescriptorProto
    optional, required, repeated = kind.LABEL_OPTIONAL, kind.LABEL_REQUIRED, kind.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(name="opsriver/kpl.proto", package="opsriver.kpl", syntax="proto2")
    fields: dict[str, list[tuple[str, int, Any, Any, str]]] = {
        "Tag": [
            ("key", 1, required, kind.TYPE_STRING, ""),
            ("value", 2, optional, kind.TYPE_STRING, ""),
        ],
        "Record": [
            ("partition_key_index", 1, required, kind.TYPE_UINT64, ""),
            ("explicit_hash_key_index", 2, optional, kind.TYPE_UINT64, ""),
            ("data", 3, required, kind.TYPE_BYTES, ""),
            ("tags", 4, repeated, kind.TYPE_MESSAGE, ".opsriver.kpl.Tag"),
        ],
        "AggregatedRecord": [
            # Bytes, because the runtime passes text that is not UTF-8 on as bytes without a word.
            ("partition_key_table", 1, repeated, kind.TYPE_BYTES, ""),
            ("explicit_hash_key_table", 2, repeated, kind.TYPE_STRING, ""),
            ("records", 3, repeated, kind.TYPE_MESSAGE, ".opsriver.kpl.Record"),
        ],
    }
    for name, members in fields.items():
        declared = file.message_type.add(name=name)
        for field, number, label, type_, type_name in members:
            added = declared.field.add(name=field, number=number, label=label, type=type_, type_name=type_name or None)
            if field == "partition_key_index":
                added.default_value = str(MISSING)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    aggregated = message_factory.GetMessageClass(pool.FindMessageTypeByName("opsriver.kpl.AggregatedRecord"))
    return aggregated, message.DecodeError
