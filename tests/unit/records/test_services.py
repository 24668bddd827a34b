"""CloudWatch alarms and events of AWS services as signals."""

from __future__ import annotations

from typing import Any

from schemas.events import AlarmSignal
from stream_processors.records import services
from tests.support.wire import ARRIVAL, one, refused

NEEDED = {
    "aws.ec2", "aws.rds", "lambda", "aws.s3", "aws.elasticloadbalancing", "aws.ecs", "aws.eks", "aws.autoscaling",
    "aws.codepipeline", "aws.codebuild", "aws.health", "aws.guardduty", "aws.backup", "aws.states", "aws.glue",
    "aws.batch",
}  # fmt: skip


def event(source: str, detail_type: str, detail: dict[str, Any], *resources: str) -> dict[str, Any]:
    return {
        "version": "0", "id": "e-1", "source": source, "detail-type": detail_type, "account": "123456789012",
        "time": "2026-03-01T12:00:00Z", "region": "eu-west-1", "resources": list(resources), "detail": detail,
    }  # fmt: skip


def signal(document: dict[str, Any]) -> AlarmSignal:
    batch = one(document)
    assert not batch.dead_letters
    (placed,) = batch.signals
    assert isinstance(placed.signal, AlarmSignal)
    return placed.signal


def alarm(value: str = "ALARM", name: str = "cpu", **changed: Any) -> dict[str, Any]:
    state = {"value": value, "reason": "because", "timestamp": "2026-03-01T12:00:00.985+0000"}
    return event("aws.cloudwatch", "CloudWatch Alarm State Change", {"alarmName": name, "state": state} | changed)


def watching(**dimensions: str) -> dict[str, Any]:
    return {"metrics": [{"expression": "m1*2"}, {"metricStat": {"metric": {"dimensions": dimensions}}}]}


def test_an_alarm_names_its_resource_time_and_state() -> None:
    found = signal(alarm(configuration=watching(ImageId="ami-1", InstanceId="i-1")))
    assert found == AlarmSignal(
        "i-1", "cpu", ARRIVAL - 5000 + 985, "HIGH", "CloudWatch alarm cpu is in ALARM: because", True,
        "aws.cloudwatch", "CloudWatch Alarm State Change", "e-1",
    )  # fmt: skip
    assert signal(alarm("OK")).active is False
    assert signal(alarm("INSUFFICIENT_DATA")).active is False
    assert signal(alarm()).resource == "cpu"
    assert signal(alarm(configuration=watching(Zebra="z", Apple="a"))).resource == "a"


SEVERITIES: list[Any] = [
    ("db-critical", "", "CRITICAL"),
    ("db", "Sev1: call the DBA", "CRITICAL"),
    ("db-warning", "critical", "MEDIUM"),
    ("db", "P4, by day", "LOW"),
    ("uncritical", "http2", "HIGH"),
]


def test_words_in_an_alarms_name_or_description_set_its_severity() -> None:
    for name, description, severity in SEVERITIES:
        assert signal(alarm(name=name, configuration={"description": description})).severity == severity


MALFORMED: list[Any] = [
    (alarm("BROKEN"), "wrong-type", '"BROKEN"'),
    (alarm(name=""), "name", "alarmName"),
    (alarm(state=[]), "wrong-type", "detail.state"),
    (alarm(state={}), "missing-field", "detail.state.value"),
    (alarm() | {"detail": None}, "wrong-type", "detail is null"),
    (alarm() | {"source": 5}, "wrong-type", "source"),
    (alarm() | {"id": 5}, "wrong-type", "id"),
    ({"detail-type": "x", "source": "y"}, "missing-field", "'detail'"),
    (event("aws.ec2", "x", {}) | {"time": "2001-01-01T00:00:00Z"}, "time", "400 days"),
]


def test_malformed_events_are_refused_by_field() -> None:
    for document, code, said in MALFORMED:
        letter = refused(document)
        assert letter.code == code
        assert said in letter.reason


def test_the_table_covers_sixteen_services_and_each_row_reads_an_event_without_detail() -> None:
    assert {source for source, _ in services.RULES} >= NEEDED
    for (source, detail_type), rule in services.RULES.items():
        found = signal(event(source, detail_type, {}))
        assert found.resource == source
        assert found.message
        assert "{" not in found.message
        assert {state.lower() for state in rule.severities} == set(rule.severities)
        assert not rule.begins & rule.ends
        if rule.state:
            assert rule.begins <= set(rule.severities), "what begins something has a severity of its own"


SERVICE_EVENTS: list[Any] = [
    (
        event("aws.ec2", "EC2 Instance State-change Notification", {"instance-id": "i-1", "state": "stopped"}),
        ("i-1", "MEDIUM", "EC2 instance i-1 is stopped", None),
    ),
    (
        event("aws.rds", "RDS DB Instance Event", {
            "EventCategories": ["failover"], "SourceType": "DB_INSTANCE", "SourceIdentifier": "orders",
            "SourceArn": "arn:aws:rds:eu-west-1:123456789012:db:orders", "Date": "2026-03-01T12:00:00.000Z",
            "Message": "A Multi-AZ failover has completed.", "EventID": "RDS-EVENT-0049"}),
        ("orders", "HIGH", "RDS instance orders: A Multi-AZ failover has completed.", None),
    ),
    (
        event("lambda", "Lambda Function Invocation Result - Failure", {
            "requestContext": {"functionArn": "arn:aws:lambda:eu-west-1:123456789012:function:mail:$LATEST",
                               "condition": "RetriesExhausted"}, "responsePayload": {"errorMessage": "boom"}}),
        ("mail:$LATEST", "MEDIUM", "Lambda function mail:$LATEST failed: RetriesExhausted boom", None),
    ),
    (
        event("aws.elasticloadbalancing", "AWS API Call via CloudTrail", {
            "eventName": "DeleteLoadBalancer", "userIdentity": {"arn": "arn:aws:iam::123456789012:user/eve"},
            "requestParameters": {"loadBalancerArn":
                "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/shop/50dc6c"}}),
        ("app/shop/50dc6c", "HIGH",
         "load balancing of app/shop/50dc6c: DeleteLoadBalancer by arn:aws:iam::123456789012:user/eve", None),
    ),
    (
        event("aws.ecs", "ECS Service Action", {"eventName": "SERVICE_STEADY_STATE"},
              "arn:aws:ecs:eu-west-1:123456789012:service/main/shop"),
        ("service/main/shop", "LOW", "ECS service service/main/shop: SERVICE_STEADY_STATE", False),
    ),
    (
        event("aws.codepipeline", "CodePipeline Pipeline Execution State Change",
              {"pipeline": "deploy", "state": "FAILED"}),
        ("deploy", "HIGH", "CodePipeline deploy: FAILED", True),
    ),
    (
        event("aws.guardduty", "GuardDuty Finding", {
            "severity": 8, "title": "Unusual outbound traffic",
            "resource": {"instanceDetails": {"instanceId": "i-9"}}}),
        ("i-9", "HIGH", "GuardDuty on i-9: Unusual outbound traffic", None),
    ),
    (
        # The China Regions' name for an AWS Health Event.
        event("aws.health", "Amazon Health Event", {
            "service": "EC2", "eventTypeCategory": "issue", "eventTypeCode": "AWS_EC2_OPERATIONAL_ISSUE"}),
        ("EC2", "HIGH", "AWS Health, EC2: AWS_EC2_OPERATIONAL_ISSUE", None),
    ),
    (
        event("aws.batch", "Batch Job State Change", {
            "jobName": "nightly", "jobId": "4c7599ae", "status": "FAILED", "statusReason": "exit code 1"}),
        ("nightly", "HIGH", "Batch job nightly: FAILED exit code 1", True),
    ),
    (
        event("aws.unheard-of", "Something Happened", {"x": 1}, "arn:aws:new:eu-west-1:123456789012:thing/7"),
        ("thing/7", "LOW", "Something Happened", None),
    ),
]  # fmt: skip


def test_service_events_say_what_happened_to_what() -> None:
    for document, expected in SERVICE_EVENTS:
        found = signal(document)
        assert (found.resource, found.severity, found.message, found.active) == expected


def test_two_detail_types_may_begin_and_end_one_alarm() -> None:
    begins = signal(event("aws.eks", "EKS Addon Health Degraded", {"clusterName": "blue"}))
    ends = signal(event("aws.eks", "EKS Addon Health Restored", {"clusterName": "blue"}))
    assert (begins.resource, begins.name, begins.active) == (ends.resource, ends.name, True)
    assert ends.active is False


def test_messages_are_one_bounded_line_whatever_the_event_holds() -> None:
    found = signal(event("aws.rds", "RDS DB Instance Event", {"SourceIdentifier": "a", "Message": "x\n\x1b[31m" * 900}))
    assert found.message.isprintable()
    assert len(found.message) == 1024
