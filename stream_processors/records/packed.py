"""gzip (RFC 1952) and zstd (RFC 8878) payloads, unpacked within bounds so that no small record fills the memory."""

from __future__ import annotations

import zlib

from stream_processors.records.refused import Refused
from stream_processors.records.sink import Sink

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
MAX_UNPACKED = 16 * 1024 * 1024
"""Most bytes that all payloads of one Kinesis record may unpack to."""
MAX_RATIO = 200
"""Most times its packed size that a payload may grow to; metrics as text pack 10 to 50 times."""
MAX_PARTS = 100
"""Most members or frames of one payload: each copies what is left."""
PIECE = 256
FREE = 1024 * 1024
"""Bytes a payload may unpack to whatever the ratio."""


def unpack(sink: Sink, data: bytes) -> bytes:
    """Unpack a payload, counting its bytes against the sink's record.

    Raises Refused (``too-large``, ``damaged-compression``, ``too-deep`` for packed data within).
    """
    limit = min(MAX_UNPACKED - sink.unpacked, max(FREE, MAX_RATIO * len(data)))
    kind = "gzip" if data.startswith(GZIP) else "zstd"
    content = (_gzip if kind == "gzip" else _zstd)(data, limit)
    if len(content) > limit:
        raise Refused(
            "too-large",
            f"the {kind} payload of {len(data):,} bytes unpacks to more than {limit:,} bytes; a record may unpack to "
            f"{MAX_UNPACKED:,} bytes, and to {MAX_RATIO} times its size; send smaller payloads",
        )
    sink.unpacked += len(content)
    if content.startswith((GZIP, ZSTD)):
        raise Refused("too-deep", f"the {kind} payload holds packed data again; pack once")
    return content


def _gzip(data: bytes, limit: int) -> bytes:
    """All members of a gzip file, up to one byte more than ``limit``."""
    parts: list[bytes] = []
    length = 0
    for _ in range(MAX_PARTS):
        inflater = zlib.decompressobj(wbits=31)
        try:
            part = inflater.decompress(data, limit + 1 - length)
        except zlib.error as error:
            raise _damaged("gzip", str(error)) from None
        length += len(part)
        parts.append(part)
        if length > limit:
            return b"".join(parts)
        if not inflater.eof:
            raise _damaged("gzip", "it ends before it is complete")
        data = inflater.unused_data
        if not data:
            return b"".join(parts)
    raise _many("gzip")


def _zstd(data: bytes, limit: int) -> bytes:
    """All frames of a zstd payload, up to one byte more than ``limit``."""
    import zstandard

    content = bytearray()
    left = memoryview(data)
    for _ in range(MAX_PARTS):
        unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_UNPACKED).decompressobj()
        try:
            # Fed in small pieces: each may expand to megabytes before its length can be looked at.
            while left and not unpacker.eof and len(content) <= limit:
                content += unpacker.decompress(left[:PIECE])
                left = left[PIECE:]
        except zstandard.ZstdError as error:
            raise _damaged("zstd", str(error)) from None
        if len(content) > limit:
            return bytes(content)
        if not unpacker.eof:
            raise _damaged("zstd", "it ends before it is complete")
        if not (unpacker.unused_data or left):
            return bytes(content)
        left = memoryview(unpacker.unused_data + bytes(left))
    raise _many("zstd")


def _many(kind: str) -> Refused:
    return Refused("too-large", f"the {kind} payload has more than {MAX_PARTS} parts; pack it in one")


def _damaged(kind: str, why: str) -> Refused:
    return Refused("damaged-compression", f"the {kind} payload is damaged: {why[:100]}; its producer must send it again")
