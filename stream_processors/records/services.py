"""Events of AWS services as alarm signals, by a table that can be read and extended.

Shapes: the Amazon EventBridge Events Reference (https://docs.aws.amazon.com/eventbridge/latest/ref/)
and the services' own guides it links to. A row says where the affected thing is named, which field
tells the state, how severe each state is, and which states begin or end something. Events without a
row become LOW signals, so nothing is lost.

To add a service, add a row to RULES and its source to the template's rule.
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

    ``resource``, ``state`` and ``why`` are paths into the event; of several paths the first that
    leads to text counts. States are compared in lower case; an event without one has the state "".
    A state in ``begins`` opens an alarm, one in ``ends`` closes it; others are told once. ``name`` is
    the alarm's name where two detail types begin and end the same one. ``message`` may name
    ``{resource}``, ``{state}`` and ``{why}``.
    """

    resource: tuple[Path, ...]
    message: str
    state: tuple[Path, ...] = ()
    severities: Mapping[str, Severity] = field(default_factory=dict)
    default: Severity = "LOW"
    begins: frozenset[str] = frozenset()
    ends: frozenset[str] = frozenset()
    why: tuple[Path, ...] = ()
    name: str = ""


def _d(*path: str) -> Path:
    return ("detail", *path)


def _s(*states: str) -> frozenset[str]:
    return frozenset(states)


ARN: Path = ("resources", "0")
CLOUDTRAIL = "AWS API Call via CloudTrail"

_RDS: dict[str, Severity] = {
    "failure": "CRITICAL",
    "failover": "HIGH",
    "low storage": "HIGH",
    "availability": "HIGH",
    "recovery": "MEDIUM",
    "deletion": "MEDIUM",
}

RULES: dict[tuple[str, str], ServiceRule] = {
    ("aws.ec2", "EC2 Instance State-change Notification"): ServiceRule(
        (_d("instance-id"), ARN), "EC2 instance {resource} is {state}", (_d("state"),),
        {"terminated": "MEDIUM", "stopped": "MEDIUM"},
    ),
    ("aws.ec2", "EC2 Spot Instance Interruption Warning"): ServiceRule(
        (_d("instance-id"), ARN), "EC2 spot instance {resource} will be taken back in two minutes ({state})",
        (_d("instance-action"),), default="HIGH",
    ),
    ("aws.ec2", "EC2 Instance Rebalance Recommendation"): ServiceRule(
        (_d("instance-id"), ARN), "EC2 spot instance {resource} is likely to be taken back soon", default="MEDIUM",
    ),
    ("aws.ec2", "EBS Volume Notification"): ServiceRule(
        (ARN,), "EBS volume {resource}: {state} {why}", (_d("result"),), {"failed": "HIGH"},
        why=(_d("cause"), _d("event")),
    ),
    ("aws.ec2", "EBS Snapshot Notification"): ServiceRule(
        (_d("source"), ARN), "EBS snapshot of {resource}: {state} {why}", (_d("result"),), {"failed": "HIGH"},
        why=(_d("cause"), _d("event")),
    ),
    ("aws.rds", "RDS DB Instance Event"): ServiceRule(
        (_d("SourceIdentifier"), ARN), "RDS instance {resource}: {why}", (_d("EventCategories", "0"),), _RDS,
        why=(_d("Message"),),
    ),
    ("aws.rds", "RDS DB Cluster Event"): ServiceRule(
        (_d("SourceIdentifier"), ARN), "RDS cluster {resource}: {why}", (_d("EventCategories", "0"),), _RDS,
        why=(_d("Message"),),
    ),
    ("lambda", "Lambda Function Invocation Result - Failure"): ServiceRule(
        (_d("requestContext", "functionArn"), ARN), "Lambda function {resource} failed: {state} {why}",
        (_d("requestContext", "condition"),), default="MEDIUM", why=(_d("responsePayload", "errorMessage"),),
    ),
    ("aws.lambda", CLOUDTRAIL): ServiceRule(
        (_d("requestParameters", "functionName"), _d("eventSource")),
        "Lambda function {resource}: {state} by {why}", (_d("eventName"),),
        {"deletefunction20150331": "MEDIUM", "updatefunctioncode20150331v2": "LOW"},
        why=(_d("userIdentity", "arn"), _d("userIdentity", "type")),
    ),
    ("aws.s3", "Object Deleted"): ServiceRule(
        (_d("bucket", "name"), ARN), "an object of S3 bucket {resource} was deleted: {why}", why=(_d("object", "key"),),
    ),
    ("aws.s3", "Object Restore Expired"): ServiceRule(
        (_d("bucket", "name"), ARN), "a restored object of S3 bucket {resource} has expired: {why}",
        why=(_d("object", "key"),),
    ),
    ("aws.elasticloadbalancing", CLOUDTRAIL): ServiceRule(
        (
            _d("requestParameters", "targetGroupArn"), _d("requestParameters", "loadBalancerArn"),
            _d("requestParameters", "listenerArn"), _d("requestParameters", "loadBalancerName"), _d("eventSource"),
        ),
        "load balancing of {resource}: {state} by {why}", (_d("eventName"),),
        {
            "deleteloadbalancer": "HIGH", "deletelistener": "HIGH", "deletetargetgroup": "HIGH",
            "deregistertargets": "MEDIUM", "deregisterinstancesfromloadbalancer": "MEDIUM",
        },
        why=(_d("userIdentity", "arn"), _d("userIdentity", "type")),
    ),
    ("aws.ecs", "ECS Task State Change"): ServiceRule(
        (_d("group"), _d("taskArn"), ARN), "ECS task of {resource} is {state}: {why}", (_d("lastStatus"),),
        {"stopped": "MEDIUM"}, why=(_d("stoppedReason"),),
    ),
    ("aws.ecs", "ECS Deployment State Change"): ServiceRule(
        (ARN,), "ECS deployment of {resource}: {state} {why}", (_d("eventName"),), {"service_deployment_failed": "HIGH"},
        begins=_s("service_deployment_failed"), ends=_s("service_deployment_completed"), why=(_d("reason"),),
    ),
    ("aws.ecs", "ECS Service Action"): ServiceRule(
        (ARN,), "ECS service {resource}: {state} {why}", (_d("eventName"),),
        {
            "service_task_start_impaired": "HIGH", "service_task_placement_failure": "HIGH",
            "service_task_configuration_failure": "HIGH", "service_discovery_instance_unhealthy": "MEDIUM",
            "service_daemon_placement_constraint_violated": "MEDIUM",
        },
        begins=_s(
            "service_task_start_impaired", "service_task_placement_failure", "service_task_configuration_failure",
        ),
        ends=_s("service_steady_state"), why=(_d("reason"),),
    ),
    ("aws.eks", "EKS Addon Health Degraded"): ServiceRule(
        (_d("clusterName"), ARN), "EKS add-on of {resource} is degraded: {why}", default="HIGH", begins=_s(""),
        why=(_d("addonName"), ARN), name="EKS Addon Health",
    ),
    ("aws.eks", "EKS Addon Health Restored"): ServiceRule(
        (_d("clusterName"), ARN), "EKS add-on of {resource} is healthy again: {why}", ends=_s(""),
        why=(_d("addonName"), ARN), name="EKS Addon Health",
    ),
    ("aws.eks", "EKS Addon Update Failed"): ServiceRule(
        (_d("clusterName"), ARN), "an add-on of EKS cluster {resource} could not be updated: {why}", default="MEDIUM",
        why=(_d("addonName"), ARN),
    ),
    ("aws.eks", "EKS Fargate Pod Scheduled Termination"): ServiceRule(
        (_d("pods", "0", "name"), ARN), "EKS will end the Fargate pod {resource} for maintenance", default="MEDIUM",
    ),
    ("aws.autoscaling", "EC2 Instance Launch Unsuccessful"): ServiceRule(
        (_d("AutoScalingGroupName"), ARN), "Auto Scaling group {resource} could not launch an instance: {why}",
        default="HIGH", begins=_s(""), why=(_d("StatusMessage"), _d("Cause")), name="EC2 Instance Launch",
    ),
    ("aws.autoscaling", "EC2 Instance Launch Successful"): ServiceRule(
        (_d("AutoScalingGroupName"), ARN), "Auto Scaling group {resource} launched an instance: {why}",
        ends=_s(""), why=(_d("Cause"),), name="EC2 Instance Launch",
    ),
    ("aws.autoscaling", "EC2 Instance Terminate Unsuccessful"): ServiceRule(
        (_d("AutoScalingGroupName"), ARN), "Auto Scaling group {resource} could not end an instance: {why}",
        default="MEDIUM", why=(_d("StatusMessage"), _d("Cause")),
    ),
    ("aws.autoscaling", "EC2 Instance Terminate Successful"): ServiceRule(
        (_d("AutoScalingGroupName"), ARN), "Auto Scaling group {resource} ended an instance: {why}", why=(_d("Cause"),),
    ),
    ("aws.codepipeline", "CodePipeline Pipeline Execution State Change"): ServiceRule(
        (_d("pipeline"), ARN), "CodePipeline {resource}: {state}", (_d("state"),),
        {"failed": "HIGH", "stopped": "MEDIUM"}, begins=_s("failed"), ends=_s("succeeded"),
    ),
    ("aws.codebuild", "CodeBuild Build State Change"): ServiceRule(
        (_d("project-name"), ARN), "CodeBuild project {resource}: {state}", (_d("build-status"),),
        {"failed": "MEDIUM", "fault": "MEDIUM", "timed_out": "MEDIUM"},
        begins=_s("failed", "fault", "timed_out"), ends=_s("succeeded"),
    ),
    ("aws.codedeploy", "CodeDeploy Deployment State-change Notification"): ServiceRule(
        (_d("application"), ARN), "CodeDeploy {resource}: {state}", (_d("state"),),
        {"failure": "HIGH", "stop": "MEDIUM"}, begins=_s("failure"), ends=_s("success"),
    ),
    ("aws.health", "AWS Health Event"): ServiceRule(
        (_d("affectedEntities", "0", "entityValue"), _d("service")), "AWS Health, {resource}: {why}",
        (_d("eventTypeCategory"),), {"issue": "HIGH", "scheduledchange": "MEDIUM"},
        why=(_d("eventDescription", "0", "latestDescription"), _d("eventTypeCode")),
    ),
    ("aws.guardduty", "GuardDuty Finding"): ServiceRule(
        (
            _d("resource", "instanceDetails", "instanceId"), _d("resource", "accessKeyDetails", "userName"),
            _d("resource", "s3BucketDetails", "0", "name"), _d("accountId"),
        ),
        "GuardDuty on {resource}: {why}", (_d("severity"),), why=(_d("title"), _d("type")),
    ),
    ("aws.securityhub", "Security Hub Findings - Imported"): ServiceRule(
        (_d("findings", "0", "Resources", "0", "Id"), ARN), "Security Hub on {resource}: {why}",
        (_d("findings", "0", "Severity", "Label"),),
        {"critical": "CRITICAL", "high": "HIGH", "medium": "MEDIUM"}, why=(_d("findings", "0", "Title"),),
    ),
    ("aws.backup", "Backup Job State Change"): ServiceRule(
        (_d("resourceArn"), ARN), "AWS Backup of {resource}: {state} {why}", (_d("state"),),
        {"failed": "HIGH", "aborted": "MEDIUM", "expired": "MEDIUM"}, begins=_s("failed"), ends=_s("completed"),
        why=(_d("statusMessage"),),
    ),
    ("aws.states", "Step Functions Execution Status Change"): ServiceRule(
        (_d("stateMachineArn"), ARN), "Step Functions {resource}: {state} {why}", (_d("status"),),
        {"failed": "HIGH", "timed_out": "HIGH", "aborted": "MEDIUM"}, begins=_s("failed", "timed_out"),
        ends=_s("succeeded"), why=(_d("cause"), _d("error")),
    ),
    ("aws.glue", "Glue Job State Change"): ServiceRule(
        (_d("jobName"), ARN), "Glue job {resource}: {state} {why}", (_d("state"),),
        {"failed": "HIGH", "timeout": "HIGH", "stopped": "MEDIUM"}, begins=_s("failed", "timeout"),
        ends=_s("succeeded"), why=(_d("message"),),
    ),
    ("aws.batch", "Batch Job State Change"): ServiceRule(
        (_d("jobName"), _d("jobId"), ARN), "Batch job {resource}: {state} {why}", (_d("status"),), {"failed": "HIGH"},
        begins=_s("failed"), ends=_s("succeeded"), why=(_d("statusReason"),),
    ),
    ("aws.batch", "Batch Job Queue Blocked"): ServiceRule(
        (_d("jobQueue"), ARN), "Batch job queue {resource} is blocked: {why}", default="HIGH", why=(_d("statusReason"),),
    ),
    ("aws.trustedadvisor", "Trusted Advisor Check Item Refresh Notification"): ServiceRule(
        (_d("resource_id"), _d("check-name")), "Trusted Advisor, {resource}: {state} {why}", (_d("status"),),
        {"error": "MEDIUM"}, why=(_d("check-name"),),
    ),
    ("aws.acm", "ACM Certificate Approaching Expiration"): ServiceRule(
        (_d("CommonName"), ARN), "certificate of {resource} expires in {state} days", (_d("DaysToExpiry"),),
        default="HIGH",
    ),
    ("aws.ssm", "EC2 Automation Execution Status-change Notification"): ServiceRule(
        (_d("Definition"), ARN), "Systems Manager automation {resource}: {state}", (_d("Status"),),
        {"failed": "MEDIUM", "timedout": "MEDIUM"}, begins=_s("failed", "timedout"), ends=_s("success"),
    ),
    ("aws.dms", "DMS Replication Task State Change"): ServiceRule(
        (ARN,), "DMS task {resource}: {why}", (_d("eventType"),), {"replication_task_failed": "HIGH"},
        begins=_s("replication_task_failed"), ends=_s("replication_task_started"), why=(_d("detailMessage"),),
    ),
}  # fmt: skip
"""Rules by (source, detail type)."""

GENERIC = ServiceRule((ARN, ("source",)), "{why}", why=(("detail-type",),))
"""The rule for events that have none."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an event says. ``active`` is None where it neither begins nor ends anything."""

    resource: str
    name: str
    severity: Severity
    message: str
    active: bool | None


def read(event: Mapping[str, Any], source: str, detail_type: str) -> Found:
    """Read an event of any service by its rule, or by the general one."""
    rule = RULES.get((source, detail_type))
    if rule is None and detail_type.startswith("Amazon "):  # so the China Regions name them
        rule = RULES.get((source, f"AWS {detail_type.removeprefix('Amazon ')}"))
    if rule is None:
        rule = GENERIC
    resource = short(_first(event, rule.resource) or source)
    state = _first(event, rule.state)
    lower = state.lower()
    said = rule.message.format(resource=resource, state=state or "?", why=_first(event, rule.why))
    return Found(
        resource=resource,
        name=rule.name or detail_type,
        severity=severity(rule, source, state),
        message=said.strip(" :"),
        active=True if lower in rule.begins else False if lower in rule.ends else None,
    )


def _first(event: Any, paths: tuple[Path, ...]) -> str:
    return next((text for path in paths if (text := look(event, path))), "")


def look(event: Any, path: Path) -> str:
    """Text at a path; empty where there is none. A number in the path is a list's index."""
    for step in path:
        if isinstance(event, dict):
            event = event.get(step)
        elif isinstance(event, list) and step.isdigit() and int(step) < len(event):
            event = event[int(step)]
        else:
            return ""
    if isinstance(event, str):
        return event
    if isinstance(event, bool) or not isinstance(event, int | float):
        return ""
    return f"{event:g}" if isinstance(event, float) or abs(event) < 10**9 else str(event)[:40]


def short(arn: str) -> str:
    """The telling end of an ARN; other text as it is."""
    if not arn.startswith("arn:"):
        return arn
    tail = arn.split(":", 5)[-1]
    for kind in ("function:", "instance/", "stateMachine:", "volume/", "targetgroup/", "loadbalancer/", "job-queue/"):
        tail = tail.removeprefix(kind)
    return tail or arn


def severity(rule: ServiceRule, source: str, state: str) -> Severity:
    """Severity of a state. GuardDuty's numbers follow its own bands: 9, 7 and 4 begin critical, high and medium."""
    if source == "aws.guardduty":
        try:
            number = float(state)
        except ValueError:
            return "MEDIUM"
        return "CRITICAL" if number >= 9 else "HIGH" if number >= 7 else "MEDIUM" if number >= 4 else "LOW"
    return rule.severities.get(state.lower(), rule.default)
