"""The notifier: an alert of the bus, written for people, to every target that is set up.

Each target of each notification has a row of its own in the ledger, so a repeated event and a
repeated try reach only those that have not had it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from consumers.alerts import format as words
from consumers.alerts.ledger import Ledger
from consumers.alerts.publisher import clock
from consumers.alerts.webhooks import NotTaken, Webhooks
from schemas.insights import DETAIL_TYPES, Insight

PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"
SECRET_AGE_S = 300.0
"""How long a secret is remembered: a rotated one takes effect within it."""
_TRANSITIONS = {detail_type: transition for transition, detail_type in DETAIL_TYPES.items()}


class Undelivered(RuntimeError):
    """Some targets did not take an alert; the text names them. The invocation must come again."""


class Target(Protocol):
    """Something that alerts can be sent to."""

    @property
    def name(self) -> str:
        """Name of the target, part of its rows' keys in the ledger."""

    def send(self, insight: Insight, links: words.Links) -> None:
        """Send, or raise ClientError, BotoCoreError or NotTaken."""


class Secrets:
    """Secrets by name, remembered for five minutes. ``secretsmanager`` is a boto3 client."""

    def __init__(self, secretsmanager: Any, now: Callable[[], float] = time.monotonic) -> None:
        self._client, self._now = secretsmanager, now
        self._held: dict[str, tuple[float, dict[str, str]]] = {}

    def get(self, name: str, field: str) -> dict[str, str]:
        """A secret that is a JSON object of texts, or one text, which then is ``field``."""
        held = self._held.get(name)
        if held is None or self._now() - held[0] > SECRET_AGE_S:
            text = self._client.get_secret_value(SecretId=name)["SecretString"].strip()
            try:
                value = msgspec.json.decode(text, type=dict[str, str])
            except msgspec.DecodeError:
                value = {field: text}
            held = self._held[name] = (self._now(), value)
        if field not in held[1]:
            raise NotTaken(f"secret {name} holds no {field}; put the {field} there as text, or as JSON")
        return held[1]


@dataclass(frozen=True, slots=True)
class People:
    """The topic that people subscribe to by email and SMS. ``sns`` is a boto3 client."""

    sns: Any
    topic: str
    name: str = "people"

    def send(self, insight: Insight, links: words.Links) -> None:
        """Publish, with a text for each protocol."""
        self.sns.publish(
            TopicArn=self.topic,
            Subject=words.subject(insight),
            Message=words.people(insight, links),
            MessageStructure="json",
        )


@dataclass(frozen=True, slots=True)
class Slack:
    """A Slack incoming webhook; the secret is its URL, or JSON with ``url``."""

    webhooks: Webhooks
    secrets: Secrets
    secret: str
    name: str = "slack"

    def send(self, insight: Insight, links: words.Links) -> None:
        """Post the message."""
        self.webhooks.post(self.secrets.get(self.secret, "url")["url"], words.slack(insight, links))


@dataclass(frozen=True, slots=True)
class PagerDuty:
    """PagerDuty's Events API v2; the secret is a routing key, or JSON with ``routing_key`` and, for
    another service region, ``url``."""

    webhooks: Webhooks
    secrets: Secrets
    secret: str
    name: str = "pagerduty"

    def send(self, insight: Insight, links: words.Links) -> None:
        """Trigger or resolve the incident of the insight."""
        secret = self.secrets.get(self.secret, "routing_key")
        body = words.pagerduty(insight, links, secret["routing_key"])
        self.webhooks.post(secret.get("url", PAGERDUTY_URL), body)


@dataclass(slots=True)
class Notified:
    """Targets by what became of an alert; ``failed`` with the reason."""

    sent: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


class Notifier:
    """Sends alerts to targets."""

    def __init__(
        self,
        ledger: Ledger,
        targets: Sequence[Target],
        dashboard_url: str = "",
        runbook_url: str = "",
        now: Callable[[], int] = clock,
    ) -> None:
        self._ledger, self._targets, self._now = ledger, targets, now
        self._dashboard_url, self._runbook_url = dashboard_url, runbook_url

    def notify(self, event: Mapping[str, Any]) -> Notified:
        """Send the insight of an EventBridge event to every target that has not had it.

        Raises ValueError where the event carries no insight. What failed is in the answer.
        """
        insight, notification_id = read(event)
        links = words.links(insight, self._dashboard_url, self._runbook_url)
        result = Notified()
        for target in self._targets:
            try:
                begun = self._ledger.begin_delivery(notification_id, target.name, self._now())
                if begun == "done":
                    result.repeated.append(target.name)
                elif begun == "busy":
                    result.failed[target.name] = "another invocation is sending it"
                else:
                    self._send(target, insight, links, notification_id)
                    result.sent.append(target.name)
            except (ClientError, BotoCoreError, NotTaken) as error:
                result.failed[target.name] = str(error)[:500]
        return result

    def _send(self, target: Target, insight: Insight, links: words.Links, notification_id: str) -> None:
        try:
            target.send(insight, links)
        except (ClientError, BotoCoreError, NotTaken):
            self._ledger.not_delivered(notification_id, target.name)
            raise
        self._ledger.delivered(notification_id, target.name, self._now())


def read(event: Mapping[str, Any]) -> tuple[Insight, str]:
    """The insight of an event of the bus, with the event's transition, and its notification id.

    Raises ValueError that says what is missing.
    """
    try:
        transition = _TRANSITIONS[event["detail-type"]]
        detail = event["detail"]
        insight = msgspec.convert(detail, Insight, strict=False)
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise ValueError(f"the event carries no insight ({type(error).__name__}: {error})") from error
    insight = msgspec.structs.replace(insight, transition=transition)
    known = detail.get("notificationId")
    return insight, known or f"{insight.insight_id}#{insight.revision}#{transition}"
