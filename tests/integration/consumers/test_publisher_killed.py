"""SIGKILL at every step of the publisher, in a process of its own, and what has then been told."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.alerts import Alerting
from tests.support.forked import Forked
from tests.support.insights import closed, insight
from tests.support.ministack import Emulator

pytestmark = [pytest.mark.embedded, pytest.mark.chaos]

POINTS = [
    (operation, side, number)
    for operation in ("PutItem", "PutEvents", "UpdateItem")
    for side in ("before", "after")
    for number in (1, 2)
]
BETWEEN = {("PutEvents", "after"), ("UpdateItem", "before"), ("UpdateItem", "after")}
"""Only here an event has left and its note is not yet made (a call of PutEvents carries several)."""


def run(alerting: Alerting, records: Path, operation: str, side: str, number: int) -> tuple[int, str, str]:
    """Its status, output and errors."""
    environment = {
        "PATH": os.environ["PATH"],
        **alerting.aws.environment(),
        "OPSRIVER_EVENT_BUS": alerting.bus,
        "OPSRIVER_LEDGER_TABLE": alerting.table,
        "POWERTOOLS_METRICS_DISABLED": "true",
        "POWERTOOLS_LOG_LEVEL": "ERROR",
    }
    errors = records.with_name("errors")
    arguments = [str(records), operation, side, str(number)]
    process = Forked("tests.support.killed_publisher", arguments, env=environment, stderr=errors)
    process.stdin.close()
    with process.stdout as out:
        return process.wait(120), out.read(), errors.read_text()


@pytest.mark.parametrize(("operation", "side", "number"), POINTS)
def test_no_notification_is_missing_and_one_is_doubled_only_between_its_send_and_its_note(
    aws: Emulator, tmp_path: Path, operation: str, side: str, number: int
) -> None:
    alerting = Alerting(aws)
    found = alerting.write([insight(insight_id="a"), insight(insight_id="b"), closed(insight_id="a")])
    for record in found:
        record["dynamodb"].pop("ApproximateCreationDateTime", None)
    records = tmp_path / "records.json"
    records.write_text(json.dumps(found))

    status, _, errors = run(alerting, records, operation, side, number)
    assert status == -signal.SIGKILL, errors
    status, out, errors = run(alerting, records, "none", side, 1)
    assert status == 0, errors
    assert json.loads(out.splitlines()[-1]) == {"batchItemFailures": []}

    told = alerting.ids()
    expected = {"a#1#opened", "a#2#closed", "b#1#opened"}
    assert set(told) == expected, "a notification is missing"
    assert set(alerting.rows().values()) == {"sent"}
    doubled = len(told) - len(expected)
    assert doubled == 0 or (operation, side) in BETWEEN
    first = [name for n, name in enumerate(told) if name.startswith("a#") and name not in told[:n]]
    assert first == ["a#1#opened", "a#2#closed"]
