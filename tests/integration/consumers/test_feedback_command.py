"""``opsriver feedback`` on a real table and a real stream: what it sends is what the scorer learns from."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from typer.testing import CliRunner

from consumers.insights.store import InsightStore
from opsriver import target
from opsriver.cli import application
from opsriver.errors import Problem
from schemas.events import Feedback
from stream_processors.records.batch import StreamRecord
from stream_processors.records.decode import decode
from tests.support.insights import OPENED, insight
from tests.support.ministack import Emulator
from tests.support.tables import table

pytestmark = pytest.mark.embedded


def run(*arguments: str) -> str:
    result = CliRunner().invoke(application(), list(arguments), env={"COLUMNS": "200"})
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture
def stream(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> Any:
    kinesis = aws.client("kinesis")
    name = f"events-{time.monotonic_ns()}"
    kinesis.create_stream(StreamName=name, ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(StreamName=name)
    outputs = {"InsightsTableName": table(aws, "InsightsTable"), "EventStreamName": name}
    made = target.Target("test", "us-east-1", outputs, aws.client)
    monkeypatch.setattr(target, "find", lambda *_: made)
    store = InsightStore(aws.client("dynamodb"), outputs["InsightsTableName"])
    store.write([insight(), insight(insight_id="foretold", kind="prediction", type="prediction")])
    shard = kinesis.list_shards(StreamName=name)["Shards"][0]["ShardId"]
    first = kinesis.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]

    def sent() -> list[Feedback]:
        records = [
            StreamRecord(shard, one["SequenceNumber"], one["PartitionKey"], int(time.time() * 1000), one["Data"])
            for one in kinesis.get_records(ShardIterator=first)["Records"]
        ]
        return [placed.signal for placed in decode(records).signals if isinstance(placed.signal, Feedback)]

    return sent


def test_a_verdict_reaches_the_stream_with_the_insight_that_it_names(stream: Any) -> None:
    told = run("feedback", "false-positive", insight().insight_id)
    assert told.strip() == (
        "false-positive: the next anomaly of this shape is quieter for memoryUsage of web-07; "
        "the contrary verdict takes it back"
    )
    told = json.loads(
        run("feedback", "missed", "--resource", "web-07", "--series", "cpu", "--at", str(OPENED // 1000), "--json")
    )
    assert told["sent"]["timestamp"] == OPENED
    assert stream() == [
        Feedback("web-07", "memoryUsage", "false-positive", OPENED + 300_000, insight().insight_id),
        Feedback("web-07", "cpu", "missed", OPENED),
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nobody"], "there is no insight 'nobody'"),
        (["foretold"], "of kind prediction, from which nothing is learned"),
        ([], "name either an insight"),
        (["--resource", "web-1"], "belong together"),
        (["--resource", "web-1", "--series", "cpu", "--at", "soon"], "--at .*soon.* is no point in time"),
        (["--resource", "web-1", "--series", "cpu", "--at", "4"], "--at .*lies"),
        (["nobody", "--at", "4"], "has no meaning"),
    ],
)
def test_what_cannot_be_sent_is_told_in_a_sentence(stream: Any, arguments: list[str], problem: str) -> None:
    with pytest.raises(Problem, match=problem):
        run("feedback", "missed", *arguments)
    assert stream() == []
