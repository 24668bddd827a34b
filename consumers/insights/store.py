"""Insights in DynamoDB: each revision written once, whoever writes it and however often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from runtime.dynamodb import Item, attribute, plain
from schemas.insights import SEVERITY_ORDER, Insight

WRITERS = 8
"""Insights written at the same time."""
SEVERITY_INDEX = "severity-timestamp-index"
RESOURCE_INDEX = "resource-timestamp-index"
MAX_LIST = 100
"""Most hosts, related insights, dimensions or families of evidence kept in an item."""
MAX_TEXT = 2_000
"""Longest message kept in an item, in characters."""
MAX_BYTES = 300_000
"""Largest item before it is shortened further; DynamoDB refuses more than 400 KB."""


class StoreUnavailable(RuntimeError):
    """The table did not answer within the bounded retries; the batch must come again."""


class InsightStore:
    """The Insights table.

    ``dynamodb`` is a low-level client with bounded, jittered retries (``runtime.clients``).
    """

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb, self._table = dynamodb, table

    def write(self, insights: Sequence[Insight]) -> int:
        """Write revisions, those of one insight in the order given; returns how many were new.

        Every revision is a write of its own, so that readers of the table's stream see each
        transition. A revision that is there already, or was overtaken, is left alone. Raises
        StoreUnavailable naming the table; writing the same again is then safe.
        """
        groups: dict[str, list[Insight]] = defaultdict(list)
        for insight in insights:
            groups[insight.insight_id].append(insight)
        try:
            if len(groups) < 2:
                return sum(self._write_group(group) for group in groups.values())
            with ThreadPoolExecutor(min(WRITERS, len(groups))) as pool:
                return sum(pool.map(self._write_group, groups.values()))
        except (ClientError, BotoCoreError) as error:
            raise self._unavailable("take an insight", error) from error

    def _unavailable(self, what: str, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"table {self._table} did not {what}: {error}")

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
        """The insight with this id at its last revision; None where there is none.

        Raises StoreUnavailable.
        """
        answer = self._query(
            {
                "TableName": self._table,
                "KeyConditionExpression": "insightId = :id",
                "ExpressionAttributeValues": {":id": {"S": insight_id}},
                "ConsistentRead": True,
                "Limit": 1,
            }
        )
        return from_item(answer["Items"][0]) if answer["Items"] else None

    def recent(
        self,
        *,
        severity: str | None = None,
        resource: str | None = None,
        since: int | None = None,
        limit: int = 100,
    ) -> list[Insight]:
        """Insights that opened at or after ``since`` (epoch ms), newest first, read by the indexes.

        Without ``severity`` and ``resource`` all severities are asked and merged. Raises
        StoreUnavailable.
        """
        if resource is not None:
            found = list(self._index(RESOURCE_INDEX, "resource", resource, since or 0, limit, severity))
        else:
            names = [severity] if severity else list(SEVERITY_ORDER)
            found = [one for name in names for one in self._index(SEVERITY_INDEX, "severity", name, since or 0, limit, None)]
        return sorted(found, key=lambda i: (-i.timestamp, i.insight_id))[:limit]

    def _index(self, index: str, name: str, value: str, since: int, limit: int, severity: str | None) -> Iterator[Insight]:
        request: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": index,
            "KeyConditionExpression": "#a = :a AND #t >= :t",
            "ExpressionAttributeNames": {"#a": name, "#t": "timestamp"},
            "ExpressionAttributeValues": {":a": {"S": value}, ":t": {"N": str(since)}},
            "ScanIndexForward": False,
        }
        if severity is None:
            request["Limit"] = limit
        count = 0
        while True:
            answer = self._query(request)
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

    def _query(self, request: dict[str, Any]) -> Any:
        try:
            return self._dynamodb.query(**request)
        except (ClientError, BotoCoreError) as error:
            raise self._unavailable("answer", error) from error


def to_item(insight: Insight) -> Item:
    """An insight as a DynamoDB item, ``from_item`` of which is the insight again.

    Numbers keep every digit within DynamoDB's range; NaN is left out. Lists and texts are shortened
    where an item would grow towards DynamoDB's 400 KB.
    """
    fields: dict[str, Any] = msgspec.to_builtins(insight)
    _shorten(fields, MAX_LIST, MAX_TEXT)
    if len(msgspec.json.encode(fields)) > MAX_BYTES:
        _shorten(fields, 10, 256)
    return {name: attribute(value) for name, value in fields.items() if not _absent(value)}


def _shorten(fields: dict[str, Any], entries: int, characters: int) -> None:
    for name, value in fields.items():
        if isinstance(value, str):
            fields[name] = value[:characters]
        elif isinstance(value, list):
            fields[name] = [one[:characters] for one in value[:entries]]
        elif isinstance(value, dict):
            kept = list(value.items())[:entries]
            fields[name] = {
                key[:characters]: one[:characters] if isinstance(one, str) else one for key, one in kept if not _absent(one)
            }


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def from_item(item: Item) -> Insight:
    """An insight from a DynamoDB item or a stream image.

    Raises msgspec.ValidationError where it holds none. Attributes that this version does not know
    are passed over.
    """
    return msgspec.convert({name: plain(value) for name, value in item.items()}, Insight, strict=False)
