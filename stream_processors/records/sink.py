"""Where readers of formats put what they find: the columns of a batch, at the place they have come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from schemas.dead_letters import DeadLetter
from schemas.events import Signal
from schemas.names import MAX_DIMENSIONS, MAX_NAME_LENGTH, MAX_SERIES_LENGTH, name_problem, series_name
from stream_processors.records import times
from stream_processors.records.batch import EventBatch, PlacedSignal, Shared, StreamRecord, repeat
from stream_processors.records.refused import Refused, shown, wrong_type

MAX_ITEMS = 100_000
"""Most events and refused parts of one Kinesis record."""

_CACHED = 131_072
_CACHED_LENGTH = 128
checked: dict[str, str] = {}
"""Names that were found good, each by itself; bounded by ``begin``."""


def begin() -> None:
    """Keep the cache of checked names within its bound; called once a batch."""
    if len(checked) > _CACHED:
        checked.clear()


def name(value: Any, field: str) -> str:
    """A checked name, the same object each time it comes. Raises Refused naming the field."""
    if value.__class__ is str:
        known = checked.get(value)
        if known is not None:
            return known
    else:
        raise wrong_type(field, value, "text")
    problem = name_problem(value, field)
    if problem:
        raise Refused("name", problem)
    if len(value) <= _CACHED_LENGTH:
        checked[value] = value
    return value


def unit_name(value: Any, field: str = "unit") -> str | None:
    """A checked unit; None where it is absent or empty. Raises Refused."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise wrong_type(field, value, "text")
    if len(value) > MAX_NAME_LENGTH or not value.isprintable():
        raise Refused(
            "name", f"{field} {shown(value)} is longer than {MAX_NAME_LENGTH} characters or holds control characters"
        )
    return value


def number(value: Any, field: str) -> float:
    """A finite number. Truth values, and numbers as text, are none. Raises Refused."""
    if value.__class__ is not float and value.__class__ is not int:
        raise wrong_type(field, value, "a number")
    try:
        # Adding zero makes -0.0 the plain zero: the sign of zero says nothing about a metric.
        converted = float(value) + 0.0
    except OverflowError:
        converted = float("inf")
    if not isfinite(converted):
        raise Refused("not-finite", f"{field} {shown(value)} is beyond the range of a double")
    return converted


def checked_dimensions(dimensions: Mapping[Any, Any] | None, field: str = "dimensions") -> dict[str, str] | None:
    """Checked dimensions; None where there are none. Raises Refused naming the dimension."""
    if not dimensions:
        return None
    if len(dimensions) > MAX_DIMENSIONS:
        raise Refused("name", f"{field} has {len(dimensions)} entries; at most {MAX_DIMENSIONS} are allowed")
    return {
        name(key, f"name of a dimension in {field}"): name(value, f"{field}[{shown(key)}]")
        for key, value in dimensions.items()
    }


def checked_series(metric: str, dimensions: Mapping[str, str] | None) -> str:
    """Series name of checked parts. Raises Refused where it grows too long."""
    made = series_name(metric, dimensions)
    if len(made) > MAX_SERIES_LENGTH:
        raise Refused(
            "name",
            f"series of metric {shown(metric)} has a name of {len(made)} characters with its dimensions; "
            f"at most {MAX_SERIES_LENGTH} are allowed",
        )
    return made


class Full(Exception):
    """A Kinesis record holds more than MAX_ITEMS; what was read so far stays."""


class Sink:
    """Appends to a batch at a place. ``record`` is the Kinesis record being read; readers move
    ``sub_sequence``, ``item`` and ``partition_key`` through it."""

    __slots__ = ("batch", "begun", "index", "item", "partition_key", "record", "sub_sequence", "unpacked")

    def __init__(self, batch: EventBatch, index: int, record: StreamRecord) -> None:
        self.batch = batch
        self.index = index
        self.record = record
        self.sub_sequence = 0
        self.item = 0
        self.partition_key = record.partition_key
        self.unpacked = 0
        self.begun = self.count()

    def count(self) -> int:
        """Events and refused parts that the batch holds so far."""
        batch = self.batch
        return len(batch.timestamp) + len(batch.signals) + len(batch.dead_letters)

    def make_room(self, count: int = 1) -> None:
        """Raise Full if ``count`` more are too many for one Kinesis record."""
        if self.count() - self.begun + count > MAX_ITEMS:
            raise Full

    def time(self, value: Any, field: str = "timestamp") -> int:
        """Epoch milliseconds within the bounds of the record's arrival. Raises Refused."""
        timestamp = times.milliseconds(value, field)
        times.check(timestamp, self.record.arrival, value, field)
        return timestamp

    def metric(
        self,
        resource: Any,
        metric: Any,
        timestamp: int,
        value: float,
        unit: Any = None,
        dimensions: Mapping[Any, Any] | None = None,
    ) -> None:
        """Append one metric event. Names and unit are checked here; ``timestamp`` comes from ``time``,
        ``value`` from ``number``. Raises Refused with nothing appended."""
        self.metrics(resource, timestamp, [(metric, value)], unit, dimensions)

    def metrics(
        self,
        resource: Any,
        timestamp: int,
        values: Sequence[tuple[Any, float]],
        unit: Any,
        dimensions: Mapping[Any, Any] | None,
    ) -> None:
        """Append values of one moment that share resource and dimensions; ``unit`` is one for all or a
        tuple of one each (JSON makes none). Raises Refused with none appended."""
        resource = name(resource, "resource")
        good = checked_dimensions(dimensions)
        metrics = [name(metric, "metric") for metric, _ in values]
        series = [checked_series(metric, good) for metric in metrics]
        count = len(values)
        units = [unit_name(one) for one in unit] if isinstance(unit, tuple) else [unit_name(unit)] * count
        shared = [Shared(one, metric, unit, good) for one, metric, unit in zip(series, metrics, units, strict=True)]
        self.make_room(count)
        batch = self.batch
        self.place(count)
        batch.resource += [resource] * count
        batch.shared += shared
        repeat(batch.timestamp, timestamp, count)
        batch.value.fromlist([value for _, value in values])

    def place(self, count: int) -> None:
        """Append the places of ``count`` metric events, and move on behind them."""
        items = range(self.item, self.item + count)
        self.batch.place_items(self.index, self.record.arrival, self.sub_sequence, items)
        self.item += count

    def signal(self, signal: Signal) -> None:
        """Append one signal."""
        self.make_room()
        self.batch.signals.append(PlacedSignal(len(self.batch.timestamp), self.index, self.sub_sequence, self.item, signal))
        self.item += 1

    def refuse(self, refusal: Refused, raw: bytes) -> None:
        """Append a dead letter for what was refused at this place."""
        self.make_room()
        self.letter(refusal, raw)

    def letter(self, refusal: Refused, raw: bytes) -> None:
        """As ``refuse``, even if the record is full."""
        self.batch.dead_letters.append(
            DeadLetter(
                shard_id=self.record.shard_id,
                sequence_number=self.record.sequence_number,
                sub_sequence=self.sub_sequence,
                item=self.item,
                code=refusal.code,
                reason=refusal.reason,
                raw=bytes(raw),
                partition_key=self.partition_key,
                arrived_at=self.record.arrival,
            )
        )
        self.item += 1
