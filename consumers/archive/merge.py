"""Sorts and joins files of any size in bounded memory: sorted runs on local disk, then a merge of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumers.archive.writer import NARROW_GROUP, file_writer, sort
from schemas.arrow import KEYS

RUN_ROWS = 400_000
"""Rows sorted in memory at a time."""
_RUN = "_run"
_Key = tuple[object, ...]


def merged(tables: Iterable[pa.Table], data_set: str, scratch: Path, run_rows: int = RUN_ROWS) -> Iterator[pa.Table]:
    """All rows in the order of files, each once by its key, as a stream of tables.

    ``scratch`` is an empty folder for runs; it holds about as many bytes as the input. The tables
    share one schema.
    """
    runs: list[Path] = []
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        for begin in range(0, len(table), run_rows):
            held.append(table.slice(begin, run_rows))
            rows += len(held[-1])
            if rows >= run_rows:
                runs.append(_write_run(sort(pa.concat_tables(held), data_set), scratch / f"run-{len(runs)}", run_rows))
                held, rows = [], 0
    last = sort(pa.concat_tables(held), data_set) if held else None
    if not runs:
        stream = [last] if last is not None else []
        yield from _once(stream, data_set)
        return
    if last is not None:
        runs.append(_write_run(last, scratch / f"run-{len(runs)}", run_rows))
    yield from _once(_merge(runs, data_set, run_rows), data_set)


def _write_run(table: pa.Table, path: Path, run_rows: int) -> Path:
    with file_writer(path, table.schema) as writer:
        writer.write_table(table, row_group_size=max(1, min(32 * 1024, run_rows)))
    return path


def _merge(runs: list[Path], data_set: str, run_rows: int) -> Iterator[pa.Table]:
    """Rows of sorted runs in order.

    Some rows of every run are in memory. Of a run that goes on, what is not read yet is not less
    than its last row read; so all rows before the least of these last rows are safe to hand on.
    """
    share = max(run_rows // len(runs), 1)
    readers = {n: _batches(path, n, share) for n, path in enumerate(runs)}
    left = dict.fromkeys(readers, 0)
    rest: pa.Table | None = None
    while readers:
        parts = [rest] if rest is not None else []
        for run in list(readers):
            if left[run] <= 1 or left[run] * 2 <= share:
                more = next(readers[run], None)
                if more is None:
                    del readers[run]
                else:
                    parts.append(more)
        both = sort(pa.concat_tables(parts).combine_chunks(), data_set)
        numbered = pa.table({_RUN: both[_RUN], "at": pa.array(range(len(both)), pa.int64())})
        ends = numbered.group_by(_RUN).aggregate([("at", "max")]).to_pylist()
        safe = min((end["at_max"] for end in ends if end[_RUN] in readers), default=len(both))
        yield both.slice(0, safe).drop_columns([_RUN])
        rest = both.slice(safe)
        left = dict.fromkeys(readers, 0)
        for counted in pc.value_counts(rest[_RUN]).to_pylist():
            left[counted["values"]] = counted["counts"]
    if rest is not None:
        yield rest.drop_columns([_RUN])


def _batches(path: Path, run: int, rows: int) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=rows, use_threads=False):
            table = pa.Table.from_batches([batch])
            yield table.append_column(_RUN, pa.array([run], pa.int32()).take(pa.array([0] * len(table), pa.int32())))


def _once(tables: Iterable[pa.Table], data_set: str) -> Iterator[pa.Table]:
    """Drop rows whose key equals that of the row before: in this order equal rows are neighbours."""
    before: _Key | None = None
    for table in tables:
        if not len(table):
            continue
        columns = [table[name].combine_chunks() for name in KEYS[data_set]]
        first: _Key = tuple(column[0].as_py() for column in columns)
        same = pa.array([first == before])
        if len(table) > 1:
            equal = None
            for column in columns:
                one = pc.equal(column.slice(1), column.slice(0, len(column) - 1))
                equal = one if equal is None else pc.and_(equal, one)
            same = pa.concat_arrays([same, equal])
        before = tuple(column[-1].as_py() for column in columns)
        kept = table.filter(pc.invert(same)) if pc.any(same).as_py() else table
        if len(kept):
            yield kept


class Rolling:
    """Writes a stream of tables to files of about ``target`` bytes in ``folder``, in full row groups."""

    def __init__(self, folder: Path, schema: pa.Schema, target: int) -> None:
        self._folder, self._schema, self._target = folder, schema, target
        self._held: list[pa.Table] = []
        self._count = 0
        self._writer: pq.ParquetWriter | None = None
        self.files: list[tuple[Path, int]] = []
        """Paths and numbers of rows."""
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Take rows; OSError passes through."""
        self._held.append(table)
        self._count += len(table)
        if self._count >= NARROW_GROUP:
            table = pa.concat_tables(self._held)
            whole = self._count - self._count % NARROW_GROUP
            for begin in range(0, whole, NARROW_GROUP):
                self._write(table.slice(begin, NARROW_GROUP))
            self._held, self._count = [table.slice(whole)], self._count - whole

    def close(self) -> None:
        """Write what is left."""
        if self._count:
            self._write(pa.concat_tables(self._held))
        self._held, self._count = [], 0
        self._end()

    def _write(self, table: pa.Table) -> None:
        path = self._folder / f"out-{len(self.files)}"
        if self._writer is None:
            self._writer = file_writer(path, self._schema)
        self._writer.write_table(table.cast(self._schema), row_group_size=NARROW_GROUP)
        self._rows += len(table)
        if path.stat().st_size >= self._target:
            self._end()

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self.files.append((self._folder / f"out-{len(self.files)}", self._rows))
            self._rows = 0
