"""Insights in DynamoDB: each revision written once, whoever writes it and however often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import BotoCoreError, ClientError

from schemas.insights import Insight

WRITERS = 8
SEVERITY_INDEX = "severity-timestamp-index"
RESOURCE_INDEX = "resource-timestamp-index"
MAX_LIST = 100
"""Most hosts or related insights kept in an item."""
MAX_TEXT = 2_000
LARGEST, SMALLEST = 9.9e125, 1e-130


class StoreUnavailable(RuntimeError):
    """The table did not take a write within the bounded retries; the batch must come again."""


class InsightStore:
    """The Insights table. ``dynamodb`` is a low-level boto3 client."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb, self._table = dynamodb, table

    def write(self, insights: Sequence[Insight]) -> int:
        """Write revisions, those of one insight in order; returns how many were new.

        A revision that is there already, or was overtaken, is left alone. Raises StoreUnavailable
        where the table does not answer.
        """
        groups: dict[str, list[Insight]] = defaultdict(list)
        for insight in insights:
            groups[insight.insight_id].append(insight)
        if not groups:
            return 0
        try:
            if len(groups) == 1:
                return sum(self._write_group(group) for group in groups.values())
            with ThreadPoolExecutor(WRITERS) as pool:
                return sum(pool.map(self._write_group, groups.values()))
        except (ClientError, BotoCoreError) as error:
            raise StoreUnavailable(f"table {self._table} did not take an insight: {error}") from error

    def _write_group(self, revisions: list[Insight]) -> int:
        return sum(self._put(insight) for insight in revisions)

    def _put(self, insight: Insight) -> bool:
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item=to_item(insight),
                ConditionExpression="attribute_not_exists(insightId) OR revision < :revision",
                ExpressionAttributeValues={":revision": {"N": str(insight.revision)}},
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def get(self, insight_id: str) -> Insight | None:
        """The insight with this id; None where there is none."""
        answer = self._dynamodb.query(
            TableName=self._table,
            KeyConditionExpression="insightId = :id",
            ExpressionAttributeValues={":id": {"S": insight_id}},
            Limit=1,
        )
        return from_item(answer["Items"][0]) if answer["Items"] else None

    def recent(
        self, *, severity: str | None = None, resource: str | None = None, since: int = 0, limit: int = 100
    ) -> list[Insight]:
        """Insights that opened at or after ``since`` (epoch ms), newest first, by the indexes.

        Without ``severity`` and ``resource`` all severities are asked and merged.
        """
        if resource is not None:
            found = self._index(RESOURCE_INDEX, "resource", resource, since, limit, severity)
        else:
            names = [severity] if severity else ["CRITICAL", "HIGH", "MEDIUM", "LOW"]
            found = (one for name in names for one in self._index(SEVERITY_INDEX, "severity", name, since, limit, None))
        return sorted(found, key=lambda i: (-i.timestamp, i.insight_id))[:limit]

    def _index(
        self, index: str, attribute: str, value: str, since: int, limit: int, severity: str | None
    ) -> Iterator[Insight]:
        request: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": index,
            "KeyConditionExpression": "#a = :a AND #t >= :t",
            "ExpressionAttributeNames": {"#a": attribute, "#t": "timestamp"},
            "ExpressionAttributeValues": {":a": {"S": value}, ":t": {"N": str(since)}},
            "ScanIndexForward": False,
        }
        count = 0
        while True:
            answer = self._dynamodb.query(**request)
            for item in answer["Items"]:
                insight = from_item(item)
                if severity is None or insight.severity == severity:
                    yield insight
                    count += 1
                    if count >= limit:
                        return
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def to_item(insight: Insight) -> dict[str, Any]:
    """An insight as a DynamoDB item; numbers keep every digit, long lists and texts are shortened."""
    fields = msgspec.to_builtins(insight)
    fields["affectedHosts"] = insight.affected_hosts[:MAX_LIST]
    fields["message"] = insight.message[:MAX_TEXT]
    if insight.related:
        fields["related"] = insight.related[:MAX_LIST]
    return {name: _attribute(value) for name, value in fields.items() if value is not None}


def _attribute(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, float):
        return {"N": repr(_storable(value))}
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, list):
        return {"L": [_attribute(one) for one in value]}
    return {"M": {name: _attribute(one) for name, one in value.items()}}


def _storable(value: float) -> float:
    """DynamoDB's numbers end before floats do; what lies beyond is cut to its range."""
    if abs(value) > LARGEST:
        return LARGEST if value > 0 else -LARGEST
    return value if abs(value) >= SMALLEST else 0.0


def from_item(item: dict[str, Any]) -> Insight:
    """An insight from a DynamoDB item or a stream image."""
    deserialize = TypeDeserializer().deserialize
    plain = {name: _plain(deserialize(value)) for name, value in item.items()}
    return msgspec.convert(plain, Insight, strict=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, str | bool) or value is None:
        return value
    return int(value) if value == int(value) else float(value)
