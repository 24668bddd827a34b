"""Telegraf's JSON output format, one metric or a batch.

Shape: "JSON serializer" of Telegraf, https://github.com/influxdata/telegraf/tree/master/plugins/serializers/json.
Every numeric field is a value of the metric ``<name>.<field>``. Fields of text and truth values are
no metrics and are passed over. The agent's unit of time is a setting, so all four are understood.
"""

from __future__ import annotations

from typing import Any

from stream_processors.records import sink as sinks
from stream_processors.records import times
from stream_processors.records.part import encoded
from stream_processors.records.refused import Refused, missing, wrong_type
from stream_processors.records.sink import Sink

HOST_TAGS = ("host", "hostname", "instance")
"""Tags that name the resource, in order of preference; the others are dimensions."""


def read_batch(sink: Sink, document: dict[str, Any]) -> None:
    """Read a batch; a refused metric is a dead letter of its own. Raises Refused for an empty one."""
    metrics = document["metrics"]
    if not isinstance(metrics, list):
        raise wrong_type("metrics", metrics, "an array")
    if not metrics:
        raise Refused("no-value", "Telegraf batch holds no metrics")
    for metric in metrics:
        try:
            if not isinstance(metric, dict):
                raise wrong_type("an element of metrics", metric, "an object")
            read(sink, metric)
        except Refused as refusal:
            sink.refuse(refusal, encoded(metric))


def read(sink: Sink, document: dict[str, Any]) -> None:
    """Read one metric. Raises Refused with none of its values appended."""
    for field in ("name", "fields", "timestamp"):
        if field not in document:
            raise missing(field, "Telegraf metric")
    name, fields, tags = sinks.name(document["name"], "name"), document["fields"], document.get("tags")
    if not isinstance(fields, dict):
        raise wrong_type("fields", fields, "an object")
    if tags is None:
        tags = {}
    elif not isinstance(tags, dict):
        raise wrong_type("tags", tags, "an object of texts")
    host = next((tag for tag in HOST_TAGS if tags.get(tag)), None)
    if host is None:
        raise Refused("missing-field", "Telegraf metric has no tag 'host'; do not set omit_hostname in the agent")
    given = document["timestamp"]
    timestamp = times.any_unit(given)
    times.check(timestamp, sink.record.arrival, given)
    values = [
        (f"{name}.{field}", sinks.number(value, f"fields.{field}"))
        for field, value in fields.items()
        if not isinstance(value, str | bool)
    ]
    if not values:
        raise Refused("no-value", f"Telegraf metric {name} has no numeric field")
    sink.metrics(
        tags[host], timestamp, values, None, {tag: text for tag, text in tags.items() if tag != host and text != ""}
    )
