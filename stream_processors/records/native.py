"""OpsRiver's own formats: the native metric (the fast path) and the host sample.

What these two accept is declared in ``schemas.events``; here they are read straight into columns.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, TypeGuard

import msgspec

from schemas.events import HOST_METRICS
from stream_processors.records import sink as sinks
from stream_processors.records import times
from stream_processors.records.batch import Shared, repeat
from stream_processors.records.kpl import Keys
from stream_processors.records.refused import Refused, missing, wrong_type
from stream_processors.records.sink import Sink


class MetricWire(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A native metric as it is parsed on the fast path: names unchecked, dimensions unread."""

    resource: str
    metric: str
    timestamp: int | float | str
    value: float
    unit: str | None = None
    dimensions: msgspec.Raw = msgspec.Raw()


class HostWire(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A host sample as it is parsed on the fast path: name and time unchecked."""

    hostname: str
    timestamp: int | float | str
    cpuUsage: float  # noqa: N815  (the wire's own name)
    memoryUsage: float  # noqa: N815
    diskIO: float  # noqa: N815
    networkIO: float  # noqa: N815


parse_host = msgspec.json.Decoder(HostWire).decode
"""Parse a host sample, as ``parse`` does a metric."""
parse = msgspec.json.Decoder(MetricWire).decode
"""Parse a native metric; raises what msgspec raises. Documents with further fields go the slow way."""
_written = msgspec.json.Encoder().encode
"""The bytes of what was left unread, as they came; faster than by the buffer they are in."""

UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""What msgspec raises at bytes that are not what was asked for."""

_CACHED = 32_768
_CACHED_LENGTH = 1024
_series: dict[str, dict[str | None, dict[bytes, Shared]]] = {}
"""By metric, unit and the bytes of dimensions: three look-ups take less than one of a tuple made for it."""
_held = [0]
"""Series in the cache."""
_dimensions = msgspec.json.Decoder(dict[str, Any] | None)


def begin() -> None:
    """Keep the cache of series within its bound; called once a batch."""
    if _held[0] > _CACHED:
        _series.clear()
        _held[0] = 0


def append_users(
    sink: Sink, run: Sequence[MetricWire], places: range, users: Sequence[bytes], keys: Keys | Sequence[str]
) -> None:
    """Append metrics that are each a user record of their own, column by column.

    ``places`` are their sub-sequences and indexes into ``users`` and ``keys``. One that is refused
    becomes a dead letter, the others stay.
    """
    if _append_columns(sink, run):
        sink.batch.place_users(sink.index, sink.record.arrival, places)
        return
    for place, wire in zip(places, run, strict=True):
        sink.sub_sequence, sink.item, sink.partition_key = place, 0, keys[place]
        _append_one(sink, wire, users[place])


def append_elements(sink: Sink, run: Sequence[MetricWire], parts: Sequence[bytes]) -> None:
    """Append metrics that are elements of the sink's user record; ``parts`` are their bytes."""
    if _append_columns(sink, run):
        sink.place(len(run))
        return
    for wire, part in zip(run, parts, strict=True):
        _append_one(sink, wire, part)


def _append_columns(sink: Sink, run: Sequence[MetricWire]) -> bool:
    """Append all columns but the places; False, with nothing appended, where one of the run is refused."""
    try:
        resource, shared, timestamp, value = _columns(run, sink.record.arrival)
    except (Refused, *UNREADABLE):
        return False
    sink.make_room(len(run))
    batch = sink.batch
    batch.resource += resource
    batch.shared += shared
    batch.timestamp += timestamp
    batch.value += value
    return True


def _columns(run: Sequence[MetricWire], arrival: int) -> tuple[list[str], list[Shared], array[int], array[float]]:
    """Columns of a run, or the first problem in it."""
    known_names = sinks.checked
    try:
        resource = [known_names[wire.resource] for wire in run]
    except KeyError:
        resource = [sinks.name(wire.resource, "resource") for wire in run]
    known, written = _series, _written
    try:
        shared = [known[wire.metric][wire.unit][written(wire.dimensions)] for wire in run]
    except KeyError:
        shared = [_series_of(wire) for wire in run]
    # Adding zero makes -0.0 the plain zero, as sink.number does.
    return resource, shared, _moments(run, arrival), array("d", [wire.value + 0.0 for wire in run])


def _moments(run: Sequence[MetricWire], arrival: int) -> array[int]:
    given: list[Any] = [wire.timestamp for wire in run]
    try:
        moments = array("q", given)
    except (TypeError, OverflowError):  # not all of them are whole numbers within reason
        moments = array("q")
    if not moments or min(given) < times.MILLISECONDS_FROM:
        given = [times.milliseconds(moment) for moment in given]
        moments = array("q")
    ordered = sorted(given)  # mostly they are, and then this takes less than to find the least and the greatest
    for edge in (ordered[0], ordered[-1]):
        times.check(edge, arrival, edge)
    return moments or array("q", given)


def _series_of(wire: MetricWire) -> Shared:
    raw = _written(wire.dimensions)
    try:
        return _series[wire.metric][wire.unit][raw]
    except KeyError:
        pass
    metric = sinks.name(wire.metric, "metric")
    dimensions = sinks.checked_dimensions(_dimensions.decode(raw)) if raw else None
    found = Shared(sinks.checked_series(metric, dimensions), metric, sinks.unit_name(wire.unit), dimensions)
    if len(raw) + len(wire.metric) <= _CACHED_LENGTH:
        _series.setdefault(wire.metric, {}).setdefault(wire.unit, {})[raw] = found
        _held[0] += 1
    return found


def series_of(wire: MetricWire) -> tuple[str, Shared]:
    """Resource, and what else a metric says besides time and value, checked. Raises Refused."""
    return sinks.name(wire.resource, "resource"), _series_of(wire)


def _append_one(sink: Sink, wire: MetricWire, raw: bytes) -> None:
    try:
        raw_dimensions = _written(wire.dimensions)
        metric(
            sink,
            {
                "resource": wire.resource,
                "metric": wire.metric,
                "timestamp": wire.timestamp,
                "value": wire.value,
                "unit": wire.unit,
                "dimensions": msgspec.json.decode(raw_dimensions) if raw_dimensions else None,
            },
        )
    except Refused as refusal:
        sink.refuse(refusal, raw)
    except UNREADABLE as error:
        from stream_processors.records.document import refusal_of

        sink.refuse(refusal_of(error, raw), raw)


def is_metric(document: dict[str, Any]) -> bool:
    """Whether a document means to be a native metric."""
    return "metric" in document or ("resource" in document and "value" in document)


def metric(sink: Sink, document: dict[str, Any]) -> None:
    """Read a native metric from a parsed document. Raises Refused."""
    for field in ("resource", "metric", "timestamp", "value"):
        if field not in document:
            raise missing(field, "native metric")
    dimensions = document.get("dimensions")
    if not _is_object(dimensions):
        raise wrong_type("dimensions", dimensions, "an object of texts")
    value = sinks.number(document["value"], "value")
    sink.metric(
        document["resource"],
        document["metric"],
        sink.time(document["timestamp"]),
        value,
        document.get("unit"),
        dimensions,
    )


def _is_object(value: Any) -> TypeGuard[dict[Any, Any] | None]:
    return value is None or isinstance(value, dict)


def is_host_sample(document: dict[str, Any]) -> bool:
    """Whether a document means to be a host sample."""
    return "hostname" in document


def host_sample(sink: Sink, document: dict[str, Any]) -> None:
    """Read a host sample into its four events. Raises Refused with none of them appended."""
    for field in ("hostname", "timestamp", *HOST_METRICS):
        if field not in document:
            raise missing(field, "host sample")
    hostname = sinks.name(document["hostname"], "hostname")
    values = [sinks.number(document[field], field) for field in HOST_METRICS]
    _append_host(sink, hostname, sink.time(document["timestamp"]), values)


def typed_host_sample(sink: Sink, data: bytes) -> bool:
    """Read bytes that are a host sample and nothing more; False, with nothing appended, for any others.

    Raises Refused where it is one and its name or time cannot be.
    """
    if b'"hostname"' not in data:
        return False
    try:
        wire = parse_host(data)
    except UNREADABLE:
        return False
    values = [wire.cpuUsage + 0.0, wire.memoryUsage + 0.0, wire.diskIO + 0.0, wire.networkIO + 0.0]
    _append_host(sink, sinks.name(wire.hostname, "hostname"), sink.time(wire.timestamp), values)
    return True


_HOST = [Shared(metric, metric, unit) for metric, unit in HOST_METRICS.items()]


def _append_host(sink: Sink, hostname: str, timestamp: int, values: list[float]) -> None:
    count = len(_HOST)
    sink.make_room(count)
    batch = sink.batch
    sink.place(count)
    batch.resource += [hostname] * count
    batch.shared += _HOST
    repeat(batch.timestamp, timestamp, count)
    batch.value.fromlist(values)
