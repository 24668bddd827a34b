"""Batches of events for tests of the core."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.events import Signal
from stream_processors.records.batch import EventBatch, PlacedSignal, Shared

Event = tuple[str, str, int, float]
"""Resource, metric, epoch milliseconds, value."""


def batch(items: Iterable[Event | Signal]) -> EventBatch:
    """Events and signals in order, one Kinesis record each, arrived when they happened."""
    made = EventBatch()
    for number, item in enumerate(items):
        made.sequence_numbers.append(str(number))
        if not isinstance(item, tuple):
            made.signals.append(PlacedSignal(len(made), number, 0, 0, item))
            continue
        resource, metric, timestamp, value = item
        made.record.append(number)
        made.sub_sequence.append(0)
        made.item.append(0)
        made.resource.append(resource)
        made.shared.append(Shared(metric, metric))
        made.timestamp.append(timestamp)
        made.value.append(value)
        made.arrival.append(timestamp)
    return made
