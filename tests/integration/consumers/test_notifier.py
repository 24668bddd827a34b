"""The notifier with a real topic, real webhooks over TLS and the real ledger."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from consumers.alerts import notifier_handler
from consumers.alerts.ledger import LEASE_MS
from consumers.alerts.notifications import notification
from consumers.alerts.notifier import Notifier, PagerDuty, People, Secrets, Slack, Undelivered
from consumers.alerts.webhooks import NotTaken, Webhooks
from tests.support.alerts import Alerting, Killed
from tests.support.insights import closed, insight
from tests.support.ministack import Emulator
from tests.support.webhook import Webhook, webhook

pytestmark = pytest.mark.embedded
_names = (f"people-{n}" for n in itertools.count())


def event(one: Any = None, transition: Any = "opened") -> dict[str, Any]:
    told = notification(one or insight(), transition)
    entry = told.entry("bus")
    return {"source": "opsriver", "detail-type": entry["DetailType"], "detail": json.loads(told.detail), "id": "x"}


@pytest.fixture
def alerting(aws: Emulator) -> Alerting:
    return Alerting(aws)


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[Webhook]:
    with webhook(tmp_path) as running:
        yield running


class Topic:
    """A topic for people and what its subscriber has got."""

    def __init__(self, aws: Emulator) -> None:
        name = next(_names)
        self.sns, self._sqs = aws.client("sns"), aws.client("sqs")
        self.arn = self.sns.create_topic(Name=name)["TopicArn"]
        self._queue = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"]
        self.sns.subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=arn["QueueArn"])

    def received(self) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]


@pytest.fixture
def topic(aws: Emulator) -> Topic:
    return Topic(aws)


def secret(aws: Emulator, value: str) -> str:
    name = f"secret-{next(_names)}"
    aws.client("secretsmanager").create_secret(Name=name, SecretString=value)
    return name


def notifier(alerting: Alerting, topic: Topic, hook: Webhook) -> Notifier:
    webhooks, secrets = Webhooks(hook.trust, pause=lambda _: None), Secrets(alerting.aws.client("secretsmanager"))
    pager = json.dumps({"routing_key": "key-1", "url": hook.url})
    return Notifier(
        alerting.ledger,
        [
            People(topic.sns, topic.arn),
            Slack(webhooks, secrets, secret(alerting.aws, hook.url)),
            PagerDuty(webhooks, secrets, secret(alerting.aws, pager)),
        ],
        "https://ops.example.com",
        "https://wiki.example.com",
        alerting.clock,
    )


def test_an_alert_reaches_each_target_once_however_often_it_comes(alerting: Alerting, topic: Topic, hook: Webhook) -> None:
    one = notifier(alerting, topic, hook)
    assert one.notify(event()).sent == ["people", "slack", "pagerduty"]
    again = notifier(alerting, topic, hook).notify(event())
    assert (again.sent, again.repeated, again.failed) == ([], ["people", "slack", "pagerduty"], {})
    (mail,) = topic.received()
    assert mail["Subject"] == "CRITICAL: web-07 memoryUsage 97.3 %, expected 41.2 % to 55.0 %"
    assert "Runbook    https://wiki.example.com#anomaly" in mail["Message"]
    slack, pager = hook.bodies
    assert slack["blocks"][0]["text"]["text"].endswith("CRITICAL: web-07")
    assert (pager["event_action"], pager["dedup_key"]) == ("trigger", insight().insight_id)
    assert one.notify(event(closed(), "closed")).sent == ["people", "slack", "pagerduty"]
    assert hook.bodies[-1]["event_action"] == "resolve"
    assert alerting.sweeper().sweep().sent == 0, "rows of targets are none of the sweeper's"


def test_a_target_that_fails_does_not_keep_the_others_and_only_it_is_tried_again(
    alerting: Alerting, topic: Topic, hook: Webhook
) -> None:
    one = notifier(alerting, topic, hook)
    hook.answers = [500, 503, 500]
    result = one.notify(event())
    assert result.sent == ["people", "pagerduty"]
    assert list(result.failed) == ["slack"]
    assert "status 500" in result.failed["slack"]
    assert "secret-part" not in str(result.failed)
    assert len(hook.bodies) == 4
    result = one.notify(event())
    assert (result.sent, result.repeated) == (["slack"], ["people", "pagerduty"])
    assert len(topic.received()) == 1


def test_a_send_that_another_invocation_has_in_hand_is_left_to_it_until_it_must_be_dead(
    alerting: Alerting, topic: Topic, hook: Webhook
) -> None:
    class Dying:
        name = "people"

        def send(self, *_: Any) -> None:
            raise Killed

    with pytest.raises(Killed):
        Notifier(alerting.ledger, [Dying()], now=alerting.clock).notify(event())
    one = notifier(alerting, topic, hook)
    assert list(one.notify(event()).failed) == ["people"]
    alerting.now += LEASE_MS
    assert one.notify(event()).sent == ["people"]


def test_webhooks_are_https_only_never_follow_redirects_and_give_up_on_refusals(tmp_path: Path, hook: Webhook) -> None:
    post = Webhooks(hook.trust, pause=lambda _: None).post
    for url in ("http://127.0.0.1/x", "file:///etc/passwd", "ftp://h/x", "secret-part", "https:///x"):
        with pytest.raises(NotTaken, match="no https") as problem:
            post(url, {})
        assert "secret-part" not in str(problem.value)
    hook.location, hook.answers = "https://evil.example.com/", [307, 302]
    for _ in range(2):
        with pytest.raises(NotTaken, match=r"127\.0\.0\.1 did not take the message: status 30"):
            post(hook.url, {"a": 1})
    hook.answers = [404]
    with pytest.raises(NotTaken, match="status 404"):
        post(hook.url, {"a": 1})
    assert len(hook.bodies) == 3, "what is refused is not tried again"
    with pytest.raises(NotTaken, match="CERTIFICATE_VERIFY_FAILED"):
        Webhooks(pause=lambda _: None).post(hook.url, {"a": 1})


def test_a_secret_that_holds_something_else_is_named(alerting: Alerting) -> None:
    name = secret(alerting.aws, json.dumps({"wrong": "x"}))
    with pytest.raises(NotTaken, match=f"secret {name} holds no url"):
        Secrets(alerting.aws.client("secretsmanager")).get(name, "url")


class Context:
    function_name = memory_limit_in_mb = aws_request_id = invoked_function_arn = "x"


def test_the_handler_sends_to_what_is_set_up_and_fails_where_a_target_did_not_take_it(
    alerting: Alerting, topic: Topic, monkeypatch: pytest.MonkeyPatch, faults: Callable[..., Any]
) -> None:
    settings = {"OPSRIVER_PEOPLE_TOPIC": topic.arn, "OPSRIVER_LEDGER_TABLE": alerting.table}
    for variable, value in {**alerting.aws.environment(), **settings}.items():
        monkeypatch.setenv(variable, value)
    notifier_handler.notifier.cache_clear()
    assert notifier_handler.handler(event(), Context()) == {"sent": ["people"], "repeated": []}
    notifier_handler.notifier.cache_clear()
    monkeypatch.setenv("OPSRIVER_SLACK_SECRET", "no-such-secret")
    with pytest.raises(Undelivered, match="slack"):
        notifier_handler.handler(event(), Context())
    notifier_handler.notifier.cache_clear()
    assert len(topic.received()) == 1
