"""The metric store against real conditional writes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from consumers.metric_store import handler as handlers
from consumers.metric_store.fold import HostMinute, Readings, from_item
from consumers.metric_store.store import MetricStore
from tests.support.ministack import Emulator
from tests.support.tables import items, table

pytestmark = pytest.mark.embedded

MINUTE = 1_795_705_440_000


@pytest.fixture
def name(aws: Emulator) -> str:
    return table(aws, "MetricsTable")


def minute(readings: Readings, host: str = "web-1", at: int = MINUTE, record: int = 0) -> HostMinute:
    return HostMinute(host, at, record, readings)


def held(aws: Emulator, name: str) -> dict[tuple[str, int], Readings]:
    return {(i["hostname"]["S"], int(i["timestamp"]["N"])): from_item(i) for i in items(aws, name)}


def test_a_minute_that_comes_in_parts_costs_one_write_a_part_and_keeps_the_last_of_each_series(
    aws: Emulator, name: str, faults: Callable[..., Any]
) -> None:
    client = aws.client("dynamodb")
    counted = faults(client, lambda operation, n: None)
    store = MetricStore(client, name, 90)
    parts: list[Readings] = [
        {"cpuUsage": (MINUTE + 10, 1.0, "Percent"), "load": (MINUTE + 10, 5.0, "")},
        {"cpuUsage": (MINUTE + 30, 3.0, "Percent")},
        {"cpuUsage": (MINUTE + 20, 2.0, "Percent"), "queue": (MINUTE + 20, 9.0, "Count")},
    ]
    for part in parts:
        assert store.write([minute(part)]).written == 1
    assert counted.calls == {"UpdateItem": 3}
    repeated = store.write([minute(parts[0])])
    assert (repeated.written, repeated.unchanged) == (0, 1)
    assert counted.calls == {"UpdateItem": 3}
    (item,) = items(aws, name)
    assert float(item["cpuUsage"]["N"]) == 3.0
    assert {series: float(value["N"]) for series, value in item["metrics"]["M"].items()} == {"load": 5, "queue": 9}
    assert item["units"] == {"M": {"queue": {"S": "Count"}}}
    assert int(item["ttl"]["N"]) == MINUTE // 1000 + 90 * 86_400


def test_writers_who_know_nothing_of_each_other_lose_nothing(aws: Emulator, name: str) -> None:
    first, second = (MetricStore(aws.client("dynamodb"), name, 90) for _ in range(2))
    for n in range(10):
        for store, offset in ((first, n), (second, 5 - n)):
            told = store.write([minute({f"m{n % 4}": (MINUTE + 100 + offset, float(offset), "")}, host="shared")])
            assert not told.unfinished
    ((_, readings),) = held(aws, name).items()
    best: Readings = {}
    for n in range(10):
        for offset in (n, 5 - n):
            reading = (MINUTE + 100 + offset, float(offset), "")
            best[f"m{n % 4}"] = max(best.get(f"m{n % 4}", reading), reading)
    assert readings == best


def test_redelivery_to_a_fresh_process_changes_nothing(aws: Emulator, name: str) -> None:
    minutes = [minute({"cpuUsage": (MINUTE + n, float(n), "Percent")}, host=f"h{n}") for n in range(30)]
    assert MetricStore(aws.client("dynamodb"), name, 90).write(minutes).written == 30
    before = sorted(items(aws, name), key=str)
    again = MetricStore(aws.client("dynamodb"), name, 90).write(minutes)
    assert (again.written, again.unchanged) == (0, 30)
    assert sorted(items(aws, name), key=str) == before


def test_two_series_of_one_name_at_one_time_are_settled_by_the_greater_value(aws: Emulator, name: str) -> None:
    for values in ([1.0, 2.0], [2.0, 1.0]):
        host = f"h{values[0]}"
        for value in values:
            MetricStore(aws.client("dynamodb"), name, 90).write([minute({"x": (MINUTE, value, "")}, host=host)])
    assert [readings["x"][1] for readings in held(aws, name).values()] == [2.0, 2.0]


def test_a_host_that_invents_series_is_bounded_and_the_surplus_is_counted(aws: Emulator, name: str) -> None:
    store = MetricStore(aws.client("dynamodb"), name, 90)
    surplus = 0
    for batch in range(4):
        readings = {f"metric-{batch}-{n}-{'x' * 300}": (MINUTE + n, float(n), "Count") for n in range(200)}
        outcome = store.write([minute(readings | {"cpuUsage": (MINUTE + batch, 1.0, "Percent")})])
        assert not outcome.unfinished
        surplus += outcome.surplus
    (item,) = items(aws, name)
    assert surplus > 0
    assert len(item["metrics"]["M"]) < 800
    assert len(json.dumps(item).encode()) < 400_000
    assert "cpuUsage" in item


class Context:
    def __init__(self, left: int = 60_000) -> None:
        self.left = left
        self.function_name = self.memory_limit_in_mb = self.aws_request_id = self.invoked_function_arn = "x"

    def get_remaining_time_in_millis(self) -> int:
        return self.left


def event(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "Records": [
            {
                "eventID": f"shardId-000000000000:{1000 + n}",
                "kinesis": {
                    "sequenceNumber": str(1000 + n),
                    "partitionKey": "k",
                    "approximateArrivalTimestamp": (MINUTE + 60_000) / 1000,
                    "data": base64.b64encode(json.dumps(document).encode()).decode(),
                },
            }
            for n, document in enumerate(documents)
        ]
    }


def sample(host: str, at: int = MINUTE) -> dict[str, Any]:
    return {"hostname": host, "timestamp": at, "cpuUsage": 1.5, "memoryUsage": 2, "diskIO": 3, "networkIO": 4}


@pytest.fixture
def deployed(aws: Emulator, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for variable, value in {**aws.environment(), "OPSRIVER_METRICS_TABLE": name}.items():
        monkeypatch.setenv(variable, value)
    made = handlers.store
    made.cache_clear()
    yield name
    made.cache_clear()


def test_the_handler_stores_what_can_be_read(aws: Emulator, deployed: str, capsys: pytest.CaptureFixture[str]) -> None:
    documents: list[dict[str, Any]] = [
        sample("web-1"),
        {"broken": 1},
        {"resource": "web-1", "metric": "queue", "timestamp": MINUTE / 1000, "value": 7, "dimensions": {"q": "a"}},
        sample("web-2"),
    ]
    assert handlers.handler(event(documents), Context()) == {"batchItemFailures": []}
    stored = held(aws, deployed)
    assert set(stored) == {("web-1", MINUTE), ("web-2", MINUTE)}
    assert stored["web-1", MINUTE]["queue{q=a}"] == (MINUTE, 7.0, "")
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "MinutesWritten" in line]
    assert written[0]["MinutesWritten"] == [2.0]


def test_the_handler_hands_back_from_the_first_record_that_is_unfinished(
    aws: Emulator,
    deployed: str,
    faults: Callable[..., Any],
    impatient: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = impatient("dynamodb")
    store = MetricStore(client, deployed, 90)
    monkeypatch.setattr(handlers, "store", lambda: store)
    broken = True

    def fail(operation: str, n: int) -> tuple[int, str, dict[str, Any]] | None:
        return (500, "InternalServerError", {}) if broken and n > 3 else None

    faults(client, fail)
    monkeypatch.setattr("consumers.metric_store.store.WRITERS", 1)
    batch = event([sample(f"h{n}") for n in range(8)])
    answer = handlers.handler(batch, Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "1003"}]}
    assert len(items(aws, deployed)) == 3
    broken = False
    rest = {"Records": batch["Records"][3:]}
    assert handlers.handler(rest, Context()) == {"batchItemFailures": []}
    assert len(items(aws, deployed)) == 8


def test_the_handler_stops_in_time_and_hands_the_rest_back(aws: Emulator, deployed: str) -> None:
    answer = handlers.handler(event([sample("web-1")]), Context(left=1_000))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "1000"}]}
    assert items(aws, deployed) == []
