"""A bounded queue on disk: what is acknowledged as spooled survives a kill and comes out in order.

Segments are files of frames: length (uint32), CRC-32 of the payload (uint32), payload. A frame is
acknowledged after it was flushed and synced. What was delivered is noted in a cursor file, written
whole or not at all. When the spool is full the oldest segment is dropped and counted. Bytes that broke
on the disk cost their own frame only: the next whole one is found by its checksum.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

_HEAD = struct.Struct("<II")
SEGMENT_BYTES = 1_000_000
MAX_FRAME = 10_000_000


class SpoolInUse(RuntimeError):
    """Another agent uses the folder."""


class Cursor(msgspec.Struct, frozen=True):
    """What has been delivered: everything before this byte of this segment."""

    segment: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """A spooled payload and the cursor behind it."""

    payload: bytes
    after: Cursor


class Spool:
    """A spool in ``folder`` that holds at most ``limit`` bytes.

    ``dropped`` counts payloads dropped because it was full, ``damaged`` places whose bytes were broken.
    Not for several threads at once. Raises SpoolInUse where another process has it, OSError where the folder cannot be used.
    """

    def __init__(self, folder: Path, limit: int = 64 * 1024 * 1024, segment: int = SEGMENT_BYTES) -> None:
        self._folder, self._limit, self._segment = folder, limit, min(segment, max(1, limit // 4))
        self.dropped = self.damaged = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise SpoolInUse(f"another agent uses the spool {folder}") from None
        self._cursor = self._read_cursor()
        self._broken = set[tuple[int, int]]()
        numbers = self._segments()
        self._tail = max([*numbers, self._cursor.segment]) + 1
        self._out: BinaryIO | None = None

    def close(self) -> None:
        """Give the folder free."""
        if self._out is not None:
            self._out.close()
        self._lock.close()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}.spool"

    def _segments(self) -> list[int]:
        return sorted(int(p.stem) for p in self._folder.glob("*.spool") if p.stem.isdigit())

    def _read_cursor(self) -> Cursor:
        try:
            return msgspec.json.decode((self._folder / "cursor.json").read_bytes(), type=Cursor)
        except (OSError, msgspec.DecodeError):
            return Cursor()  # all of it is sent again: twice is better than never

    def add(self, payload: bytes) -> None:
        """Keep a payload; when this returns it survives a kill, and a power cut.

        Raises OSError where the disk refuses, ValueError for a payload that is empty or larger than a frame
        or the whole spool may be.
        """
        frame = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        if not payload or len(payload) > MAX_FRAME or len(frame) > self._limit:
            raise ValueError(f"a payload of {len(payload)} bytes cannot be spooled")
        self._make_room(len(frame))
        if self._out is None or self._out.tell() + len(frame) > self._segment:
            self._next_segment()
        out = self._out
        if out is None:
            raise RuntimeError("no segment is open")
        start = out.tell()
        try:
            out.write(frame)
            out.flush()
            os.fsync(out.fileno())
        except OSError:
            # A torn frame must not stand before later ones: the next goes to a segment of its own.
            self._out = None
            try:
                out.truncate(start)
                out.close()
            except OSError:
                pass
            raise

    def _next_segment(self) -> None:
        if self._out is not None:
            self._out.close()
            self._tail += 1
        self._out = self._path(self._tail).open("ab")
        self._sync_folder()

    def _sync_folder(self) -> None:
        """Make names durable: a file whose name is lost in a power cut is lost."""
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def size(self) -> int:
        """Bytes on disk."""
        return sum(self._path(n).stat().st_size for n in self._segments() if self._path(n).exists())

    def _make_room(self, needed: int) -> None:
        while self.size() + needed > self._limit:
            numbers = self._segments()
            if not numbers:
                return
            oldest = numbers[0]
            if self._out is not None and oldest == self._tail:
                self._out.close()
                self._out = None
                self._tail += 1
            begin = self._cursor.offset if oldest == self._cursor.segment else 0
            self.dropped += sum(1 for _ in self._frames(oldest, begin, count=False))
            self._path(oldest).unlink()

    def pending(self) -> Iterator[Frame]:
        """Undelivered payloads, oldest first. Broken frames are passed over and counted."""
        for number in self._segments():
            if number < self._cursor.segment:
                continue
            begin = self._cursor.offset if number == self._cursor.segment else 0
            yield from self._frames(number, begin)

    def _frames(self, number: int, begin: int, *, count: bool = True) -> Iterator[Frame]:
        try:
            data = self._path(number).read_bytes()
        except FileNotFoundError:
            return
        at = begin
        while at + _HEAD.size < len(data):
            payload = _whole(data, at)
            if payload is not None:
                at += _HEAD.size + len(payload)
                yield Frame(payload, Cursor(number, at))
                continue
            following = _next_whole(data, at + 1)
            torn = _HEAD.unpack_from(data, at)[0] > len(data) - at - _HEAD.size and following is None
            if count and not torn and (number, at) not in self._broken:  # torn: by a kill, never acknowledged
                self._broken.add((number, at))
                self.damaged += 1
            if following is None:
                return
            at = following

    def delivered(self, frame: Frame) -> None:
        """Note that everything up to this frame has been delivered.

        Raises OSError where the note cannot be written; it holds until this process ends all the same.
        """
        self._cursor = frame.after
        for number in self._segments():
            spent = number < frame.after.segment
            if number == frame.after.segment and number != self._tail:
                spent = self._path(number).stat().st_size <= frame.after.offset
            if spent:
                self._path(number).unlink(missing_ok=True)
        self._broken = {place for place in self._broken if place[0] >= frame.after.segment}
        partial = self._folder / "cursor.partial"
        with partial.open("wb") as out:
            out.write(msgspec.json.encode(frame.after))
            out.flush()
            os.fsync(out.fileno())
        partial.replace(self._folder / "cursor.json")


def _whole(data: bytes, at: int) -> bytes | None:
    """Payload of the frame at a place, if there is a whole one."""
    length, checksum = _HEAD.unpack_from(data, at)
    if not 0 < length <= min(MAX_FRAME, len(data) - at - _HEAD.size):
        return None
    payload = data[at + _HEAD.size : at + _HEAD.size + length]
    return payload if zlib.crc32(payload) == checksum else None


def _next_whole(data: bytes, begin: int) -> int | None:
    return next((at for at in range(begin, len(data) - _HEAD.size) if _whole(data, at) is not None), None)
