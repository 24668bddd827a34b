"""The insight store against real conditional writes, streams and indexes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from consumers.insights.store import InsightStore, StoreUnavailable, from_item
from tests.support.insights import OPENED, closed, insight
from tests.support.ministack import Emulator
from tests.support.tables import items, stream_records, table

pytestmark = pytest.mark.embedded


@pytest.fixture
def name(aws: Emulator) -> str:
    return table(aws, "InsightsTable")


@pytest.fixture
def store(aws: Emulator, name: str) -> InsightStore:
    return InsightStore(aws.client("dynamodb"), name)


def revisions(count: int, insight_id: str) -> list[Any]:
    return [insight(insight_id=insight_id, revision=n, score=n / 100) for n in range(1, count + 1)]


def test_every_revision_is_written_once_and_in_order_however_often_it_comes(
    aws: Emulator, name: str, store: InsightStore
) -> None:
    ids = [f"i{n}" for n in range(12)]
    mixed = [one for group in zip(*(revisions(4, i) for i in ids), strict=True) for one in group]
    assert store.write(mixed) == 48
    assert store.write(mixed) == 0
    assert store.write(mixed[:30] + mixed) == 0
    seen: dict[str, list[int]] = {}
    for record in stream_records(aws, name):
        one = from_item(record["dynamodb"]["NewImage"])
        seen.setdefault(one.insight_id, []).append(one.revision)
    assert seen == {i: [1, 2, 3, 4] for i in ids}


def test_an_older_revision_never_replaces_a_newer_one(store: InsightStore) -> None:
    assert store.write([closed(revision=3)]) == 1
    assert store.write([insight(revision=2)]) == 0
    assert store.get(insight().insight_id) == closed(revision=3)
    assert store.write([]) == 0


def test_a_fresh_store_finishes_what_another_began(aws: Emulator, name: str, store: InsightStore) -> None:
    whole = revisions(5, "a") + revisions(5, "b")
    store.write(whole[:3])
    assert InsightStore(aws.client("dynamodb"), name).write(whole) == 7
    assert {one["revision"]["N"] for one in items(aws, name)} == {"5"}


def test_readers_get_insights_newest_first_by_severity_resource_and_time(store: InsightStore) -> None:
    severities = ["LOW", "MEDIUM", "HIGH", "CRITICAL"]
    made = [
        insight(insight_id=f"i{n:03}", severity=severities[n % 4], resource=f"host-{n % 3}", timestamp=OPENED + n * 1000)
        for n in range(60)
    ]
    store.write(made)
    newest = list(reversed(made))
    assert store.recent(limit=10) == newest[:10]
    assert store.recent(limit=1000) == newest
    assert store.recent(severity="HIGH") == [one for one in newest if one.severity == "HIGH"]
    assert store.recent(resource="host-1", severity="LOW") == [
        one for one in newest if one.resource == "host-1" and one.severity == "LOW"
    ]
    assert store.recent(since=OPENED + 50_000) == newest[:10]
    assert store.recent(resource="nobody") == []
    assert store.get("nobody") is None


def test_readers_page_through_answers_that_do_not_fit_one(store: InsightStore) -> None:
    many = [insight(insight_id=f"p{n:03}", severity="HIGH", timestamp=OPENED + n, message="x" * 2000) for n in range(40)]
    store.write([msgspec.structs.replace(one, affected_hosts=["h" * 256] * 100) for one in many])
    assert [one.insight_id for one in store.recent(severity="HIGH", limit=40)] == [f"p{n:03}" for n in range(39, -1, -1)]


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "ProvisionedThroughputExceededException"), (500, "InternalServerError"), (400, "ThrottlingException")],
)
def test_a_throttled_table_is_tried_again(
    aws: Emulator, name: str, status: int, code: str, faults: Callable[..., Any]
) -> None:
    client = aws.client("dynamodb")
    counted = faults(client, lambda operation, n: (status, code, {}) if operation == "PutItem" and n <= 1 else None)
    assert InsightStore(client, name).write([insight()]) == 1
    assert counted.calls["PutItem"] == 2


def test_a_table_that_stays_away_is_named_and_the_batch_can_come_again(
    aws: Emulator, name: str, faults: Callable[..., Any], impatient: Callable[[str], Any]
) -> None:
    both = [insight(), insight(insight_id="other")]
    client = impatient("dynamodb")
    counted = faults(client, lambda operation, n: (500, "InternalServerError", {}))
    with pytest.raises(StoreUnavailable, match=name):
        InsightStore(client, name).write(both)
    assert counted.calls["PutItem"] <= 4, "the tries are bounded"
    assert InsightStore(aws.client("dynamodb"), name).write(both) == 2


def test_a_write_whose_answer_was_lost_is_not_written_twice(aws: Emulator, name: str, faults: Callable[..., Any]) -> None:
    client = aws.client("dynamodb")
    store = InsightStore(client, name)

    def lose(operation: str, n: int) -> tuple[int, str, dict[str, Any]] | None:
        if operation == "PutItem" and n == 1:
            InsightStore(aws.client("dynamodb"), name).write([insight()])  # the write arrives, its answer does not
            return 500, "InternalServerError", {}
        return None

    faults(client, lose)
    assert store.write([insight()]) == 0
    assert len(stream_records(aws, name)) == 1
