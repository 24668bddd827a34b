"""From a record on the stream to a delivered alert: the real template, the real handlers, the public APIs."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from agents.producer import Producer
from consumers.dead_letters.store import DeadLetterStore
from consumers.insights.store import InsightStore
from opsriver.demo.subscribers import Delivery, HttpSubscriber, QueueSubscriber
from opsriver.embedded import Stack
from schemas.insights import Insight

MINUTE = 60_000
Wait = Callable[..., Any]


def a_host(name: str) -> str:
    return f"{name}-{uuid4().hex[:8]}"


def history(host: str, metric: str = "cpu", hours: int = 40, level: float = 50.0) -> tuple[list[tuple[str, bytes]], int]:
    """Samples of one series every five minutes up to now, and the time of the next one."""
    rng = random.Random(host)
    step, now = 5 * MINUTE, int(time.time() * 1000)
    count = hours * 12
    start = now - count * step
    made = [
        (host, json.dumps({"resource": host, "metric": metric, "timestamp": start + n * step,
                           "value": level + rng.gauss(0, 1)}).encode())
        for n in range(count)
    ]  # fmt: skip
    return made, now


def put(stack: Stack, host: str, body: Any) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    stack.client("kinesis").put_record(StreamName=stack.outputs["EventStreamName"], PartitionKey=host, Data=data)


def insights(stack: Stack, host: str) -> list[Insight]:
    return InsightStore(stack.client("dynamodb"), stack.outputs["InsightsTableName"]).recent(resource=host, limit=100)


@pytest.fixture(scope="module")
def deliveries(stack: Stack) -> Iterator[list[Delivery]]:
    got: list[Delivery] = []
    web = HttpSubscriber(got.append)
    web.subscribe(stack.client("sns"), stack.outputs["AlertTopicArn"])
    queue = QueueSubscriber(stack.client("sqs"), stack.outputs["AlertQueueUrl"], got.append)
    yield got
    queue.close()
    web.close()


def test_an_aggregated_history_and_a_plain_spike_become_one_alert_on_every_path(
    stack: Stack, deliveries: list[Delivery], eventually: Wait
) -> None:
    host = a_host("spiky")
    metric = f"cpu-{host}"  # its own: beside the hosts of other tests it could be one of a group, told as one insight
    events, now = history(host, metric)
    Producer(stack.client("kinesis"), stack.outputs["EventStreamName"]).send(events)
    put(stack, host, {"resource": host, "metric": metric, "timestamp": now, "value": 400.0, "unit": "Percent"})
    for way in ("SQS", "HTTP"):
        found = eventually(
            lambda way=way: [d for d in deliveries if d.by == way and d.insight["resource"] == host
                             and d.insight["observed"] == 400.0],
            what=f"the alert by {way}",
        )  # fmt: skip
        alert = found[0].insight
        assert alert["severity"] in ("HIGH", "CRITICAL")
        assert alert["type"] == "anomaly"
        assert alert["affectedHosts"] == [host]
        assert alert["expectedLow"] < 50 < alert["expectedHigh"] < 100
        assert alert["notificationId"].startswith(alert["insightId"])
        assert host in alert["message"]
    stored = next(i for i in insights(stack, host) if i.observed == 400.0)
    by_severity = InsightStore(stack.client("dynamodb"), stack.outputs["InsightsTableName"]).recent(
        severity=stored.severity, limit=1000
    )
    assert stored.insight_id in {i.insight_id for i in by_severity}
    assert stored.ttl > time.time() + 170 * 86_400


def test_a_host_sample_is_one_item_of_the_metrics_table_with_its_ttl(stack: Stack, eventually: Wait) -> None:
    host, now = a_host("sampled"), int(time.time() * 1000)
    sample = {"hostname": host, "timestamp": now, "cpuUsage": 12.5, "memoryUsage": 40, "diskIO": 1e6, "networkIO": 2.5e5}
    put(stack, host, sample)
    table = stack.outputs["MetricsTableName"]
    key = {"hostname": {"S": host}, "timestamp": {"N": str(now - now % MINUTE)}}
    item = eventually(
        lambda: stack.client("dynamodb").get_item(TableName=table, Key=key).get("Item"), what="the minute's item"
    )
    for name in ("cpuUsage", "memoryUsage", "diskIO", "networkIO"):
        assert float(item[name]["N"]) == sample[name]
    assert int(item["ttl"]["N"]) == pytest.approx(now / 1000 + 90 * 86_400, abs=120)


@pytest.mark.parametrize("output", ["MetricsTableName", "InsightsTableName", "LedgerTableName"])
def test_tables_expire_their_items(stack: Stack, output: str) -> None:
    described = stack.client("dynamodb").describe_time_to_live(TableName=stack.outputs[output])
    assert described["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED"
    assert described["TimeToLiveDescription"]["AttributeName"] == "ttl"


def alarm_event(name: str, instance: str, state: str) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "version": "0", "id": uuid4().hex, "detail-type": "CloudWatch Alarm State Change", "source": "aws.cloudwatch",
        "account": "123456789012", "time": now, "region": "us-east-1",
        "resources": [f"arn:aws:cloudwatch:us-east-1:123456789012:alarm:{name}"],
        "detail": {
            "alarmName": name,
            "state": {"value": state, "reason": "Threshold Crossed", "timestamp": now},
            "previousState": {"value": "OK" if state == "ALARM" else "ALARM", "reason": "", "timestamp": now},
            "configuration": {"metrics": [{"id": "m1", "metricStat": {"metric": {
                "namespace": "AWS/EC2", "name": "CPUUtilization", "dimensions": {"InstanceId": instance}}}}]},
        },
    }  # fmt: skip


def test_a_cloudwatch_alarm_opens_an_insight_is_alerted_and_closes(
    stack: Stack, deliveries: list[Delivery], eventually: Wait
) -> None:
    name, instance = a_host("alarm"), f"i-{uuid4().hex[:12]}"
    put(stack, name, alarm_event(name, instance, "ALARM"))
    opened = eventually(
        lambda: [d for d in deliveries if d.insight["resource"] == instance and d.detail_type == "Insight opened"],
        what="the alarm's alert",
    )[0].insight
    assert (opened["type"], opened["severity"], opened["state"]) == ("alarm", "HIGH", "open")
    time.sleep(1.1)  # the event's own time has a resolution of a second
    put(stack, name, alarm_event(name, instance, "OK"))
    eventually(
        lambda: [d for d in deliveries if d.insight["resource"] == instance and d.detail_type == "Insight closed"],
        what="the alarm's end",
    )


@pytest.mark.parametrize(
    ("output", "event", "matches"),
    [
        ("AlarmRuleName", alarm_event("a", "i-1", "ALARM"), True),
        ("AlarmRuleName", {**alarm_event("a", "i-1", "ALARM"), "source": "aws.ec2"}, False),
        ("ServiceRuleName", {**alarm_event("a", "i", "OK"), "source": "aws.ec2",
                             "detail-type": "EC2 Instance State-change Notification"}, True),
        ("ServiceRuleName", {**alarm_event("a", "i", "OK"), "source": "aws.ec2", "detail-type": "Something else"}, False),
    ],
)  # fmt: skip
def test_the_rules_match_what_they_are_for(stack: Stack, output: str, event: dict[str, Any], matches: bool) -> None:
    events = stack.client("events")
    pattern = events.describe_rule(Name=stack.outputs[output].split("|")[-1])["EventPattern"]
    assert events.test_event_pattern(EventPattern=pattern, Event=json.dumps(event))["Result"] is matches


def test_a_poison_record_amid_a_batch_is_a_dead_letter_and_harms_nothing(stack: Stack, eventually: Wait) -> None:
    host, now = a_host("poisoned"), int(time.time() * 1000)
    good = [{"resource": host, "metric": f"m{n}", "timestamp": now, "value": 1.0} for n in range(6)]
    bodies = [json.dumps(b).encode() for b in good]
    bodies.insert(3, b'{"resource": "' + host.encode() + b'", "metric": "cpu", "timestamp": "yesterday", "value": 1}')
    stack.client("kinesis").put_records(
        StreamName=stack.outputs["EventStreamName"], Records=[{"PartitionKey": host, "Data": b} for b in bodies]
    )
    store = DeadLetterStore(stack.client("s3"), stack.outputs["DeadLetterBucketName"])

    def mine() -> list[Any]:
        return [x for key in list(store.keys()) for x in store.read(key) if x.partition_key == host]

    letter = eventually(mine, what="the dead letter")[0]
    assert letter.raw == bodies[3]
    assert "yesterday" in letter.reason
    assert letter.shard_id.startswith("shardId-")
    table = stack.outputs["MetricsTableName"]
    key = {"hostname": {"S": host}, "timestamp": {"N": str(now - now % MINUTE)}}
    item = eventually(
        lambda: stack.client("dynamodb").get_item(TableName=table, Key=key).get("Item"), what="the other events"
    )
    assert set(item["metrics"]["M"]) == {f"m{n}" for n in range(6)}
