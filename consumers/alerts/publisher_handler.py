"""The publisher on Lambda: from the Insights table's stream to the event bus. A composition root."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError

from consumers.alerts.ledger import Ledger
from consumers.alerts.publisher import BusUnavailable, Publisher
from consumers.alerts.transitions import notification
from runtime import clients, logs, settings

logger = logs.logger("publisher")
metrics = logs.metrics("publisher")


@cache
def publisher() -> Publisher:
    """The publisher of this execution environment."""
    chosen = settings.load(settings.PublisherSettings, os.environ)
    return Publisher(
        clients.client("events"),
        Ledger(clients.client("dynamodb"), chosen.ledger_table),
        chosen.event_bus,
        clock=time.time,
        sleep=time.sleep,
    )


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Publish the transitions of one batch in order; answers ``batchItemFailures``."""
    sent = 0
    for record in event["Records"]:
        try:
            note = notification(record)
            sent += publisher().publish(note) if note is not None else 0
        except (ClientError, BotoCoreError, BusUnavailable) as error:
            logger.warning("handed back", extra={"error": str(error)[:500]})
            metrics.add_metric("BatchesHandedBack", MetricUnit.Count, 1)
            return {"batchItemFailures": [{"itemIdentifier": record["dynamodb"]["SequenceNumber"]}]}
    metrics.add_metric("NotificationsSent", MetricUnit.Count, sent)
    logger.info("published", extra={"records": len(event["Records"]), "sent": sent})
    return {"batchItemFailures": []}
