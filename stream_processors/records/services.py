"""Events of AWS services as alarm signals, by a table that can be read and extended.

Shapes: "Events from AWS services" in the EventBridge user guide and the services' own guides.
A row says where the affected thing is named, which field tells the state, how severe each state is,
and which states begin or end something. Events without a row become LOW signals, so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceRule:
    """How events of one source and detail type are read.

    ``resource`` and ``state`` are paths into the event; of several resource paths the first that
    leads to text counts. States are compared in lower case. A state in ``begins`` opens an alarm,
    one in ``ends`` closes it; others are told once. ``message`` may name ``{resource}``,
    ``{state}`` and ``{why}``.
    """

    resource: tuple[Path, ...]
    message: str
    state: Path = ()
    severities: Mapping[str, Severity] = field(default_factory=dict)
    default: Severity = "LOW"
    begins: frozenset[str] = frozenset()
    ends: frozenset[str] = frozenset()
    why: tuple[Path, ...] = ()


def _d(*path: str) -> Path:
    return ("detail", *path)


ARN: Path = ("resources", "0")

RULES: dict[tuple[str, str], ServiceRule] = {
    ("aws.ec2", "EC2 Instance State-change Notification"): ServiceRule(
        (_d("instance-id"),), "EC2 instance {resource} is {state}", _d("state"),
        {"terminated": "MEDIUM", "stopped": "MEDIUM"},
    ),
    ("aws.ec2", "EC2 Spot Instance Interruption Warning"): ServiceRule(
        (_d("instance-id"),), "EC2 spot instance {resource} is taken back in two minutes", default="HIGH",
    ),
    ("aws.ec2", "EC2 Instance Rebalance Recommendation"): ServiceRule(
        (_d("instance-id"),), "EC2 spot instance {resource} is likely to be taken back soon", default="MEDIUM",
    ),
    ("aws.ec2", "EBS Volume Notification"): ServiceRule(
        (ARN,), "EBS volume {resource}: {state} {why}", _d("result"), {"failed": "HIGH"}, why=(_d("cause"), _d("event")),
    ),
    ("aws.rds", "RDS DB Instance Event"): ServiceRule(
        (_d("SourceIdentifier"), ARN), "RDS instance {resource}: {why}", _d("EventCategories", "0"),
        {"failure": "CRITICAL", "failover": "HIGH", "low storage": "HIGH", "availability": "HIGH", "deletion": "MEDIUM"},
        why=(_d("Message"),),
    ),
    ("aws.rds", "RDS DB Cluster Event"): ServiceRule(
        (_d("SourceIdentifier"), ARN), "RDS cluster {resource}: {why}", _d("EventCategories", "0"),
        {"failure": "CRITICAL", "failover": "HIGH", "deletion": "MEDIUM"}, why=(_d("Message"),),
    ),
    ("aws.lambda", "Lambda Function Invocation Result - Failure"): ServiceRule(
        (_d("requestContext", "functionArn"), ARN), "Lambda function {resource} failed: {why}", default="MEDIUM",
        why=(_d("requestContext", "condition"),),
    ),
    ("aws.s3", "Object Deleted"): ServiceRule(
        (_d("bucket", "name"),), "an object of S3 bucket {resource} was deleted: {why}", why=(_d("object", "key"),),
    ),
    ("aws.s3", "Object Restore Expired"): ServiceRule(
        (_d("bucket", "name"),), "a restored object of S3 bucket {resource} has expired", why=(_d("object", "key"),),
    ),
    ("aws.elasticloadbalancing", "Target Health State Change"): ServiceRule(
        (_d("targetGroupArn"), ARN), "target of load balancer group {resource} is {state}: {why}", _d("state"),
        {"unhealthy": "HIGH"}, begins=frozenset({"unhealthy"}), ends=frozenset({"healthy"}), why=(_d("reason"),),
    ),
    ("aws.ecs", "ECS Task State Change"): ServiceRule(
        (_d("group"), _d("taskArn")), "ECS task of {resource} is {state}: {why}", _d("lastStatus"),
        {"stopped": "MEDIUM"}, why=(_d("stoppedReason"),),
    ),
    ("aws.ecs", "ECS Deployment State Change"): ServiceRule(
        (ARN,), "ECS deployment of {resource}: {state} {why}", _d("eventName"),
        {"service_deployment_failed": "HIGH"}, why=(_d("reason"),),
    ),
    ("aws.ecs", "ECS Service Action"): ServiceRule(
        (ARN,), "ECS service {resource}: {state}", _d("eventName"),
        {"service_task_placement_failure": "HIGH", "service_task_start_impaired": "HIGH"},
        begins=frozenset({"service_task_start_impaired", "service_task_placement_failure"}),
        ends=frozenset({"service_steady_state"}),
    ),
    ("aws.eks", "EKS Cluster State Change"): ServiceRule(
        (_d("clusterName"), ARN), "EKS cluster {resource} is {state}", _d("status"), {"failed": "CRITICAL"},
        begins=frozenset({"failed"}), ends=frozenset({"active"}),
    ),
    ("aws.eks", "EKS Nodegroup State Change"): ServiceRule(
        (_d("nodegroupName"), ARN), "EKS node group {resource} is {state}", _d("status"),
        {"degraded": "HIGH", "create_failed": "HIGH"}, begins=frozenset({"degraded", "create_failed"}),
        ends=frozenset({"active"}),
    ),
    ("aws.autoscaling", "EC2 Instance Launch Unsuccessful"): ServiceRule(
        (_d("AutoScalingGroupName"), ARN), "Auto Scaling group {resource} could not launch an instance: {why}",
        default="HIGH", why=(_d("StatusMessage"), _d("Cause")),
    ),
    ("aws.autoscaling", "EC2 Instance Terminate Unsuccessful"): ServiceRule(
        (_d("AutoScalingGroupName"), ARN), "Auto Scaling group {resource} could not end an instance: {why}",
        default="MEDIUM", why=(_d("StatusMessage"), _d("Cause")),
    ),
    ("aws.autoscaling", "EC2 Instance Terminate Successful"): ServiceRule(
        (_d("AutoScalingGroupName"), ARN), "Auto Scaling group {resource} ended an instance: {why}",
        why=(_d("Cause"),),
    ),
    ("aws.codepipeline", "CodePipeline Pipeline Execution State Change"): ServiceRule(
        (_d("pipeline"),), "CodePipeline {resource}: {state}", _d("state"), {"failed": "HIGH", "stopped": "MEDIUM"},
        begins=frozenset({"failed"}), ends=frozenset({"succeeded"}),
    ),
    ("aws.codebuild", "CodeBuild Build State Change"): ServiceRule(
        (_d("project-name"),), "CodeBuild project {resource}: {state}", _d("build-status"),
        {"failed": "MEDIUM", "fault": "MEDIUM", "timed_out": "MEDIUM"}, begins=frozenset({"failed", "fault", "timed_out"}),
        ends=frozenset({"succeeded"}),
    ),
    ("aws.codedeploy", "CodeDeploy Deployment State-change Notification"): ServiceRule(
        (_d("application"), ARN), "CodeDeploy {resource}: {state}", _d("state"), {"failure": "HIGH", "stop": "MEDIUM"},
        begins=frozenset({"failure"}), ends=frozenset({"success"}),
    ),
    ("aws.health", "AWS Health Event"): ServiceRule(
        (_d("service"),), "AWS Health, {resource}: {why}", _d("eventTypeCategory"),
        {"issue": "HIGH", "accountnotification": "LOW", "scheduledchange": "MEDIUM"},
        why=(_d("eventDescription", "0", "latestDescription"), _d("eventTypeCode")),
    ),
    ("aws.guardduty", "GuardDuty Finding"): ServiceRule(
        (_d("resource", "instanceDetails", "instanceId"), _d("resource", "accessKeyDetails", "userName"), _d("accountId")),
        "GuardDuty on {resource}: {why}", _d("severity"), why=(_d("title"), _d("type")),
    ),
    ("aws.securityhub", "Security Hub Findings - Imported"): ServiceRule(
        (_d("findings", "0", "Resources", "0", "Id"), ARN), "Security Hub on {resource}: {why}",
        _d("findings", "0", "Severity", "Label"), {"critical": "CRITICAL", "high": "HIGH", "medium": "MEDIUM"},
        why=(_d("findings", "0", "Title"),),
    ),
    ("aws.backup", "Backup Job State Change"): ServiceRule(
        (_d("resourceArn"), ARN), "AWS Backup of {resource}: {state} {why}", _d("state"),
        {"failed": "HIGH", "aborted": "MEDIUM", "expired": "MEDIUM"}, begins=frozenset({"failed"}),
        ends=frozenset({"completed"}), why=(_d("statusMessage"),),
    ),
    ("aws.states", "Step Functions Execution Status Change"): ServiceRule(
        (_d("stateMachineArn"),), "Step Functions {resource}: {state} {why}", _d("status"),
        {"failed": "HIGH", "timed_out": "HIGH", "aborted": "MEDIUM"}, begins=frozenset({"failed", "timed_out"}),
        ends=frozenset({"succeeded"}), why=(_d("error"), _d("cause")),
    ),
    ("aws.glue", "Glue Job State Change"): ServiceRule(
        (_d("jobName"),), "Glue job {resource}: {state} {why}", _d("state"),
        {"failed": "HIGH", "timeout": "HIGH", "stopped": "MEDIUM"}, begins=frozenset({"failed", "timeout"}),
        ends=frozenset({"succeeded"}), why=(_d("message"),),
    ),
    ("aws.batch", "Batch Job State Change"): ServiceRule(
        (_d("jobName"), _d("jobId")), "Batch job {resource}: {state} {why}", _d("status"), {"failed": "HIGH"},
        begins=frozenset({"failed"}), ends=frozenset({"succeeded"}), why=(_d("statusReason"),),
    ),
    ("aws.trustedadvisor", "Trusted Advisor Check Item Refresh Notification"): ServiceRule(
        (_d("resource_id"), _d("check-name")), "Trusted Advisor, {resource}: {state} {why}", _d("status"),
        {"error": "MEDIUM"}, why=(_d("check-name"),),
    ),
    ("aws.acm", "ACM Certificate Approaching Expiration"): ServiceRule(
        (_d("CommonName"), ARN), "certificate of {resource} expires in {state} days", _d("DaysToExpiry"), default="HIGH",
    ),
    ("aws.ssm", "EC2 Automation Execution Status-change Notification"): ServiceRule(
        (_d("ExecutionId"), ARN), "Systems Manager automation {resource}: {state}", _d("Status"), {"failed": "MEDIUM"},
    ),
    ("aws.dms", "DMS Replication Task State Change"): ServiceRule(
        (ARN,), "DMS task {resource}: {why}", _d("eventType"), {"replication_task_failed": "HIGH"},
        why=(_d("detailMessage"),),
    ),
}  # fmt: skip
"""Rules by (source, detail type)."""

GENERIC = ServiceRule((ARN, ("source",)), "{why}", why=(("detail-type",),))


def look(event: Any, path: Path) -> str:
    """Text at a path; empty where there is none. A number in the path is a list's index."""
    for step in path:
        if isinstance(event, dict):
            event = event.get(step)
        elif isinstance(event, list) and step.isdigit() and int(step) < len(event):
            event = event[int(step)]
        else:
            return ""
    if isinstance(event, bool) or not isinstance(event, str | int | float):
        return ""
    return str(event)


def short(arn: str) -> str:
    """The telling end of an ARN; other text as it is."""
    if not arn.startswith("arn:"):
        return arn
    tail = arn.split(":", 5)[-1]
    return tail.removeprefix("function:").removeprefix("instance/").removeprefix("stateMachine:") or arn


def severity(rule: ServiceRule, source: str, state: str) -> Severity:
    """Severity of a state. GuardDuty's numbers follow its own bands: 7 and more high, 4 and more medium."""
    if source == "aws.guardduty":
        try:
            number = float(state)
        except ValueError:
            return "MEDIUM"
        return "CRITICAL" if number >= 9 else "HIGH" if number >= 7 else "MEDIUM" if number >= 4 else "LOW"
    return rule.severities.get(state.lower(), rule.default)


@dataclass(frozen=True, slots=True)
class Found:
    """What an event says. ``active`` is None where it neither begins nor ends anything."""

    resource: str
    name: str
    severity: Severity
    message: str
    active: bool | None


def read(event: dict[str, Any], source: str, detail_type: str) -> Found:
    """Read an event of any service by its rule, or by the general one."""
    rule = RULES.get((source, detail_type), GENERIC)
    resource = next((text for path in rule.resource if (text := look(event, path))), "") or source
    state = look(event, rule.state)
    why = next((text for path in rule.why if (text := look(event, path))), "")
    shown = short(resource)
    lower = state.lower()
    return Found(
        resource=shown,
        name=detail_type,
        severity=severity(rule, source, state),
        message=rule.message.format(resource=shown, state=state or "?", why=why).strip(" :"),
        active=True if lower in rule.begins else False if lower in rule.ends else None,
    )
