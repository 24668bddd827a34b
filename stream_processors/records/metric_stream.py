"""CloudWatch metric streams, output format JSON.

Shape: "JSON format" of metric streams in the Amazon CloudWatch user guide. A stream writes one object
a line. The mean of the period has the metric's name (``AWS/EC2/CPUUtilization``); ``.min``, ``.max``,
``.sum``, ``.count`` and additional statistics (``.p99``) stand beside it.
"""

from __future__ import annotations

from typing import Any

from stream_processors.records import sink as sinks
from stream_processors.records.refused import Refused, missing, wrong_type
from stream_processors.records.resources import resource_of
from stream_processors.records.sink import Sink


def read(sink: Sink, document: dict[str, Any]) -> None:
    """Read one metric of a stream. Raises Refused with none of its values appended."""
    for field in ("namespace", "metric_name", "timestamp", "value"):
        if field not in document:
            raise missing(field, "metric of a metric stream")
    namespace = sinks.name(document["namespace"], "namespace")
    name = f"{namespace}/{sinks.name(document['metric_name'], 'metric_name')}"
    value, dimensions = document["value"], document.get("dimensions")
    if not isinstance(value, dict):
        raise wrong_type("value", value, "an object of statistics")
    if dimensions is None:
        dimensions = {}
    elif not isinstance(dimensions, dict):
        raise wrong_type("dimensions", dimensions, "an object of texts")
    dimensions = sinks.checked_dimensions(dimensions) or {}
    timestamp = sink.time(document["timestamp"])
    unit = sinks.unit_name(document.get("unit"))
    unit = None if unit == "None" else unit
    count = _statistic(value, "count")
    total = _statistic(value, "sum")
    values = [(f"{name}.sum", total)]
    if count > 0:
        values.insert(0, (name, sinks.number(total / count, "the mean, value.sum / value.count,")))
    values += [
        (f"{name}.{statistic}", sinks.number(given, f"value.{statistic}"))
        for statistic, given in value.items()
        if statistic not in ("count", "sum")
    ]
    by = resource_of(dimensions)
    resource = dimensions.pop(by) if by else namespace
    # Names in a namespace are unique within an account and a region only.
    for field in ("account_id", "region"):
        if document.get(field):
            dimensions[field] = sinks.name(document[field], field)
    units: list[str | None] = [unit] * len(values)
    sink.metrics(resource, timestamp, [*values, (f"{name}.count", count)], (*units, "Count"), dimensions)


def _statistic(value: dict[str, Any], statistic: str) -> float:
    if statistic not in value:
        raise missing(f"value.{statistic}", "metric of a metric stream")
    number = sinks.number(value[statistic], f"value.{statistic}")
    if statistic == "count" and number < 0:
        raise Refused("wrong-type", f"value.count is {number:g}; it cannot be negative")
    return number
