"""The template: lints as it is and after transformation, and says what the code says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from samtranslator.translator.transform import transform  # type: ignore[import-untyped]

from runtime import logs
from stream_processors.records import services


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as the functions they stand for."""


def _short_form(loader: Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _short_form)


@pytest.fixture(scope="module")
def template(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((root / "template.yaml").read_text(), Loader)
    return loaded


@pytest.fixture(scope="module")
def root() -> Path:
    return Path(__file__).resolve().parents[3]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def lint(path: Path) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("cfn-lint")), "--region", "us-east-1", "--", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_sam_validates_and_lints_it(root: Path, tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none",
    }  # fmt: skip
    done = subprocess.run(
        [str(Path(sys.executable).with_name("sam")), "validate", "--lint", "-t", str(root / "template.yaml")],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is a valid SAM Template" in done.stdout


def transformed(template: dict[str, Any]) -> dict[str, Any]:
    """What SAM makes of the template, with the parameters' defaults."""
    local = json.loads(json.dumps(template))
    for resource in local["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    local["Globals"]["Function"].pop("CodeUri")

    class Policies:
        def load(self) -> dict[str, str]:
            return {}

    parameters = {name: str(p.get("Default", "")) for name, p in template["Parameters"].items()}
    made: dict[str, Any] = transform(local, parameters, Policies())
    return made


def test_it_lints_after_transformation(template: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    path = tmp_path / "transformed.json"
    path.write_text(json.dumps(transformed(template)))
    told = [line for line in lint(path).splitlines() if line and not line.startswith(str(path))]
    assert told == [], "\n".join(told)


@pytest.mark.parametrize(("name", "value"), [("Timeout", 61), ("MemorySize", 2048), ("EphemeralStorage", {"Size": 1024})])
def test_a_change_of_a_functions_settings_reaches_its_alias_without_one_of_its_code(
    template: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    def versions(found: dict[str, Any]) -> dict[str, str]:
        aliases = {n: r["Properties"] for n, r in found["Resources"].items() if r["Type"] == "AWS::Lambda::Alias"}
        return {n: p["FunctionVersion"]["Fn::GetAtt"][0] for n, p in aliases.items()}

    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    changed = json.loads(json.dumps(template))
    for resource in changed["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"][name] = value
    before, after = versions(transformed(template)), versions(transformed(changed))
    assert len(before) >= 4
    assert before.keys() == after.keys()
    assert not before.items() & after.items()


def test_firehose_may_read_the_settings_of_the_function_it_invokes(template: dict[str, Any]) -> None:
    """Both are what the developer guide of Firehose asks for a function that transforms its data."""
    statements = template["Resources"]["MetricStreamRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    (one,) = [found for found in statements if found["Resource"] == {"Fn::GetAtt": ["MetricStreamFunction", "Arn"]}]
    assert set(one["Action"]) == {"lambda:InvokeFunction", "lambda:GetFunctionConfiguration"}


def test_the_rules_match_exactly_the_service_events_that_are_understood(template: dict[str, Any]) -> None:
    pattern = template["Resources"]["ServiceEventRule"]["Properties"]["EventPattern"]
    calls = template["Resources"]["ApiCallRule"]["Properties"]["EventPattern"]
    wanted = {key for key in services.RULES if key[1] != services.CLOUDTRAIL}
    assert set(pattern["source"]) == {source for source, _ in wanted}
    assert set(pattern["detail-type"]) == {kind for _, kind in wanted}
    assert {(s, k) for s in calls["source"] for k in calls["detail-type"]} == {
        key for key in services.RULES if key[1] == services.CLOUDTRAIL
    }


def test_every_function_has_its_handler_its_log_group_and_a_build(template: dict[str, Any], root: Path) -> None:
    makefile = (root / "Makefile").read_text()
    functions = {n: r for n, r in template["Resources"].items() if r["Type"] == "AWS::Serverless::Function"}
    assert len(functions) >= 8
    for name, function in functions.items():
        module = function["Properties"]["Handler"].rpartition(".")[0]
        assert (root / (module.replace(".", "/") + ".py")).is_file(), module
        logs = function["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]
        assert template["Resources"][logs]["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
        assert f"build-{name}" in makefile


def test_no_function_reserves_concurrency_which_a_new_account_has_none_of(template: dict[str, Any]) -> None:
    """Lambda refuses to leave an account less than 100 executions unreserved; a new account has 10 in all.

    Nor is it needed: two sweeps claim different rows, and of two compactors one commits.
    """
    for name, resource in template["Resources"].items():
        assert "ReservedConcurrentExecutions" not in resource.get("Properties", {}), name


def test_no_policy_allows_everything(template: dict[str, Any]) -> None:
    for name, resource in template["Resources"].items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        for policy in resource["Properties"].get("Policies", []):
            for statement in policy["Statement"]:
                if "Fn::If" in statement:
                    statement = statement["Fn::If"][1]
                assert statement["Resource"] != "*", name
                actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                assert not [a for a in actions if a.endswith(":*")], name


def test_tables_and_buckets_are_encrypted_recoverable_and_private(template: dict[str, Any]) -> None:
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::DynamoDB::Table":
            assert properties["SSESpecification"] == {"SSEEnabled": True}, name
            assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}, name
            assert properties["BillingMode"] == "PAY_PER_REQUEST", name
        if resource["Type"] == "AWS::S3::Bucket":
            assert all(properties["PublicAccessBlockConfiguration"].values()), name
            assert properties["BucketEncryption"], name
            assert properties["LifecycleConfiguration"]["Rules"], name


@pytest.mark.parametrize(
    ("kind", "policy", "names"),
    [
        ("AWS::S3::Bucket", "AWS::S3::BucketPolicy", "Bucket"),
        ("AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "Queues"),
        ("AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "Topics"),
    ],
)
def test_what_has_a_policy_refuses_callers_without_tls(template: dict[str, Any], kind: str, policy: str, names: str) -> None:
    resources = template["Resources"].values()
    refusing = []
    for one in resources:
        if one["Type"] == policy:
            for statement in one["Properties"]["PolicyDocument"]["Statement"]:
                if statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}:
                    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
                    refusing += [found["Ref"] for found in _listed(one["Properties"][names])]
    assert sorted(refusing) == sorted(name for name, one in template["Resources"].items() if one["Type"] == kind)


def test_eventbridge_may_publish_to_the_encrypted_topic_whatever_its_rule(template: dict[str, Any]) -> None:
    """Neither a topic's policy nor its key's may have a condition for EventBridge: AWS would deliver nothing.

    "You can't use Condition blocks in Amazon SNS topic policies for EventBridge" (EventBridge user guide, resource-based
    policies); source conditions in a key's policy are "not supported for EventBridge-to-encrypted topics" (SNS developer
    guide, key management).
    """
    resources = template["Resources"]
    topic = resources["AlertTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    key = resources["AlertKey"]["Properties"]["KeyPolicy"]["Statement"]
    for statements, actions in ((topic, {"sns:Publish"}), (key, {"kms:Decrypt", "kms:GenerateDataKey*"})):
        allowed = [found for found in statements if found["Effect"] == "Allow"]
        (one,) = [found for found in allowed if "events.amazonaws.com" in _listed(found["Principal"].get("Service", []))]
        assert one["Principal"] == {"Service": "events.amazonaws.com"}
        assert set(_listed(one["Action"])) == actions
        assert "Condition" not in one


def alarms_of(template: dict[str, Any], function: str, metric: str) -> list[dict[str, Any]]:
    """Alarms on a metric of Lambda's own, of one function."""
    alarms = [one["Properties"] for one in template["Resources"].values() if one["Type"] == "AWS::CloudWatch::Alarm"]
    dimensions = [{"Name": "FunctionName", "Value": {"Ref": function}}]
    return [one for one in alarms if (one["MetricName"], one["Dimensions"]) == (metric, dimensions)]


def functions_with(template: dict[str, Any], *kinds: str) -> dict[str, dict[str, Any]]:
    """Properties of the functions that have an event of one of these types."""
    functions = {n: r["Properties"] for n, r in template["Resources"].items() if r["Type"] == "AWS::Serverless::Function"}
    return {n: p for n, p in functions.items() if any(e["Type"] in kinds for e in p.get("Events", {}).values())}


def test_alarms_watch_metrics_that_their_service_publishes_and_all_that_tell_of_a_loss(
    template: dict[str, Any], root: Path
) -> None:
    sources = {}
    for path in (root / "consumers").rglob("*handler.py"), (root / "stream_processors").glob("*handler.py"):
        for text in (file.read_text() for file in path):
            if named := re.search(r'logs\.metrics\("([a-z-]+)"\)', text):
                sources[named[1]] = text
    alarms = [one["Properties"] for one in template["Resources"].values() if one["Type"] == "AWS::CloudWatch::Alarm"]
    watched = set()
    for alarm in alarms:
        if alarm["Namespace"] == logs.NAMESPACE:
            (dimension,) = alarm["Dimensions"]
            assert dimension["Name"] == "service"
            assert f'"{alarm["MetricName"]}"' in sources[dimension["Value"]], alarm["MetricName"]
            watched.add((dimension["Value"], alarm["MetricName"]))
    assert watched >= {
        ("scorer", "DeadLetters"), ("scorer", "SnapshotDamaged"), ("publisher", "ImagesUnreadable"),
        ("publisher", "NotificationsRefused"), ("sweeper", "OldestPending"), ("notifier", "AlertsUndelivered"),
        ("metric-stream", "BuffersNotPut"),
    }  # fmt: skip


def test_a_function_that_hands_batches_back_without_an_error_has_an_alarm_on_its_age(template: dict[str, Any]) -> None:
    on_streams = functions_with(template, "Kinesis", "DynamoDB")
    assert len(on_streams) >= 4
    for name in on_streams:
        assert alarms_of(template, name, "IteratorAge"), name


def test_a_function_whose_every_try_runs_into_its_time_out_has_an_age_in_each_period_of_its_alarm(
    template: dict[str, Any],
) -> None:
    """It fails too seldom for its alarm on errors, and a period without a try, and so without an age, counts as good."""
    usual = template["Globals"]["Function"]["Timeout"]
    for name, properties in functions_with(template, "Kinesis", "DynamoDB").items():
        (alarm,) = alarms_of(template, name, "IteratorAge")
        assert alarm["TreatMissingData"] == "notBreaching"
        assert alarm["Period"] >= 1.5 * properties.get("Timeout", usual), name


def test_records_are_retried_as_long_as_they_can_be_and_given_up_while_they_can_still_be_read(
    template: dict[str, Any],
) -> None:
    """A number of retries ends at once where a function hands back at once; and what leaves the stream unseen, untold.

    DynamoDB's stream keeps records for a day, Kinesis' as long as the parameter says.
    """
    kept = template["Parameters"]["RetentionHours"]["AllowedValues"]
    given_up = template["Mappings"]["GiveUpAfter"]
    assert {hours: given_up[str(hours)]["Seconds"] for hours in kept} == {hours: (hours - 1) * 3600 for hours in kept}
    for name, properties in functions_with(template, "Kinesis", "DynamoDB").items():
        for event in properties["Events"].values():
            if event["Type"] not in ("Kinesis", "DynamoDB"):
                continue
            age = given_up["24"]["Seconds"]
            if event["Type"] == "Kinesis":
                age = {"Fn::FindInMap": ["GiveUpAfter", {"Ref": "RetentionHours"}, "Seconds"]}
            assert event["Properties"]["MaximumRetryAttempts"] == -1, name
            assert event["Properties"]["MaximumRecordAgeInSeconds"] == age, name


def test_a_scorer_that_no_longer_runs_is_told_though_it_has_no_metrics_then(template: dict[str, Any]) -> None:
    (alarm,) = alarms_of(template, "ScorerFunction", "Invocations")
    assert (alarm["ComparisonOperator"], alarm["TreatMissingData"]) == ("LessThanThreshold", "breaching")
    longest = template["Parameters"]["BatchWindowSeconds"]["MaxValue"]
    assert alarm["Period"] * alarm["EvaluationPeriods"] > 2 * longest, "a scorer with the longest window is not idle"


def test_a_function_on_a_schedule_can_fail_often_enough_for_its_alarm(template: dict[str, Any]) -> None:
    seconds = {"rate(1 minute)": 60, "cron(20 * * * ? *)": 3600}
    scheduled = functions_with(template, "Schedule")
    assert len(scheduled) >= 3
    for name, properties in scheduled.items():
        (event,) = properties["Events"].values()
        tries = 1 + properties.get("EventInvokeConfig", {}).get("MaximumRetryAttempts", 2)
        (alarm,) = alarms_of(template, name, "Errors")
        most = alarm["Period"] // seconds[event["Properties"]["Schedule"]] * tries
        assert alarm["Threshold"] < most, name


def test_all_that_is_written_to_the_archives_bucket_goes_some_day(template: dict[str, Any]) -> None:
    resources = template["Resources"]
    rules = resources["ArchiveBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    kept = tuple(rule["Prefix"] for rule in rules if "ExpirationInDays" in rule)
    firehose = resources["MetricStreamDelivery"]["Properties"]["ExtendedS3DestinationConfiguration"]
    for prefix in ("events/", "insights/", firehose["Prefix"], firehose["ErrorOutputPrefix"]):
        assert prefix.startswith(kept), prefix


def test_the_compactor_leaves_hours_alone_before_their_files_begin_to_expire(template: dict[str, Any]) -> None:
    from consumers.archive.compactor_handler import DAY_MS, LONGEST_MS

    rules = template["Resources"]["ArchiveBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    expire = [rule["ExpirationInDays"] for rule in rules if rule.get("Prefix") in ("events/", "insights/")]
    assert len(expire) == 2
    assert min(expire) * DAY_MS > LONGEST_MS


def test_all_outputs_that_others_rely_on_are_there(template: dict[str, Any]) -> None:
    assert set(template["Outputs"]) >= {
        "EventStreamName", "MetricsTableName", "InsightsTableName", "CheckpointTableName", "StateBucketName",
        "DeadLetterBucketName", "EventBusName", "AlertTopicArn", "AlertQueueUrl", "ArchiveBucketName",
    }  # fmt: skip


@pytest.mark.parametrize("data_set", ["events", "insights"])
def test_the_tables_for_athena_have_the_columns_of_the_files(template: dict[str, Any], data_set: str) -> None:
    import pyarrow as pa

    from schemas.arrow import SCHEMAS, plain

    names = {
        pa.string(): "string", pa.int32(): "int", pa.float64(): "double", pa.timestamp("ms", tz="UTC"): "timestamp",
        pa.map_(pa.string(), pa.string()): "map<string,string>",
    }  # fmt: skip
    table = template["Resources"][f"{data_set.title()}GlueTable"]["Properties"]["TableInput"]
    assert table["Name"] == data_set
    columns = [(one["Name"], one["Type"]) for one in table["StorageDescriptor"]["Columns"]]
    assert columns == [(field.name, names[field.type]) for field in plain(SCHEMAS[data_set])]
