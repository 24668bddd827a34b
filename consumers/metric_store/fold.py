"""Events folded into host minutes: what the Metrics table keeps. Pure; knows neither AWS nor the clock.

The rule: within a minute the greatest reading of a series wins, readings being compared by event
time, then by value, then by unit. It does not depend on the order in which readings come, on how
they are cut into batches, or on repetition. The bound on a minute's series follows such a rule too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from runtime.dynamodb import Item, attribute, plain, storable
from schemas.events import HOST_METRICS
from stream_processors.records.batch import EventBatch

MINUTE_MS = 60_000
BUDGET = 320_000
"""Most bytes that the series of one item may come to; DynamoDB takes items up to 400 KB."""
MAX_UNIT = 64
"""Longest unit kept, in bytes of UTF-8."""

Reading = tuple[int, float, str]
"""Event time in epoch milliseconds, value, unit (empty for none)."""
Readings = dict[str, Reading]
"""Readings of a host and minute by series (``schemas.names.series_name``)."""


@dataclass(slots=True)
class HostMinute:
    """Readings of one host in one minute, from one batch.

    ``minute`` is the epoch milliseconds at which it begins; ``first_record`` is the index of the
    first Kinesis record of the batch that has a reading of it.
    """

    hostname: str
    minute: int
    first_record: int
    readings: Readings


def fold(batch: EventBatch) -> list[HostMinute]:
    """Host minutes of a batch, by the record in which they first come."""
    minutes: dict[tuple[str, int], HostMinute] = {}
    for record, resource, series, time, value, unit in zip(
        batch.record, batch.resource, batch.series, batch.timestamp, batch.value, batch.unit, strict=True
    ):
        key = (resource, time - time % MINUTE_MS)
        minute = minutes.get(key)
        if minute is None:
            minute = minutes[key] = HostMinute(resource, key[1], record, {})
        reading = (time, storable(value), _unit(unit))
        held = minute.readings.get(series)
        if held is None or held < reading:
            minute.readings[series] = reading
    return list(minutes.values())


def _unit(unit: str | None) -> str:
    return unit if unit and len(unit.encode()) <= MAX_UNIT else ""


def merge(known: Readings, more: Readings) -> Readings:
    """The readings that stay of both, within the bound of an item."""
    merged = dict(known)
    for series, reading in more.items():
        held = merged.get(series)
        if held is None or held < reading:
            merged[series] = reading
    return _bounded(merged)


def _cost(series: str) -> int:
    """Bytes that a series may take: its name in three maps, value, time, unit and their overhead."""
    return 3 * len(series.encode()) + 128


def _bounded(readings: Readings) -> Readings:
    """The columns of the host sample, and of the other series those with the shortest names that fit.

    Shortest first: a series that was left out stays out whatever comes later, so the order of
    arrival decides nothing; and names that explode have an id in them, which makes them long.
    """
    others = [series for series in readings if series not in HOST_METRICS]
    room = BUDGET - sum(map(_cost, others))
    if room >= 0:
        return readings
    others.sort(key=lambda series: (len(series.encode()), series), reverse=True)
    kept = dict(readings)
    for series in others:
        if room >= 0:
            break
        room += _cost(series)
        del kept[series]
    return kept


def to_attributes(readings: Readings) -> dict[str, Any]:
    """Attributes of an item: a column for each metric of the host sample, maps for all others.

    ``metrics`` {series: value}; ``units`` {series: unit} where there is one; ``latest`` the event
    time of the newest reading, and ``earlier`` {series: event time} for those that are not as new.
    Maps with nothing in them are left out.
    """
    latest = max(time for time, _, _ in readings.values())
    columns: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    units: dict[str, str] = {}
    earlier: dict[str, int] = {}
    for series, (time, value, unit) in readings.items():
        (columns if series in HOST_METRICS else metrics)[series] = value
        if unit != HOST_METRICS.get(series, ""):
            units[series] = unit
        if time != latest:
            earlier[series] = time
    maps = {"metrics": metrics, "units": units, "earlier": earlier}
    found = {**columns, **{name: held for name, held in maps.items() if held}, "latest": latest}
    return {name: attribute(value) for name, value in found.items()}


def from_item(item: Item) -> Readings:
    """Readings of an item: what ``to_attributes`` was given."""
    fields = {name: plain(value) for name, value in item.items()}
    units: dict[str, str] = fields.get("units", {})
    earlier: dict[str, int] = fields.get("earlier", {})
    latest: int = fields.get("latest", fields["timestamp"])
    found: Iterable[tuple[str, Any]] = [(name, fields[name]) for name in HOST_METRICS if name in fields]
    return {
        series: (earlier.get(series, latest), float(value), units.get(series, HOST_METRICS.get(series, "")))
        for series, value in [*found, *fields.get("metrics", {}).items()]
    }
