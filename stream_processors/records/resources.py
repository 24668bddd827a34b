"""Which dimension of a CloudWatch metric names the thing it belongs to."""

from __future__ import annotations

from collections.abc import Mapping

TELLING = (
    "InstanceId",
    "DBInstanceIdentifier",
    "DBClusterIdentifier",
    "FunctionName",
    "LoadBalancer",
    "LoadBalancerName",
    "AutoScalingGroupName",
    "ServiceName",
    "ClusterName",
    "QueueName",
    "TopicName",
    "TableName",
    "StreamName",
    "DeliveryStreamName",
    "BucketName",
    "CacheClusterId",
    "DomainName",
    "ApiName",
    "ApiId",
    "StateMachineArn",
    "DistributionId",
    "RuleName",
    "EventBusName",
    "FileSystemId",
    "VolumeId",
    "NatGatewayId",
    "Cluster Name",
    "JobName",
    "ProjectName",
    "LogGroupName",
    "host",
    "HostName",
    "hostname",
)
"""Dimensions that name a resource, the first of them that a metric has counts."""


def resource_of(dimensions: Mapping[str, str]) -> str:
    """Name of the dimension that names the resource; empty where there is none.

    Where no dimension is known as telling, the first in alphabetical order is.
    """
    for name in TELLING:
        if dimensions.get(name):
            return name
    return next((name for name in sorted(dimensions) if dimensions[name]), "")
