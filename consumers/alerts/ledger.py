"""The ledger: what is about to be told, and what has been. One row a notification.

A row is ``pending`` before its event is sent and ``sent`` after. ``pendingSince`` is when its
present sender took it up, ``firstPending`` when the first one did. A pending row carries all that
is needed to send it, so that the sweeper can. Rows of single targets (email, Slack, …) are
``delivering`` and ``delivered`` and have the target in their key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from botocore.exceptions import ClientError

from consumers.alerts.notifications import Notification
from runtime.dynamodb import Item, attribute, plain

PENDING_INDEX = "state-pendingSince-index"
TTL_S = 30 * 86_400
"""How long rows are kept."""
LEASE_MS = 60_000
"""How long a sender may be at work: the time-out of the functions. After it, it is dead."""

Sender = Literal["publisher", "sweeper"]
Begun = Literal["ours", "done", "busy"]


class Pending(msgspec.Struct, frozen=True):
    """A row that waits. Times are epoch milliseconds."""

    notification: Notification
    pending_since: int
    first_pending: int


class Ledger:
    """The ledger table. ``dynamodb`` is a low-level client whose errors pass through."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb, self._table = dynamodb, table

    def begin(self, notification: Notification, now: int) -> Begun:
        """Enter a notification as pending, for the publisher to send.

        ``ours``: to be sent now, for the first time or because an earlier try left it pending.
        ``done``: it has been sent. ``busy``: the sweeper is sending it at this moment.
        """
        row = {
            "notificationId": notification.notification_id,
            "state": "pending",
            "pendingSince": now,
            "firstPending": now,
            "sender": "publisher",
            "insightId": notification.insight_id,
            "revision": notification.revision,
            "transition": notification.transition,
            "resource": notification.resource,
            "detail": notification.detail,
            "ttl": now // 1000 + TTL_S,
        }
        held = self._put_new(row)
        if held is None:
            return "ours"
        if held["state"] != "pending":
            return "done"
        since = int(held["pendingSince"])
        if held["sender"] == "sweeper" and now - since < LEASE_MS:
            return "busy"
        return "ours" if self.claim(notification.notification_id, since, "publisher", now) else "busy"

    def _put_new(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """Put a row unless there is one; answers the one that is there."""
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item={name: attribute(value) for name, value in row.items()},
                ConditionExpression="attribute_not_exists(notificationId)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if not _refused(error):
                raise
            # An expired row may vanish between the check and the answer: then nobody holds it.
            item: Any = error.response.get("Item")
            return _plain(item) if item else None
        return None

    def claim(self, notification_id: str, seen_since: int, sender: Sender, now: int) -> bool:
        """Take a pending row over from whoever took it up at ``seen_since``; False if another was faster."""
        return self._update(
            notification_id,
            "SET #pendingSince = :now, #sender = :sender",
            "#state = :pending AND #pendingSince = :seen",
            {":now": now, ":sender": sender, ":pending": "pending", ":seen": seen_since},
        )

    def sent(self, notification_id: str, now: int) -> None:
        """Note that a notification has been sent; its row leaves the index and gets small."""
        self._finish(notification_id, "sent", now)

    def refused(self, notification_id: str, now: int) -> None:
        """Note that the bus will never take this event; its row keeps the detail for a person."""
        self._update(
            notification_id,
            "SET #state = :state, #finishedAt = :now REMOVE #pendingSince",
            "attribute_exists(notificationId)",
            {":state": "refused", ":now": now},
        )

    def _finish(self, key: str, state: str, now: int) -> None:
        self._update(
            key,
            "SET #state = :state, #finishedAt = :now REMOVE #detail, #pendingSince",
            "attribute_exists(notificationId)",
            {":state": state, ":now": now},
        )

    def pending(self) -> Iterator[Pending]:
        """Rows that wait, longest first; read from an index that lags a little."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": PENDING_INDEX,
            "KeyConditionExpression": "#state = :pending",
            "ExpressionAttributeNames": {"#state": "state"},
            "ExpressionAttributeValues": {":pending": {"S": "pending"}},
        }
        while True:
            answer = self._dynamodb.query(**request)
            for item in answer["Items"]:
                yield _pending(_plain(item))
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def begin_delivery(self, notification_id: str, target: str, now: int) -> Begun:
        """Enter the delivery of a notification to one target; answers as ``begin`` does."""
        key = f"{notification_id}#{target}"
        until = now + LEASE_MS
        row = {"notificationId": key, "state": "delivering", "until": until, "ttl": now // 1000 + TTL_S}
        held = self._put_new(row)
        if held is None:
            return "ours"
        if held["state"] == "delivered":
            return "done"
        if held["until"] > now:
            return "busy"
        claimed = self._update(
            key,
            "SET #until = :until",
            "#state = :delivering AND #until = :seen",
            {":until": until, ":delivering": "delivering", ":seen": held["until"]},
        )
        return "ours" if claimed else "busy"

    def delivered(self, notification_id: str, target: str, now: int) -> None:
        """Note that a target has taken a notification."""
        self._finish(f"{notification_id}#{target}", "delivered", now)

    def not_delivered(self, notification_id: str, target: str) -> None:
        """Give a delivery back, so that the next try need not wait for the lease to end."""
        self._update(
            f"{notification_id}#{target}", "SET #until = :none", "#state = :delivering",
            {":none": 0, ":delivering": "delivering"},
        )  # fmt: skip

    def _update(self, key: str, expression: str, condition: str, values: dict[str, Any]) -> bool:
        names = {word.strip(",") for word in f"{expression} {condition}".split() if word.startswith("#")}
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key={"notificationId": {"S": key}},
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeNames={name: name[1:] for name in names},
                ExpressionAttributeValues={name: attribute(value) for name, value in values.items()},
            )
        except ClientError as error:
            if _refused(error):
                return False
            raise
        return True


def _refused(error: ClientError) -> bool:
    return bool(error.response["Error"]["Code"] == "ConditionalCheckFailedException")


def _plain(item: Item) -> dict[str, Any]:
    return {name: plain(value) for name, value in item.items()}


def _pending(row: dict[str, Any]) -> Pending:
    return Pending(
        Notification(
            notification_id=row["notificationId"],
            insight_id=row["insightId"],
            revision=row["revision"],
            transition=row["transition"],
            resource=row["resource"],
            detail=row["detail"],
        ),
        row["pendingSince"],
        row["firstPending"],
    )
