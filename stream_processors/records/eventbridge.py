"""EventBridge events as signals: CloudWatch alarm state changes, and events of AWS services by a table.

Shapes: "Events from AWS services" in the Amazon EventBridge user guide; "Alarm events and
EventBridge" in the Amazon CloudWatch user guide.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from schemas.events import AlarmSignal
from schemas.names import MAX_NAME_LENGTH
from stream_processors.records import sink as sinks
from stream_processors.records.refused import Refused, missing, shown, wrong_type
from stream_processors.records.resources import resource_of
from stream_processors.records.sink import Sink

MAX_MESSAGE = 1024
"""Longest message of a signal, in characters; longer ones are cut."""

ALARM = "CloudWatch Alarm State Change"

_WORDS: tuple[tuple[re.Pattern[str], Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]], ...] = (
    (re.compile(r"(?i)(?<![a-z0-9])(critical|sev-?1|p1)(?![a-z0-9])"), "CRITICAL"),
    (re.compile(r"(?i)(?<![a-z0-9])(warning|warn|sev-?3|p3)(?![a-z0-9])"), "MEDIUM"),
    (re.compile(r"(?i)(?<![a-z0-9])(info|informational|sev-?4|p4)(?![a-z0-9])"), "LOW"),
)


def read(sink: Sink, document: dict[str, Any]) -> None:
    """Read an EventBridge event into one signal. Raises Refused."""
    source = sinks.name(_field(document, "source"), "source")
    detail_type = sinks.name(_field(document, "detail-type"), "detail-type")
    detail = _field(document, "detail")
    if not isinstance(detail, dict):
        raise wrong_type("detail", detail, "an object")
    event_id = _text(document.get("id", ""), "id")[:MAX_NAME_LENGTH]
    if detail_type == ALARM and source == "aws.cloudwatch":
        sink.signal(_alarm(sink, document, detail, event_id))
        return
    from stream_processors.records import services

    found = services.read(document, source, detail_type)
    timestamp = sink.time(_field(document, "time"), "time")
    sink.signal(
        AlarmSignal(
            resource=sinks.name(found.resource, "resource"),
            name=sinks.name(found.name, "detail-type"),
            timestamp=timestamp,
            severity=found.severity,
            message=printable(found.message),
            active=found.active,
            source=source,
            detail_type=detail_type,
            event_id=event_id or str(timestamp),
        )
    )


def _alarm(sink: Sink, document: dict[str, Any], detail: dict[str, Any], event_id: str) -> AlarmSignal:
    name = sinks.name(_field(detail, "alarmName", "detail"), "detail.alarmName")
    state = _field(detail, "state", "detail")
    if not isinstance(state, dict):
        raise wrong_type("detail.state", state, "an object")
    value = _field(state, "value", "detail.state")
    if value not in ("ALARM", "OK", "INSUFFICIENT_DATA"):
        raise Refused("wrong-type", f"detail.state.value is {shown(value)}; ALARM, OK or INSUFFICIENT_DATA is needed")
    # The state's own time is that of the change; the event's is cut to seconds.
    moment = sink.time(state["timestamp"], "detail.state.timestamp") if state.get("timestamp") else None
    if moment is None:
        moment = sink.time(_field(document, "time"), "time")
    reason = _text(state.get("reason", ""), "detail.state.reason")
    configuration = detail.get("configuration")
    configuration = configuration if isinstance(configuration, dict) else {}
    description = configuration.get("description")
    description = description if isinstance(description, str) else ""
    resource = sinks.name(_alarm_resource(configuration) or name, "resource of the alarm")
    said = {
        "ALARM": f"CloudWatch alarm {name} is in ALARM: {reason}",
        "OK": f"CloudWatch alarm {name} is OK again: {reason}",
        "INSUFFICIENT_DATA": f"CloudWatch alarm {name} has too little data to judge: {reason}",
    }[value]
    return AlarmSignal(
        resource=resource,
        name=name,
        timestamp=moment,
        severity=_severity(name, description),
        message=printable(said.removesuffix(": ") + (f" ({description})" if description else "")),
        active=value == "ALARM",
        source="aws.cloudwatch",
        detail_type=ALARM,
        event_id=event_id or str(moment),
    )


def _alarm_resource(configuration: dict[str, Any]) -> str:
    """What the alarm watches: the telling dimension of its first metric that has one; empty for none."""
    metrics = configuration.get("metrics")
    for one in metrics if isinstance(metrics, list) else []:
        stat = one.get("metricStat") if isinstance(one, dict) else None
        metric = stat.get("metric") if isinstance(stat, dict) else None
        dimensions = metric.get("dimensions") if isinstance(metric, dict) else None
        if isinstance(dimensions, dict):
            found = resource_of({k: v for k, v in dimensions.items() if isinstance(v, str)})
            if found:
                return dimensions[found]  # type: ignore[no-any-return]
    return ""


def _severity(name: str, description: str) -> Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]:
    """CloudWatch has no severity: a word in the alarm's name or description tells it, else HIGH."""
    for text in (name, description):
        for pattern, severity in _WORDS:
            if pattern.search(text):
                return severity
    return "HIGH"


def _field(document: dict[str, Any], field: str, parent: str = "") -> Any:
    if field not in document:
        raise missing(f"{parent}.{field}" if parent else field, "EventBridge event")
    return document[field]


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(field, value, "text")
    return value


def printable(text: str) -> str:
    """Text for one line: control characters and line breaks become spaces; cut to MAX_MESSAGE."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"
