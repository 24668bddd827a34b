"""Events on the wire, and the signals they become.

``MetricSample`` and ``HostSample`` are what agents send; ``AlarmStateChange`` is what EventBridge
sends for a CloudWatch alarm. Decoders turn metric values into columns and everything else into a
``Signal``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from schemas.names import MAX_DIMENSIONS, MAX_NAME_LENGTH

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
Timestamp = Annotated[
    int | float | str,
    msgspec.Meta(
        description="RFC 3339 text, or epoch seconds (a fraction is allowed), or epoch milliseconds; "
        "numbers of 100,000,000,000 or more are milliseconds."
    ),
]


class MetricSample(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Native metric: one value of one metric of one resource."""

    resource: Name
    metric: Name
    timestamp: Timestamp
    value: float
    unit: Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)] | None = None
    dimensions: Annotated[dict[Name, Name], msgspec.Meta(max_length=MAX_DIMENSIONS)] | None = None


class HostSample(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Host sample: the four standard metrics of a host at one moment.

    Usage in percent (0 to 100), disk and network in bytes a second.
    """

    hostname: Name
    timestamp: Timestamp
    cpuUsage: float  # noqa: N815  (the wire's own name)
    memoryUsage: float  # noqa: N815
    diskIO: float  # noqa: N815
    networkIO: float  # noqa: N815


HOST_METRICS: dict[str, str] = {
    "cpuUsage": "Percent",
    "memoryUsage": "Percent",
    "diskIO": "Bytes/Second",
    "networkIO": "Bytes/Second",
}
"""Metrics of a host sample and their units, in the order in which they become events."""


class AlarmState(msgspec.Struct, frozen=True):
    """State of a CloudWatch alarm."""

    value: Literal["ALARM", "OK", "INSUFFICIENT_DATA"]
    reason: str = ""
    timestamp: str = ""


class AlarmDetail(msgspec.Struct, frozen=True, rename="camel"):
    """Detail of an alarm state change."""

    alarm_name: Name
    state: AlarmState
    previous_state: AlarmState | None = None
    configuration: dict[str, Any] = {}


class AlarmStateChange(msgspec.Struct, frozen=True):
    """EventBridge's "CloudWatch Alarm State Change"."""

    source: Literal["aws.cloudwatch"]
    detail_type: Literal["CloudWatch Alarm State Change"] = msgspec.field(name="detail-type")
    time: str
    detail: AlarmDetail
    id: str = ""
    account: str = ""
    region: str = ""
    resources: list[str] = []


class AlarmSignal(msgspec.Struct, frozen=True, tag="alarm", rename="camel"):
    """An alarm or a service event, whatever its source, on its way to an ``alarm`` insight.

    ``active`` is True when it begins, False when it is over, None where it has no end (an event).
    ``timestamp`` is in epoch milliseconds.
    """

    resource: str
    name: str
    timestamp: int
    severity: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
    message: str
    active: bool | None
    source: str
    detail_type: str
    event_id: str = ""


class Tick(msgspec.Struct, frozen=True, tag="tick"):
    """Event time passes on a shard on which nothing else arrives (epoch milliseconds)."""

    timestamp: int


class Feedback(msgspec.Struct, frozen=True, tag="feedback", rename="camel"):
    """A person's verdict on a series' latest anomaly."""

    resource: str
    series: str
    verdict: Literal["false-positive", "missed"]
    timestamp: int
    insight_id: str = ""


Signal = AlarmSignal | Tick | Feedback
