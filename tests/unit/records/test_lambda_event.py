"""Lambda's Kinesis event."""

from __future__ import annotations

import base64

import pytest

from stream_processors.records.lambda_event import parse


def entry(**changed: object) -> dict[str, object]:
    return {
        "eventID": "shardId-000000000006:49590338271490256608559692538361571095921575989136588898",
        "kinesis": {
            "partitionKey": "web-1",
            "sequenceNumber": "49590338271490256608559692538361571095921575989136588898",
            "data": base64.b64encode(b'{"resource": 1}').decode(),
            "approximateArrivalTimestamp": 1545084650.987,
        }
        | changed,
    }


def test_a_record_carries_shard_sequence_key_arrival_in_milliseconds_and_bytes() -> None:
    (record,) = parse({"Records": [entry()]})
    assert record.shard_id == "shardId-000000000006"
    assert record.sequence_number == "49590338271490256608559692538361571095921575989136588898"
    assert record.partition_key == "web-1"
    assert record.arrival == 1_545_084_650_987
    assert record.data == b'{"resource": 1}'


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"Records": None},
        {"Records": [{"Sns": {}}]},
        {"Records": [entry(data="*")]},
        {"Records": [entry() | {"eventID": "x"}]},
    ],
)
def test_an_event_of_another_source_is_refused_in_words(event: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"no Kinesis event of Lambda .*event source mapping"):
        parse(event)
