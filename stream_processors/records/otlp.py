"""OpenTelemetry metrics in OTLP/JSON.

Shape: opentelemetry-proto's metrics.proto in the JSON mapping of the OTLP specification 1.x
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding): keys in lowerCamelCase, 64-bit
integers as numbers or as decimal text, enumerations as numbers.

Values are passed on as they come, whatever their temporality: a cumulative sum stays a counter, which
detectors recognise by its shape. Histograms become ``.count``, ``.sum``, ``.min``, ``.max`` and
``.mean``, summaries ``.count``, ``.sum`` and one series a quantile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stream_processors.records import sink as sinks
from stream_processors.records import times
from stream_processors.records.part import encoded
from stream_processors.records.refused import Refused, missing, shown, wrong_type
from stream_processors.records.sink import Sink

RESOURCES = ("host.name", "host.id", "k8s.pod.name", "container.name", "service.instance.id", "service.name")
"""Attributes of an OTLP resource that name the resource, in order of preference."""
IDENTIFYING = ("service.namespace", "service.name", "k8s.namespace.name", "k8s.pod.name", "k8s.container.name")
"""Attributes of an OTLP resource that become dimensions, beside those of the data point.

``service.instance.id`` is not among them: it is drawn anew at every start of a process, and every
start would begin new series.
"""
SCOPE = "otel.scope.name"
NO_RECORDED_VALUE = 1

_KINDS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")


def read(sink: Sink, document: dict[str, Any]) -> None:
    """Read all data points; a refused part is a dead letter of its own. Raises Refused where there is none."""
    before = sink.item
    found = False
    for group in _array(document["resourceMetrics"], "resourceMetrics"):
        try:
            found |= _resource(sink, _object(group, "an element of resourceMetrics"))
        except Refused as refusal:
            sink.refuse(refusal, encoded(group))
    if sink.item == before and not found:
        raise Refused("no-value", "OTLP document holds no data points")
    if sink.item == before:
        raise Refused("no-value", "OTLP document holds only data points without a recorded value")


def _resource(sink: Sink, group: dict[str, Any]) -> bool:
    """Read what one resource sent; whether it has data points."""
    attributes = _attributes(_object(group.get("resource") or {}, "resource").get("attributes"))
    by = next((name for name in RESOURCES if attributes.get(name)), None)
    if by is None:
        raise Refused("missing-field", f"OTLP resource has none of the attributes {', '.join(RESOURCES)}; set host.name")
    resource = sinks.name(attributes[by], by)
    shared = {name: attributes[name] for name in IDENTIFYING if name != by and attributes.get(name)}
    found = False
    for one in _array(group.get("scopeMetrics"), "scopeMetrics"):
        try:
            found |= _scope(sink, resource, shared, _object(one, "an element of scopeMetrics"))
        except Refused as refusal:
            sink.refuse(refusal, encoded(one))
    return found


def _scope(sink: Sink, resource: str, shared: dict[str, str], scoped: dict[str, Any]) -> bool:
    metrics = _array(scoped.get("metrics"), "metrics")
    scope = _object(scoped.get("scope") or {}, "scope").get("name")
    dimensions = {**shared, SCOPE: scope} if isinstance(scope, str) and scope else shared
    found = False
    for metric in metrics:
        try:
            found |= _metric(sink, resource, dimensions, _object(metric, "an element of metrics"))
        except Refused as refusal:
            sink.refuse(refusal, encoded(metric))
    return found


def _metric(sink: Sink, resource: str, shared: dict[str, str], metric: dict[str, Any]) -> bool:
    if "name" not in metric:
        raise missing("name", "OTLP metric")
    name = sinks.name(metric["name"], "name")
    unit = sinks.unit_name(metric.get("unit"))
    kind = next((kind for kind in _KINDS if kind in metric), None)
    if kind is None:
        raise missing(" or ".join(_KINDS), f"OTLP metric {shown(name)}")
    points = _array(_object(metric[kind], kind).get("dataPoints"), f"{kind}.dataPoints")
    for one in points:
        try:
            _point(sink, resource, name, unit, kind, shared, _object(one, f"an element of {kind}.dataPoints"))
        except Refused as refusal:
            reason = f"metric {shown(name)}: {refusal.reason}"
            sink.refuse(Refused(refusal.code, reason), encoded(one))
    return bool(points)


def _point(
    sink: Sink,
    resource: str,
    name: str,
    unit: str | None,
    kind: str,
    shared: dict[str, str],
    point: dict[str, Any],
) -> None:
    flags = _integer(point.get("flags", 0), "flags")
    if flags & NO_RECORDED_VALUE:
        return
    if "timeUnixNano" not in point:
        raise missing("timeUnixNano", "OTLP data point")
    given = point["timeUnixNano"]
    timestamp = _integer(given, "timeUnixNano") // 1_000_000
    times.check(timestamp, sink.record.arrival, given, "timeUnixNano")
    dimensions = {**shared, **_attributes(point.get("attributes"))}
    if kind in ("gauge", "sum"):
        if "asInt" in point:
            value = sinks.number(_integer(point["asInt"], "asInt"), "asInt")
        elif "asDouble" in point:
            value = _double(point["asDouble"], "asDouble")
        else:
            raise missing("asDouble or asInt", "OTLP data point")
        sink.metrics(resource, timestamp, [(name, value)], unit, dimensions)
        return
    # All of a point is read before any of it is appended: a refused point leaves nothing behind.
    values = list(_distribution(name, point))
    quantiles = list(_quantiles(point)) if kind == "summary" else []
    sink.metrics(resource, timestamp, values, ("Count", *[unit] * (len(values) - 1)), dimensions)
    for quantile, value in quantiles:
        sink.metrics(resource, timestamp, [(name, value)], unit, {**dimensions, "quantile": quantile})


def _distribution(name: str, point: dict[str, Any]) -> Iterator[tuple[str, float]]:
    if "count" not in point:
        raise missing("count", "OTLP data point")
    count = sinks.number(_integer(point["count"], "count"), "count")
    yield f"{name}.count", count
    if "sum" in point:
        total = _double(point["sum"], "sum")
        yield f"{name}.sum", total
        if count > 0:
            yield f"{name}.mean", total / count
    for edge in ("min", "max"):
        if edge in point:
            yield f"{name}.{edge}", _double(point[edge], edge)


def _quantiles(point: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for one in _array(point.get("quantileValues"), "quantileValues"):
        entry = _object(one, "an element of quantileValues")
        # proto3 leaves out a field that holds its default.
        quantile = _double(entry.get("quantile", 0), "quantile")
        yield f"{quantile:g}", _double(entry.get("value", 0), "value")


def _attributes(given: Any) -> dict[str, str]:
    """Attributes as text; empty ones are left out."""
    found: dict[str, str] = {}
    for one in _array(given, "attributes"):
        attribute = _object(one, "an element of attributes")
        key = attribute.get("key")
        if not isinstance(key, str):
            raise wrong_type("key of an attribute", key, "text")
        text = _text(attribute.get("value"))
        if text:
            found[key] = text
    return found


def _text(value: Any) -> str:
    inner = _object(value or {}, "value of an attribute")
    if not inner:
        return ""
    content = next(iter(inner.values()))
    if isinstance(content, str):
        return content
    return encoded(content).decode()


def _integer(value: Any, field: str) -> int:
    """A 64-bit integer, which protobuf's JSON writes as text or number."""
    if value.__class__ is int:
        return value
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.removeprefix("-").isdigit():
        return int(value)
    raise wrong_type(field, value, "a whole number, or its digits as text,")


def _double(value: Any, field: str) -> float:
    """A double; protobuf's JSON writes those that are not finite as text."""
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        raise Refused("not-finite", f"{field} is {value}; leave the data point out")
    return sinks.number(value, field)


def _array(value: Any, field: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong_type(field, value, "an array")
    return value


def _object(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong_type(field, value, "an object")
    return value
