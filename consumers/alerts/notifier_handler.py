"""The notifier on Lambda: alerts for people, by SNS (email, SMS), Slack and PagerDuty.

A composition root: settings and clients are made at the first invocation.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from consumers.alerts.ledger import Ledger
from consumers.alerts.notifier import Notifier, PagerDuty, People, Secrets, Slack, Target, Undelivered
from consumers.alerts.webhooks import Webhooks
from runtime import clients, logs, settings

logger = logs.logger("notifier")
metrics = logs.metrics("notifier")


@cache
def notifier() -> Notifier:
    """The notifier of this execution environment, with the targets that are set up."""
    chosen = settings.load(settings.NotifierSettings, os.environ)
    targets: list[Target] = [People(clients.client("sns"), chosen.people_topic)]
    if chosen.slack_secret or chosen.pagerduty_secret:
        secrets, webhooks = Secrets(clients.client("secretsmanager")), Webhooks()
        if chosen.slack_secret:
            targets.append(Slack(webhooks, secrets, chosen.slack_secret))
        if chosen.pagerduty_secret:
            targets.append(PagerDuty(webhooks, secrets, chosen.pagerduty_secret))
    ledger = Ledger(clients.client("dynamodb"), chosen.ledger_table)
    return Notifier(ledger, targets, chosen.dashboard_url, chosen.runbook_url)


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Send one alert. An error makes Lambda try again; after that the dead-letter queue has it."""
    result = notifier().notify(event)
    metrics.add_metric("AlertsSent", MetricUnit.Count, len(result.sent))
    told = {
        "notification": event["detail"].get("notificationId", ""),
        "sent": result.sent,
        "repeated": result.repeated,
        "failed": result.failed,
    }
    if result.failed:
        metrics.add_metric("AlertsUndelivered", MetricUnit.Count, len(result.failed))
        logger.error("alert not delivered everywhere", extra=told)
        raise Undelivered(f"not delivered to {', '.join(result.failed)}; the log has the reasons")
    logger.info("alert delivered", extra=told)
    return {"sent": result.sent, "repeated": result.repeated}
