"""Native metrics in KPL aggregates as compiled loops, where numba is installed: the same events, sooner.

A sender repeats itself: of a series' texts only time and value differ. What stays the same around
these two numbers is a template. One is learned from a text that was read the common way, after a
trial with other numbers has shown which two they are; a text that equals it byte for byte, with two
numbers in the same places, then means the same. An aggregate is read here as a whole or not at all:
whatever is not sure (a text that is no native metric, a protobuf field that is seldom used) leaves it to
``kpl`` and ``native``, which know every rule and refuse.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from stream_processors.records import kpl, native, times
from stream_processors.records.batch import EventBatch, Shared, StreamRecord
from stream_processors.records.native import MetricWire
from stream_processors.records.refused import Refused
from stream_processors.records.sink import MAX_ITEMS

_jit: Callable[[Any], Any] = numba.njit(cache=True, error_model="numpy", fastmath=False)

_TEMPLATES = 131_072
"""Most templates that are kept."""
_LONGEST = 1024
"""Bytes of the longest text that becomes a template."""
_WORTH = 16
"""Full, the table begins anew once so many times its size in events have passed: to learn costs ten times a reading."""
_PLACES = 4 * _TEMPLATES
_PROBES = 32
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
_POWERS = np.array([10.0**n for n in range(_EXACT_FRACTION + 1)])
_WEIGHTS = np.random.default_rng(0).integers(1, 2**32, _LONGEST, np.uint64)
_TIME_DIGITS = 15
"""Most digits of a time that is read here."""

_FROM, _MIDDLE, _TAIL, _END, _TIME_FIRST, _AFTER, _FIELDS = range(7)
"""Of a template: where its bytes begin, where those after the first and after the second number do, where they end,
whether the first number is the time, and the template that was read after it the last time."""

_NONE, _TIME, _VALUE = range(3)
"""Of a text's two numbers the first is the time, or the value; or neither is known."""

Table = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Texts = tuple[Table, Table, Bytes, NDArray[np.uint64]]
"""The hash table's numbers of templates, the templates, their bytes, and the weights of the hash."""
Columns = tuple[Table, Table, NDArray[np.float64], Table, NDArray[np.float64]]
"""Where events go: templates, times, values, what is left to be read (event, begin, end); and the powers of ten."""


def _py_digit(c: int) -> bool:
    return 48 <= c <= 57


_digit = _jit(_py_digit)


def _py_numeric(c: int) -> bool:
    """Whether a byte may belong to a number."""
    return _digit(c) or c == 45 or c == 46 or c == 43 or c == 69 or c == 101


_numeric = _jit(_py_numeric)


def _py_next(data: Bytes, begin: int, end: int, depth: int) -> int:
    """Where the next number is that is a member of a text's outermost object, or the text's end."""
    at = begin
    while at < end:
        c = data[at]
        at += 1
        if c == 34:  # "
            while at < end and data[at] != 34:
                at += 2 if data[at] == 92 else 1  # \
            at += 1
        elif c == 123 or c == 91:  # { [
            depth += 1
        elif c == 125 or c == 93:  # } ]
            depth -= 1
        elif depth == 1 and (_digit(c) or c == 45):
            return at - 1
    return end


_next = _jit(_py_next)


def _py_numbers(data: Bytes, begin: int, end: int, found: Table) -> bool:
    """Where the two numbers are that are members of a text's outermost object; False if there are not just two."""
    at = _next(data, begin, end, 0)
    for number in range(2):
        if at == end:
            return False
        found[2 * number] = at
        while at < end and _numeric(data[at]):
            at += 1
        found[2 * number + 1] = at
        at = _next(data, at, end, 1)
    return bool(at == end)


_numbers = _jit(_py_numbers)


def _py_hash(data: Bytes, begin: int, end: int, weights: NDArray[np.uint64]) -> int:
    """Place in the table for a template that begins with these bytes."""
    text, weight = data[begin:end], weights[: end - begin]
    total = np.uint64(0)
    for n in range(len(text)):
        total += np.uint64(text[n]) * weight[n]
    total ^= total >> np.uint64(32)
    total *= np.uint64(0x9E3779B97F4A7C15)
    return int(total >> np.uint64(33))


_hash = _jit(_py_hash)


def _py_same(data: Bytes, at: int, pool: Bytes, begin: int, end: int) -> bool:
    one, other = data[at : at + end - begin], pool[begin:end]  # sliced, so that no index can be negative: a vector loop
    different = np.uint8(0)
    for n in range(len(one)):
        different |= one[n] ^ other[n]
    return bool(different == 0)


_same = _jit(_py_same)


def _py_equals(data: Bytes, begin: int, end: int, found: Table, table: Table, number: int, pool: Bytes) -> bool:
    """Whether the bytes around the numbers are a template's."""
    return bool(
        found[0] - begin == table[number, _MIDDLE] - table[number, _FROM]
        and found[2] - found[1] == table[number, _TAIL] - table[number, _MIDDLE]
        and end - found[3] == table[number, _END] - table[number, _TAIL]
        and _same(data, begin, pool, table[number, _FROM], table[number, _MIDDLE])
        and _same(data, found[1], pool, table[number, _MIDDLE], table[number, _TAIL])
        and _same(data, found[3], pool, table[number, _TAIL], table[number, _END])
    )


_equals = _jit(_py_equals)


@_jit
def _find(data: Bytes, spans: Table) -> None:  # pragma: no cover (compiled)
    """The numbers of texts, whose begin and end stand in the first two columns; nothing where there are not just two."""
    for n in range(len(spans)):
        if spans[n, 1] - spans[n, 0] > _LONGEST or not _numbers(data, spans[n, 0], spans[n, 1], spans[n, 2:6]):
            spans[n, 2:6] = 0


@_jit
def _keep(
    data: Bytes, spans: Table, places: Table, table: Table, pool: Bytes, weights: NDArray[np.uint64], number: int
) -> NDArray[np.bool_]:  # pragma: no cover (compiled)
    """Write templates; tells which are new and had a place."""
    new = np.zeros(len(spans), np.bool_)
    before = -1
    for n in range(len(spans)):
        begin, end, found, order = spans[n, 0], spans[n, 1], spans[n, 2:6], spans[n, 6]
        if order == _NONE:
            continue
        place = _hash(data, begin, found[0], weights)
        for probe in range(_PROBES):
            free = (place + probe) % _PLACES
            if places[free] >= 0:
                if _equals(data, begin, end, found, table, places[free], pool):
                    before = places[free]
                    break
                continue
            at = table[number - 1, _END] if number else 0
            table[number, _FROM] = at
            for piece in range(3):
                first = begin if piece == 0 else found[2 * piece - 1]
                last = end if piece == 2 else found[2 * piece]
                pool[at : at + last - first] = data[first:last]
                at += last - first
                table[number, _FROM + 1 + piece] = at
            table[number, _TIME_FIRST], table[number, _AFTER] = order == _TIME, -1
            if before >= 0:  # as they followed one another here, so they are expected
                table[before, _AFTER] = number
            places[free] = before = number
            new[n] = True
            number += 1
            break
    return new


def _py_value(data: Bytes, begin: int, end: int, powers: NDArray[np.float64]) -> tuple[int, float, bool]:
    """Where a number ends, its value, and whether that is exact; the end is -1 where it is none by JSON's grammar."""
    at = begin
    negative = at < end and data[at] == 45
    if negative:
        at += 1
    whole = at
    mantissa = np.int64(0)
    while at < end and _digit(data[at]):
        if at - whole < 18:
            mantissa = mantissa * 10 + data[at] - 48
        at += 1
    digits, decimals = at - whole, 0
    if digits == 0 or (digits > 1 and data[whole] == 48):
        return -1, 0.0, False
    if at < end and data[at] == 46:
        at += 1
        point = at
        while at < end and _digit(data[at]):
            if digits + at - point < 18:
                mantissa = mantissa * 10 + data[at] - 48
            at += 1
        decimals = at - point
        if decimals == 0:
            return -1, 0.0, False
    if at < end and (data[at] == 69 or data[at] == 101):
        at += 1
        if at < end and (data[at] == 43 or data[at] == 45):
            at += 1
        power = at
        while at < end and _digit(data[at]):
            at += 1
        return (at if at > power else -1), 0.0, False
    if digits + decimals > _EXACT_DIGITS or decimals > _EXACT_FRACTION:
        return (at if decimals else -1), 0.0, False  # long integers are left to msgspec
    value = np.float64(mantissa) / powers[decimals]
    return at, (-value + 0.0 if negative else value), True


_value = _jit(_py_value)


def _py_moment(data: Bytes, begin: int, end: int) -> tuple[int, int]:
    """Where epoch milliseconds that are written as such end, and which they are; the end is -1 where they are not."""
    moment = np.int64(0)
    at = begin
    while at < end and _digit(data[at]) and at - begin <= _TIME_DIGITS:
        moment = moment * 10 + data[at] - 48
        at += 1
    if not 0 < at - begin <= _TIME_DIGITS or data[begin] == 48:
        return -1, 0
    return at, int(moment)


_moment = _jit(_py_moment)


def _py_parse(
    data: Bytes, begin: int, end: int, table: Table, number: int, pool: Bytes, powers: NDArray[np.float64], place: Table
) -> tuple[int, float, bool]:
    """Time and value of a text of a template, and whether the value is exact; the time is -1 where it is no such text.

    ``place`` takes where the value is.
    """
    first = begin + table[number, _MIDDLE] - table[number, _FROM]
    gap = table[number, _TAIL] - table[number, _MIDDLE]
    if table[number, _TIME_FIRST]:
        stop, moment = _moment(data, first, end)
        second = stop + gap
        last, value, exact = _value(data, second, end, powers)
        place[0], place[1] = second, last
    else:
        stop, value, exact = _value(data, first, end, powers)
        second = stop + gap
        last, moment = _moment(data, second, end)
        place[0], place[1] = first, stop
    if (
        stop < 0
        or last < 0
        or end - last != table[number, _END] - table[number, _TAIL]
        or not _same(data, begin, pool, table[number, _FROM], table[number, _MIDDLE])
        or not _same(data, stop, pool, table[number, _MIDDLE], table[number, _TAIL])
        or not _same(data, last, pool, table[number, _TAIL], table[number, _END])
    ):
        return -1, 0.0, False
    return moment, value, exact


_parse = _jit(_py_parse)


def _py_lookup(
    data: Bytes, begin: int, end: int, texts: Texts, powers: NDArray[np.float64], place: Table
) -> tuple[int, int, float, bool]:
    """The template of a text, or -1, and what ``parse`` finds."""
    places, table, pool, weights = texts
    head = _next(data, begin, end, 0)
    if end - begin <= _LONGEST:
        first = _hash(data, begin, head, weights)
        for probe in range(_PROBES):
            number = places[(first + probe) % _PLACES]
            if number < 0:
                break
            if head - begin == table[number, _MIDDLE] - table[number, _FROM]:
                moment, value, exact = _parse(data, begin, end, table, number, pool, powers, place)
                if moment >= 0:
                    return int(number), moment, value, exact
    return -1, -1, 0.0, False


_lookup = _jit(_py_lookup)


def _py_varint(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """A protobuf number of up to five bytes and the place behind it; the place is -1 where there is none."""
    number = np.int64(0)
    for n in range(5):
        if at + n >= end:
            break
        number |= np.int64(data[at + n] & 127) << (7 * n)
        if data[at + n] < 128:
            return int(number), at + n + 1
    return 0, -1


_varint = _jit(_py_varint)


def _py_user(data: Bytes, at: int, stop: int) -> tuple[int, int]:
    """A user record's partition key and where its text begins, which ends with it; the key is -1 where that is unusual."""
    if at >= stop or data[at] != 8:
        return -1, at
    key, at = _varint(data, at + 1, stop)
    if at >= 0 and at < stop and data[at] == 16:  # an explicit hash key
        _, at = _varint(data, at + 1, stop)
    if at < 0 or at >= stop or data[at] != 26:
        return -1, at
    size, at = _varint(data, at + 1, stop)
    return (key, at) if at >= 0 and size > 0 and at + size == stop else (-1, at)


_user = _jit(_py_user)


def _py_aggregate(
    data: Bytes, begin: int, end: int, bounds: Table, last: int, filled: int, unread: int, texts: Texts, columns: Columns
) -> tuple[int, int, int]:
    """Events of an aggregate's message into the columns: how many, or -1, how much is then left to be read, and how
    many texts were not of the template that was expected.

    A value that is not exact is left, and with the number -1 a text without a template.
    """
    numbers, moments, values, unread_at, powers = columns
    _, table, pool, _ = texts
    found = np.empty(2, np.int64)
    count = keys = looked = 0
    highest, value = -1, 0.0
    at = begin
    while at < end:
        tag = data[at]
        size, at = _varint(data, at + 1, end)
        if at < 0 or at + size > end:
            return -1, unread, looked
        stop = at + size
        if tag == 10 or tag == 18:  # a partition key, an explicit hash key
            for n in range(at, stop):
                if data[n] > 127:
                    return -1, unread, looked
            keys += tag == 10
            at = stop
            continue
        if tag != 26 or count == bounds[2] or filled + count >= len(numbers):
            return -1, unread, looked
        key, at = _user(data, at, stop)
        if key < 0:
            return -1, unread, looked
        # What followed the last one the last time is tried first.
        number, moment, exact = (table[last, _AFTER] if last >= 0 else -1), -1, False
        if number >= 0:
            moment, value, exact = _parse(data, at, stop, table, number, pool, powers, found)
        if moment < 0:
            looked += 1
            number, moment, value, exact = _lookup(data, at, stop, texts, powers, found)
            if number >= 0 and last >= 0:
                table[last, _AFTER] = number
        if moment < bounds[0] or moment > bounds[1]:
            number, exact, found[0], found[1] = -1, False, at, stop
        place = filled + count
        if not exact:
            unread_at[unread, 0], unread_at[unread, 1], unread_at[unread, 2] = place, found[0], found[1]
            unread += 1
        numbers[place], moments[place], values[place] = number, moment, value
        highest, last = max(highest, key), number
        count += 1
        at = stop
    return (count if count and highest < keys else -1), unread, looked


_aggregate = _jit(_py_aggregate)


@_jit
def _read(data: Bytes, ends: Table, bounds: Table, texts: Texts, columns: Columns, counts: Table) -> tuple[int, int]:
    """Events of all aggregates' messages, whose ends are given; returns how much is left to be read, and how
    many templates were looked up.

    ``bounds`` are earliest and latest time and most events of each. What numba compiled before, it would go on
    using with the constants of other modules as they were: none is used here, they come as arguments.
    """
    begin = filled = unread = lookups = 0
    last = -1
    for n in range(len(ends)):
        count, more, looked = _aggregate(data, begin, ends[n], bounds[n], last, filled, unread, texts, columns)
        if count > 0:
            filled, unread, last = filled + count, more, columns[0][filled + count - 1]
        lookups += looked
        counts[n], begin = count, ends[n]
    return unread, lookups


class _Alone(NamedTuple):
    """A text without a template that was read by the common parser: the event it is, where it begins, and what it says."""

    place: int
    begin: int
    text: bytes
    wire: MetricWire
    series: tuple[str, Shared]


class Reader:
    """Templates, and how records are read with them.

    Shared by all that a process decodes; ``lock`` is held by whoever uses it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._resting = 0
        self._make_room(0)
        self._clear()

    def _clear(self) -> None:
        self._places: Table = np.full(_PLACES, -1, np.int64)
        self._table: Table = np.zeros((1024, _FIELDS), np.int64)
        self._pool: Bytes = np.zeros(65_536, np.uint8)
        self._count = self._passed = 0
        self._series: NDArray[np.object_] = np.empty((2, len(self._table)), object)

    @property
    def _texts(self) -> Texts:
        return self._places, self._table, self._pool, _WEIGHTS

    # ------------------------------------------------------------------ reading

    def read(self, records: Sequence[StreamRecord], batch: EventBatch) -> Iterator[int]:
        """Append the events of records in order; yields the index of each that the caller must read, in its turn."""
        for begin, end in _stretches(records):
            yield from self._stretch(records, begin, end, batch)

    def _stretch(self, records: Sequence[StreamRecord], begin: int, end: int, batch: EventBatch) -> Iterator[int]:
        if self._count >= _TEMPLATES and self._passed >= _WORTH * _TEMPLATES:
            self._clear()
        self._resting = max(0, self._resting - 1)
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
        if (room := len(data) // _SHORTEST + 1) > len(self._numbers):
            self._make_room(room)
        arrived = np.array(arrivals, np.int64)
        bounds = np.empty((len(sizes), 3), np.int64)
        # Smaller numbers are seconds.
        bounds[:, 0] = np.maximum(arrived - times.MAX_BEHIND, times.MILLISECONDS_FROM)
        bounds[:, 1], bounds[:, 2] = arrived + times.MAX_AHEAD, min(MAX_ITEMS, kpl.MAX_USER_RECORDS)
        counts = np.empty(len(sizes), np.int64)
        into = (self._numbers, self._moments, self._values, self._unread, _POWERS)
        text = np.frombuffer(data, np.uint8)
        unread, lookups = _read(text, np.cumsum(sizes), bounds, self._texts, into, counts)
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
        # What is learned is no use lookup: it has not been expected, but will be.
        learned = self._learn(text, alone)
        if count >= _MANY and 2 * (lookups - learned) > count:
            self._resting = _REST
        self._passed += count
        numbers = self._numbers[:count]
        series = [known[numbers].tolist() for known in self._series]
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

    def _make_room(self, size: int) -> None:
        self._numbers, self._moments, self._values = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
        self._unread = np.empty((size, 3), np.int64)

    # ------------------------------------------------------------------ learning

    def _learn(self, text: Bytes, alone: list[_Alone]) -> int:
        """Make templates of texts that were read alone, as far as they can be such; returns how many there are more."""
        alone = alone[: _TEMPLATES - self._count]
        if not alone:
            return 0
        spans = np.array([(one.begin, one.begin + len(one.text), 0, 0, 0, 0, 0) for one in alone], np.int64)
        _find(text, spans)
        for number, (one, span) in enumerate(zip(alone, spans[:, 2:6].tolist(), strict=True)):
            spans[number, 6] = _order(one, span) if span[3] else _NONE
        size = int((spans[:, 1] - spans[:, 0]).sum()) + int(self._table[self._count - 1, _END])
        if size > len(self._pool):
            self._pool = np.concatenate([self._pool, np.zeros(max(len(self._pool), size), np.uint8)])
        while self._count + len(alone) > len(self._table):
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
            self._series = np.concatenate([self._series, np.empty_like(self._series)], axis=1)
        before = self._count
        for number in np.flatnonzero(_keep(text, spans, *self._texts, before)).tolist():
            for column, value in zip(self._series, alone[number].series, strict=True):
                column[self._count] = value
            self._count += 1
        return self._count - before


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
