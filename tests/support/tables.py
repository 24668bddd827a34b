"""Tables as the template declares them, made on an emulator under names of their own."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.ministack import Emulator

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
_count = itertools.count()
_KEPT = ("KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "BillingMode")


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms (``!Ref x``) as plain values."""


_Loader.add_multi_constructor("!", lambda loader, _, node: _value(loader, node))


def _value(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)


@cache
def _resources() -> dict[str, Any]:
    """The template's resources, read once: YAML takes a fifth of a second."""
    resources: dict[str, Any] = yaml.load(TEMPLATE.read_text(), _Loader)["Resources"]
    return resources


def table(aws: Emulator, logical_id: str) -> str:
    """Make the table with this logical id of the template; returns its name."""
    properties = _resources()[logical_id]["Properties"]
    arguments = {name: properties[name] for name in _KEPT if name in properties}
    if "StreamSpecification" in properties:
        arguments["StreamSpecification"] = {"StreamEnabled": True, **properties["StreamSpecification"]}
    name = f"{logical_id}-{next(_count)}"
    aws.client("dynamodb").create_table(TableName=name, **arguments)
    return name


def items(aws: Emulator, name: str) -> list[dict[str, Any]]:
    """All items of a table."""
    pages = aws.client("dynamodb").get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
    return [item for page in pages for item in page["Items"]]


def stream_records(aws: Emulator, name: str) -> list[dict[str, Any]]:
    """All records of a table's stream, in order, as Lambda gets them."""
    arn = aws.client("dynamodb").describe_table(TableName=name)["Table"]["LatestStreamArn"]
    streams = aws.client("dynamodbstreams")
    found: list[dict[str, Any]] = []
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")[
            "ShardIterator"
        ]
        while iterator:
            answer = streams.get_records(ShardIterator=iterator)
            found += answer["Records"]
            iterator = answer.get("NextShardIterator") if answer["Records"] else None
    return found
