"""Publishes notifications on the event bus, each noted in the ledger before and after."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from consumers.alerts.ledger import Ledger
from consumers.alerts.transitions import Notification, entry

TRIES = 4
FIRST_PAUSE = 0.1
TRANSIENT_AGE = 60.0
"""Seconds after which the sweeper takes a pending notification for left behind."""


class BusUnavailable(RuntimeError):
    """The bus did not take an event within the bounded retries; it stays pending and comes again."""


class Publisher:
    """Sends notifications once. ``events`` is a boto3 client; ``clock`` and ``sleep`` come from outside."""

    def __init__(
        self, events: Any, ledger: Ledger, bus: str, *, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._events, self._ledger, self._bus = events, ledger, bus
        self._clock, self._sleep = clock, sleep

    def publish(self, note: Notification) -> bool:
        """Send one notification unless the ledger has it as sent; True if it was sent now.

        Raises BusUnavailable, or the ledger's errors; the notification is then pending.
        """
        if not self._ledger.begin(note.notification_id, self._clock(), msgspec.json.encode(note).decode()):
            return False
        self._send(note)
        self._ledger.finish(note.notification_id, self._clock())
        return True

    def sweep(self) -> int:
        """Send what has been pending for longer than a send can take; returns how many."""
        notes: Sequence[Notification] = list(self._ledger.pending(self._clock() - TRANSIENT_AGE))
        for note in notes:
            self._send(note)
            self._ledger.finish(note.notification_id, self._clock())
        return len(notes)

    def _send(self, note: Notification) -> None:
        problem = ""
        for attempt in range(TRIES):
            answer = self._events.put_events(Entries=[entry(note, self._bus)])
            if not answer.get("FailedEntryCount"):
                return
            failed = answer["Entries"][0]
            problem = f"{failed.get('ErrorCode')}: {failed.get('ErrorMessage')}"
            if attempt + 1 < TRIES:
                self._sleep(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.0))
        raise BusUnavailable(f"event bus {self._bus} refused {note.notification_id}: {problem}")
