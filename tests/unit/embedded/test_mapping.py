"""The rules of an event source mapping: what is tried again, split, given up, and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from opsriver.embedded.mapping import MAX_PAYLOAD, Mapping, Record, cut, failure_message, mapping, work_through

NOW = 1_800_000_000.0


def rules(**changes: Any) -> Mapping:
    chosen: dict[str, Any] = {
        "uuid": "u", "function": "arn:aws:lambda:us-east-1:000000000000:function:f",
        "source": "arn:aws:kinesis:us-east-1:000000000000:stream/s", "batch_size": 100, "window": 0.0, "bisect": True,
        "attempts": -1, "max_age": -1.0, "reports": True, "start": "TRIM_HORIZON", "on_failure": "",
    }  # fmt: skip
    return Mapping(**{**chosen, **changes})


def records(count: int, arrival: float = NOW) -> list[Record]:
    return [Record(f"{n:04d}", arrival, {}, 10) for n in range(count)]


@dataclass
class Run:
    """What a mapping did with some records."""

    tried: list[list[str]] = field(default_factory=list)
    succeeded: list[str] = field(default_factory=list)
    given_up: list[tuple[list[str], str, int]] = field(default_factory=list)
    positions: list[str] = field(default_factory=list)
    waits: int = 0


def run(given: list[Record], chosen: Mapping, function: Callable[[list[str]], Any], limit: int = 5_000) -> Run:
    """Work through records with a function that returns how many it does, None for an error, or a whole answer."""
    made = Run()

    def invoke(piece: list[Record]) -> dict[str, Any] | None:
        names = [r.sequence for r in piece]
        made.tried.append(names)
        assert len(made.tried) < limit, "the mapping never ends"
        answer = function(names)
        if isinstance(answer, int):
            made.succeeded += names[:answer]
            return {"batchItemFailures": [{"itemIdentifier": n} for n in names[answer : answer + 1]]}
        if answer == {}:
            made.succeeded += names
        return answer

    def wait(_: int) -> None:
        made.waits += 1

    work_through(
        given, chosen, invoke=invoke, done=lambda r: made.positions.append(r.sequence),
        give_up=lambda lost, why, tries: made.given_up.append(([r.sequence for r in lost], why, tries)),
        wait=wait, now=lambda: NOW,
    )  # fmt: skip
    return made


def names(count: int) -> list[str]:
    return [f"{n:04d}" for n in range(count)]


def test_a_batch_that_succeeds_is_invoked_once_and_moves_the_position_to_its_end() -> None:
    made = run(records(5), rules(), lambda _: {})
    assert made.tried == [names(5)]
    assert made.positions == ["0004"]
    assert made.waits == 0


def test_a_reported_failure_is_retried_from_the_first_record_that_failed() -> None:
    answers = iter([2, 3])
    made = run(records(5), rules(), lambda _: next(answers))
    assert made.tried == [names(5), ["0002", "0003", "0004"]]
    assert made.positions == ["0001", "0004"]


def test_an_error_without_a_report_splits_the_batch_until_the_bad_record_is_alone() -> None:
    made = run(records(8), rules(attempts=2, reports=False), lambda n: None if "0005" in n else {})
    assert made.given_up == [(["0005"], "RetryAttemptsExhausted", 3)]
    assert made.succeeded == [n for n in names(8) if n != "0005"]


def test_without_splitting_the_whole_batch_is_retried_and_then_given_up() -> None:
    made = run(records(3), rules(bisect=False, attempts=2), lambda _: None)
    assert made.tried == [names(3)] * 3
    assert made.given_up == [(names(3), "RetryAttemptsExhausted", 3)]
    assert made.positions == ["0002"]


def test_records_that_are_too_old_are_given_up_without_a_try_and_the_rest_is_processed() -> None:
    old, fresh = records(2, NOW - 100), [Record("9000", NOW, {}, 10)]
    made = run(old + fresh, rules(max_age=60.0), lambda _: {})
    assert made.given_up == [(["0000", "0001"], "RecordAgeExceeded", 0)]
    assert made.succeeded == ["9000"]
    assert made.positions == ["0001", "9000"]


def test_a_report_that_names_no_record_of_the_batch_counts_as_a_failure_of_all() -> None:
    answers: list[Any] = [{"batchItemFailures": [{"itemIdentifier": "unknown"}]}, {"batchItemFailures": [{}]}, {}]
    made = run(records(1), rules(), lambda _: answers.pop(0))
    assert made.tried == [["0000"]] * 3
    assert made.positions == ["0000"]


def test_a_report_is_ignored_where_the_mapping_does_not_ask_for_reports() -> None:
    made = run(records(2), rules(reports=False), lambda n: {"batchItemFailures": [{"itemIdentifier": n[0]}]})
    assert made.positions == ["0001"]


@settings(deadline=None)
@given(
    count=st.integers(1, 40),
    bad=st.sets(st.integers(0, 39)),
    reports=st.booleans(),
    bisect=st.booleans(),
    attempts=st.integers(0, 3),
    outages=st.lists(st.booleans(), max_size=6),
)
def test_no_record_is_skipped_and_positions_only_rise(
    count: int, bad: set[int], reports: bool, bisect: bool, attempts: int, outages: list[bool]
) -> None:
    poison = {f"{n:04d}" for n in bad}
    failing = iter(outages)

    def function(piece: list[str]) -> Any:
        if next(failing, False):
            return None
        first = next((place for place, name in enumerate(piece) if name in poison), None)
        if first is None:
            return {}
        return first if reports else None

    made = run(records(count), rules(reports=reports, bisect=bisect, attempts=attempts), function)
    lost = [name for group, _, _ in made.given_up for name in group]
    assert sorted(made.succeeded + lost) == names(count)
    assert made.positions == sorted(made.positions)
    assert made.positions[-1] == names(count)[-1]
    assert made.succeeded == sorted(made.succeeded)
    if bisect and not reports and not outages:
        assert set(lost) == poison & set(names(count))


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, MAX_PAYLOAD), min_size=1, max_size=20), batch=st.integers(1, 20))
def test_batches_hold_every_record_once_within_count_and_size(sizes: list[int], batch: int) -> None:
    held = [Record(str(n), NOW, {}, size) for n, size in enumerate(sizes)]
    found: list[Record] = []
    while held:
        piece = cut(held, batch)
        assert 1 <= len(piece) <= batch
        assert len(piece) == 1 or sum(r.size for r in piece) <= MAX_PAYLOAD
        found += piece
        held = held[len(piece) :]
    assert [r.sequence for r in found] == [str(n) for n in range(len(sizes))]


def test_the_failure_message_has_the_shape_that_lambda_sends() -> None:
    message = failure_message(rules(), "shardId-000000000000", records(3), "RetryAttemptsExhausted", 4, NOW)
    assert set(message) == {
        "requestContext", "responseContext", "version", "timestamp", "KinesisBatchInfo",
    }  # fmt: skip
    assert message["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert message["requestContext"]["approximateInvokeCount"] == 4
    assert message["KinesisBatchInfo"] == {
        "shardId": "shardId-000000000000", "startSequenceNumber": "0000", "endSequenceNumber": "0002",
        "approximateArrivalOfFirstRecord": "2027-01-15T08:00:00.000Z",
        "approximateArrivalOfLastRecord": "2027-01-15T08:00:00.000Z", "batchSize": 3,
        "streamArn": "arn:aws:kinesis:us-east-1:000000000000:stream/s",
    }  # fmt: skip
    dynamodb = failure_message(
        rules(source="arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/x"), "s", records(1),
        "RecordAgeExceeded", 0, NOW,
    )  # fmt: skip
    assert "DDBStreamBatchInfo" in dynamodb
    assert "responseContext" not in dynamodb


def test_a_mapping_without_options_has_the_defaults_of_the_service() -> None:
    found = mapping({"UUID": "u", "FunctionArn": "f", "EventSourceArn": "arn:aws:kinesis:::stream/s"})
    assert (found.batch_size, found.window, found.attempts, found.max_age) == (100, 0.0, -1, -1.0)
    assert not found.reports
    assert not found.bisect
    zero = mapping({"UUID": "u", "FunctionArn": "f", "EventSourceArn": "a", "MaximumRetryAttempts": 0, "BatchSize": None})
    assert zero.attempts == 0
