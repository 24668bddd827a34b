"""Events and insights as Parquet files, one an hour of event time that a batch touches.

A file's name follows from the place of its records, so a batch that comes again writes the same
objects. A batch that comes again cut otherwise may overlap: the key of a row tells (docs/archive.md).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.arrow import EVENTS, INSIGHTS, SCHEMAS, SORT, plain
from schemas.events import AlarmSignal, Feedback
from schemas.insights import Insight
from stream_processors.records.batch import EventBatch

HOUR_MS = 3_600_000
ROW_GROUP = 128 * 1024
_SAFE = re.compile(r"[A-Za-z0-9_-]{1,64}")


def partition(hour: int) -> str:
    """Folder of an hour of event time, counted from the epoch: ``dt=YYYY-MM-DD/hr=HH``."""
    moment = datetime.fromtimestamp(hour * 3600, UTC)
    return f"dt={moment:%Y-%m-%d}/hr={moment:%H}"


def events_table(batch: EventBatch, shard: str) -> pa.Table:
    """All events and signals of a batch as a table in the archive's schema, unsorted."""
    count = len(batch)
    sequences = batch.sequence_numbers
    signals = batch.signals
    kinds = ["metric"] * count + [_kind(s.signal) for s in signals]
    details: list[str | None] = [None] * count + [msgspec.json.encode(s.signal).decode() for s in signals]
    nothing: list[None] = [None] * len(signals)
    columns: dict[str, Any] = {
        "shard": [shard] * (count + len(signals)),
        "sequence": [sequences[r] for r in batch.record] + [sequences[s.record] for s in signals],
        "sub_sequence": batch.sub_sequence + [s.sub_sequence for s in signals],
        "item": batch.item + [s.item for s in signals],
        "kind": kinds,
        "resource": batch.resource + [getattr(s.signal, "resource", "opsriver:tick") for s in signals],
        "metric": batch.metric + [s.signal.name if isinstance(s.signal, AlarmSignal) else None for s in signals],
        "series": batch.series + [s.signal.series if isinstance(s.signal, Feedback) else None for s in signals],
        "timestamp": batch.timestamp + [s.signal.timestamp for s in signals],
        "arrival": batch.arrival + [s.signal.timestamp for s in signals],
        "value": batch.value + nothing,
        "unit": batch.unit + nothing,
        "dimensions": _dimensions([*batch.dimensions, *nothing]),
        "detail": details,
    }
    return pa.table({field.name: _column(columns[field.name], field.type) for field in EVENTS}, schema=EVENTS)


def _kind(signal: Any) -> str:
    return "alarm" if isinstance(signal, AlarmSignal) else "feedback" if isinstance(signal, Feedback) else "tick"


def _dimensions(values: list[dict[str, str] | None]) -> pa.Array:
    """A column of maps; events share their dictionaries, so each is converted once."""
    places: dict[int, int] = {}
    distinct: list[list[tuple[str, str]] | None] = []
    rows = []
    for value in values:
        place = places.get(id(value))
        if place is None:
            place = places[id(value)] = len(distinct)
            distinct.append(list(value.items()) if value else None)
        rows.append(place)
    return pa.array(distinct, EVENTS.field("dimensions").type).take(pa.array(rows, pa.int32()))


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode()
    return pa.array(values, kind)


def insights_table(insights: Iterable[Insight]) -> pa.Table:
    """Revisions of insights as a table in the archive's schema."""
    rows = list(insights)
    columns: dict[str, list[Any]] = {
        field.name: [getattr(insight, field.name) for insight in rows] for field in INSIGHTS if field.name != "insight"
    }
    columns["insight"] = [msgspec.json.encode(insight).decode() for insight in rows]
    return pa.table({field.name: _column(columns[field.name], field.type) for field in INSIGHTS}, schema=INSIGHTS)


def by_hour(table: pa.Table, data_set: str) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each hour of event time, sorted as files are."""
    hours = pc.divide(table["timestamp"].cast(pa.int64()), HOUR_MS)
    for hour in sorted(pc.unique(hours).to_pylist()):
        part = table.filter(pc.equal(hours, hour))
        yield hour, sort(part, data_set)


def sort(table: pa.Table, data_set: str) -> pa.Table:
    """The rows in the order of files."""
    return table.take(pc.sort_indices(table.cast(plain(table.schema)), sort_keys=SORT[data_set]))


def encode(table: pa.Table, data_set: str) -> bytes:
    """A table as one Parquet file: zstd, dictionaries for names, statistics for pruning."""
    out = io.BytesIO()
    pq.write_table(
        table.cast(plain(SCHEMAS[data_set])), out, compression="zstd", row_group_size=ROW_GROUP, write_statistics=True,
        use_dictionary=[f.name for f in SCHEMAS[data_set] if pa.types.is_dictionary(f.type)],
    )  # fmt: skip
    return out.getvalue()


def file_name(*place: str) -> str:
    """A file's name from the place of its records; untrusted text never becomes a path."""
    digest = hashlib.sha256("/".join(place).encode()).hexdigest()[:16]
    shown = [part for part in place if _SAFE.fullmatch(part)]
    return "-".join([*shown[:3], digest]) + ".parquet"


class Archive:
    """Writes files to the archive's bucket. ``s3`` is a boto3 client whose errors pass through."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket

    def events(self, batch: EventBatch, shard: str) -> int:
        """Archive a batch of one shard; returns the number of rows."""
        table = events_table(batch, shard)
        if not len(table):
            return 0
        name = file_name(shard, batch.sequence_numbers[0], batch.sequence_numbers[-1])
        return self._put(table, "events", name)

    def insights(self, insights: list[Insight], first: str, last: str) -> int:
        """Archive revisions that came with these first and last sequence numbers of the table's stream."""
        if not insights:
            return 0
        return self._put(insights_table(insights), "insights", file_name("insights", first, last))

    def _put(self, table: pa.Table, data_set: str, name: str) -> int:
        for hour, part in by_hour(table, data_set):
            self._s3.put_object(Bucket=self._bucket, Key=f"{data_set}/{partition(hour)}/{name}", Body=encode(part, data_set))
        return len(table)
