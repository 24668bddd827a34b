"""The publisher's patience with the sweeper, which has the same notifications in hand."""

from __future__ import annotations

from typing import Any

import msgspec

from consumers.alerts.bus import Bus
from consumers.alerts.notifications import Notification
from consumers.alerts.publisher import PATIENCE, WRITERS, Publisher
from runtime.dynamodb import attribute
from tests.support.insights import insight

TIME_OUT_S = 60


class Ledger:
    """A ledger whose rows the sweeper has in hand, but for those that are ``ours``."""

    def __init__(self, ours: set[str]) -> None:
        self.ours, self.looks = ours, 0

    def begin(self, notification: Notification, now: int) -> str:
        self.looks += 1
        return "ours" if notification.insight_id in self.ours else "busy"

    def sent(self, notification_id: str, now: int) -> None:
        """Noted."""


class Events:
    def put_events(self, Entries: list[Any]) -> dict[str, Any]:
        return {"Entries": [{} for _ in Entries]}


def record(number: int) -> dict[str, Any]:
    fields = msgspec.to_builtins(insight(insight_id=f"i-{number}"))
    image = {name: attribute(value) for name, value in fields.items() if value is not None}
    return {"eventName": "INSERT", "dynamodb": {"NewImage": image, "SequenceNumber": str(number)}}


def test_a_batch_that_the_sweeper_has_in_hand_is_given_back_before_the_time_is_out_and_the_rest_is_sent() -> None:
    pauses: list[float] = []
    ledger: Any = Ledger(ours={"i-0", "i-99"})
    result = Publisher(ledger, Bus(Events(), "bus"), pause=pauses.append).publish([record(n) for n in range(100)])
    assert (result.sent, result.first_failed) == (2, 1)
    assert ledger.looks <= 100 + WRITERS * PATIENCE
    assert sum(pauses) < TIME_OUT_S * WRITERS / 2, "those who write at the same time wait at the same time"


def test_a_sweeper_that_is_soon_done_is_waited_for() -> None:
    pauses: list[float] = []
    ledger: Any = Ledger(ours=set())

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == PATIENCE - 1:
            ledger.ours = {"i-0"}

    assert Publisher(ledger, Bus(Events(), "bus"), pause=wait).publish([record(0)]).sent == 1
