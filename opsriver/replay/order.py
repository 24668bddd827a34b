"""Archived events in the order of the stream.

The archive keeps events by event time, the scorer saw them by place on their shard. An event may come
late by any time but lies at most ``MAX_AHEAD`` before its record's arrival, so once all hours up to one
are read, records that arrived an hour before its end are complete. What came later waits: in memory,
and beyond ``HELD`` rows in temporary files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from consumers.archive.layout import HOUR_MS
from consumers.archive.reader import Archive, in_stream_order
from stream_processors.records.times import MAX_AHEAD

COLUMNS = (
    "shard", "sequence", "sub_sequence", "item", "kind", "resource", "metric", "series", "timestamp", "arrival",
    "value", "unit", "dimensions", "detail",
)  # fmt: skip
HELD = 3_000_000
"""Rows that wait in memory."""
CHUNK = 250_000
"""Rows handed on at a time, about."""
INVERSIONS = 300_000
"""Milliseconds by which arrival times, which Kinesis calls approximate, may contradict the sequence numbers."""

_Place = tuple[int, str, int, int]


@dataclass(slots=True)
class _Run:
    """Rows of one shard in the order of the stream; those before ``done`` are handed on."""

    rows: pa.Table
    done: int = 0

    def place(self, at: int) -> _Place:
        row = self.rows
        sequence = row["sequence"][at].as_py()
        return len(sequence), sequence, row["sub_sequence"][at].as_py(), row["item"][at].as_py()

    def before(self, place: _Place) -> int:
        """Number of rows whose place is less."""
        low, high = self.done, len(self.rows)
        while low < high:
            middle = (low + high) // 2
            if self.place(middle) < place:
                low = middle + 1
            else:
                high = middle
        return low

    def first_from(self, arrival: int) -> _Place | None:
        """Place of the first waiting row that arrived at or after a time; None where all came before."""
        arrivals = self.rows["arrival"].slice(self.done).cast(pa.int64()).to_numpy()
        found = np.flatnonzero(arrivals >= arrival)
        return self.place(self.done + int(found[0])) if len(found) else None


@dataclass(slots=True)
class _Shard:
    runs: list[_Run] = field(default_factory=list)

    def waiting(self) -> int:
        return sum(len(run.rows) - run.done for run in self.runs)

    def take(self, arrival: int | None) -> Iterator[pa.Table]:
        """Rows that came before anything which arrived at or after a time; all of them without it."""
        cut = None
        if arrival is not None:
            cut = min((place for run in self.runs if (place := run.first_from(arrival)) is not None), default=None)
        ends = [len(run.rows) if cut is None else run.before(cut) for run in self.runs]
        while any(run.done < end for run, end in zip(self.runs, ends, strict=True)):
            left = [(run, end) for run, end in zip(self.runs, ends, strict=True) if run.done < end]
            share = max(CHUNK // len(left), 1)
            bounds = [run.place(run.done + share) for run, end in left if run.done + share < end]
            bound = min(bounds, default=None)
            parts = []
            for run, end in left:
                stop = end if bound is None else min(run.before(bound), end)
                parts.append(run.rows.slice(run.done, stop - run.done))
                run.done = stop
            whole = parts[0] if len(parts) == 1 else in_stream_order(pa.concat_tables(parts))
            if len(whole):
                yield whole
        self.runs = [run for run in self.runs if run.done < len(run.rows)]


def shard_by_shard(
    archive: Archive, start: int, end: int, *, progress: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[str, pa.Table]]:
    """Events of a range of event time (epoch ms), shard by shard in the order in which each shard had them.

    Yields (shard, rows), where the rows of a shard never go back; shards take turns by about an hour of
    arrival, those that began earlier first. ``progress`` is told the event time up to which hours are read.
    DamagedFile passes through.
    """
    shards: dict[str, _Shard] = {}
    with TemporaryDirectory(prefix="opsriver-replay-") as scratch:
        files = 0
        for hour, table in archive.hourly("events", start, end, COLUMNS):
            for shard in pc.unique(table["shard"]).to_pylist():
                rows = in_stream_order(table.filter(pc.equal(table["shard"], shard)))
                shards.setdefault(shard, _Shard()).runs.append(_Run(rows))
            safe = (hour + 1) * HOUR_MS - MAX_AHEAD - INVERSIONS
            for shard in sorted(shards):
                yield from ((shard, rows) for rows in shards[shard].take(safe))
            if sum(one.waiting() for one in shards.values()) > HELD:
                for one in shards.values():
                    for run in one.runs:
                        files += 1
                        run.rows, run.done = _on_disk(run.rows.slice(run.done), Path(scratch) / f"{files}.arrow"), 0
            progress((hour + 1) * HOUR_MS)
        for shard in sorted(shards):
            yield from ((shard, rows) for rows in shards[shard].take(None))


def _on_disk(table: pa.Table, path: Path) -> pa.Table:
    """The same rows in a file, of which the system keeps in memory what is read."""
    table = table.combine_chunks()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
