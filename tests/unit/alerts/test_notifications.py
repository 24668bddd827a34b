"""Which transitions are told, and as what."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from consumers.alerts.notifications import MAX_DETAIL, notification, notifications, transitions
from consumers.alerts.notifier import read
from consumers.insights.store import to_item
from schemas.insights import Insight
from tests.support.insights import closed, insight


def record(old: Insight | None, new: Insight | None) -> dict[str, Any]:
    images = {name: to_item(one) for name, one in (("OldImage", old), ("NewImage", new)) if one is not None}
    name = "REMOVE" if new is None else "MODIFY" if old else "INSERT"
    return {"eventID": "1", "eventName": name, "dynamodb": {**images, "SequenceNumber": "1"}}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (None, insight(), ["opened"]),
        (None, insight(state="closed"), ["opened"]),  # an event that has no end
        (None, closed(), ["opened", "closed"]),
        (insight(), insight(revision=2, transition="updated"), []),
        (insight(severity="LOW"), insight(revision=2, transition="escalated"), ["escalated"]),
        (insight(), insight(revision=2, severity="LOW", transition="updated"), []),
        (insight(), closed(), ["closed"]),
        (insight(severity="LOW"), closed(revision=3), ["escalated", "closed"]),
        (closed(), insight(revision=3), ["opened"]),
        (closed(), closed(), []),
        (insight(revision=5), closed(revision=2), []),
    ],
)
def test_a_transition_is_what_changed_between_two_images(old: Insight | None, new: Insight, told: list[str]) -> None:
    assert transitions(old, new) == told


def test_an_event_carries_the_insight_exactly_and_the_id_of_the_notification() -> None:
    (one,) = notifications(record(None, insight()))
    entry = one.entry("bus")
    detail = json.loads(entry.pop("Detail"))
    assert entry == {
        "EventBusName": "bus",
        "Source": "opsriver",
        "DetailType": "Insight opened",
        "Resources": ["web-07"],
    }
    assert detail.pop("notificationId") == one.notification_id == "k3f7q2mzt5x6w1a8b9c0d4e5fg#1#opened"
    assert detail == msgspec.to_builtins(insight())
    event = {"detail-type": "Insight opened", "detail": json.loads(one.detail)}
    assert read(event) == (insight(), one.notification_id)


def test_an_insight_that_expires_is_not_told() -> None:
    assert notifications(record(closed(), None)) == []


def test_the_same_transition_gives_the_same_bytes() -> None:
    assert notifications(record(insight(), closed())) == notifications(record(insight(), closed()))


def test_an_image_that_holds_no_insight_is_refused() -> None:
    broken = record(None, insight())
    del broken["dynamodb"]["NewImage"]["severity"]
    with pytest.raises(msgspec.ValidationError, match="severity"):
        notifications(broken)


def test_a_large_insight_is_shortened_to_what_the_bus_takes_and_keeps_its_identity() -> None:
    long = "\N{GRINNING FACE}" * 2_000
    huge = insight(
        message=long * 50,
        affected_hosts=[f"{n}{long}" for n in range(300)],
        evidence={f"{n}{long}": 0.01 for n in range(300)},
        dimensions={f"{n}{long}": long for n in range(30)},
        resource="r" * 256,
    )
    one = notification(huge, "opened")
    assert one.size < 256 * 1024
    assert len(one.detail.encode()) <= MAX_DETAIL
    detail = json.loads(one.detail)
    assert (detail["insightId"], detail["resource"], detail["severity"]) == (huge.insight_id, "r" * 256, "CRITICAL")
    assert detail["message"].startswith("\N{GRINNING FACE}")


@pytest.mark.parametrize("event", [{}, {"detail-type": "Insight opened"}, {"detail-type": "x", "detail": {}}])
def test_an_event_without_an_insight_is_refused_in_words(event: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="carries no insight"):
        read(event)
