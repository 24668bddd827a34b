"""The publisher on Lambda: from the Insights table's stream to the event bus.

A composition root: settings and clients are made at the first invocation.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from consumers.alerts.bus import Bus
from consumers.alerts.ledger import Ledger
from consumers.alerts.publisher import Publisher
from runtime import clients, logs, settings

logger = logs.logger("publisher")
metrics = logs.metrics("publisher")


@cache
def publisher() -> Publisher:
    """The publisher of this execution environment."""
    chosen = settings.load(settings.PublisherSettings, os.environ)
    ledger = Ledger(clients.client("dynamodb"), chosen.ledger_table)
    return Publisher(ledger, Bus(clients.client("events"), chosen.event_bus))


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Publish the transitions of one batch in order; answers ``batchItemFailures``."""
    records = event["Records"]
    result = publisher().publish(records)
    for name, value in (
        ("NotificationsSent", result.sent),
        ("NotificationsRepeated", result.repeated),
        ("NotificationsRefused", len(result.refused)),
        ("ImagesUnreadable", len(result.unreadable)),
        ("BatchesHandedBack", int(result.first_failed is not None)),
    ):
        if value or name == "NotificationsSent":
            metrics.add_metric(name, MetricUnit.Count, value)
    for text in (*result.refused, *result.unreadable):
        logger.error("not published", extra={"what": text, "error": result.error[:500]})
    told = {"records": len(records), "sent": result.sent, "repeated": result.repeated}
    if result.first_failed is None:
        logger.info("published", extra=told)
        return {"batchItemFailures": []}
    logger.warning("batch handed back", extra={**told, "from": result.first_failed, "error": result.error[:500]})
    return {"batchItemFailures": [{"itemIdentifier": records[result.first_failed]["dynamodb"]["SequenceNumber"]}]}
