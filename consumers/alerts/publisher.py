"""The publisher: from the Insights table's stream to the bus, each transition once.

Ledger row pending → event → ledger row sent. A crash before the event leaves the row pending: the
stream brings the record again, or the sweeper finds the row. A crash between the event and its
note sends the event again, with the same ``notificationId``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from consumers.alerts.bus import Bus
from consumers.alerts.ledger import Begun, Ledger
from consumers.alerts.notifications import Notification, notifications

WRITERS = 8
"""Ledger rows written at the same time, those of one insight one after the other."""
PATIENCE = 5
"""How often a row that the sweeper has in hand is looked at before the batch is handed back. Once that was in vain,
others are looked at once: all together must end before the function's time does."""


def clock() -> int:
    """Now, in epoch milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Published:
    """What became of a batch of stream records.

    ``repeated`` counts notifications that had been sent before. ``first_failed`` is the index of
    the first record that must come again, None where all are done.
    """

    sent: int = 0
    repeated: int = 0
    refused: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    first_failed: int | None = None
    error: str = ""


class Publisher:
    """Publishes transitions. Knows one stream shard at a time; make it once for each process."""

    def __init__(
        self,
        ledger: Ledger,
        bus: Bus,
        now: Callable[[], int] = clock,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ledger, self._bus, self._now, self._pause = ledger, bus, now, pause
        self._unnoted: set[str] = set()  # sent by this process, and the ledger could not be told

    def publish(self, records: Sequence[Mapping[str, Any]]) -> Published:
        """Publish what the records of one batch tell. Never raises for errors of the services."""
        result = Published()
        place: dict[str, int] = {}
        groups: dict[str, list[Notification]] = {}
        for index, record in enumerate(records):
            try:
                found = notifications(record)
            except (msgspec.ValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
                result.unreadable.append(f"{record.get('eventID', index)}: {error!r}"[:500])
                continue
            for one in found:
                place.setdefault(one.notification_id, index)
                groups.setdefault(one.insight_id, []).append(one)
        failed: list[Notification] = []
        ready: list[Notification] = []
        for held, kept, repeated, problem in self._begin(list(groups.values())):
            ready += kept
            failed += held
            result.repeated += repeated
            result.error = result.error or problem
        ready.sort(key=lambda one: place[one.notification_id])
        outcome = self._bus.send(ready, lambda taken: failed.extend(self._note(taken)))
        result.sent = len(outcome.sent)
        result.refused = [one.notification_id for one in outcome.refused]
        for one in outcome.refused:
            failed += self._try([one], self._ledger.refused)
        failed += outcome.failed
        result.error = result.error or outcome.error
        if failed:
            result.first_failed = min(place[one.notification_id] for one in failed)
            result.error = result.error or "the ledger could not be told"
        return result

    def _begin(self, groups: list[list[Notification]]) -> list[tuple[list[Notification], list[Notification], int, str]]:
        """For each insight: what failed, what is to be sent, how many had been sent, the error."""
        stopped = False
        looks = PATIENCE

        def one(group: list[Notification]) -> tuple[list[Notification], list[Notification], int, str]:
            nonlocal stopped, looks
            ready: list[Notification] = []
            repeated = 0
            for at, notification in enumerate(group):
                if stopped:
                    return group[at:], ready, repeated, ""
                try:
                    if notification.notification_id in self._unnoted:
                        if self._note([notification]):
                            return group[at:], ready, repeated, "the ledger could not be told"
                        repeated += 1
                        continue
                    begun = self._begin_one(notification, looks)
                except (ClientError, BotoCoreError) as error:
                    stopped = True
                    return group[at:], ready, repeated, f"ledger: {error}"
                if begun == "busy":
                    looks = 1
                    return group[at:], ready, repeated, "the sweeper is sending a notification of this batch"
                if begun == "done":
                    repeated += 1
                else:
                    ready.append(notification)
            return [], ready, repeated, ""

        if len(groups) < 2:
            return [one(group) for group in groups]
        with ThreadPoolExecutor(min(WRITERS, len(groups))) as pool:
            return list(pool.map(one, groups))

    def _begin_one(self, notification: Notification, looks: int) -> Begun:
        """Enter one notification, giving the sweeper some seconds to finish with it.

        Handing the batch back at once would only bring it again at once.
        """
        for look in range(looks):
            if look:
                self._pause(2.0)
            begun = self._ledger.begin(notification, self._now())
            if begun != "busy":
                return begun
        return "busy"

    def _note(self, taken: Sequence[Notification]) -> list[Notification]:
        """Note in the ledger what the bus has taken; returns what could not be noted."""
        unnoted = self._try(taken, self._ledger.sent)
        names = {one.notification_id for one in unnoted}
        self._unnoted |= names
        self._unnoted -= {one.notification_id for one in taken} - names
        return unnoted

    def _try(self, taken: Sequence[Notification], note: Callable[[str, int], None]) -> list[Notification]:
        failed = []
        for one in taken:
            try:
                note(one.notification_id, self._now())
            except (ClientError, BotoCoreError):
                failed.append(one)
        return failed
