"""Columns of decoded events, in the order of the stream.

Plain Python lists: functions that only decode need not carry NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.dead_letters import DeadLetter
from schemas.events import Signal


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


@dataclass(slots=True)
class EventBatch:
    """Decoded records of one shard.

    ``sequence_numbers`` has one entry a Kinesis record. All other metric columns have one entry a
    metric event: ``record`` is an index into ``sequence_numbers``; ``sub_sequence`` the user
    record within an aggregate; ``item`` counts the events of one user record; ``timestamp`` and
    ``arrival`` are epoch milliseconds; ``series`` is ``schemas.names.series_name(metric,
    dimensions)``; values are finite. Events of one series may share one ``dimensions`` dictionary,
    across batches too: it is read, never changed.
    """

    sequence_numbers: list[str] = field(default_factory=list)
    record: list[int] = field(default_factory=list)
    sub_sequence: list[int] = field(default_factory=list)
    item: list[int] = field(default_factory=list)
    resource: list[str] = field(default_factory=list)
    metric: list[str] = field(default_factory=list)
    series: list[str] = field(default_factory=list)
    timestamp: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    arrival: list[int] = field(default_factory=list)
    unit: list[str | None] = field(default_factory=list)
    dimensions: list[dict[str, str] | None] = field(default_factory=list)
    signals: list[PlacedSignal] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.timestamp)
