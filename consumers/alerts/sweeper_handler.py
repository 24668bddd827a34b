"""The sweeper on Lambda, once a minute: notifications that stayed pending are sent.

A composition root: settings and clients are made at the first invocation.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from consumers.alerts.bus import Bus
from consumers.alerts.ledger import Ledger
from consumers.alerts.sweeper import Sweeper
from runtime import clients, logs, settings

logger = logs.logger("sweeper")
metrics = logs.metrics("sweeper")


@cache
def sweeper() -> Sweeper:
    """The sweeper of this execution environment."""
    chosen = settings.load(settings.PublisherSettings, os.environ)
    return Sweeper(Ledger(clients.client("dynamodb"), chosen.ledger_table), Bus(clients.client("events"), chosen.event_bus))


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Send what waits; ``OldestPending`` (milliseconds) is what an alarm watches."""
    swept = sweeper().sweep()
    metrics.add_metric("NotificationsSwept", MetricUnit.Count, swept.sent)
    metrics.add_metric("NotificationsPending", MetricUnit.Count, swept.waiting)
    metrics.add_metric("OldestPending", MetricUnit.Milliseconds, swept.oldest_ms)
    if swept.refused:
        metrics.add_metric("NotificationsRefused", MetricUnit.Count, len(swept.refused))
    told = {"sent": swept.sent, "waiting": swept.waiting, "oldestMs": swept.oldest_ms}
    if swept.error or swept.refused:
        logger.error("not all sent", extra={**told, "refused": swept.refused[:20], "error": swept.error[:500]})
    else:
        logger.info("swept", extra=told)
    return {"sent": swept.sent, "waiting": swept.waiting}
