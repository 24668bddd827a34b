"""Records as they come from the wire, and what must hold for whatever they are decoded into."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from schemas.dead_letters import DeadLetter
from schemas.names import MAX_SERIES_LENGTH, name_problem, series_name
from stream_processors.records import kpl, times
from stream_processors.records.batch import EventBatch, StreamRecord
from stream_processors.records.decode import decode
from stream_processors.records.refused import CODES

ARRIVAL = 1_772_366_405_000
SHARD = "shardId-000000000000"
FORMATS = Path(__file__).parents[2] / "docs" / "formats.md"


def record(data: Any, sequence: int = 1, key: str = "key", arrival: int = ARRIVAL) -> StreamRecord:
    """A record of bytes as they are, or of anything else as JSON."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return StreamRecord(SHARD, str(sequence), key, arrival, body)


def one(data: Any) -> EventBatch:
    """What one record becomes."""
    return decode([record(data)])


def refused(data: Any) -> DeadLetter:
    """The single dead letter that a record becomes, and nothing else."""
    batch = one(data)
    assert len(batch) == 0
    assert not batch.signals
    (letter,) = batch.dead_letters
    return letter


def native(**changed: Any) -> dict[str, Any]:
    """A native metric."""
    return {"resource": "web-1", "metric": "cpu", "timestamp": ARRIVAL, "value": 1.5} | changed


def aggregate(users: list[tuple[str, bytes]]) -> bytes:
    """A KPL aggregate of (partition key, data)."""
    message = kpl._message()[0]()
    for at, (key, data) in enumerate(users):
        message.partition_key_table.append(key.encode())
        message.records.add(partition_key_index=at, data=data)
    return sealed(message.SerializeToString())


def sealed(content: bytes) -> bytes:
    """Content between the magic and its checksum."""
    return kpl.MAGIC + content + hashlib.md5(content, usedforsecurity=False).digest()


def rows(batch: EventBatch) -> list[tuple[Any, ...]]:
    """Metric events without their place."""
    return list(
        zip(
            batch.resource,
            batch.metric,
            batch.series,
            batch.timestamp,
            batch.value,
            batch.unit,
            batch.dimensions,
            strict=True,
        )
    )


def assert_orderly(batch: EventBatch, records: list[StreamRecord]) -> None:
    """All that EventBatch promises, whatever the records hold; every record leaves a trace."""
    assert batch.sequence_numbers == [one.sequence_number for one in records]
    columns = (
        batch.record, batch.sub_sequence, batch.item, batch.resource, batch.metric, batch.series, batch.timestamp,
        batch.value, batch.arrival, batch.unit, batch.dimensions,
    )  # fmt: skip
    assert {len(column) for column in columns} == {len(batch)}
    places = [*zip(batch.record, batch.sub_sequence, batch.item, strict=True)]
    assert places == sorted(places)
    for row in zip(*columns, strict=True):
        at, _, _, resource, metric, series, timestamp, value, arrival, unit, dimensions = row
        assert arrival == records[at].arrival
        assert type(timestamp) is int
        assert arrival - times.MAX_BEHIND <= timestamp <= arrival + times.MAX_AHEAD
        assert type(value) is float
        assert math.isfinite(value)
        assert math.copysign(1, value) == 1 or value != 0
        assert name_problem(resource, "resource") is None
        assert name_problem(metric, "metric") is None
        assert series == series_name(metric, dimensions)
        assert len(series) <= MAX_SERIES_LENGTH
        assert unit is None or unit.isprintable()
        for name in {**(dimensions or {})}.items():
            assert [name_problem(part, "dimension") for part in name] == [None, None]
    before = [placed.before for placed in batch.signals]
    assert before == sorted(before)
    places += [(placed.record, placed.sub_sequence, placed.item) for placed in batch.signals]
    for letter in batch.dead_letters:
        assert letter.code in CODES
        assert letter.reason.isprintable()
        assert 0 < len(letter.reason) < 1000
        assert letter.shard_id == SHARD
        places.append((batch.sequence_numbers.index(letter.sequence_number), letter.sub_sequence, letter.item))
    assert len(set(places)) == len(places)
    assert {place[0] for place in places} == set(range(len(records)))
