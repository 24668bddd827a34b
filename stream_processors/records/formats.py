"""Wire formats other than the native ones: from parsed JSON to values and signals. Pure.

Sources: Telegraf JSON output data format; OpenTelemetry OTLP/JSON (opentelemetry-proto 1.x, JSON
mapping of protobuf); CloudWatch metric streams, JSON output format 1.0; Amazon EventBridge event
structure. docs/formats.md has an example of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from schemas.events import AlarmSignal, AlarmStateChange, Feedback, Signal, Tick
from schemas.names import MAX_DIMENSIONS, MAX_NAME_LENGTH, name_problem
from stream_processors.records import services


class Refused(ValueError):
    """A part of a record cannot be used: a stable code and a reason for a person."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Value(NamedTuple):
    """One metric value. ``time`` is as it came; numbers may be seconds, milli-, micro- or nanoseconds."""

    resource: Any
    metric: Any
    time: Any
    value: Any
    unit: Any
    dimensions: dict[str, str] | None


Part = Value | Signal

HOST_TAGS = ("host", "hostname", "instance", "instance_id", "instanceId")
OTLP_RESOURCES = ("host.name", "service.instance.id", "k8s.pod.name", "container.id", "host.id", "service.name")
CLOUDWATCH_RESOURCES = (
    "InstanceId", "DBInstanceIdentifier", "DBClusterIdentifier", "FunctionName", "LoadBalancer", "AutoScalingGroupName",
    "ServiceName", "ClusterName", "StreamName", "TableName", "QueueName", "TopicName", "BucketName", "VolumeId",
    "CacheClusterId", "ApiName", "StateMachineArn",
)  # fmt: skip


def milliseconds(value: Any) -> int:
    """Epoch milliseconds of a timestamp: RFC 3339 text, or epoch numbers told apart by their size.

    Text without an offset is UTC. Raises Refused with code ``time``.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise Refused(
                "time", f"timestamp {value[:60]!r} is not RFC 3339, such as 2026-11-26T15:04:05Z, nor a number"
            ) from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused("time", f"timestamp is {_kind(value)}; send RFC 3339 text or epoch seconds or milliseconds")
    size = abs(value)
    if not size < 1e20:
        raise Refused("time", f"timestamp {value!r} is no time; send epoch seconds or milliseconds")
    if size < 1e11:
        return round(value * 1000)
    if size < 1e14:
        return round(value)
    return round(value / 1000) if size < 1e17 else round(value / 1_000_000)


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _list(value: Any, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refused("wrong-type", f"{what} is {_kind(value)}; it must be a list")
    return value


def _object(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused("wrong-type", f"{what} is {_kind(value)}; it must be an object")
    return value


# ---------------------------------------------------------------------- OpsRiver's own control records


def control(body: dict[str, Any]) -> Iterator[Part]:
    """``{"opsriver": "tick"}`` and ``{"opsriver": "feedback"}``."""
    kind = body["opsriver"]
    if kind == "tick":
        yield Tick(milliseconds(body.get("timestamp")))
    elif kind == "feedback":
        verdict = body.get("verdict")
        if verdict not in ("false-positive", "missed"):
            raise Refused("wrong-type", f"verdict {verdict!r} is neither 'false-positive' nor 'missed'")
        for field in ("resource", "series"):
            if not isinstance(body.get(field), str) or not 0 < len(body[field]) <= 4 * MAX_NAME_LENGTH:
                raise Refused("missing-field", f"feedback needs the field {field!r} as text")
        yield Feedback(
            resource=body["resource"],
            series=body["series"],
            verdict=verdict,
            timestamp=milliseconds(body.get("timestamp")),
            insight_id=str(body.get("insightId", ""))[:64],
        )
    else:
        raise Refused("unknown-kind", f"control record {str(kind)[:40]!r} is unknown; known are tick and feedback")


# ---------------------------------------------------------------------- Telegraf


def telegraf(body: dict[str, Any]) -> Iterator[Part]:
    """One metric of Telegraf's JSON format, or a batch of them; each numeric field is a value."""
    metrics = _list(body["metrics"], "metrics") if "metrics" in body else [body]
    for one in metrics:
        item = _object(one, "a metric of the batch")
        name, tags = item.get("name"), _object(item.get("tags"), "tags")
        fields = _object(item.get("fields"), "fields")
        numbers = {k: v for k, v in fields.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        if not numbers:
            raise Refused("no-values", f"Telegraf metric {str(name)[:60]!r} has no numeric field")
        host = next((tags[tag] for tag in HOST_TAGS if tags.get(tag)), None)
        if host is None:
            raise Refused("missing-field", f"Telegraf metric {str(name)[:60]!r} has no tag host; set it in the agent")
        dimensions = {k: str(v) for k, v in tags.items() if v not in ("", None) and v != host} or None
        for field, value in numbers.items():
            yield Value(host, f"{name}.{field}", item.get("timestamp"), value, None, dimensions)


# ---------------------------------------------------------------------- OTLP


def _attribute(value: Any) -> str:
    inner = _object(value, "an attribute's value")
    for kind in ("stringValue", "intValue", "doubleValue", "boolValue"):
        if kind in inner:
            return str(inner[kind])
    return ""


def _attributes(values: Any) -> dict[str, str]:
    found = {}
    for one in _list(values, "attributes"):
        item = _object(one, "an attribute")
        text = _attribute(item.get("value"))
        if text and isinstance(item.get("key"), str):
            found[item["key"]] = text
    return found


def _otlp_number(point: dict[str, Any], *names: str) -> Any:
    for name in names:
        value = point.get(name)
        if isinstance(value, str):  # protobuf's JSON writes 64-bit integers as text
            try:
                return int(value)
            except ValueError:
                raise Refused("wrong-type", f"{name} {value[:40]!r} is not a number") from None
        if value is not None:
            return value
    return None


def otlp(body: dict[str, Any]) -> Iterator[Part]:
    """OTLP/JSON metrics: gauges, sums, histograms and summaries.

    Cumulative sums keep their running value and carry the dimension ``otel.temporality``;
    histograms and summaries become ``.count``, ``.sum``, ``.mean`` and one series a quantile.
    """
    for group in _list(body["resourceMetrics"], "resourceMetrics"):
        entry = _object(group, "an element of resourceMetrics")
        resource = _attributes(_object(entry.get("resource"), "resource").get("attributes"))
        name = next((resource[key] for key in OTLP_RESOURCES if key in resource), None)
        if name is None:
            raise Refused("missing-field", f"OTLP resource names none of {', '.join(OTLP_RESOURCES)}")
        for scope in _list(entry.get("scopeMetrics"), "scopeMetrics"):
            for metric in _list(_object(scope, "an element of scopeMetrics").get("metrics"), "metrics"):
                yield from _otlp_metric(name, _object(metric, "a metric"))


def _otlp_metric(resource: str, metric: dict[str, Any]) -> Iterator[Part]:
    name, unit = metric.get("name"), metric.get("unit") or None
    for kind in ("gauge", "sum", "histogram", "exponentialHistogram", "summary"):
        if kind not in metric:
            continue
        data = _object(metric[kind], kind)
        cumulative = data.get("aggregationTemporality") in (2, "AGGREGATION_TEMPORALITY_CUMULATIVE")
        for one in _list(data.get("dataPoints"), "dataPoints"):
            point = _object(one, "a data point")
            if point.get("flags") == 1:  # no recorded value
                continue
            dimensions = _attributes(point.get("attributes"))
            if kind == "sum" and cumulative and data.get("isMonotonic"):
                dimensions["otel.temporality"] = "cumulative"
            time = _otlp_number(point, "timeUnixNano")
            for suffix, value, extra in _otlp_values(kind, point):
                full = {**dimensions, **extra} or None
                yield Value(resource, f"{name}{suffix}", time, value, unit, full)
        return
    raise Refused("unknown-kind", f"OTLP metric {str(name)[:60]!r} has no gauge, sum, histogram or summary")


def _otlp_values(kind: str, point: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, str]]]:
    if kind in ("gauge", "sum"):
        yield "", _otlp_number(point, "asDouble", "asInt"), {}
        return
    count, total = _otlp_number(point, "count"), _otlp_number(point, "sum")
    yield ".count", count, {}
    if total is not None:
        yield ".sum", total, {}
        if isinstance(count, int | float) and count and isinstance(total, int | float):
            yield ".mean", total / count, {}
    for one in _list(point.get("quantileValues"), "quantileValues"):
        quantile = _object(one, "a quantile")
        yield "", quantile.get("value", 0.0), {"quantile": str(quantile.get("quantile", 0))}


# ---------------------------------------------------------------------- CloudWatch


def metric_stream(body: dict[str, Any]) -> Iterator[Part]:
    """One line of a CloudWatch metric stream: the mean under the metric's name, and min, max, count."""
    dimensions = {str(k): str(v) for k, v in _object(body.get("dimensions"), "dimensions").items()}
    namespace = str(body.get("namespace", ""))
    key = next((k for k in CLOUDWATCH_RESOURCES if k in dimensions), next(iter(dimensions), ""))
    resource = dimensions.pop(key) if key else namespace
    value = _object(body.get("value"), "value")
    name, unit = f"{namespace}/{body.get('metric_name', '')}", body.get("unit")
    unit = None if unit in (None, "None") else unit
    count, total = value.get("count"), value.get("sum")
    for label, number in (("count", count), ("sum", total)):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise Refused("wrong-type", f"value.{label} is {_kind(number)}; it must be a number")
    if isinstance(count, int | float) and isinstance(total, int | float):
        if count <= 0:
            raise Refused("no-values", f"metric {name[:80]!r} was measured {count} times")
        yield Value(resource, name, body.get("timestamp"), total / count, unit, dimensions or None)
    for suffix in ("min", "max"):
        yield Value(resource, f"{name}.{suffix}", body.get("timestamp"), value.get(suffix), unit, dimensions or None)
    yield Value(resource, f"{name}.count", body.get("timestamp"), count, "Count", dimensions or None)


def event(body: dict[str, Any]) -> Iterator[Part]:
    """An EventBridge event: a CloudWatch alarm's state change, or an event of a service."""
    source, detail_type = body.get("source"), body.get("detail-type")
    if not isinstance(source, str) or not isinstance(detail_type, str):
        raise Refused("missing-field", "EventBridge event needs source and detail-type as text")
    if source == "aws.cloudwatch" and detail_type == "CloudWatch Alarm State Change":
        yield _alarm(convert(body, AlarmStateChange))
    else:
        yield _service(body, source, detail_type)


def _alarm(change: AlarmStateChange) -> AlarmSignal:
    state, name = change.detail.state.value, change.detail.alarm_name
    dimensions: dict[str, Any] = {}
    for metric in change.detail.configuration.get("metrics") or []:
        found = services.look(metric, ()) or metric
        stat = found.get("metricStat", {}) if isinstance(found, dict) else {}
        inner = stat.get("metric", {}) if isinstance(stat, dict) else {}
        if isinstance(inner, dict) and isinstance(inner.get("dimensions"), dict):
            dimensions |= inner["dimensions"]
    key = next((k for k in CLOUDWATCH_RESOURCES if k in dimensions), next(iter(dimensions), ""))
    resource = str(dimensions[key]) if key else name
    words = {"ALARM": "is in ALARM", "OK": "is OK again", "INSUFFICIENT_DATA": "has too little data"}[state]
    reason = f": {change.detail.state.reason}" if change.detail.state.reason else ""
    return AlarmSignal(
        resource=bounded(resource, "resource"),
        name=bounded(name, "alarm name"),
        timestamp=milliseconds(change.detail.state.timestamp or change.time),
        severity="LOW" if state == "INSUFFICIENT_DATA" else "HIGH",
        message=readable(f"CloudWatch alarm {name} {words}{reason}"),
        active={"ALARM": True, "OK": False}.get(state),
        source=change.source,
        detail_type=change.detail_type,
        event_id=change.id[:64],
    )


def _service(body: dict[str, Any], source: str, detail_type: str) -> AlarmSignal:
    rule = services.RULES.get((source, detail_type), services.GENERIC)
    resource = next((text for path in rule.resource if (text := services.look(body, path))), source)
    state = services.look(body, rule.state) if rule.state else ""
    why = next((text for path in rule.why if (text := services.look(body, path))), "")
    message = (
        rule.message.replace("{resource}", services.short(resource)).replace("{state}", state).replace("{why}", why)
    )
    active = True if state.lower() in rule.begins else False if state.lower() in rule.ends else None
    return AlarmSignal(
        resource=bounded(services.short(resource)[-MAX_NAME_LENGTH:], "resource"),
        name=bounded(detail_type[:MAX_NAME_LENGTH], "detail-type"),
        timestamp=milliseconds(body.get("time")),
        severity=services.severity(rule, source, state),  # type: ignore[arg-type]
        message=readable(message),
        active=active,
        source=source[:MAX_NAME_LENGTH],
        detail_type=detail_type[:MAX_NAME_LENGTH],
        event_id=str(body.get("id", ""))[:64],
    )


# ---------------------------------------------------------------------- shared


def readable(text: str, limit: int = 1000) -> str:
    """Text for people on one line, without control characters and bounded."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    clean = " ".join(clean.split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def bounded(value: str, what: str) -> str:
    """A name, checked. Raises Refused with code ``name``."""
    problem = name_problem(value, what)
    if problem:
        raise Refused("name", problem)
    return value


def dimensions_problem(dimensions: dict[str, str]) -> str | None:
    """Why these cannot be a metric's dimensions; None if they can."""
    if len(dimensions) > MAX_DIMENSIONS:
        return f"metric has {len(dimensions)} dimensions; at most {MAX_DIMENSIONS} are allowed"
    for key, value in dimensions.items():
        problem = name_problem(key, "dimension") or name_problem(value, f"dimension {key[:40]!r}")
        if problem:
            return problem
    return None


def convert(body: Any, kind: type[Any]) -> Any:
    """``msgspec.convert`` with a reason for people. Raises Refused."""
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise refusal(error, body) from None


def refusal(error: msgspec.ValidationError, body: Any) -> Refused:
    """A validation error as code and reason, with the offending value shortened."""
    text = str(error)
    if "missing required field" in text:
        return Refused("missing-field", f"{text.replace('Object', 'the event')}; add the field")
    _, found, path = text.partition(" - at `$.")
    value = body
    if found and isinstance(body, dict):
        key = path.rstrip("`").split("[")[0].split(".")[0]
        value = body.get(key)
        return Refused("wrong-type", f"{key} is {_short(value)}: {text.partition(' - at')[0]}")
    return Refused("wrong-type", text)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


Reader = Callable[[dict[str, Any]], Iterator[Part]]


def reader(body: dict[str, Any]) -> Reader | None:
    """The format of an object by the fields it has; None for native metrics, host samples and the unknown."""
    if "opsriver" in body:
        return control
    if "detail-type" in body:
        return event
    if "resourceMetrics" in body:
        return otlp
    if "metric_stream_name" in body:
        return metric_stream
    if "fields" in body or isinstance(body.get("metrics"), list):
        return telegraf
    return None
