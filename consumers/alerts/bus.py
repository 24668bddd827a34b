"""Events on the bus: bounded, jittered tries, and each insight's events in their order."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from consumers.alerts.notifications import Notification

TRIES = 5
"""Most tries of one entry, the first included."""
MAX_ENTRIES = 10
MAX_BYTES = 240_000
"""Bytes of one PutEvents call; EventBridge takes 256 KB."""
PERMANENT = ("MalformedDetail", "InvalidArgument")
"""Error codes of entries that will never be taken."""


@dataclass(slots=True)
class Sent:
    """What became of notifications. ``failed`` are to be tried again later, ``refused`` are not."""

    sent: list[Notification] = field(default_factory=list)
    refused: list[Notification] = field(default_factory=list)
    failed: list[Notification] = field(default_factory=list)
    error: str = ""


class Bus:
    """An EventBridge bus. ``events`` is a boto3 client; ``pause`` waits for so many seconds."""

    def __init__(self, events: Any, name: str, pause: Callable[[float], None] = time.sleep) -> None:
        self._events, self._name, self._pause = events, name, pause

    def send(
        self, notifications: Sequence[Notification], note: Callable[[Sequence[Notification]], None] = lambda _: None
    ) -> Sent:
        """Send notifications; ``note`` is told after each call which ones the bus has taken.

        An insight's later event is never sent while an earlier one has failed. Entries that fail are
        tried again with jittered back-off; the first that fails for good ends the patience with
        others, so that the time taken is bounded.
        """
        result = Sent()
        waiting = list(notifications)
        tries: dict[str, int] = defaultdict(int)
        patience = TRIES
        while waiting:
            chunk = _next(waiting)
            try:
                answer = self._events.put_events(Entries=[one.entry(self._name) for one in chunk])
            except (ClientError, BotoCoreError) as error:
                result.failed += waiting
                result.error = result.error or str(error)
                return result
            taken: list[Notification] = []
            again = 0
            for one, entry in zip(chunk, answer["Entries"], strict=True):
                code = entry.get("ErrorCode")
                if not code:
                    taken.append(one)
                    waiting.remove(one)
                    continue
                result.error = result.error or f"bus {self._name}: {code}: {entry.get('ErrorMessage', '')}"
                if code in PERMANENT:
                    result.refused.append(one)
                    waiting.remove(one)
                    continue
                tries[one.notification_id] += 1
                again = max(again, tries[one.notification_id])
                if tries[one.notification_id] >= patience:
                    patience = 1
                    given_up = [other for other in waiting if other.insight_id == one.insight_id]
                    result.failed += given_up
                    waiting = [other for other in waiting if other.insight_id != one.insight_id]
            result.sent += taken
            if taken:
                note(taken)
            if again and patience > 1:
                self._pause(random.uniform(0.5, 1.0) * min(2.0, 0.1 * 2**again))
        return result


def _next(waiting: Sequence[Notification]) -> list[Notification]:
    """The next call's entries: at most one of each insight, always its first."""
    chunk: list[Notification] = []
    insights: set[str] = set()
    size = 0
    for one in waiting:
        if one.insight_id in insights:
            continue
        insights.add(one.insight_id)
        if chunk and size + one.size > MAX_BYTES:
            break
        chunk.append(one)
        size += one.size
        if len(chunk) == MAX_ENTRIES:
            break
    return chunk
