"""What a function may do with a table is what its code does with it, and nothing more.

The code runs against a client that answers as a table in each state which the code tells apart, and writes down what
it was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from botocore.exceptions import ClientError

from consumers.alerts.bus import Bus
from consumers.alerts.ledger import Ledger
from consumers.alerts.notifications import notification
from consumers.alerts.notifier import Notifier
from consumers.alerts.publisher import Publisher
from consumers.alerts.sweeper import Sweeper
from consumers.metric_store.fold import HostMinute
from consumers.metric_store.store import MetricStore
from runtime.dynamodb import attribute
from schemas.insights import DETAIL_TYPES
from tests.support.insights import OPENED, insight

NOTIFICATION = notification(insight(), "opened")
WAITING = {
    name: attribute(value)
    for name, value in {
        "notificationId": NOTIFICATION.notification_id, "state": "pending", "pendingSince": 0, "firstPending": 0,
        "sender": "sweeper", "insightId": NOTIFICATION.insight_id, "revision": 1, "transition": "opened",
        "resource": "web-07", "detail": NOTIFICATION.detail, "until": 0,
    }.items()
}  # fmt: skip
"""A row of the ledger that another sender has left."""


class Table:
    """A low-level client that writes down its calls. ``held`` is the item that is there; None for none."""

    def __init__(self, held: dict[str, Any] | None) -> None:
        self._held, self.called = held, set[str]()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**request: Any) -> dict[str, Any]:
            self.called.add("dynamodb:" + "".join(part.title() for part in name.split("_")))
            if "not_exists" in request.get("ConditionExpression", "") and self._held:
                raise ClientError({"Error": {"Code": "ConditionalCheckFailedException"}, "Item": self._held}, name)  # type: ignore[typeddict-unknown-key]
            return {"Items": [self._held] if self._held else []}

        return call


class Events:
    """Takes every event."""

    def put_events(self, Entries: Sequence[Any]) -> dict[str, Any]:
        return {"Entries": [{} for _ in Entries]}


class Target:
    """Takes every alert, or none."""

    name = "people"

    def __init__(self, problem: Exception | None) -> None:
        self._problem = problem

    def send(self, *_: Any) -> None:
        if self._problem:
            raise self._problem


def publish(table: Table) -> None:
    image = {name: attribute(value) for name, value in _fields().items()}
    record = {"eventName": "INSERT", "dynamodb": {"NewImage": image, "SequenceNumber": "1"}}
    assert Publisher(Ledger(table, "t"), Bus(Events(), "b"), lambda: OPENED).publish([record]).first_failed is None


def _fields() -> dict[str, Any]:
    return {name: value for name, value in msgspec.to_builtins(insight()).items() if value is not None}


def sweep(table: Table) -> None:
    Sweeper(Ledger(table, "t"), Bus(Events(), "b"), lambda: OPENED).sweep()


def notify(table: Table) -> None:
    event = {"detail-type": DETAIL_TYPES["opened"], "detail": _fields()}
    for problem in (None, ClientError({"Error": {"Code": "Throttled"}}, "Publish")):
        Notifier(Ledger(table, "t"), [Target(problem)], now=lambda: OPENED).notify(event)


def store(table: Table) -> None:
    minute = HostMinute("web-07", OPENED, 0, {"cpuUsage": (OPENED, 1.0, "Percent")})
    MetricStore(table, "t", 90).write([minute])


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as their text."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: f"{suffix} {node.value}")


@pytest.mark.parametrize(
    ("function", "table", "work"),
    [
        ("PublisherFunction", "LedgerTable", publish),
        ("SweeperFunction", "LedgerTable", sweep),
        ("NotifierFunction", "LedgerTable", notify),
        ("MetricStoreFunction", "MetricsTable", store),
    ],
)
def test_a_function_may_do_with_its_table_what_its_code_does_and_nothing_else(
    function: str, table: str, work: Callable[[Table], None], root: Path
) -> None:
    called = set[str]()
    for held in (None, {**WAITING, "timestamp": {"N": str(OPENED)}, "cpuUsage": {"N": "0"}}):
        client = Table(held)
        work(client)
        called |= client.called
    template = yaml.load((root / "template.yaml").read_text(), Loader)
    statements = template["Resources"][function]["Properties"]["Policies"][0]["Statement"]
    allowed = set[str]()
    for one in statements:
        if isinstance(one, dict) and table in str(one["Resource"]):
            allowed |= set(one["Action"] if isinstance(one["Action"], list) else [one["Action"]])
    assert allowed == called
