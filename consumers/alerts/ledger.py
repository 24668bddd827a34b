"""The ledger of notifications: pending before one is sent, sent after.

A notification is thereby never missing, and is sent twice only if a crash falls between the send
and its note; both then carry the same id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from consumers.alerts.transitions import Notification

TTL_SECONDS = 30 * 86_400
PENDING_INDEX = "state-pendingSince-index"


class Ledger:
    """The ledger table. ``dynamodb`` is a low-level boto3 client whose errors pass through."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb, self._table = dynamodb, table

    def begin(self, notification_id: str, now: float, content: str = "") -> bool:
        """Note that something is about to be sent; False where it has been sent already.

        ``now`` is epoch seconds, ``content`` what a sweeper needs to send it.
        """
        item = {
            "notificationId": {"S": notification_id},
            "state": {"S": "pending"},
            "pendingSince": {"N": str(int(now))},
            "ttl": {"N": str(int(now) + TTL_SECONDS)},
            "content": {"S": content},
        }
        try:
            self._dynamodb.put_item(
                TableName=self._table, Item=item, ConditionExpression="attribute_not_exists(notificationId)"
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return not self.is_sent(notification_id)
        return True

    def is_sent(self, notification_id: str) -> bool:
        """Whether it is noted as sent."""
        answer = self._dynamodb.get_item(
            TableName=self._table, Key={"notificationId": {"S": notification_id}}, ConsistentRead=True
        )
        return bool(answer.get("Item", {}).get("state", {}).get("S") == "sent")

    def finish(self, notification_id: str, now: float) -> None:
        """Note that it has been sent."""
        self._dynamodb.update_item(
            TableName=self._table,
            Key={"notificationId": {"S": notification_id}},
            UpdateExpression="SET #s = :sent, sentAt = :now REMOVE content",
            ExpressionAttributeNames={"#s": "state"},
            ExpressionAttributeValues={":sent": {"S": "sent"}, ":now": {"N": str(int(now))}},
        )

    def pending(self, before: float) -> Iterator[Notification]:
        """Published notifications that have been pending since before ``before`` (epoch seconds), oldest first."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": PENDING_INDEX,
            "KeyConditionExpression": "#s = :pending AND pendingSince < :before",
            "ExpressionAttributeNames": {"#s": "state"},
            "ExpressionAttributeValues": {":pending": {"S": "pending"}, ":before": {"N": str(int(before))}},
        }
        while True:
            answer = self._dynamodb.query(**request)
            for item in answer["Items"]:
                content = item.get("content", {}).get("S", "")
                if content:
                    yield msgspec.json.decode(content, type=Notification)
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
