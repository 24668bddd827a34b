"""The sweeper: sends what the publisher left pending, as when its mapping has given up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from botocore.exceptions import BotoCoreError, ClientError

from consumers.alerts.bus import Bus
from consumers.alerts.ledger import LEASE_MS, Ledger, Pending
from consumers.alerts.notifications import Notification
from consumers.alerts.publisher import clock
from schemas.insights import DETAIL_TYPES

MOST = 1_000
"""Rows of one sweep, those that wait longest; the next one takes the rest."""
_STEPS = list(DETAIL_TYPES)


@dataclass(slots=True)
class Swept:
    """What a sweep did. ``waiting`` rows are left; the oldest has waited ``oldest_ms`` (0: none)."""

    sent: int = 0
    waiting: int = 0
    oldest_ms: int = 0
    refused: list[str] = field(default_factory=list)
    error: str = ""


class Sweeper:
    """Finishes pending notifications; a sweep claims each row, so two sweeps do not send it twice."""

    def __init__(self, ledger: Ledger, bus: Bus, now: Callable[[], int] = clock) -> None:
        self._ledger, self._bus, self._now = ledger, bus, now

    def sweep(self) -> Swept:
        """Send what has been pending for more than a minute. Raises botocore's errors of the ledger."""
        now = self._now()
        rows = sorted(islice(self._ledger.pending(), MOST), key=_order)
        claimed: list[Notification] = []
        held_back: set[str] = set()  # an earlier notification of the insight is in other hands
        left: dict[str, Pending] = {row.notification.notification_id: row for row in rows}
        for row in rows:
            one = row.notification
            if one.insight_id in held_back:
                continue
            if now - row.pending_since <= LEASE_MS or not self._ledger.claim(
                one.notification_id, row.pending_since, "sweeper", now
            ):
                held_back.add(one.insight_id)
                continue
            claimed.append(one)
        result = Swept()

        def note(taken: Sequence[Notification]) -> None:
            for one in taken:
                try:
                    self._ledger.sent(one.notification_id, self._now())
                except (ClientError, BotoCoreError) as error:
                    result.error = result.error or f"ledger: {error}"
                else:
                    left.pop(one.notification_id, None)

        outcome = self._bus.send(claimed, note)
        for one in outcome.refused:
            self._ledger.refused(one.notification_id, self._now())
            left.pop(one.notification_id, None)
        result.sent = len(outcome.sent)
        result.refused = [one.notification_id for one in outcome.refused]
        result.error = result.error or outcome.error
        result.waiting = len(left)
        result.oldest_ms = max((now - row.first_pending for row in left.values()), default=0)
        return result


def _order(row: Pending) -> tuple[str, int, int]:
    one = row.notification
    return one.insight_id, one.revision, _STEPS.index(one.transition)
