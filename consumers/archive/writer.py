"""Events and insights as Parquet files, one an hour of event time that a batch touches.

A file's name follows from the place of its records, so a batch that comes again writes the same
objects. A batch that comes again cut otherwise may overlap: the key of a row tells (docs/archive.md).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumers.archive.layout import COMPACTED, HOUR_MS, partition
from schemas.arrow import EVENTS, INSIGHTS, NAMES, SORT
from schemas.events import AlarmSignal, Feedback
from schemas.insights import Insight
from stream_processors.records.batch import EventBatch

ROW_GROUP = 64 * 1024
"""Rows of a row group in the file of a batch."""
NARROW_GROUP = 16 * 1024
"""Rows of a row group in a compacted file: what a query for one host reads at least."""
KINDS = ("metric", "alarm", "feedback", "tick")
BATCHES = pa.schema(
    [pa.field("sequence", NAMES, nullable=False) if field.name == "sequence" else field for field in EVENTS],
    metadata=EVENTS.metadata,
)
"""Events of a batch before they are a file: its few sequence numbers are names too, which files write as text."""
MEASURED = ("value", "detail", "score", "observed", "expected_low", "expected", "expected_high", "message", "insight")
"""Columns without a dictionary, which costs time and space where values hardly repeat."""
SEARCHED = ("kind", "resource", "metric", "series", "timestamp", "sequence")
"""Columns of events with statistics: those that queries narrow."""
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def events_table(batch: EventBatch, shard: str, arrivals: Sequence[int] | None = None) -> pa.Table:
    """All events and signals of a batch as a table in the archive's schema, unsorted.

    ``arrivals`` has the arrival of each Kinesis record (epoch ms), for signals, which carry none;
    without it a signal's own time stands for it.
    """
    count, signals = len(batch), batch.signals
    total = count + len(signals)
    kinds = [_kind(s.signal) for s in signals]
    details: list[str | None] = [None] * count + [msgspec.json.encode(s.signal).decode() for s in signals]
    nothing: list[None] = [None] * len(signals)
    columns: dict[str, Any] = {
        "shard": _coded([0] * total, [shard]),
        "sequence": _coded(batch.record + [s.record for s in signals], batch.sequence_numbers),
        "sub_sequence": batch.sub_sequence + [s.sub_sequence for s in signals],
        "item": batch.item + [s.item for s in signals],
        "kind": _coded([0] * count + [KINDS.index(kind) for kind in kinds], KINDS),
        "resource": batch.resource + [getattr(s.signal, "resource", "opsriver:tick") for s in signals],
        "metric": batch.metric + [s.signal.name if isinstance(s.signal, AlarmSignal) else None for s in signals],
        "series": batch.series + [s.signal.series if isinstance(s.signal, Feedback) else None for s in signals],
        "timestamp": batch.timestamp + [s.signal.timestamp for s in signals],
        "arrival": batch.arrival + [arrivals[s.record] if arrivals else s.signal.timestamp for s in signals],
        "value": batch.value + nothing,
        "unit": batch.unit + nothing,
        "dimensions": _dimensions([*batch.dimensions, *nothing]),
        "detail": details if signals else pa.nulls(count, pa.string()),
    }
    return pa.table({field.name: _column(columns[field.name], field.type) for field in BATCHES}, schema=BATCHES)


def _coded(codes: list[int], names: Sequence[str]) -> pa.DictionaryArray:
    """A column of names from their places among ``names``."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names, pa.string()))


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
    distinct = sorted(pc.unique(hours).to_pylist())
    for hour in distinct:
        yield hour, sort(table if len(distinct) == 1 else table.filter(pc.equal(hours, hour)), data_set)


def sort(table: pa.Table, data_set: str) -> pa.Table:
    """The rows in the order of files. Rows that are equal in it keep theirs."""
    keys = {name: _ranks(table[name]) for name in SORT[data_set]}
    return table.take(pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys]))


def _ranks(column: pa.ChunkedArray) -> Any:
    """Text as its rank among the column's texts, which sorts several times faster; all else as it is."""
    if not (pa.types.is_string(column.type) or pa.types.is_dictionary(column.type)):
        return column
    if not len(column):
        return pa.array([], pa.uint64())
    whole = column.combine_chunks()
    encoded = whole if pa.types.is_dictionary(column.type) else whole.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary.cast(pa.string()))
    return pc.sort_indices(order).take(encoded.indices)


def file_writer(target: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of files as the archive has them, to a path or a file object: zstd, dictionaries, statistics.

    Arrow's own schema is left out of the file: with it a name would be read as a dictionary, on
    which a filter cannot use the statistics.
    """
    repeated = [name for name in schema.names if name not in MEASURED]
    repeated += [f"dimensions.key_value.{part}" for part in ("key", "value") if "dimensions" in schema.names]
    searched = [name for name in SEARCHED if name in schema.names] if "sub_sequence" in schema.names else True
    writer = pq.ParquetWriter(
        target,
        schema,
        compression="zstd",
        use_dictionary=repeated,
        write_statistics=searched,
        store_schema=False,
        write_batch_size=ROW_GROUP,
    )
    if schema.metadata:
        writer.add_key_value_metadata({key.decode(): value.decode() for key, value in schema.metadata.items()})
    return writer


def encode(table: pa.Table) -> bytes:
    """A table as the bytes of one file."""
    out = io.BytesIO()
    with file_writer(out, table.schema) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP)
    return out.getvalue()


def file_name(*place: str) -> str:
    """A file's name from the place of its records; untrusted text never becomes a path."""
    digest = hashlib.sha256("\x1f".join(place).encode()).hexdigest()[:16]
    shown = [part for part in place if _SAFE.fullmatch(part) and not part.startswith(COMPACTED)]
    return "-".join([*shown[:3], digest]) + ".parquet"


class ArchiveWriter:
    """Writes files to the archive's bucket. ``s3`` is a boto3 client whose errors pass through."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket

    def events(self, tables: Sequence[pa.Table], shard: str, first: str, last: str) -> int:
        """Archive rows of one shard that came with these first and last sequence numbers; returns how many."""
        return self._put(pa.concat_tables(tables), "events", file_name(shard, first, last)) if tables else 0

    def insights(self, insights: list[Insight], first: str, last: str) -> int:
        """Archive revisions that came with these first and last sequence numbers of the table's stream."""
        return self._put(insights_table(insights), "insights", file_name("insights", first, last)) if insights else 0

    def _put(self, table: pa.Table, data_set: str, name: str) -> int:
        for hour, part in by_hour(table, data_set):
            self._s3.put_object(Bucket=self._bucket, Key=f"{data_set}/{partition(hour)}/{name}", Body=encode(part))
        return len(table)
