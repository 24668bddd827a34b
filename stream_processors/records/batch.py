"""Columns of decoded events, in the order of the stream.

Texts are in lists and numbers in Python's own arrays: functions that only decode need not carry NumPy, and NumPy reads
these where they are.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from functools import cache

import msgspec

from schemas.dead_letters import DeadLetter
from schemas.events import Signal

_FEW = 16
"""Numbers that are appended by way of a list: an array made for fewer costs more than it saves."""


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One record as Kinesis delivers it. ``arrival`` is epoch milliseconds."""

    shard_id: str
    sequence_number: str
    partition_key: str
    arrival: int
    data: bytes


@dataclass(frozen=True, slots=True)
class PlacedSignal:
    """A signal and its place; ``before`` is the number of metric events that precede it in the batch."""

    before: int
    record: int
    sub_sequence: int
    item: int
    signal: Signal


class Shared(msgspec.Struct, frozen=True, gc=False):
    """What the events of one series have in common, beside their resource; one object for many events."""

    series: str
    metric: str
    unit: str | None = None
    dimensions: dict[str, str] | None = None


@dataclass(slots=True)
class EventBatch:
    """Decoded records of one shard.

    ``sequence_numbers`` has one entry a Kinesis record. All other metric columns have one entry a
    metric event: ``record`` is an index into ``sequence_numbers``; ``sub_sequence`` the user
    record within an aggregate; ``item`` counts the events of one user record; ``timestamp`` and
    ``arrival`` are epoch milliseconds; in ``shared`` the series is ``schemas.names.series_name(metric,
    dimensions)``; values are finite. Events of one series may share one object of ``shared``, and its
    dictionary of dimensions, across batches too: it is read, never changed.
    """

    sequence_numbers: list[str] = field(default_factory=list)
    record: array[int] = field(default_factory=lambda: array("i"))
    sub_sequence: array[int] = field(default_factory=lambda: array("i"))
    item: array[int] = field(default_factory=lambda: array("i"))
    resource: list[str] = field(default_factory=list)
    shared: list[Shared] = field(default_factory=list)
    timestamp: array[int] = field(default_factory=lambda: array("q"))
    value: array[float] = field(default_factory=lambda: array("d"))
    arrival: array[int] = field(default_factory=lambda: array("q"))
    signals: list[PlacedSignal] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.timestamp)

    @property
    def metric(self) -> list[str]:
        """Metrics, as a column made anew."""
        return [one.metric for one in self.shared]

    @property
    def series(self) -> list[str]:
        """Names of series, as a column made anew."""
        return [one.series for one in self.shared]

    @property
    def unit(self) -> list[str | None]:
        """Units, as a column made anew."""
        return [one.unit for one in self.shared]

    @property
    def dimensions(self) -> list[dict[str, str] | None]:
        """Dimensions, as a column made anew."""
        return [one.dimensions for one in self.shared]

    def place_users(self, record: int, arrival: int, sub_sequences: range) -> None:
        """Append the places of events of one record, each a user record of its own."""
        count = len(sub_sequences)
        repeat(self.record, record, count)
        repeat(self.arrival, arrival, count)
        _count(self.sub_sequence, sub_sequences)
        repeat(self.item, 0, count)

    def place_items(self, record: int, arrival: int, sub_sequence: int, items: range) -> None:
        """Append the places of events of one user record."""
        count = len(items)
        repeat(self.record, record, count)
        repeat(self.arrival, arrival, count)
        repeat(self.sub_sequence, sub_sequence, count)
        _count(self.item, items)


def repeat(column: array[int], number: int, count: int) -> None:
    """Append a number so many times."""
    if count == 1:
        column.append(number)
    elif count < _FEW:
        column.fromlist([number] * count)
    else:
        column += array(column.typecode, (number,)) * count


def _count(column: array[int], numbers: range) -> None:
    if len(numbers) < _FEW:
        column.extend(numbers)
    else:
        column += _counting(numbers.stop.bit_length())[numbers.start : numbers.stop]


@cache
def _counting(bits: int) -> array[int]:
    """Numbers from 0 on that have so many bits. A record's events are bounded, and so are these."""
    return array("i", range(1 << bits))
