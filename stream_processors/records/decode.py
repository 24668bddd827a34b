"""Kinesis records into columns of events, signals and dead letters: the one way in.

A record is a KPL aggregate of user records or one user record itself. A user record is JSON: one
document, an array of documents, or lines of documents; it may be packed with gzip or zstd. Formats
are told apart by content. docs/formats.md has the rules and an example of each.

Never raises for what a record holds: whatever cannot be read is a dead letter at its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec

from stream_processors.records import document, kpl, native, sink
from stream_processors.records.batch import EventBatch, StreamRecord
from stream_processors.records.refused import Refused
from stream_processors.records.sink import MAX_ITEMS, Full, Sink

_BOM = b"\xef\xbb\xbf"
_WORTH_COMPILING = 10_000
"""Events after which compiled loops take over; read the common way they take 15 to 30 ms. To begin costs 10 ms, and 60
to 100 more where NumPy was not loaded, and each text that is new 8 to 14 µs, which are won again once it has come ten times.
"""
_decoded = [0]
"""Events that this process has decoded."""


def decode(records: Sequence[StreamRecord], *, compiled: bool | None = None) -> EventBatch:
    """Columns of all records, in order. A function of the records alone, each read by itself.

    ``compiled`` reads native metrics in KPL aggregates by compiled loops (ImportError where the kernel was
    not built, or without NumPy), False without. By default they take over where they are, once so many
    events have been decoded that it is worth their while. The events are the same.
    """
    sink.begin()
    native.begin()
    batch = EventBatch()
    if compiled or (compiled is None and _decoded[0] >= _WORTH_COMPILING and _kernel_is_here()):
        _decode_compiled(records, batch)
    else:
        for index, record in enumerate(records):
            batch.sequence_numbers.append(record.sequence_number)
            _record(Sink(batch, index, record))
    _decoded[0] += len(batch)
    return batch


def _decode_compiled(records: Sequence[StreamRecord], batch: EventBatch) -> None:
    from stream_processors.records import compiled

    batch.sequence_numbers += [record.sequence_number for record in records]
    reader = compiled.reader()
    with reader.lock:
        for index in reader.read(records, batch):
            _record(Sink(batch, index, records[index]))


@cache
def _kernel_is_here() -> bool:
    if find_spec("numpy") is None:  # as in the light functions
        return False
    from stream_processors.records import compiled

    return compiled.KERNEL.available


def _record(sink: Sink) -> None:
    data = sink.record.data
    try:
        if data.startswith(kpl.MAGIC):
            _users(sink, *kpl.deaggregate(data))
        else:
            _users(sink, [sink.partition_key], [data])
    except Refused as refusal:
        sink.letter(refusal, data)
    except Full:
        taken = sink.count() - sink.begun
        sink.letter(
            Refused(
                "too-large",
                f"the record holds more than {MAX_ITEMS:,} events; the first {taken:,} were taken, "
                "the rest is in this letter; send smaller records",
            ),
            data,
        )


def _users(sink: Sink, keys: kpl.Keys | list[str], users: list[bytes]) -> None:
    """Read user records; mostly all of them are native metrics."""
    try:
        run = list(map(native.parse, users))
    except native.UNREADABLE:
        _mixed(sink, keys, users)
    else:
        native.append_users(sink, run, range(len(users)), users, keys)


def _mixed(sink: Sink, keys: kpl.Keys | list[str], users: list[bytes]) -> None:
    """Read user records: native metrics in runs, everything else one by one between them."""
    parse = native.parse
    run: list[native.MetricWire] = []
    begun = 0
    for at, data in enumerate(users):
        try:
            run.append(parse(data))
        except native.UNREADABLE:
            if run:
                native.append_users(sink, run, range(begun, at), users, keys)
            run, begun = [], at + 1
            sink.sub_sequence, sink.item, sink.partition_key = at, 0, keys[at]
            _user(sink, data)
    if run:
        native.append_users(sink, run, range(begun, len(users)), users, keys)


def _user(sink: Sink, data: bytes) -> None:
    """Read one user record that is no native metric."""
    content = data
    try:
        if native.typed_host_sample(sink, data):
            return
        if data.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
            from stream_processors.records import packed

            content = packed.unpack(sink, data)
        if content.startswith(_BOM):
            content = content[len(_BOM) :]
        if not content.strip():
            raise Refused("empty", "the record holds nothing; drop it at its sender")
        if content.lstrip()[:1] == b"[":
            _elements(sink, [bytes(element) for element in document.elements(content)])
            return
        try:
            parsed = document.parse(content)
        except Refused:
            lines = _lines(content)
            if not lines:
                raise
            _elements(sink, lines)
            return
        document.dispatch(sink, parsed)
    except Refused as refusal:
        sink.refuse(refusal, data)


def _lines(content: bytes) -> list[bytes]:
    """Lines that hold something, if the content is lines of documents: at least half begin and end like one."""
    if content.count(b"\n") > MAX_ITEMS:
        if content.lstrip()[:1] == b"{":
            raise Refused("too-large", f"more than {MAX_ITEMS:,} lines; send smaller records")
        return []
    lines = [line for line in (one.strip() for one in content.split(b"\n")) if line]
    whole = sum(line.startswith(b"{") and line.endswith(b"}") for line in lines)
    return lines if len(lines) > 1 and whole * 2 >= len(lines) else []


def _elements(sink: Sink, parts: list[bytes]) -> None:
    """Read the elements of an array or of lines."""
    if not parts:
        raise Refused("empty", "the array is empty; drop it at its sender")
    sink.make_room(len(parts))
    parse = native.parse
    run: list[native.MetricWire] = []
    begun = 0
    for at, part in enumerate(parts):
        try:
            run.append(parse(part))
        except native.UNREADABLE:
            if run:
                native.append_elements(sink, run, parts[begun:at])
            run, begun = [], at + 1
            document.read(sink, part)
    if run:
        native.append_elements(sink, run, parts[begun:])
