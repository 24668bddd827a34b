"""The notifier on Lambda: alerts for people, by SNS (email, SMS), Slack and PagerDuty. A composition root.

Each target of each notification has its own line in the ledger, so a retried invocation repeats
only what has not been sent.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from consumers.alerts import format as words
from consumers.alerts.ledger import Ledger
from consumers.alerts.webhooks import post
from runtime import clients, logs, settings

logger = logs.logger("notifier")
metrics = logs.metrics("notifier")
PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"


class Notifier:
    """Sends one alert to every target that is set up."""

    def __init__(self, chosen: settings.NotifierSettings) -> None:
        self._sns = clients.client("sns")
        self._ledger = Ledger(clients.client("dynamodb"), chosen.ledger_table)
        self._topic = chosen.people_topic
        self._links = words.Links(chosen.dashboard_url, chosen.runbook_url)
        self._slack, self._pagerduty = chosen.slack_secret, chosen.pagerduty_secret
        self._secrets = clients.client("secretsmanager") if self._slack or self._pagerduty else None

    def send(self, event: dict[str, Any]) -> int:
        """Send to all targets; returns how many took it now. The first failure is raised at the end."""
        detail_type, detail = event["detail-type"], event["detail"]
        targets: list[tuple[str, Callable[[], object]]] = [("people", lambda: self._people(detail_type, detail))]
        if self._slack:
            targets.append(
                ("slack", lambda: post(self._secret(self._slack), words.slack(detail_type, detail, self._links)))
            )
        if self._pagerduty:
            key = self._pagerduty
            targets.append(
                ("pagerduty",
                 lambda: post(PAGERDUTY, words.pagerduty(detail_type, detail, self._links, self._secret(key))))
            )  # fmt: skip
        identity = detail.get("notificationId") or event.get("id", "")
        sent, failure = 0, None
        for name, send in targets:
            noted = f"{identity}#{name}"
            try:
                if self._ledger.begin(noted, time.time()):
                    send()
                    self._ledger.finish(noted, time.time())
                    sent += 1
            except Exception as error:
                logger.warning("target failed", extra={"target": name, "error": str(error)[:300]})
                failure = failure or error
        if failure is not None:
            raise failure
        return sent

    def _people(self, detail_type: str, detail: dict[str, Any]) -> None:
        self._sns.publish(
            TopicArn=self._topic,
            Subject=words.subject(detail_type, detail),
            Message=words.message(detail_type, detail, self._links),
            MessageStructure="json",
        )

    def _secret(self, name: str) -> str:
        if self._secrets is None:
            raise RuntimeError("no secret is set up")
        text: str = self._secrets.get_secret_value(SecretId=name)["SecretString"]
        return text.strip()


@cache
def notifier() -> Notifier:
    """The notifier of this execution environment."""
    return Notifier(settings.load(settings.NotifierSettings, os.environ))


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Send one alert. An error makes Lambda try again, and then the dead-letter queue has it."""
    sent = notifier().send(event)
    metrics.add_metric("AlertsSent", MetricUnit.Count, sent)
    logger.info("alert sent", extra={"insight": event["detail"].get("insightId"), "targets": sent})
    return {"sent": sent}
