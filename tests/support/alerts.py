"""A bus whose events can be read, a ledger, and a publisher that can be killed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from consumers.alerts.bus import Bus
from consumers.alerts.ledger import Ledger
from consumers.alerts.publisher import Publisher
from consumers.alerts.sweeper import Sweeper
from consumers.insights.store import InsightStore
from schemas.insights import Insight
from tests.support.insights import OPENED
from tests.support.ministack import Emulator
from tests.support.tables import items, stream_records, table

_count = itertools.count()


class Killed(BaseException):
    """The process ends here."""


class Alerting:
    """Insights table, ledger and bus of one test. ``now`` is the clock in epoch milliseconds."""

    def __init__(self, aws: Emulator) -> None:
        self.aws, self.now = aws, OPENED
        self.insights, self.table = table(aws, "InsightsTable"), table(aws, "LedgerTable")
        self.bus = f"bus-{next(_count)}"
        self.store = InsightStore(aws.client("dynamodb"), self.insights)
        self.ledger = Ledger(aws.client("dynamodb"), self.table)
        self.events = aws.client("events")
        self._sqs = aws.client("sqs")
        self._queue = self._sqs.create_queue(QueueName=self.bus)["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"]
        self.events.create_event_bus(Name=self.bus)
        self.events.put_rule(
            Name="all", EventBusName=self.bus, EventPattern=json.dumps({"source": ["opsriver"]}), State="ENABLED"
        )
        self.events.put_targets(Rule="all", EventBusName=self.bus, Targets=[{"Id": "queue", "Arn": arn["QueueArn"]}])

    def clock(self) -> int:
        return self.now

    def publisher(self, events: Any = None, ledger: Ledger | None = None) -> Publisher:
        """A fresh publisher, as in a new process."""
        bus = Bus(events or self.aws.client("events"), self.bus, pause=lambda _: None)
        return Publisher(ledger or self.ledger, bus, self.clock, pause=lambda _: None)

    def sweeper(self, events: Any = None) -> Sweeper:
        return Sweeper(self.ledger, Bus(events or self.events, self.bus, pause=lambda _: None), self.clock)

    def write(self, insights: Sequence[Insight]) -> list[dict[str, Any]]:
        """Write insights; returns all records of the table's stream."""
        self.store.write(insights)
        return stream_records(self.aws, self.insights)

    def published(self) -> list[dict[str, Any]]:
        """Events that have reached the bus since the last call, in order."""
        found: list[dict[str, Any]] = []
        while True:
            answer = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10)
            for message in answer.get("Messages", []):
                found.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
            if not answer.get("Messages"):
                return found

    def ids(self) -> list[str]:
        """Notification ids that have reached the bus since the last call."""
        return [event["detail"]["notificationId"] for event in self.published()]

    def rows(self) -> dict[str, str]:
        """States of the ledger by notification."""
        return {item["notificationId"]["S"]: item["state"]["S"] for item in items(self.aws, self.table)}


class Flaky:
    """The events client with a fault in its place: ``act(n, entries)`` may raise, or answer with error
    codes by the entries' index, None letting the call through; ``after`` may raise when it is done."""

    def __init__(self, events: Any, act: Any = None, after: Any = None) -> None:
        self._events, self._act, self._after = events, act, after
        self.calls = 0

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        self.calls += 1
        codes = (self._act(self.calls, Entries) if self._act else None) or {}
        good = [entry for n, entry in enumerate(Entries) if n not in codes]
        answered = iter(self._events.put_events(Entries=good)["Entries"] if good else [])
        if self._after:
            self._after(self.calls)
        entries = [
            {"ErrorCode": codes[n], "ErrorMessage": "injected"} if n in codes else next(answered)
            for n in range(len(Entries))
        ]
        return {"FailedEntryCount": len(codes), "Entries": entries}
