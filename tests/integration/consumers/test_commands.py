"""``opsriver insights`` and ``opsriver alerts`` on real tables and a real queue."""

from __future__ import annotations

import json
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from consumers.alerts.notifications import notification
from consumers.insights.store import InsightStore
from opsriver import target
from opsriver.cli import application
from opsriver.commands import alerts
from opsriver.errors import Problem
from tests.support.insights import closed, insight
from tests.support.ministack import Emulator
from tests.support.tables import table

pytestmark = pytest.mark.embedded


class Bench:
    def __init__(self, aws: Emulator) -> None:
        self.sqs = aws.client("sqs")
        self.queue = self.sqs.create_queue(QueueName=f"alerts-{id(self)}")["QueueUrl"]
        self.outputs = {"InsightsTableName": table(aws, "InsightsTable"), "AlertQueueUrl": self.queue}
        self.target = target.Target("test", "us-east-1", self.outputs, aws.client)
        self.store = InsightStore(aws.client("dynamodb"), self.outputs["InsightsTableName"])

    def alert(self, one: Any, transition: Any) -> None:
        """Put an alert on the queue as SNS does."""
        told = notification(one, transition)
        entry = told.entry("bus")
        event = {"source": "opsriver", "detail-type": entry["DetailType"], "detail": json.loads(told.detail)}
        self.sqs.send_message(
            QueueUrl=self.queue, MessageBody=json.dumps({"Type": "Notification", "Message": json.dumps(event)})
        )

    def waiting(self) -> int:
        """Messages that another reader can take at this moment."""
        answer = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return len(answer.get("Messages", []))


@pytest.fixture
def bench(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(aws)
    monkeypatch.setattr(target, "find", lambda *_: made.target)
    return made


def run(*arguments: str) -> str:
    result = CliRunner().invoke(application(), list(arguments), env={"COLUMNS": "200"})
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_insights_are_listed_newest_first_and_one_is_shown_with_its_evidence(bench: Bench) -> None:
    assert "no insights yet" in run("insights")
    older = insight(insight_id="older", severity="HIGH", timestamp=insight().timestamp - 1, resource="[red]db[/red]")
    bench.store.write([older, insight(), closed()])
    found = json.loads(run("insights", "--json"))["insights"]
    assert [one["insightId"] for one in found] == [insight().insight_id, "older"]
    assert [one["state"] for one in found] == ["closed", "open"]
    assert len(json.loads(run("insights", "--json", "--severity", "high"))["insights"]) == 1
    assert len(json.loads(run("insights", "--json", "--resource", "web-07", "--limit", "5"))["insights"]) == 1
    shown = run("insights", "older")
    assert "Where      [red]db[/red]" in shown
    assert "level                     62%" in shown
    assert json.loads(run("insights", "older", "--json"))["resource"] == "[red]db[/red]"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--severity", "bad"], "'bad' is unknown; choose one of LOW"),
        (["--since", "soon"], "'soon' is no span of time"),
        (["nobody"], "there is no insight 'nobody'"),
    ],
)
def test_wrong_options_are_told_in_a_sentence(bench: Bench, arguments: list[str], problem: str) -> None:
    with pytest.raises(Problem, match=problem):
        run("insights", *arguments)


def test_alerts_are_shown_and_stay_in_the_queue_unless_they_are_consumed(bench: Bench) -> None:
    bench.alert(insight(), "opened")
    bench.alert(closed(), "closed")
    bench.sqs.send_message(
        QueueUrl=bench.queue,
        MessageBody=json.dumps({"AlarmName": "lag", "NewStateValue": "ALARM", "NewStateReason": "behind"}),
    )
    bench.sqs.send_message(QueueUrl=bench.queue, MessageBody="not JSON at all")
    shown = run("alerts")
    assert "CRITICAL: memoryUsage of web-07 is 97.3 %" in shown
    assert "OVER (CRITICAL): memoryUsage of web-07 is back to normal after 23 min" in shown
    assert "CloudWatch alarm lag: ALARM. behind" in shown
    assert "not JSON at all" in shown
    assert bench.waiting() == 4
    document = json.loads(run("alerts", "--json", "--consume"))["alerts"]
    assert {one["detailType"] for one in document} == {"Insight opened", "Insight closed", ""}
    assert document[0]["insight"]["insightId"] == insight().insight_id
    assert bench.waiting() == 0
    assert "0 alerts" in run("alerts")


def test_following_shows_alerts_as_they_come_and_hands_them_back_when_it_is_ended(bench: Bench) -> None:
    bench.alert(insight(), "opened")
    seen: list[str] = []

    def end_when_shown(line: str) -> int:
        if line.strip():
            seen.append(line)
            if len(seen) == 1:
                bench.alert(closed(), "closed")
            else:
                signal.raise_signal(signal.SIGINT)
        return len(line)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alerts, "sys", SimpleNamespace(stdout=SimpleNamespace(write=end_when_shown, flush=lambda: None)))
        run("alerts", "--follow", "--json")
    assert [json.loads(line)["detailType"] for line in seen] == ["Insight opened", "Insight closed"]
    assert bench.waiting() == 2
