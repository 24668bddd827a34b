"""Native metrics in KPL aggregates by compiled loops, where the kernel is built: the same events, sooner.

A sender repeats itself: of a series' texts only time and value differ. What stays the same around
these two numbers is a template. One is learned from a text that was read the common way, after a
trial with other numbers has shown which two they are; a text that equals it byte for byte, with two
numbers in the same places, then means the same. An aggregate is read here as a whole or not at all:
whatever is not sure (a text that is no native metric, a protobuf field that is seldom used) leaves it to
``kpl`` and ``native``, which know every rule and refuse. The loops are ``kernels/texts.c``.

There are more texts than templates where a shard has more series. Then the resource's name is left open as
well, as long as it is plain and what stands before it is the same: the templates of what follows the name are as
few as a host's series.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.names import MAX_NAME_LENGTH, RESERVED_PREFIX
from stream_processors.kernels import Kernel
from stream_processors.records import kpl, native, times
from stream_processors.records.batch import EventBatch, Shared, StreamRecord
from stream_processors.records.native import MetricWire
from stream_processors.records.refused import Refused
from stream_processors.records.sink import MAX_ITEMS

_TEMPLATES = 131_072
"""Most templates that are kept."""
_LONGEST = 1024
"""Bytes of the longest text that becomes a template."""
_WORTH = 16
"""Full, the table begins anew once so many times its size in events have passed: to learn costs ten times a reading."""
_PLACES = 4 * _TEMPLATES
_PROBES = 32
"""Places of the hash table that a template may be at, one after the other."""
_REST = 64
"""Where more than half of the texts are not the expected ones, reading here costs more than it saves: texts of a million
series in no order, say. The common way then takes the next stretches, so many less one."""
_MANY = 500
"""Events of a stretch that tell whether it is so."""
_SHORTEST = 60
"""Bytes of the shortest native metric with all that belongs to it, or fewer."""
_STRETCH = 256 * 1024
"""Bytes that are read at once, or one record."""
_EXACT_DIGITS, _EXACT_FRACTION = 15, 22
"""A decimal number of so many digits and decimals is the quotient of two doubles that are exact: rounded once."""
_WEIGHTS = np.frombuffer(hashlib.shake_128(b"texts").digest(2 * _LONGEST), np.uint64)
"""Of the hash: one for every four bytes of a text. Any numbers without order will do; NumPy's come 7 ms later."""
_TIME_DIGITS = 15
"""Most digits of a time that is read here."""

_FROM, _MIDDLE, _TAIL, _END, _TIME_FIRST, _AFTER, _FIELDS = range(7)
"""Of a template: where its bytes begin, where those after the first and after the second number do, where they end,
whether the first number is the time, and the template that was read after it the last time, or -1."""

_NONE, _TIME, _VALUE = range(3)
"""Of a text's two numbers the first is the time, or the value; or neither is known."""

_BEGIN, _STOP, _FIRST, _FIRST_END, _SECOND, _SECOND_END, _ORDER, _SPANS = range(8)
"""Of a text that may become a template: where it begins and ends, and its two numbers do, and which of them is which."""

_UNTIL, _EARLIEST, _LATEST, _MOST, _COUNT, _MESSAGES = range(6)
"""Of a message: where it ends, the earliest and the latest time and the most events it may have, and how many were read,
or -1."""

_IS_OPEN, _HEAD_SIZE = range(2)
"""Of the names that are left open: whether they are, and of how many bytes what stands before them is."""
_LONGEST_HEAD = 64

KERNEL = Kernel(
    "texts",
    constants={
        "LONGEST": _LONGEST, "PLACES": _PLACES, "PROBES": _PROBES, "TIME_DIGITS": _TIME_DIGITS,
        "EXACT_DIGITS": _EXACT_DIGITS, "EXACT_FRACTION": _EXACT_FRACTION,
        "POWERS": tuple(float(10**n) for n in range(_EXACT_FRACTION + 1)),
        "FROM": _FROM, "MIDDLE": _MIDDLE, "TAIL": _TAIL, "END": _END, "TIME_FIRST": _TIME_FIRST, "AFTER": _AFTER,
        "FIELDS": _FIELDS,
        "NONE": _NONE, "TIME": _TIME,
        "BEGIN": _BEGIN, "STOP": _STOP, "FIRST": _FIRST, "FIRST_END": _FIRST_END, "SECOND": _SECOND,
        "SECOND_END": _SECOND_END, "ORDER": _ORDER, "SPANS": _SPANS,
        "UNTIL": _UNTIL, "EARLIEST": _EARLIEST, "LATEST": _LATEST, "MOST": _MOST, "COUNT": _COUNT, "MESSAGES": _MESSAGES,
        "IS_OPEN": _IS_OPEN, "HEAD_SIZE": _HEAD_SIZE, "LONGEST_NAME": MAX_NAME_LENGTH,
        "RESERVED": tuple(RESERVED_PREFIX.encode()),
    },
    fields={
        # What is known: numbers of templates by hash, plus one; the templates and their bytes; the weights of the hash.
        "places": "i8", "table": "i8", "pool": "u1", "weights": "u8",
        "messages": "i8",
        # Of each event: its template, time and value; which are left to be read (event, begin, end); room for so many.
        "numbers": "i8", "moments": "i8", "values": "f8", "unread": "i8", "room": "number",
        # Where the open names of events begin and end; what stands before them.
        "names": "i8", "open": "i8", "head": "u1",
        # How many are left to be read, and how many templates were looked up.
        "told": "i8",
    },
)  # fmt: skip

Table = NDArray[np.int64]


class _Alone(NamedTuple):
    """A text without a template that was read by the common parser: the event it is, where it begins, and what it says."""

    place: int
    begin: int
    text: bytes
    wire: MetricWire
    series: tuple[str, Shared]


class Reader:
    """Templates, and how records are read with them.

    Shared by all that a process decodes; ``lock`` is held by whoever uses it. ImportError where the kernel was not built.
    ``opened`` leaves the resource's name open; such a reader stands in while the usual one rests.
    """

    def __init__(self, *, opened: bool = False) -> None:
        self._read = KERNEL.function("read", ctypes.c_char_p, ctypes.c_int64, result=None)
        self._find = KERNEL.function("find", ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64, result=None)
        self._keep = KERNEL.function("keep", ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, result=None)
        self.lock = threading.Lock()
        self._resting = 0
        self._stand_in: Reader | None = None
        self._open: Table = np.array([opened, 0], np.int64)
        self._head: NDArray[np.uint8] = np.zeros(_LONGEST_HEAD, np.uint8)
        self._told: Table = np.zeros(2, np.int64)
        self._make_room(0, 0)
        self._clear()

    def _clear(self) -> None:
        self._places: Table = np.zeros(_PLACES, np.int64)
        self._table: Table = np.zeros((1024, _FIELDS), np.int64)
        self._pool: NDArray[np.uint8] = np.zeros(65_536, np.uint8)
        self._count = self._passed = 0
        self._series: NDArray[np.object_] = np.empty((2, len(self._table)), object)
        self._hand_over()

    def _hand_over(self) -> None:
        """Tell the kernel of its arrays, whenever one is replaced by another."""
        self._arguments = KERNEL.arguments(
            places=self._places, table=self._table, pool=self._pool, weights=_WEIGHTS, messages=self._messages,
            numbers=self._numbers, moments=self._moments, values=self._values, unread=self._unread,
            room=len(self._numbers), told=self._told, names=self._names, open=self._open, head=self._head,
        )  # fmt: skip

    # ------------------------------------------------------------------ reading

    def read(self, records: Sequence[StreamRecord], batch: EventBatch) -> Iterator[int]:
        """Append the events of records in order; yields the index of each that the caller must read, in its turn."""
        for begin, end in _stretches(records):
            yield from self._stretch(records, begin, end, batch)

    def _stretch(self, records: Sequence[StreamRecord], begin: int, end: int, batch: EventBatch) -> Iterator[int]:
        if self._count >= _TEMPLATES and self._passed >= _WORTH * _TEMPLATES:
            self._clear()
        self._resting = max(0, self._resting - 1)
        if self._resting and not self._open[_IS_OPEN]:
            self._stand_in = self._stand_in or type(self)(opened=True)
            yield from self._stand_in._stretch(records, begin, end, batch)
            return
        data, sizes = b"", [0] * (end - begin)
        if not self._resting:
            messages = [_message(record.data) for record in records[begin:end]]
            data, sizes = b"".join(messages), [len(message) for message in messages]
        if not data:
            yield from range(begin, end)
            return
        arrivals = [record.arrival for record in records[begin:end]]
        counts, common, series = self._events(data, sizes, arrivals)
        run = given = 0
        for index in (*np.flatnonzero(common).tolist(), end - begin):
            some = counts[run:index]
            mine = slice(given, given + sum(some))
            _give(batch, [column[mine] for column in series], begin + run, some, arrivals[run:index])
            batch.timestamp.frombytes(self._moments[mine].tobytes())
            batch.value.frombytes(self._values[mine].tobytes())
            given += sum(counts[run : index + 1])
            if index < end - begin:
                yield begin + index
            run = index + 1

    def _events(
        self, data: bytes, sizes: list[int], arrivals: list[int]
    ) -> tuple[list[int], NDArray[np.bool_], list[list[Any]]]:
        """Read messages into the columns: how many events of each, which must be read the common way, and what the
        series' columns hold."""
        if (room := len(data) // _SHORTEST + 1) > len(self._numbers) or len(sizes) > len(self._messages):
            self._make_room(max(room, len(self._numbers)), max(len(sizes), len(self._messages)))
            self._hand_over()
        messages = self._messages[: len(sizes)]
        arrived = np.array(arrivals, np.int64)
        messages[:, _UNTIL] = np.cumsum(sizes)
        # Smaller numbers are seconds.
        messages[:, _EARLIEST] = np.maximum(arrived - times.MAX_BEHIND, times.MILLISECONDS_FROM)
        messages[:, _LATEST] = arrived + times.MAX_AHEAD
        messages[:, _MOST] = min(MAX_ITEMS, kpl.MAX_USER_RECORDS)
        self._read(self._arguments, data, len(sizes))
        unread, lookups = self._told.tolist()
        counts = messages[:, _COUNT].copy()
        common = counts < 0
        counts[common] = 0
        after = np.cumsum(counts)
        count = int(after[-1])
        alone: list[_Alone] = []
        if unread:
            left = self._unread[:unread]
            of = np.searchsorted(after, left[:, 0], side="right").tolist()
            for (place, first, last), record in zip(left.tolist(), of, strict=True):
                if self._numbers[place] >= 0:
                    self._values[place] = float(data[first:last]) + 0.0  # as everywhere, -0.0 is the plain zero
                    continue
                try:
                    alone.append(self._one(data[first:last], first, place, arrivals[record]))
                except (Refused, *native.UNREADABLE):
                    common[record] = True
            bad = np.flatnonzero(~np.isfinite(self._values[:count]))
            common[np.searchsorted(after, bad, side="right")] = True
        numbers = self._numbers[:count]
        series = [known[numbers].tolist() for known in self._series]
        if self._open[_IS_OPEN]:
            lookups = len(alone)  # of so few templates it costs little to look for one
            series[0] = [data[begin:end].decode("ascii") for begin, end in self._names[:count].tolist()]
        # What is learned is no use lookup: it has not been expected, but will be.
        learned = self._learn(data, alone)
        if count >= _MANY and 2 * (lookups - learned) > count:
            self._resting = _REST
        self._passed += count
        for one in alone:
            for column, value in zip(series, one.series, strict=True):
                column[one.place] = value
        return counts.tolist(), common, series

    def _one(self, text: bytes, begin: int, place: int, arrival: int) -> _Alone:
        """Read a text without a template. Raises as reading it does."""
        wire: MetricWire = native.parse(text)
        series = native.series_of(wire)
        moment = times.milliseconds(wire.timestamp)
        times.check(moment, arrival, moment)
        self._moments[place], self._values[place] = moment, wire.value + 0.0
        return _Alone(place, begin, text, wire, series)

    def _make_room(self, events: int, messages: int) -> None:
        self._numbers, self._moments, self._values = np.empty(events, np.int64), np.empty(events, np.int64), np.empty(events)
        self._unread: Table = np.empty((events, 3), np.int64)
        self._messages: Table = np.empty((messages, _MESSAGES), np.int64)
        self._names: Table = np.empty((events if self._open[_IS_OPEN] else 0, 2), np.int64)

    # ------------------------------------------------------------------ learning

    def _learn(self, data: bytes, alone: list[_Alone]) -> int:
        """Make templates of texts that were read alone, as far as they can be such; of how many there is one now."""
        alone = alone[: _TEMPLATES - self._count]
        if not alone:
            return 0
        heads = [0] * len(alone)
        if self._open[_IS_OPEN]:
            heads = [self._behind_name(one) for one in alone]
            alone = [one for one, head in zip(alone, heads, strict=True) if head]
            heads = [head for head in heads if head]
            if not alone:
                return 0
        spans = np.array(
            [(one.begin + head, one.begin + len(one.text), 0, 0, 0, 0, 0) for one, head in zip(alone, heads, strict=True)],
            np.int64,
        )
        self._find(self._arguments, data, spans.ctypes.data, len(spans))
        for number, (one, span) in enumerate(zip(alone, spans[:, _FIRST:_ORDER].tolist(), strict=True)):
            spans[number, _ORDER] = _order(one, span) if span[-1] else _NONE
        size = int((spans[:, _STOP] - spans[:, _BEGIN]).sum()) + int(self._table[self._count - 1, _END])
        self._grow(size, self._count + len(alone))
        before, able = self._count, int(np.count_nonzero(spans[:, _ORDER] != _NONE))
        self._keep(self._arguments, data, spans.ctypes.data, len(spans), before)
        for number in np.flatnonzero(spans[:, _ORDER] != _NONE).tolist():
            for column, value in zip(self._series, alone[number].series, strict=True):
                column[self._count] = value
            self._count += 1
        # Where names are open, one template is that of many texts.
        return able if self._open[_IS_OPEN] else self._count - before

    def _behind_name(self, alone: _Alone) -> int:
        """Where a text goes on behind the resource's name, 0 where that cannot be left open.

        Before the name must stand what stands before the first one that was left open, without a number; and with
        another name there the text must mean the same of that.
        """
        text, wire = alone.text, alone.wire
        if not wire.resource.isascii():
            return 0
        name = wire.resource.encode()
        other = "b" if wire.resource == "a" else "a"
        at = text.find(b'"' + name + b'"') + 1
        size = int(self._open[_HEAD_SIZE])
        if not 0 < at <= _LONGEST_HEAD or any(48 <= byte <= 57 for byte in text[:at]):
            return 0
        if size and text[:at] != self._head[:size].tobytes():
            return 0
        try:
            trial = native.parse(text[:at] + other.encode() + text[at + len(name) :])
        except native.UNREADABLE:
            return 0
        said, meant = ((one.metric, one.unit, one.timestamp, one.value, bytes(one.dimensions)) for one in (trial, wire))
        if trial.resource != other or said != meant:
            return 0
        if not size:
            self._head[:at] = np.frombuffer(text[:at], np.uint8)
            self._open[_HEAD_SIZE] = at
        return at + len(name)

    def _grow(self, size: int, count: int) -> None:
        """Room for templates, so many and of so many bytes."""
        if size <= len(self._pool) and count <= len(self._table):
            return
        if size > len(self._pool):
            self._pool = np.concatenate([self._pool, np.zeros(max(len(self._pool), size), np.uint8)])
        while count > len(self._table):
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
            self._series = np.concatenate([self._series, np.empty_like(self._series)], axis=1)
        self._hand_over()


def _stretches(records: Sequence[StreamRecord]) -> Iterator[tuple[int, int]]:
    """Records to be read together: what is read and what is made of it stay in the processor's cache."""
    begin = size = 0
    for index, record in enumerate(records):
        size += len(record.data)
        if size >= _STRETCH:
            yield begin, index + 1
            begin, size = index + 1, 0
    if begin < len(records):
        yield begin, len(records)


def _give(batch: EventBatch, columns: list[list[Any]], first: int, counts: list[int], arrivals: list[int]) -> None:
    """Append the series and places of records' events that follow one another; ``first`` is the first record's index."""
    resource, shared = columns
    batch.resource += resource
    batch.shared += shared
    for index, (count, arrival) in enumerate(zip(counts, arrivals, strict=True), first):
        batch.place_users(index, arrival, range(count))


def _message(data: bytes) -> bytes:
    """The message of a whole aggregate, nothing of anything else."""
    message = data[len(kpl.MAGIC) : -kpl.DIGEST_SIZE]
    if not data.startswith(kpl.MAGIC) or hashlib.md5(message, usedforsecurity=False).digest() != data[-kpl.DIGEST_SIZE :]:
        return b""
    return message


def _order(alone: _Alone, span: list[int]) -> int:
    """Which of a text's two numbers is the time and which the value, if they are.

    The text is read with other numbers in these places: they must come back, and nothing else be different.
    """
    text, wire = alone.text, alone.wire
    first, first_end, second, second_end = (at - alone.begin for at in span)
    for order, numbers in ((_TIME, (b"123456789012", b"0.5")), (_VALUE, (b"0.5", b"123456789012"))):
        try:
            trial = native.parse(text[:first] + numbers[0] + text[first_end:second] + numbers[1] + text[second_end:])
        except native.UNREADABLE:
            continue
        if (trial.timestamp, trial.value) == (123456789012, 0.5):
            same = (trial.resource, trial.metric, trial.unit) == (wire.resource, wire.metric, wire.unit)
            return order if same and bytes(trial.dimensions) == bytes(wire.dimensions) else _NONE
    return _NONE


_reader: list[Reader] = []


def reader() -> Reader:
    """The process's reader."""
    if not _reader:
        _reader.append(Reader())
    return _reader[0]
