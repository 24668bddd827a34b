"""Reads the archive, from a local folder or from S3: each row once, and no more files than needed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
from numpy.typing import NDArray

from consumers.archive.layout import HOUR_MS, Entry, Hour, Manifest, hour_of, newest, parse_manifest, partition, sort_out
from schemas.arrow import KEYS, SCHEMAS, plain
from schemas.times import from_iso

TRIES = 4
"""A file may be compacted away between the listing and the reading; the hour is then listed again."""
FEW_HOURS = 4
"""Hours of one day up to which each is listed by itself; more are listed by the day."""
MANY_DAYS = 31
"""Days of a range from which on it is asked first which days there are."""
READERS = 16
"""Files read at the same time."""
TIME = {
    "events": ("timestamp", "sequence", "sub_sequence", "item", "shard"),
    "insights": ("timestamp", "insight_id", "revision"),
}
"""Order of what a query answers; it holds the key."""

Moment = int | str | datetime
"""Epoch milliseconds, RFC 3339 text, or a datetime (UTC where it names no zone)."""


class DamagedFile(RuntimeError):
    """A file of the archive cannot be read, or is none of its files; ``path`` and the text name it."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} {why}")
        self.path, self.why = path, why


class DamagedFileWarning(UserWarning):
    """A file was left out; the text names it."""


@dataclass(slots=True)
class Read:
    """What the last query touched.

    ``files``: those of which rows were read; ``opened``: how many of which at least the footer was;
    ``bytes``: compressed bytes of the columns and row groups that were read; ``damaged``: left out.
    """

    files: list[str] = field(default_factory=list)
    opened: int = 0
    row_groups: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)


class Archive:
    """The archive below ``root`` of a pyarrow filesystem (the local one where none is given).

    ``start`` is inside a range, ``end`` outside. With ``damaged="skip"`` a file that cannot be read is
    left out, named in ``read.damaged`` and by a DamagedFileWarning; otherwise DamagedFile is raised.
    """

    def __init__(
        self, root: str, filesystem: pafs.FileSystem | None = None, *, damaged: Literal["raise", "skip"] = "raise"
    ) -> None:
        self._root = root.rstrip("/")
        self._filesystem = filesystem or pafs.LocalFileSystem()
        self._skip = damaged == "skip"
        self.read = Read()

    def events(
        self, start: Moment, end: Moment, resource: str | None = None, metric: str | None = None,
        columns: Sequence[str] | None = None, *, series: str | None = None, kind: str | None = None,
    ) -> pa.Table:  # fmt: skip
        """Events of a time range by time and place, each once, in the archive's schema or some of its columns."""
        wanted = {"resource": resource, "metric": metric, "series": series, "kind": kind}
        return self._table("events", start, end, wanted, columns)

    def insights(
        self, start: Moment, end: Moment, resource: str | None = None, columns: Sequence[str] | None = None,
        *, metric: str | None = None,
    ) -> pa.Table:  # fmt: skip
        """All revisions of the insights that opened in a time range, each once, by time, insight and revision."""
        return self._table("insights", start, end, {"resource": resource, "metric": metric}, columns)

    def series(self, resource: str, metric: str, start: Moment, end: Moment) -> pa.Table:
        """Timestamps and values of one series, by time.

        ``metric`` is the series' name: the metric, with its dimensions in braces where it has some.
        """
        wanted: dict[str, str | None] = {"resource": resource, "series": metric, "kind": "metric"}
        return self._table("events", start, end, wanted, ["timestamp", "value"])

    def batches(
        self, data_set: str, start: Moment, end: Moment, columns: Sequence[str] | None = None, **equal: str | None
    ) -> pa.RecordBatchReader:
        """As ``events`` or ``insights``, as a stream of record batches: an hour at a time is in memory.

        ``equal`` are columns that must have a value, such as ``resource="web-01"``. Names come as
        plain text: a stream's batches must share their dictionaries, which nobody knows beforehand.
        """
        schema = plain(_chosen(data_set, columns))
        tables = self.tables(data_set, start, end, columns, **equal)
        batches = (batch for table in tables for batch in table.cast(schema).to_batches(max_chunksize=64 * 1024))
        return pa.RecordBatchReader.from_batches(schema, batches)

    def tables(
        self, data_set: str, start: Moment, end: Moment, columns: Sequence[str] | None = None, **equal: str | None
    ) -> Iterator[pa.Table]:
        """As ``events`` or ``insights``, one table an hour that has rows."""
        schema = _chosen(data_set, columns)
        needed = list(dict.fromkeys([*schema.names, *TIME[data_set]]))
        for _, table in self.hourly(data_set, start, end, needed, **equal):
            order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in TIME[data_set]])
            yield table.select(schema.names).take(order).cast(schema)

    def hourly(
        self, data_set: str, start: Moment, end: Moment, columns: Sequence[str] | None = None, **equal: str | None
    ) -> Iterator[tuple[int, pa.Table]]:
        """Hours since the epoch that have rows, with their rows, each once, in no order; names are plain text.

        ``columns`` must hold the key, by which rows are told apart.
        """
        begin, stop = _milliseconds(start), _milliseconds(end)
        needed = _chosen(data_set, columns).names
        self.read = Read()
        for hour, entries in self._hours(data_set, begin // HOUR_MS, (stop - 1) // HOUR_MS):
            whole = begin <= hour * HOUR_MS and (hour + 1) * HOUR_MS <= stop and not any(equal.values())
            table = self._hour(data_set, hour, entries, None if whole else _wanted(begin, stop, equal), needed)
            if len(table):
                yield hour, table

    def _table(
        self, data_set: str, start: Moment, end: Moment, equal: dict[str, str | None], columns: Sequence[str] | None
    ) -> pa.Table:
        parts = list(self.tables(data_set, start, end, columns, **equal))
        return pa.concat_tables([_chosen(data_set, columns).empty_table(), *parts]).unify_dictionaries()

    def hours(self, data_set: str) -> list[int]:
        """Hours (since the epoch) that have files, in order."""
        return sorted({hour for hour, _ in self._everything(data_set) if hour is not None})

    def stray(self, data_set: str) -> list[str]:
        """Paths of files that lie in no hour's folder: no query sees them."""
        return sorted(info.path for hour, info in self._everything(data_set) if hour is None)

    def files(self, data_set: str, hour: int) -> Hour:
        """Files of one hour (since the epoch), told apart."""
        folder = self.path(data_set, hour)
        return self._sorted_out(folder, self._listed(data_set, [folder]).get(hour, []))

    def hour(self, data_set: str, hour: int) -> pa.Table:
        """All rows of one hour (since the epoch), each once."""
        return self._table(data_set, hour * HOUR_MS, (hour + 1) * HOUR_MS, {}, None)

    def path(self, data_set: str, hour: int, name: str = "") -> str:
        """Path of an hour's folder in the filesystem, or of a file in it."""
        return f"{self._root}/{data_set}/{partition(hour)}" + (f"/{name}" if name else "")

    def _everything(self, data_set: str) -> list[tuple[int | None, pafs.FileInfo]]:
        selector = pafs.FileSelector(f"{self._root}/{data_set}", allow_not_found=True, recursive=True)
        infos = [info for info in self._filesystem.get_file_info(selector) if info.is_file]
        return [(self._place(data_set, info)[0], info) for info in infos]

    def _place(self, data_set: str, info: pafs.FileInfo) -> tuple[int | None, str]:
        """Hour and name of a file; no hour where it lies elsewhere."""
        parts = info.path[len(f"{self._root}/{data_set}/") :].split("/")
        return (hour_of(parts[0], parts[1]) if len(parts) == 3 else None), parts[-1]

    def _listed(self, data_set: str, folders: Iterable[str]) -> dict[int, list[Entry]]:
        found: dict[int, list[Entry]] = {}
        for folder in folders:
            selector = pafs.FileSelector(folder, allow_not_found=True, recursive=True)
            for info in self._filesystem.get_file_info(selector):
                if info.is_file:
                    hour, name = self._place(data_set, info)
                    if hour is not None and not name.startswith("."):
                        found.setdefault(hour, []).append(Entry(name, info.size))
        return found

    def _hours(self, data_set: str, first: int, last: int) -> Iterator[tuple[int, list[Entry]]]:
        """Hours of a range that have files, in order, with their files."""
        for day in self._days(data_set, first // 24, last // 24):
            hours = range(max(first, day * 24), min(last, day * 24 + 23) + 1)
            if len(hours) > FEW_HOURS:
                folders = [self.path(data_set, day * 24).rpartition("/")[0]]
            else:
                folders = [self.path(data_set, hour) for hour in hours]
            listed = self._listed(data_set, folders)
            yield from ((hour, listed[hour]) for hour in sorted(listed) if hour in hours)

    def _days(self, data_set: str, first: int, last: int) -> Sequence[int]:
        """Days of a range; of a long one only those that have a folder, so that it costs no call a day."""
        if last - first < MANY_DAYS:
            return range(first, last + 1)
        selector = pafs.FileSelector(f"{self._root}/{data_set}", allow_not_found=True)
        hours = (hour_of(info.base_name, "hr=00") for info in self._filesystem.get_file_info(selector))
        return sorted(hour // 24 for hour in hours if hour is not None and first <= hour // 24 <= last)

    def _sorted_out(self, folder: str, entries: list[Entry]) -> Hour:
        name = newest(entry.name for entry in entries)
        manifest: Manifest | None = None
        if name is not None:
            try:
                with self._filesystem.open_input_stream(f"{folder}/{name}") as file:
                    manifest = parse_manifest(file.read())
            except FileNotFoundError:
                raise
            except (ValueError, OSError) as error:
                self._damaged(f"{folder}/{name}", f"cannot be read: {error}")
                # Without it every file counts; rows that are in two of them are taken once by their key.
                return Hour(live=[entry for entry in entries if entry.name.endswith(".parquet")])
        return sort_out(entries, manifest)

    def _damaged(self, path: str, why: str) -> None:
        if not self._skip:
            raise DamagedFile(path, why) from None
        self.read.damaged.append(path)
        warnings.warn(f"{path} {why}; it was left out", DamagedFileWarning, stacklevel=2)

    def _hour(
        self, data_set: str, hour: int, entries: list[Entry], wanted: pc.Expression | None, columns: list[str]
    ) -> pa.Table:
        folder = self.path(data_set, hour)
        for _ in range(TRIES):
            before = len(self.read.damaged)
            try:
                found = self._sorted_out(folder, entries)
                live = [f"{folder}/{entry.name}" for entry in found.live]
                for name in found.foreign:
                    self._damaged(f"{folder}/{name}", "is no file of the archive")
                absent = [name for name in found.missing if f"{folder}/{name}" not in live]
                if absent:
                    raise FileNotFoundError(f"{folder}/{absent[0]}")
                return self._read(data_set, live, wanted, columns)
            except FileNotFoundError as error:
                del self.read.damaged[before:]
                lost = str(error)
                entries = self._listed(data_set, [folder]).get(hour, [])
        self._damaged(folder, f"names a file in its manifest that is not there ({lost})")
        return self._read(data_set, live, wanted, columns)

    def _read(self, data_set: str, paths: list[str], wanted: pc.Expression | None, columns: list[str]) -> pa.Table:
        """Wanted rows of these files, each once, in the plain schema."""
        schema = plain(SCHEMAS[data_set])
        narrow = pa.schema([schema.field(name) for name in columns])

        def one(path: str) -> _Part | DamagedFile:
            try:
                return read_file(path, self._filesystem, data_set, wanted, columns)
            except DamagedFile as error:
                return error

        if len(paths) > 1:
            with ThreadPoolExecutor(min(READERS, len(paths))) as pool:
                parts = list(pool.map(one, paths))
        else:
            parts = [one(path) for path in paths]
        tables, ranges = [narrow.empty_table()], []
        for path, part in zip(paths, parts, strict=True):
            if isinstance(part, DamagedFile):
                self._damaged(part.path, part.why)
                continue
            self.read.opened += 1
            if part.row_groups:
                self.read.files.append(path)
                self.read.row_groups += part.row_groups
                self.read.bytes += part.bytes
            if len(part.table):
                tables.append(part.table.cast(narrow))
                ranges.append(part.range)
        table = pa.concat_tables(tables)
        return once(table, data_set) if _may_overlap(ranges) else table


@dataclass(frozen=True, slots=True)
class _Part:
    table: pa.Table
    row_groups: int
    bytes: int
    range: tuple[str, str] | None
    """Least and greatest sequence number, where they are known."""


def fragment_of(path: str, filesystem: pafs.FileSystem, data_set: str) -> ds.ParquetFileFragment:
    """An archive file with its footer read. Raises DamagedFile, and FileNotFoundError."""
    try:
        fragment = _FORMAT.make_fragment(path, filesystem)
        fragment.ensure_complete_metadata()
        there = fragment.physical_schema
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFile(path, f"cannot be read ({error}); it is damaged, or no Parquet file") from None
    for one in plain(SCHEMAS[data_set]):
        if one.name not in there.names:
            if not one.nullable:
                raise DamagedFile(path, f"has no column {one.name!r}; it is no file of {data_set}")
        elif not _alike(there.field(one.name).type, one.type):
            raise DamagedFile(path, f"has {there.field(one.name).type} in column {one.name!r}, not {one.type}")
    return fragment


def _alike(found: pa.DataType, expected: pa.DataType) -> bool:
    """Whether a column can be read as it is expected without guessing."""
    kinds = (pa.types.is_timestamp, pa.types.is_integer, pa.types.is_floating, pa.types.is_map, is_text, pa.types.is_null)
    return any(kind(found) and (kind(expected) or kind is pa.types.is_null) for kind in kinds)


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is text, plain or in a dictionary."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def read_file(
    path: str, filesystem: pafs.FileSystem, data_set: str, wanted: pc.Expression | None, columns: list[str]
) -> _Part:
    """Wanted rows of one file. Raises DamagedFile, and FileNotFoundError."""
    schema = plain(SCHEMAS[data_set])
    fragment = fragment_of(path, filesystem, data_set)
    sequences = _range(fragment) if data_set == "events" else None
    try:
        if wanted is not None:
            fragment = fragment.subset(filter=wanted, schema=schema)
        if not fragment.row_groups:
            return _Part(pa.schema([schema.field(name) for name in columns]).empty_table(), 0, 0, sequences)
        dataset = ds.FileSystemDataset([fragment], schema, _FORMAT, filesystem)
        table = dataset.to_table(columns=columns, filter=wanted)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFile(path, f"cannot be read ({error}); it is damaged") from None
    return _Part(table, len(fragment.row_groups), _bytes(fragment, columns), sequences)


_FORMAT = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True))


def _bytes(fragment: ds.ParquetFileFragment, columns: Iterable[str]) -> int:
    """Compressed bytes of some columns in the row groups of a fragment."""
    names = set(columns)
    metadata, total = fragment.metadata, 0
    for chosen in fragment.row_groups:
        group = metadata.row_group(chosen.id)
        chunks = (group.column(n) for n in range(group.num_columns))
        total += sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in names)
    return total


def _range(fragment: ds.ParquetFileFragment) -> tuple[str, str] | None:
    lows, highs = [], []
    for group in fragment.row_groups:
        found = (group.statistics or {}).get("sequence")
        if not found or found.get("min") is None or found.get("max") is None:
            return None
        lows.append(found["min"])
        highs.append(found["max"])
    return (min(lows), max(highs)) if lows else None


def _may_overlap(ranges: list[tuple[str, str] | None]) -> bool:
    """Whether two files may hold the same record: equal places have equal sequence numbers."""
    known = sorted(one for one in ranges if one is not None)
    if len(known) < len(ranges):
        return True
    return any(after[0] <= before[1] for before, after in pairwise(known))


def _chosen(data_set: str, columns: Sequence[str] | None) -> pa.Schema:
    schema = SCHEMAS[data_set]
    if columns is None:
        return schema
    unknown = [name for name in columns if name not in schema.names]
    if unknown:
        raise ValueError(f"{data_set} have no column {unknown[0]!r}; there are {', '.join(schema.names)}")
    return pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)


def _milliseconds(moment: Moment) -> int:
    if isinstance(moment, int):
        return moment
    if isinstance(moment, str):
        moment = from_iso(moment)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _wanted(start: int, end: int, equal: dict[str, str | None]) -> pc.Expression:
    at = pc.field("timestamp")
    kind = pa.timestamp("ms", tz="UTC")
    wanted = (at >= pa.scalar(start, kind)) & (at < pa.scalar(end, kind))
    for name, value in equal.items():
        if value is not None:
            wanted = wanted & (pc.field(name) == value)
    return wanted


def once(table: pa.Table, data_set: str) -> pa.Table:
    """Each row once by its key; the first of equal ones stays."""
    if len(table) < 2:
        return table
    keys = {name: table[name].cast(pa.string()) if is_text(table[name].type) else table[name] for name in KEYS[data_set]}
    numbered = pa.table({**keys, "_row": pa.array(range(len(table)), pa.int64())})
    first = numbered.group_by(list(keys), use_threads=False).aggregate([("_row", "min")])["_row_min"]
    if len(first) == len(table):
        return table
    return table.take(pc.take(first, pc.sort_indices(first)))


def in_stream_order(table: pa.Table) -> pa.Table:
    """Events in the order of the stream: by shard, sequence number (as a number), user record and item."""
    keys = (
        table["item"].to_numpy(),
        table["sub_sequence"].to_numpy(),
        _ranks(table["sequence"], as_number=True),
        _ranks(table["shard"]),
    )
    order = np.lexsort(keys)
    return table if (order[1:] > order[:-1]).all() else table.take(pa.array(order))


def _ranks(column: pa.ChunkedArray, *, as_number: bool = False) -> NDArray[np.int64]:
    """Rank of each row's text among the column's; digits without leading zeros as the numbers they are."""
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    texts = encoded.dictionary
    length = pc.utf8_length(texts) if as_number else pa.array(np.zeros(len(texts), np.int32))
    order = pc.sort_indices(pa.table({"length": length, "text": texts}), [("length", "ascending"), ("text", "ascending")])
    ranks = np.empty(len(texts), np.int64)
    ranks[order.to_numpy()] = np.arange(len(texts))
    ranked: NDArray[np.int64] = ranks[encoded.indices.to_numpy(zero_copy_only=False)]
    return ranked


def pandas(table: pa.Table) -> Any:
    """A table as a pandas DataFrame; dimensions become dictionaries. Needs pandas."""
    return table.to_pandas(maps_as_pydicts="strict")


def polars(table: pa.Table) -> Any:
    """A table as a Polars DataFrame; names become categories. Needs Polars."""
    import polars

    return polars.from_arrow(table)
