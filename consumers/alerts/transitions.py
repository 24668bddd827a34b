"""What happened to an insight, from a change of its item. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from boto3.dynamodb.types import TypeDeserializer

from schemas.insights import DETAIL_TYPES, EVENT_SOURCE, SEVERITY_ORDER

MAX_DETAIL = 200_000
"""Bytes of an event's detail; EventBridge takes 256 KB an entry."""


class Notification(msgspec.Struct, frozen=True):
    """One transition of an insight, as it is published.

    ``detail`` is the insight as JSON, with the notification's id beside it.
    """

    notification_id: str
    insight_id: str
    detail_type: str
    resource: str
    detail: str


def notification(record: dict[str, Any]) -> Notification | None:
    """The notification of one DynamoDB stream record; None where there is nothing to tell."""
    change = record.get("dynamodb", {})
    if record.get("eventName") not in ("INSERT", "MODIFY") or "NewImage" not in change:
        return None
    new = _plain(change["NewImage"])
    old = _plain(change["OldImage"]) if change.get("OldImage") else None
    transition = _transition(old, new)
    if transition is None:
        return None
    identity = f"{new['insightId']}#{new['revision']}#{transition}"
    return Notification(
        notification_id=identity,
        insight_id=new["insightId"],
        detail_type=DETAIL_TYPES[transition],
        resource=str(new.get("resource", "")),
        detail=_detail(new, identity),
    )


def _transition(old: dict[str, Any] | None, new: dict[str, Any]) -> str | None:
    if old is None:
        return "opened"
    if old.get("revision") == new.get("revision"):
        return None
    if new.get("state") == "closed" and old.get("state") != "closed":
        return "closed"
    rank = SEVERITY_ORDER.get
    return "escalated" if rank(new.get("severity", ""), 0) > rank(old.get("severity", ""), 0) else None


def _detail(insight: dict[str, Any], identity: str) -> str:
    body = {**insight, "notificationId": identity}
    text = msgspec.json.encode(body).decode()
    if len(text.encode()) > MAX_DETAIL:
        for field in ("related", "dimensions", "evidence"):
            body.pop(field, None)
        body["affectedHosts"] = body.get("affectedHosts", [])[:10]
        text = msgspec.json.encode(body).decode()
    return text


def entry(note: Notification, bus: str) -> dict[str, Any]:
    """The notification as an entry of PutEvents."""
    return {
        "EventBusName": bus,
        "Source": EVENT_SOURCE,
        "DetailType": note.detail_type,
        "Resources": [note.resource],
        "Detail": note.detail,
    }


def _plain(image: dict[str, Any]) -> dict[str, Any]:
    deserialize = TypeDeserializer().deserialize
    return {name: _simple(deserialize(value)) for name, value in image.items()}


def _simple(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _simple(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_simple(one) for one in value]
    if isinstance(value, str | bool) or value is None:
        return value
    return int(value) if value == int(value) else float(value)
