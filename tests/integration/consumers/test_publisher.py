"""From the Insights table's real stream through the ledger to a real bus: never none, at most once but for a crash."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.alerts import publisher_handler, sweeper_handler
from consumers.alerts.bus import TRIES, Bus
from consumers.alerts.ledger import LEASE_MS, Ledger
from consumers.alerts.notifications import Notification, notification
from tests.support.alerts import Alerting, Flaky, Killed
from tests.support.insights import closed, insight
from tests.support.ministack import Emulator
from tests.support.tables import items

pytestmark = pytest.mark.embedded


@pytest.fixture
def alerting(aws: Emulator) -> Alerting:
    return Alerting(aws)


STORY = [
    insight(severity="LOW"),
    insight(revision=2, severity="LOW", transition="updated"),
    insight(revision=3, severity="HIGH", transition="escalated"),
    closed(revision=4, severity="HIGH"),
]
TOLD = [f"{insight().insight_id}#{n}#{t}" for n, t in ((1, "opened"), (3, "escalated"), (4, "closed"))]


def test_each_transition_of_an_insight_is_an_event_in_its_order(alerting: Alerting) -> None:
    records = alerting.write(STORY)
    result = alerting.publisher().publish(records)
    assert (result.sent, result.repeated, result.first_failed) == (3, 0, None)
    events = alerting.published()
    assert [(e["source"], e["detail-type"], e["resources"]) for e in events] == [
        ("opsriver", "Insight opened", ["web-07"]),
        ("opsriver", "Insight escalated", ["web-07"]),
        ("opsriver", "Insight closed", ["web-07"]),
    ]
    details = [event["detail"] for event in events]
    assert [detail.pop("notificationId") for detail in details] == TOLD
    assert details == [msgspec.to_builtins(STORY[n]) for n in (0, 2, 3)]
    rows = {item["notificationId"]["S"]: item for item in items(alerting.aws, alerting.table)}
    assert set(rows) == set(TOLD)
    assert all(row["state"]["S"] == "sent" and "detail" not in row for row in rows.values())
    assert all(int(row["ttl"]["N"]) == alerting.now // 1000 + 30 * 86_400 for row in rows.values())


def test_records_that_come_again_are_not_told_again(alerting: Alerting) -> None:
    records = alerting.write(STORY)
    alerting.publisher().publish(records[:3])
    result = alerting.publisher().publish(records)
    assert (result.sent, result.repeated) == (1, 2)
    assert alerting.ids() == TOLD


def test_killed_before_the_event_nothing_is_missing_and_nothing_doubled(alerting: Alerting) -> None:
    def die(call: int, entries: Any) -> None:
        if call == 2:
            raise Killed

    records = alerting.write(STORY)
    with pytest.raises(Killed):
        alerting.publisher(Flaky(alerting.events, act=die)).publish(records)
    assert alerting.rows() == dict(zip(TOLD, ["sent", "pending", "pending"], strict=True))
    alerting.publisher().publish(records)
    assert alerting.ids() == TOLD
    assert set(alerting.rows().values()) == {"sent"}


def test_killed_between_the_event_and_its_note_it_is_told_again_with_the_same_id(alerting: Alerting) -> None:
    def die(call: int) -> None:
        if call == 2:
            raise Killed

    records = alerting.write(STORY)
    with pytest.raises(Killed):
        alerting.publisher(Flaky(alerting.events, after=die)).publish(records)
    alerting.publisher().publish(records)
    assert alerting.ids() == [TOLD[0], TOLD[1], TOLD[1], TOLD[2]]


def test_entries_that_the_bus_does_not_take_are_tried_again_alone(alerting: Alerting) -> None:
    many = [insight(insight_id=f"i{n}") for n in range(25)]
    records = alerting.write(many)
    events = Flaky(alerting.events, lambda call, _: {1: "ThrottlingException", 7: "InternalFailure"} if call < 4 else {})
    result = alerting.publisher(events).publish(records)
    assert (result.sent, result.first_failed) == (25, None)
    assert sorted(alerting.ids()) == sorted(f"i{n}#1#opened" for n in range(25))


def test_an_entry_that_keeps_failing_holds_back_its_insight_only_and_its_record_comes_again(
    alerting: Alerting,
) -> None:
    records = alerting.write([insight(insight_id="a"), insight(insight_id="bad"), insight(insight_id="c")])
    records = alerting.write([closed(insight_id="bad"), closed(insight_id="a")])
    order = [record["dynamodb"]["Keys"]["insightId"]["S"] for record in records]

    def refuse(_: int, entries: list[dict[str, Any]]) -> dict[int, str]:
        return {n: "ThrottlingException" for n, e in enumerate(entries) if '"insightId":"bad"' in e["Detail"]}

    events = Flaky(alerting.events, refuse)
    result = alerting.publisher(events).publish(records)
    assert result.first_failed == order.index("bad")
    assert "ThrottlingException" in result.error
    assert events.calls <= TRIES + 2
    assert sorted(alerting.ids()) == ["a#1#opened", "a#2#closed", "c#1#opened"]
    assert alerting.publisher().publish(records[order.index("bad") :]).first_failed is None
    assert alerting.ids() == ["bad#1#opened", "bad#2#closed"]


def test_an_event_that_the_bus_will_never_take_does_not_stop_the_others(alerting: Alerting) -> None:
    records = alerting.write([insight(insight_id="bad"), insight(insight_id="good")])
    result = alerting.publisher(
        Flaky(
            alerting.events,
            lambda _, entries: {n: "MalformedDetail" for n, e in enumerate(entries) if '"bad"' in e["Detail"]},
        )
    ).publish(records)
    assert (result.refused, result.first_failed) == (["bad#1#opened"], None)
    assert alerting.rows() == {"bad#1#opened": "refused", "good#1#opened": "sent"}


def test_a_bus_that_is_away_leaves_all_pending_and_the_batch_comes_again(
    alerting: Alerting, faults: Callable[..., Any], impatient: Callable[[str], Any]
) -> None:
    records = alerting.write(STORY)
    client = impatient("events")
    counted = faults(client, lambda operation, n: (500, "InternalException", {}) if n <= 2 else None)
    publisher = alerting.publisher(client)
    result = publisher.publish(records)
    assert (result.sent, result.first_failed) == (0, 0)
    assert counted.calls["PutEvents"] == 2, "the client's tries are bounded"
    assert set(alerting.rows().values()) == {"pending"}
    assert publisher.publish(records).sent == 3
    assert alerting.ids() == TOLD


def test_a_ledger_that_is_away_lets_nothing_out(
    alerting: Alerting, faults: Callable[..., Any], impatient: Callable[[str], Any]
) -> None:
    records = alerting.write(STORY)
    client = impatient("dynamodb")
    faults(client, lambda operation, n: (400, "ThrottlingException", {}))
    result = alerting.publisher(ledger=Ledger(client, alerting.table)).publish(records)
    assert (result.sent, result.first_failed) == (0, 0)
    assert alerting.published() == []


def test_what_the_ledger_could_not_be_told_is_noted_later_and_not_sent_again(
    alerting: Alerting, faults: Callable[..., Any], impatient: Callable[[str], Any]
) -> None:
    records = alerting.write(STORY[:1])
    client = impatient("dynamodb")
    away = True
    faults(client, lambda operation, n: (500, "InternalServerError", {}) if away and operation == "UpdateItem" else None)
    publisher = alerting.publisher(ledger=Ledger(client, alerting.table))
    assert publisher.publish(records).first_failed == 0
    assert alerting.rows() == {TOLD[0]: "pending"}
    away = False
    result = publisher.publish(records)
    assert (result.sent, result.repeated, result.first_failed) == (0, 1, None)
    assert alerting.rows() == {TOLD[0]: "sent"}
    assert alerting.ids() == TOLD[:1]


def test_the_sweeper_sends_what_stayed_pending_in_order_and_leaves_what_is_young(alerting: Alerting) -> None:
    def die(call: int, entries: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        alerting.publisher(Flaky(alerting.events, act=die)).publish(alerting.write(STORY))
    alerting.now += LEASE_MS
    records = alerting.write([insight(insight_id="young")])
    with pytest.raises(Killed):
        alerting.publisher(Flaky(alerting.events, act=die)).publish(records[4:])
    swept = alerting.sweeper().sweep()
    assert (swept.sent, swept.waiting, swept.oldest_ms) == (0, 4, LEASE_MS)
    alerting.now += 1
    swept = alerting.sweeper().sweep()
    assert (swept.sent, swept.waiting, swept.error) == (3, 1, "")
    assert alerting.ids() == TOLD
    assert alerting.sweeper().sweep().sent == 0
    alerting.publisher().publish(records)
    assert alerting.ids() == ["young#1#opened"]


def test_publisher_and_sweeper_do_not_send_the_same_at_once(alerting: Alerting) -> None:
    records = alerting.write(STORY[:1])

    def die(call: int, entries: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        alerting.publisher(Flaky(alerting.events, act=die)).publish(records)
    alerting.now += LEASE_MS + 1

    def meanwhile(call: int, entries: Any) -> None:
        result = alerting.publisher().publish(records)
        assert (result.sent, result.first_failed) == (0, 0)
        assert alerting.sweeper().sweep().sent == 0

    assert alerting.sweeper(Flaky(alerting.events, act=meanwhile)).sweep().sent == 1
    assert alerting.ids() == TOLD[:1]


def test_a_sweeper_that_died_is_overtaken_by_the_publisher_and_the_next_sweep(alerting: Alerting) -> None:
    records = alerting.write([insight(insight_id="a"), insight(insight_id="b")])

    def die(call: int, entries: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        alerting.publisher(Flaky(alerting.events, act=die)).publish(records)
    alerting.now += LEASE_MS + 1
    with pytest.raises(Killed):
        alerting.sweeper(Flaky(alerting.events, act=die)).sweep()
    assert alerting.publisher().publish(records).first_failed == 0
    alerting.now += LEASE_MS + 1
    assert alerting.publisher().publish(records[:1]).sent == 1
    swept = alerting.sweeper().sweep()
    assert (swept.sent, swept.waiting) == (1, 0)
    assert sorted(alerting.ids()) == ["a#1#opened", "b#1#opened"]


class _Recording:
    """An events client that takes no more than AWS does, and refuses some."""

    def __init__(self, codes: Iterator[bool]) -> None:
        self.codes, self.taken = codes, list[str]()

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        assert 1 <= len(Entries) <= 10
        assert sum(len(e["Detail"].encode()) for e in Entries) < 256 * 1024
        answers = []
        for entry in Entries:
            if next(self.codes):
                answers.append({"ErrorCode": "ThrottlingException"})
            else:
                self.taken.append(json.loads(entry["Detail"])["notificationId"])
                answers.append({"EventId": "1"})
        return {"FailedEntryCount": 1, "Entries": answers}


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from([10, 60_000])), max_size=40),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 0.2, 0.7]),
)
def test_whatever_fails_each_insights_events_leave_in_order_once(
    plan: list[tuple[int, int]], random: Any, rate: float
) -> None:
    notes: list[Notification] = []
    for revision, (number, size) in enumerate(plan):
        notes.append(notification(insight(insight_id=f"i{number}", revision=revision, message="x" * size), "opened"))
    client = _Recording(iter(lambda: random.random() < rate, None))  # type: ignore[arg-type]
    result = Bus(client, "bus", pause=lambda _: None).send(notes)
    assert sorted(result.sent + result.failed, key=notes.index) == notes
    assert client.taken == [one.notification_id for one in result.sent]
    for name in {one.insight_id for one in notes}:
        ids = [one.notification_id for one in notes if one.insight_id == name]
        sent = [one for one in client.taken if one.startswith(f"{name}#")]
        assert sent == ids[: len(sent)]


@pytest.fixture
def deployed(alerting: Alerting, monkeypatch: pytest.MonkeyPatch) -> Iterator[Alerting]:
    settings_ = {"OPSRIVER_EVENT_BUS": alerting.bus, "OPSRIVER_LEDGER_TABLE": alerting.table}
    for variable, value in {**alerting.aws.environment(), **settings_}.items():
        monkeypatch.setenv(variable, value)
    made = (publisher_handler.publisher, sweeper_handler.sweeper)
    for one in made:
        one.cache_clear()
    yield alerting
    for one in made:
        one.cache_clear()


class Context:
    function_name = memory_limit_in_mb = aws_request_id = invoked_function_arn = "x"


def test_the_handlers_publish_a_batch_and_pass_over_what_is_no_insight(
    deployed: Alerting, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed.aws.client("dynamodb").put_item(
        TableName=deployed.insights, Item={"insightId": {"S": "foreign"}, "timestamp": {"N": "1"}}
    )
    records = deployed.write(STORY)
    assert publisher_handler.handler({"Records": records}, Context()) == {"batchItemFailures": []}
    assert deployed.ids() == TOLD
    assert sweeper_handler.handler({}, Context()) == {"sent": 0, "waiting": 0}
    metrics = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert metrics[0]["NotificationsSent"] == [3.0]
    assert metrics[0]["ImagesUnreadable"] == [1.0]
    assert metrics[1]["OldestPending"] == [0.0]


def test_the_handler_names_the_record_from_which_the_batch_must_come_again(
    deployed: Alerting, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = deployed.write([insight(insight_id="a"), insight(insight_id="b")])
    order = [record["dynamodb"]["Keys"]["insightId"]["S"] for record in records]

    def refuse(_: int, entries: list[dict[str, Any]]) -> dict[int, str]:
        return {n: "ThrottlingException" for n, e in enumerate(entries) if f'"{order[1]}"' in e["Detail"]}

    publisher = deployed.publisher(Flaky(deployed.events, refuse))
    monkeypatch.setattr(publisher_handler, "publisher", lambda: publisher)
    answer = publisher_handler.handler({"Records": records}, Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": records[1]["dynamodb"]["SequenceNumber"]}]}


def test_errors_of_the_ledger_pass_through_where_a_person_must_see_them(
    alerting: Alerting, faults: Callable[..., Any]
) -> None:
    client = alerting.aws.client("dynamodb")
    faults(client, lambda operation, n: (400, "AccessDeniedException", {}))
    with pytest.raises(ClientError, match="AccessDenied"):
        list(Ledger(client, alerting.table).pending())
