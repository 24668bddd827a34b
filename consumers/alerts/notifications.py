"""Notifications: which transitions of an insight are told, and as which event on the bus. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from runtime.dynamodb import Item, plain
from schemas.insights import DETAIL_TYPES, EVENT_SOURCE, SEVERITY_ORDER, Insight

Told = Literal["opened", "escalated", "closed"]

MAX_DETAIL = 200_000
"""Most bytes of an event's detail; EventBridge takes entries of up to 256 KB."""
_LIMITS = ((100, 2_000), (20, 512), (5, 128), (0, 64))
"""Ever fewer list entries and characters a text, until a detail fits."""
_KEYS = ("insight_id", "resource", "metric", "type", "severity", "state", "transition")
"""What identifies an insight is never cut."""


class Notification(msgspec.Struct, frozen=True):
    """One transition to be told. ``detail`` is the event's detail as JSON text."""

    notification_id: str
    insight_id: str
    revision: int
    transition: Told
    resource: str
    detail: str

    def entry(self, bus: str) -> dict[str, Any]:
        """The entry of PutEvents."""
        return {
            "EventBusName": bus,
            "Source": EVENT_SOURCE,
            "DetailType": DETAIL_TYPES[self.transition],
            "Detail": self.detail,
            "Resources": [self.resource],
        }

    @property
    def size(self) -> int:
        """Bytes that PutEvents counts for the entry."""
        texts = (EVENT_SOURCE, DETAIL_TYPES[self.transition], self.detail, self.resource)
        return sum(len(text.encode()) for text in texts) + 14


def transitions(old: Insight | None, new: Insight) -> list[Told]:
    """What happened to an insight between two images of it; nothing where it was only updated.

    Where one write carries an insight over several steps, each step is told.
    """
    if old is None:
        closed_since = new.state == "closed" and new.transition != "opened"
        return ["opened", "closed"] if closed_since else ["opened"]
    if new.revision <= old.revision:
        return []
    if old.state == "closed" and new.state == "open":
        return ["opened"]
    told: list[Told] = []
    if SEVERITY_ORDER[new.severity] > SEVERITY_ORDER[old.severity]:
        told.append("escalated")
    if old.state == "open" and new.state == "closed":
        told.append("closed")
    return told


def notifications(record: Mapping[str, Any]) -> list[Notification]:
    """Notifications of one record of the Insights table's stream, in order.

    A removal (an insight has expired) is not told. Raises msgspec.ValidationError where an image
    holds no insight.
    """
    images = record["dynamodb"]
    if record["eventName"] == "REMOVE" or "NewImage" not in images:
        return []
    new = _insight(images["NewImage"])
    old = _insight(images["OldImage"]) if images.get("OldImage") else None
    return [notification(new, transition) for transition in transitions(old, new)]


def _insight(image: Item) -> Insight:
    return msgspec.convert({name: plain(value) for name, value in image.items()}, Insight, strict=False)


def notification(insight: Insight, transition: Told) -> Notification:
    """The notification of a transition: the same one gives the same id and the same bytes."""
    notification_id = f"{insight.insight_id}#{insight.revision}#{transition}"
    return Notification(
        notification_id=notification_id,
        insight_id=insight.insight_id,
        revision=insight.revision,
        transition=transition,
        resource=insight.resource,
        detail=_detail(insight, notification_id),
    )


def _detail(insight: Insight, notification_id: str) -> str:
    """The insight as JSON with its ``notificationId``; shortened where it would be too large."""
    text = _encode(insight, notification_id)
    for entries, characters in _LIMITS:
        if len(text) <= MAX_DETAIL:
            break
        text = _encode(_shortened(insight, entries, characters), notification_id)
    return text.decode()


def _encode(insight: Insight, notification_id: str) -> bytes:
    return msgspec.json.encode({**msgspec.to_builtins(insight), "notificationId": notification_id})


def _shortened(insight: Insight, entries: int, characters: int) -> Insight:
    changes: dict[str, Any] = {}
    for name in insight.__struct_fields__:
        value = getattr(insight, name)
        if name in _KEYS:
            continue
        if isinstance(value, str):
            changes[name] = value[:characters]
        elif isinstance(value, list):
            changes[name] = [one[:characters] for one in value[:entries]]
        elif isinstance(value, dict):
            changes[name] = {
                key[:characters]: one[:characters] if isinstance(one, str) else one
                for key, one in list(value.items())[:entries]
            }
    return msgspec.structs.replace(insight, **changes)
