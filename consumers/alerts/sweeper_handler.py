"""The sweeper on Lambda: sends notifications that a crash has left pending. A composition root."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from consumers.alerts.publisher_handler import publisher
from runtime import logs

logger = logs.logger("sweeper")
metrics = logs.metrics("sweeper")


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Send what stayed pending."""
    swept = publisher().sweep()
    metrics.add_metric("NotificationsSwept", MetricUnit.Count, swept)
    if swept:
        logger.warning("pending notifications sent", extra={"count": swept})
    return {"swept": swept}
