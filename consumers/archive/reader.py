"""Reads the archive, from a local folder or from S3, each row once and no more files than needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from consumers.archive.writer import HOUR_MS, partition
from schemas.arrow import KEYS, SCHEMAS, plain

TRIES = 4
"""A file may be compacted away between the listing and the reading; the hour is then listed again."""


class DamagedFile(RuntimeError):
    """A file of the archive cannot be read; the text names it."""


@dataclass(slots=True)
class Read:
    """What the last query touched."""

    files: list[str] = field(default_factory=list)
    row_groups: int = 0
    damaged: list[str] = field(default_factory=list)


class ArchiveReader:
    """The archive below ``root`` of a pyarrow filesystem.

    Times are epoch milliseconds, ``start`` inside and ``end`` outside. With ``skip_damaged`` a file
    that cannot be read is left out and named in ``read.damaged``; without it DamagedFile is raised.
    """

    def __init__(self, root: str, filesystem: pafs.FileSystem | None = None, *, skip_damaged: bool = False) -> None:
        self._root = root.rstrip("/")
        self._files = filesystem or pafs.LocalFileSystem()
        self._skip = skip_damaged
        self.read = Read()

    def events(
        self, start: int, end: int, *, resource: str | None = None, metric: str | None = None, kind: str | None = None
    ) -> pa.Table:
        """Events of a time range in the archive's schema, by time and place, each once."""
        wanted = _wanted(start, end, resource=resource, metric=metric, kind=kind)
        table = self._table("events", start, end, wanted)
        return table.sort_by([("timestamp", "ascending"), ("sequence", "ascending"), ("item", "ascending")])

    def insights(self, start: int, end: int, *, resource: str | None = None) -> pa.Table:
        """Revisions of the insights that opened in a time range, each once."""
        table = self._table("insights", start, end, _wanted(start, end, resource=resource))
        return table.sort_by([("timestamp", "ascending"), ("insight_id", "ascending"), ("revision", "ascending")])

    def series(self, resource: str, series: str, start: int, end: int) -> pa.Table:
        """Timestamps and values of one series."""
        wanted = _wanted(start, end, resource=resource, kind="metric", series=series)
        table = self._table("events", start, end, wanted)
        return table.select(["timestamp", "value"]).sort_by("timestamp")

    def files(self, data_set: str, hour: int) -> list[str]:
        """Files of one hour (hours since the epoch)."""
        folder = f"{self._root}/{data_set}/{partition(hour)}"
        found = self._files.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
        return sorted(info.path for info in found if info.is_file and info.path.endswith(".parquet"))

    def hours(self, data_set: str) -> list[int]:
        """Hours (since the epoch) that have files."""
        selector = pafs.FileSelector(f"{self._root}/{data_set}", allow_not_found=True, recursive=True)
        found = set()
        for info in self._files.get_file_info(selector):
            if info.is_file and info.path.endswith(".parquet"):
                day, hour = info.path.split("/")[-3:-1]
                if day.startswith("dt=") and hour.startswith("hr="):
                    text = f"{day[3:]}T{hour[3:]}:00:00Z"
                    found.add(int(pc.strptime(pa.scalar(text), "%Y-%m-%dT%H:%M:%SZ", "s").cast(pa.int64()).as_py()) // 3600)
        return sorted(found)

    def hour(self, data_set: str, hour: int) -> pa.Table:
        """All rows of one hour, each once."""
        return self._table(data_set, hour * HOUR_MS, (hour + 1) * HOUR_MS, None)

    def _table(self, data_set: str, start: int, end: int, wanted: pc.Expression | None) -> pa.Table:
        self.read = Read()
        parts = [self._hour(data_set, hour, wanted) for hour in range(start // HOUR_MS, (end - 1) // HOUR_MS + 1)]
        return once(pa.concat_tables([SCHEMAS[data_set].empty_table(), *parts], promote_options="none"), data_set)

    def _hour(self, data_set: str, hour: int, wanted: pc.Expression | None) -> pa.Table:
        for attempt in range(TRIES):
            files = self.files(data_set, hour)
            try:
                return self.read_files(data_set, files, wanted)
            except FileNotFoundError:
                if attempt + 1 == TRIES:
                    raise
        raise AssertionError("unreachable")

    def read_files(self, data_set: str, files: Iterable[str], wanted: pc.Expression | None = None) -> pa.Table:
        """Rows of these files that are wanted, as they stand there."""
        schema = SCHEMAS[data_set]
        tables = [schema.empty_table()]
        for path in files:
            try:
                fragment = ds.ParquetFileFormat().make_fragment(path, self._files)
                fragment.ensure_complete_metadata()
                if wanted is not None:
                    fragment = fragment.subset(filter=wanted, schema=plain(schema))
                self.read.files.append(path)
                self.read.row_groups += len(fragment.row_groups)
                if not fragment.row_groups:
                    continue
                dataset = ds.FileSystemDataset([fragment], plain(schema), ds.ParquetFileFormat(), self._files)
                tables.append(dataset.to_table(filter=wanted).cast(schema))
            except FileNotFoundError:
                raise
            except (pa.ArrowException, OSError, ValueError) as error:
                if not self._skip:
                    raise DamagedFile(f"{path} cannot be read ({error}); it is not an archive file, or damaged") from None
                self.read.damaged.append(path)
        return pa.concat_tables(tables, promote_options="none")


def _wanted(start: int, end: int, **equal: str | None) -> pc.Expression:
    at = pc.field("timestamp")
    kind = pa.timestamp("ms", tz="UTC")
    wanted = (at >= pa.scalar(start, kind)) & (at < pa.scalar(end, kind))
    for name, value in equal.items():
        if value is not None:
            wanted = wanted & (pc.field(name) == value)
    return wanted


def once(table: pa.Table, data_set: str) -> pa.Table:
    """Each row once by its key; the first of equal ones stays."""
    if not len(table):
        return table
    keys = [table[name].cast(pa.string()).combine_chunks() for name in KEYS[data_set]]
    joined = pc.binary_join_element_wise(*keys, "\x1f")
    numbered = pa.table({"key": joined, "row": pa.array(range(len(table)), pa.int64())})
    first = numbered.group_by("key").aggregate([("row", "min")])["row_min"]
    if len(first) == len(table):
        return table
    return table.take(pc.take(first, pc.sort_indices(first)))


def parquet_rows(path: str, filesystem: pafs.FileSystem) -> int:
    """Number of rows of a file, from its footer."""
    return int(pq.ParquetFile(path, filesystem=filesystem).metadata.num_rows)


def s3(client: Any) -> pafs.S3FileSystem:
    """A pyarrow filesystem for the place and the credentials of a boto3 client."""
    credentials = client._request_signer._credentials.get_frozen_credentials()
    endpoint = client.meta.endpoint_url
    return pafs.S3FileSystem(
        access_key=credentials.access_key, secret_key=credentials.secret_key, session_token=credentials.token,
        region=client.meta.region_name, endpoint_override=endpoint.split("://", 1)[1],
        scheme=endpoint.split("://", 1)[0],
    )  # fmt: skip
