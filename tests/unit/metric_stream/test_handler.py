"""Firehose's buffers on the stream: each line under its resource, refused ones again, and what was not taken kept."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from consumers.metric_stream import handler as handling


def line(instance: str, value: float) -> bytes:
    fields = {
        "metric_stream_name": "all", "account_id": "123456789012", "region": "eu-west-1", "namespace": "AWS/EC2",
        "metric_name": "CPUUtilization", "dimensions": {"InstanceId": instance}, "timestamp": 1772366400000,
        "value": {"max": value, "min": value, "sum": value, "count": 1}, "unit": "Percent",
    }  # fmt: skip
    return json.dumps(fields).encode()


def buffer(*records: Sequence[bytes]) -> dict[str, Any]:
    """An invocation of Firehose; each of its records holds some lines."""
    datas = [base64.b64encode(b"\n".join(lines) + b"\n").decode() for lines in records]
    return {"records": [{"recordId": str(number), "data": data} for number, data in enumerate(datas)]}


class Stream:
    """A Kinesis client that takes what ``refuse`` leaves: it is told the call's number and may raise."""

    def __init__(self, refuse: Any = lambda call, number: False) -> None:
        self._refuse, self.calls, self.put = refuse, 0, list[tuple[str, bytes]]()

    def put_records(self, StreamName: str, Records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        assert StreamName == "events"
        self.calls += 1
        answers = []
        for number, record in enumerate(Records):
            refused = self._refuse(self.calls, number)
            answers.append({"ErrorCode": "ProvisionedThroughputExceededException"} if refused else {"ShardId": "s"})
            if not refused:
                self.put.append((record["PartitionKey"], record["Data"]))
        return {"Records": answers}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(handling.time, "sleep", lambda _: None)
    monkeypatch.setattr(handling, "_stream", lambda: "events")
    yield
    handling.metrics.clear_metrics()


def answer(stream: Stream, event: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(handling, "_kinesis", lambda: stream)
    made = handling.handler(event, None)["records"]
    assert [(one["recordId"], one["data"]) for one in made] == [(one["recordId"], one["data"]) for one in event["records"]]
    return [one["result"] for one in made]


def test_each_line_goes_under_its_resource_and_firehose_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    lines = [line("i-1", 1), line("i-2", 2), line("i-1", 3), b"no metric"]
    assert answer(stream, buffer(lines[:3], lines[3:]), monkeypatch) == ["Dropped", "Dropped"]
    assert stream.put == list(zip(["i-1", "i-2", "i-1", "metric-stream"], lines, strict=True))


def test_refused_lines_are_put_again_and_no_other_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(call: int, number: int) -> bool:
        if call == 2:
            raise ReadTimeoutError(endpoint_url="https://kinesis")
        return call == 1 and number % 2 == 1

    stream = Stream(refuse)
    lines = [line(f"i-{number}", number) for number in range(5)]
    assert answer(stream, buffer(lines), monkeypatch) == ["Dropped"]
    assert stream.put == [(f"i-{number}", lines[number]) for number in (0, 2, 4, 1, 3)]


def test_what_the_stream_never_takes_is_kept_by_firehose_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = Stream(lambda call, number: number == 0)
    assert answer(stream, buffer([line("i-1", 1)], [line("i-2", 2)]), monkeypatch) == ["ProcessingFailed"] * 2
    assert stream.calls == handling.TRIES
    told = [json.loads(text) for text in capsys.readouterr().out.splitlines() if "BuffersNotPut" in text]
    assert [(one["BuffersNotPut"], one["service"]) for one in told] == [([1.0], "metric-stream")]
