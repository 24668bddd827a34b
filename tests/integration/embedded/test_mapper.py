"""The event source mapper against an emulator: order, failures, splits, kills and both kinds of stream."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mapped import data, mapped, put, queue, stream, table
from tests.support.ministack import Emulator, emulator

pytestmark = pytest.mark.embedded

Eventually = Callable[..., Any]


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("mapper")) as running:
        yield running


def test_records_arrive_in_order_and_a_failing_one_holds_back_what_follows_it(
    aws: Emulator, tmp_path: Path, eventually: Eventually
) -> None:
    name, arn = stream(aws, shards=2)
    texts = [f"r{n:03d}" for n in range(60)]
    with mapped(aws, tmp_path, arn, BatchSize=25, MaximumBatchingWindowInSeconds=0) as function:
        function.broken.touch()
        put(aws, name, texts, keys=8)
        with function.mapper():
            eventually(lambda: len(function.seen()) >= 4, what="a retry of the failing function")
            assert function.done() == []
            function.broken.unlink()
            eventually(lambda: len(function.done()) >= 60, what="every record")
        assert sorted(function.done()) == texts
        for key in range(8):
            own = [text for text in function.done() if int(text[1:]) % 8 == key]
            assert own == sorted(own)


def test_a_reported_poison_record_is_tried_alone_to_its_limit_and_goes_to_the_queue(
    aws: Emulator, tmp_path: Path, eventually: Eventually
) -> None:
    name, arn = stream(aws)
    url, destination = queue(aws)
    texts = ["a", "b", "poison", "c", "d"]
    with mapped(
        aws, tmp_path, arn, BatchSize=10, MaximumRetryAttempts=2, BisectBatchOnFunctionError=True,
        DestinationConfig={"OnFailure": {"Destination": destination}},
    ) as function:  # fmt: skip
        put(aws, name, texts)
        with function.mapper():
            eventually(lambda: len(function.done()) >= 4, what="the records around the poison")
        assert function.done() == ["a", "b", "c", "d"]
        (message,) = _messages(aws, url)
        assert message["requestContext"]["condition"] == "RetryAttemptsExhausted"
        assert message["KinesisBatchInfo"]["batchSize"] == 1
        assert message["KinesisBatchInfo"]["streamArn"] == arn
        last = function.last()["Records"]
        assert [data(record) for record in last][-1] == "d"
        assert message["KinesisBatchInfo"]["startSequenceNumber"] < last[-1]["kinesis"]["sequenceNumber"]
        assert last[-1]["eventID"].startswith(message["KinesisBatchInfo"]["shardId"] + ":")


def test_a_function_that_raises_loses_only_the_poison_record_by_splitting(
    aws: Emulator, tmp_path: Path, eventually: Eventually
) -> None:
    name, arn = stream(aws)
    url, destination = queue(aws)
    texts = [f"r{n}" for n in range(7)] + ["poison"]
    with mapped(
        aws, tmp_path, arn, reports=False, BatchSize=8, MaximumRetryAttempts=1, BisectBatchOnFunctionError=True,
        DestinationConfig={"OnFailure": {"Destination": destination}},
    ) as function:  # fmt: skip
        put(aws, name, texts)
        with function.mapper():
            (message,) = eventually(lambda: _messages(aws, url), what="the message of the poison")
        assert set(function.done()) == set(texts) - {"poison"}
        assert message["KinesisBatchInfo"]["batchSize"] == 1
        assert message["requestContext"]["approximateInvokeCount"] == 2


def test_a_kill_of_the_mapper_skips_nothing_and_a_clean_restart_repeats_nothing(
    aws: Emulator, tmp_path: Path, eventually: Eventually
) -> None:
    name, arn = stream(aws)
    texts = [f"r{n:03d}" for n in range(40)]
    with mapped(aws, tmp_path, arn, slow=0.1, BatchSize=4) as function:
        put(aws, name, texts)
        for goal in (8, 20):
            with function.mapper() as process:
                eventually(lambda goal=goal: len(function.done()) >= goal, what=f"{goal} records")
                os.kill(process.pid, signal.SIGKILL)
        with function.mapper():
            eventually(lambda: "r039" in function.done(), what="the last record")
        assert sorted(set(function.done())) == texts
        firsts = list(dict.fromkeys(function.done()))
        assert firsts == texts
        before = len(function.done())
        put(aws, name, ["more"])
        with function.mapper():
            eventually(lambda: "more" in function.done(), what="a record put between two mappers")
        assert function.done()[before:] == ["more"]


def test_a_window_gathers_records_until_it_is_over(aws: Emulator, tmp_path: Path, eventually: Eventually) -> None:
    name, arn = stream(aws)
    with mapped(aws, tmp_path, arn, BatchSize=100, MaximumBatchingWindowInSeconds=3) as function, function.mapper():
        put(aws, name, ["first"])
        eventually(lambda: function.done() == ["first"], what="the first record")
        began = time.time()
        put(aws, name, ["second"])
        put(aws, name, ["third"])
        eventually(lambda: len(function.done()) >= 3, what="the second window")
        assert time.time() - began >= 3
        assert function.seen() == [["first"], ["second", "third"]]


def test_changes_of_a_table_arrive_in_order_with_both_images(aws: Emulator, tmp_path: Path, eventually: Eventually) -> None:
    dynamodb = aws.client("dynamodb")
    name, arn = table(aws)
    with mapped(aws, tmp_path, arn, BatchSize=10) as function:
        function.broken.touch()
        for value in ("1", "2"):
            dynamodb.put_item(TableName=name, Item={"id": {"S": "a"}, "value": {"N": value}, "raw": {"B": b"\x00\xff"}})
        dynamodb.delete_item(TableName=name, Key={"id": {"S": "a"}})
        with function.mapper():
            eventually(lambda: len(function.seen()) >= 2, what="a retry")
            function.broken.unlink()
            eventually(lambda: len(function.done()) >= 3, what="every change")
        assert function.done() == ["INSERT:a", "MODIFY:a", "REMOVE:a"]
        modified = function.last()["Records"][-1]
        assert modified["eventSourceARN"] == arn
        assert modified["dynamodb"]["OldImage"]["raw"]["B"] == "AP8="


@pytest.mark.parametrize("kind", ["stream", "table"])
def test_what_waits_in_a_window_is_handed_on_before_the_mapper_ends(
    aws: Emulator, tmp_path: Path, eventually: Eventually, kind: str
) -> None:
    name, arn = stream(aws) if kind == "stream" else table(aws)
    with mapped(aws, tmp_path, arn, BatchSize=10, MaximumBatchingWindowInSeconds=300) as function:
        with function.mapper():
            eventually(lambda: "reading" in function.told(), what="the mapper")
            if kind == "stream":
                put(aws, name, ["a"])
            else:
                aws.client("dynamodb").put_item(TableName=name, Item={"id": {"S": "a"}})
            assert function.done() == []
        assert function.done() == ["a" if kind == "stream" else "INSERT:a"]


def test_records_past_their_age_go_to_the_queue_untried(aws: Emulator, tmp_path: Path, eventually: Eventually) -> None:
    name, arn = stream(aws)
    url, destination = queue(aws)
    put(aws, name, ["old"])
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > 1.1, what="the age of a second")
    with mapped(
        aws, tmp_path, arn, MaximumRecordAgeInSeconds=60, DestinationConfig={"OnFailure": {"Destination": destination}}
    ) as function:
        aws.client("lambda").update_event_source_mapping(UUID=function.uuid, MaximumRecordAgeInSeconds=1)
        with function.mapper():
            (message,) = eventually(lambda: _messages(aws, url), what="the message of the old record")
        assert message["requestContext"]["condition"] == "RecordAgeExceeded"
        assert function.seen() == []


def _messages(aws: Emulator, url: str) -> list[dict[str, Any]]:
    answer = aws.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    return [json.loads(message["Body"]) for message in answer.get("Messages", [])]
