"""Joins the small files of closed hours to few large ones: sorted, each row once.

The joined files are stored first. Then a manifest is created that names them and what they replace:
from that moment on readers take them instead. The replaced files go a while later, so that who has
listed them can still read them. Killed anywhere, it leaves an archive in which every row counts once,
and the next run goes on from there (docs/archive.md).
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.dataset as ds
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from consumers.archive.layout import (
    COMPACTED,
    DATA_SETS,
    HOUR_MS,
    Entry,
    Hour,
    Kept,
    Manifest,
    Replaced,
    hour_of,
    manifest_name,
    newest,
    parse_manifest,
    partition,
    render_manifest,
    sort_out,
)  # fmt: skip
from consumers.archive.merge import RUN_ROWS, Rolling, merged
from consumers.archive.reader import DamagedFile, fragment_of
from consumers.archive.store import Store
from schemas.arrow import SCHEMAS, plain

CLOSED_AFTER_MS = 2 * HOUR_MS
"""An hour is closed this long after its end; events that come later make new small files."""
GRACE_MS = 10 * 60_000
"""How long replaced files stay, so that a query which has listed them can finish."""
ABANDONED_MS = 24 * HOUR_MS
"""After this a compacted file that no manifest names is taken for left over from a killed run."""
TARGET = 128 * 1024 * 1024
"""Bytes at which a compacted file ends and the next one begins."""

FAILURES = (ClientError, BotoCoreError, Boto3Error, OSError, pa.ArrowException)


class ArchiveBroken(OSError):
    """A file that a manifest names is missing or has another size; nothing of its hour is deleted."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What became of one hour. ``rows_before`` counts rows that were there more than once as often."""

    data_set: str
    hour: int
    files_before: int
    files: int
    rows_before: int
    rows: int
    bytes_before: int
    bytes: int


@dataclass(slots=True)
class Report:
    """What a run did. ``problems`` are sentences that name the hour or the file; other hours went on."""

    done: list[Compacted] = field(default_factory=list)
    deleted: int = 0
    damaged: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    overtaken: int = 0
    unfinished: bool = False


class Compactor:
    """Compacts an archive. ``scratch`` is where its temporary files go (the system's place if None)."""

    def __init__(
        self, store: Store, *, scratch: Path | None = None, grace_ms: int = GRACE_MS, target: int = TARGET,
        run_rows: int = RUN_ROWS,
    ) -> None:  # fmt: skip
        self._store, self._scratch, self._grace, self._target, self._run_rows = store, scratch, grace_ms, target, run_rows

    def run(
        self, now: int, data_sets: tuple[str, ...] = DATA_SETS, *, since: int = 0, go_on: Callable[[], bool] = lambda: True,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Report:  # fmt: skip
        """Compact every hour that was closed at ``now`` and ended after ``since`` (epoch milliseconds), until ``go_on``
        says no: the latest first, as most files are theirs."""
        report = Report()
        for data_set in data_sets:
            for day in sorted(self._store.folders(data_set), reverse=True):
                last = hour_of(day, "hr=23")
                if last is None or (last + 1) * HOUR_MS <= since:
                    continue
                for name in sorted(self._store.folders(f"{data_set}/{day}"), reverse=True):
                    hour = hour_of(day, name)
                    if hour is None or (hour + 1) * HOUR_MS <= since or (hour + 1) * HOUR_MS + CLOSED_AFTER_MS > now:
                        continue
                    if not go_on():
                        report.unfinished = True
                        return report
                    progress(f"{data_set}/{day}/{name}")
                    try:
                        self.hour(data_set, hour, now, report)
                    except FAILURES as error:
                        report.problems.append(f"{data_set}/{day}/{name} was not compacted: {_told(error)}")
        return report

    def hour(self, data_set: str, hour: int, now: int, report: Report) -> None:
        """Compact one hour and delete what was replaced long enough ago."""
        prefix = f"{data_set}/{partition(hour)}"
        entries = self._store.entries(prefix)
        name = newest(entry.name for entry in entries)
        manifest = self._manifest(f"{prefix}/{name}") if name else None
        found = sort_out(entries, manifest)
        report.damaged += [f"{prefix}/{one}" for one in found.foreign]
        if found.missing:
            raise ArchiveBroken(f"{prefix}/{found.missing[0]} is named by {name} but is not there, or has another size")
        known = manifest or Manifest()
        self._clean(prefix, found, known, now, report)
        fresh = [entry for entry in found.live if not entry.name.startswith(COMPACTED)]
        if not fresh or len(found.live) < 2:
            return
        done = self._join(data_set, hour, found.live, known, now, report)
        if done is not None:
            report.done.append(done)

    def _manifest(self, key: str) -> Manifest:
        try:
            return parse_manifest(self._store.get(key))
        except ValueError as error:
            raise ArchiveBroken(f"{key} cannot be read: {error}") from None

    def _clean(self, prefix: str, found: Hour, known: Manifest, now: int, report: Report) -> None:
        """Delete what no reader needs any more."""
        since = {(one.name, one.bytes): one.since for one in known.replaced}
        old = [one.name for one in found.replaced if since[one.name, one.bytes] + self._grace <= now]
        old += [one.name for one in found.left_over if one.modified + ABANDONED_MS <= now]
        # What came before the newest manifest may still be read by who listed the folder before it was there.
        if all(one.since + self._grace <= now for one in known.replaced):
            old += [one.name for one in found.manifests if one.name != manifest_name(known.number)]
        self._store.delete(f"{prefix}/{name}" for name in old)
        report.deleted += len(old)

    def _join(
        self, data_set: str, hour: int, live: list[Entry], known: Manifest, now: int, report: Report
    ) -> Compacted | None:
        prefix = f"{data_set}/{partition(hour)}"
        left_out: set[str] = set()
        with TemporaryDirectory(prefix="opsriver-compaction-", dir=self._scratch) as folder:
            while True:
                sources = [entry for entry in live if entry.name not in left_out]
                if len(sources) < 2:
                    return None
                scratch = Path(folder) / str(len(left_out))
                scratch.mkdir()
                try:
                    made, rows_before = self._write(data_set, prefix, sources, scratch)
                    break
                except DamagedFile as error:
                    name = error.path.rpartition("/")[2]
                    report.damaged.append(f"{prefix}/{name}")
                    if name.startswith(COMPACTED):
                        raise ArchiveBroken(str(error)) from None
                    left_out.add(name)
            files = self._store_files(prefix, sources, made)
        gone = [Replaced(entry.name, entry.bytes, now) for entry in sources]
        earlier = [one for one in known.replaced if now - one.since < self._grace]
        manifest = Manifest(known.number + 1, files, [*earlier, *gone])
        if not self._store.create(f"{prefix}/{manifest_name(manifest.number)}", render_manifest(manifest)):
            report.overtaken += 1
            return None
        if self._grace <= 0:
            self._store.delete(f"{prefix}/{one.name}" for one in gone)
            report.deleted += len(gone)
        return Compacted(
            data_set, hour, len(sources), len(files), rows_before, sum(one.rows for one in files),
            sum(entry.bytes for entry in sources), sum(one.bytes for one in files),
        )  # fmt: skip

    def _write(self, data_set: str, prefix: str, sources: list[Entry], scratch: Path) -> tuple[list[tuple[Path, int]], int]:
        """Joined files in ``scratch`` with their rows, and the number of rows read. Raises DamagedFile."""
        paths = [f"{self._store.root}/{prefix}/{entry.name}" for entry in sources]
        # A column that a later version added must outlive a run of this one.
        schema = plain(SCHEMAS[data_set])
        for path in paths:
            there = fragment_of(path, self._store.filesystem, data_set).physical_schema
            for one in there:
                if one.name not in schema.names:
                    schema = schema.append(pa.field(one.name, one.type))
                elif one.name not in SCHEMAS[data_set].names and schema.field(one.name).type != one.type:
                    raise DamagedFile(path, f"has {one.type} in column {one.name!r}, other files have another type")
        rolling = Rolling(scratch, schema, self._target)
        counted = _Counted()
        tables = counted.of(self._tables(path, data_set, schema) for path in paths)
        for table in merged(tables, data_set, scratch, self._run_rows):
            rolling.add(table)
        rolling.close()
        return rolling.files, counted.rows

    def _tables(self, path: str, data_set: str, schema: pa.Schema) -> Iterator[pa.Table]:
        """Rows of a file, a row group at a time."""
        filesystem = self._store.filesystem
        fragment = fragment_of(path, filesystem, data_set)
        try:
            for group in fragment.split_by_row_group():
                dataset = ds.FileSystemDataset([group], schema, ds.ParquetFileFormat(), filesystem)
                yield dataset.to_table(use_threads=False).replace_schema_metadata(schema.metadata)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DamagedFile(path, f"cannot be read ({error}); it is damaged") from None

    def _store_files(self, prefix: str, sources: list[Entry], made: list[tuple[Path, int]]) -> list[Kept]:
        """Upload; a run that is killed and repeated stores the same names."""
        digest = hashlib.sha256("\n".join(f"{entry.name}\x1f{entry.bytes}" for entry in sources).encode()).hexdigest()[:20]
        files = []
        for number, (path, rows) in enumerate(made):
            kept = Kept(f"{COMPACTED}{digest}-{number:03d}.parquet", path.stat().st_size, rows)
            self._store.put_file(f"{prefix}/{kept.name}", path)
            files.append(kept)
        return files


class _Counted:
    def __init__(self) -> None:
        self.rows = 0

    def of(self, files: Iterator[Iterator[pa.Table]]) -> Iterator[pa.Table]:
        for tables in files:
            for table in tables:
                self.rows += len(table)
                yield table


def _told(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{error}; its temporary files need about as many bytes as the hour's files have: give it a larger disk"
    return str(error)[:500]
