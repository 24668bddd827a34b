"""OpsRiver's own control records: ticks of the heartbeat and feedback of people.

``{"opsriver": "tick", "timestamp"}`` and ``{"opsriver": "feedback", "resource", "series", "verdict",
"timestamp", "insightId"?}``.
"""

from __future__ import annotations

from typing import Any

from schemas.events import Feedback, Tick
from schemas.names import MAX_NAME_LENGTH, MAX_SERIES_LENGTH
from stream_processors.records import sink as sinks
from stream_processors.records.refused import Refused, missing, shown, wrong_type
from stream_processors.records.sink import Sink


def read(sink: Sink, document: dict[str, Any]) -> None:
    """Read a control record. Raises Refused."""
    kind = document["opsriver"]
    if kind == "tick":
        # A heartbeat's clock that runs ahead must not age the shard: its tick counts from its arrival on.
        sink.signal(Tick(min(_time(sink, document, "tick"), sink.record.arrival)))
    elif kind == "feedback":
        sink.signal(_feedback(sink, document))
    else:
        raise Refused("unknown-kind", f"opsriver is {shown(kind)}; tick and feedback are known")


def _time(sink: Sink, document: dict[str, Any], kind: str) -> int:
    if "timestamp" not in document:
        raise missing("timestamp", kind)
    return sink.time(document["timestamp"])


def _feedback(sink: Sink, document: dict[str, Any]) -> Feedback:
    for field in ("resource", "series", "verdict"):
        if field not in document:
            raise missing(field, "feedback")
    verdict = document["verdict"]
    if verdict != "false-positive" and verdict != "missed":
        raise Refused("wrong-type", f"verdict is {shown(verdict)}; false-positive or missed is needed")
    return Feedback(
        resource=sinks.name(document["resource"], "resource"),
        series=_text(document["series"], "series", MAX_SERIES_LENGTH),
        verdict=verdict,
        timestamp=_time(sink, document, "feedback"),
        insight_id=_text(document.get("insightId") or "-", "insightId", MAX_NAME_LENGTH).removeprefix("-"),
    )


def _text(value: Any, field: str, longest: int) -> str:
    if not isinstance(value, str):
        raise wrong_type(field, value, "text")
    if not value or len(value) > longest or not value.isprintable():
        raise Refused(
            "name", f"{field} {shown(value)} is empty, longer than {longest} characters or holds control characters"
        )
    return value
