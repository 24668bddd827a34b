"""Events and insights as Parquet files, one an hour of event time that a batch touches.

A file's name follows from the place of its records, so a batch that comes again writes the same
objects. A batch that comes again cut otherwise may overlap: the key of a row tells (docs/archive.md).
"""

from __future__ import annotations

import hashlib
import io
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from consumers.archive.layout import COMPACTED, HOUR_MS, partition
from schemas.arrow import EVENTS, INSIGHTS, NAMES, SORT
from schemas.events import AlarmSignal, Feedback
from schemas.insights import Insight
from stream_processors.records.batch import EventBatch

ROW_GROUP = 64 * 1024
"""Rows of a row group in the file of a batch."""
NARROW_GROUP = 16 * 1024
"""Rows of a row group in a compacted file: what a query for one host reads at least."""
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
    signals = batch.signals
    metrics, others = len(batch), len(signals)
    record = _numbers(batch.record, [s.record for s in signals])
    resource = _Objects(_with(batch.resource, [getattr(s.signal, "resource", "opsriver:tick") for s in signals]))
    shared = _Objects(_with(batch.shared, [_named(s.signal) for s in signals]))
    columns: dict[str, pa.Array] = {
        "shard": _repeated(shard, metrics + others),
        "sequence": pa.DictionaryArray.from_arrays(record, pa.array(batch.sequence_numbers, pa.string())),
        "sub_sequence": pa.array(_numbers(batch.sub_sequence, [s.sub_sequence for s in signals])),
        "item": pa.array(_numbers(batch.item, [s.item for s in signals])),
        "kind": _joined(_repeated("metric", metrics), [_kind(s.signal) for s in signals]),
        "resource": _texts(resource.distinct, resource.codes),
        "metric": _texts([one.metric for one in shared.distinct], shared.codes),
        "series": _texts([one.series for one in shared.distinct], shared.codes),
        "timestamp": _moments(batch.timestamp, [s.signal.timestamp for s in signals]),
        "arrival": _moments(batch.arrival, [arrivals[s.record] if arrivals else s.signal.timestamp for s in signals]),
        "value": _joined(pa.array(np.asarray(batch.value)), [None] * others),
        "unit": _texts([one.unit for one in shared.distinct], shared.codes),
        "dimensions": _dimensions([one.dimensions for one in shared.distinct], shared.codes),
        "detail": _joined(pa.nulls(metrics, pa.string()), [msgspec.json.encode(s.signal).decode() for s in signals]),
    }
    return pa.table(columns, schema=BATCHES)


def _kind(signal: Any) -> str:
    return "alarm" if isinstance(signal, AlarmSignal) else "feedback" if isinstance(signal, Feedback) else "tick"


class _Named(NamedTuple):
    """What a signal has in the columns of ``Shared``."""

    series: str | None
    metric: str | None
    unit: None = None
    dimensions: None = None


def _named(signal: Any) -> _Named:
    return _Named(
        signal.series if isinstance(signal, Feedback) else None, signal.name if isinstance(signal, AlarmSignal) else None
    )


def _with(column: list[Any], more: list[Any]) -> list[Any]:
    """A column with the values of the signals behind it; mostly there are none, and nothing is copied."""
    return column + more if more else column


def _numbers(column: array[int], more: list[int]) -> NDArray[Any]:
    """A column of numbers with those of the signals behind it."""
    numbers = np.asarray(column)
    return np.append(numbers, np.array(more, numbers.dtype)) if more else numbers


def _moments(column: array[int], more: list[int]) -> pa.Array:
    return pa.array(_numbers(column, more)).cast(EVENTS.field("timestamp").type)


def _repeated(text: str, count: int) -> pa.Array:
    """A column that says the same in every row."""
    return pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), pa.array([text], pa.string()))


def _joined(column: pa.Array, more: list[Any]) -> pa.Array:
    """A column with the values of the signals behind it."""
    if not more:
        return column
    if pa.types.is_dictionary(column.type):
        return pa.concat_arrays([column.cast(pa.string()), pa.array(more, pa.string())]).dictionary_encode()
    return pa.concat_arrays([column, pa.array(more, column.type)])


class _Objects:
    """The distinct objects of a list, in order of their first places, and as codes each value's number among them.

    Events share objects, and an address is looked up faster than a text. The list keeps every object alive: an
    address is one object's.
    """

    def __init__(self, values: list[Any]) -> None:
        count = len(values)
        coded = pa.array(np.frombuffer(np.fromiter(values, object, count), np.intp)).dictionary_encode()
        self.codes = coded.indices
        places = np.empty(len(coded.dictionary), np.int64)
        # Of several places the last one written stays: the first.
        places[np.asarray(self.codes)[::-1]] = np.arange(count)[::-1]
        self.distinct = [values[place] for place in places.tolist()]


def _texts(distinct: list[str | None], codes: pa.Array) -> pa.Array:
    texts = pa.array(distinct, pa.string()).dictionary_encode()  # two objects may hold the same text, or none
    if len(texts.dictionary) < len(distinct):
        codes = texts.indices.take(codes)
    return pa.DictionaryArray.from_arrays(codes, texts.dictionary)


def _dimensions(distinct: list[dict[str, str] | None], codes: pa.Array) -> pa.Array:
    """A column of maps, each of which is converted once."""
    maps = [list(one.items()) if one else None for one in distinct]
    return pa.array(maps, EVENTS.field("dimensions").type).take(codes)


def _column(values: Any, kind: pa.DataType) -> pa.Array:
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
    hours = table["timestamp"].cast(pa.int64()).to_numpy() // HOUR_MS
    if not len(hours):
        return
    first, last = int(hours.min()), int(hours.max())
    if first == last:
        yield first, sort(table, data_set)
        return
    for hour in np.unique(hours).tolist():
        yield hour, sort(table.take(np.flatnonzero(hours == hour)), data_set)


def sort(table: pa.Table, data_set: str) -> pa.Table:
    """The rows in the order of files. Rows that are equal in it keep theirs."""
    keys = [_ranks(table[name]) for name in SORT[data_set]]
    packed = _packed(keys)
    order = np.argsort(packed, kind="stable") if packed is not None else np.lexsort(keys[::-1])
    return table.take(order)


def _packed(keys: list[NDArray[np.int64]]) -> NDArray[np.int64] | None:
    """All keys of a row in one number that orders as they do; None where 63 bits are too few."""
    if not len(keys[0]):
        return None
    least = [int(key.min()) for key in keys]
    widths = [(int(key.max()) - low).bit_length() for key, low in zip(keys, least, strict=True)]
    if sum(widths) > 63:
        return None
    packed = np.zeros(len(keys[0]), np.int64)
    for key, low, width in zip(keys, least, widths, strict=True):
        if width:
            packed = (packed << width) | (key - low)
    return packed


def _ranks(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Whole numbers that order as the column does; nulls last. Text becomes its rank among the column's texts."""
    whole = column.combine_chunks()
    if pa.types.is_integer(whole.type) or pa.types.is_timestamp(whole.type):
        return np.asarray(whole.cast(pa.int64()))
    encoded = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
    texts = encoded.dictionary.cast(pa.string())
    # By rank, as a dictionary that was joined from several may hold a text twice.
    ranks = np.asarray(pc.rank(texts, tiebreaker="dense"), np.int64)
    codes = encoded.indices.fill_null(len(texts)).cast(pa.int64())
    ranked: NDArray[np.int64] = np.append(ranks, len(texts) + 1)[np.asarray(codes)]
    return ranked


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
