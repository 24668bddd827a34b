"""The archive: writing against plain write_table, a narrow query against a full scan, replay against scoring.

``python -m benchmarks.archive [--rounds N] [--json]``
"""

from __future__ import annotations

import argparse
import io
import tempfile
from array import array
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.load import START, events, records
from benchmarks.measure import in_turns, ratio, tell
from consumers.archive.compaction import Compactor
from consumers.archive.layout import HOUR_MS, partition
from consumers.archive.reader import Archive
from consumers.archive.store import FolderStore
from consumers.archive.writer import by_hour, encode, events_table, file_name
from opsriver.replay.order import shard_by_shard
from opsriver.replay.run import Replay
from schemas.arrow import EVENTS
from stream_processors.detectors.config import DetectorConfig
from stream_processors.records.batch import EventBatch, StreamRecord
from stream_processors.records.decode import decode
from stream_processors.scoring import Scorer

HOST = "host-000001.eu-west-1.example.internal"


def writing(rows: int, rounds: int) -> dict[str, Any]:
    """The same table through the archive's writer and through ``write_table`` as it comes, with the same codec and not."""
    series = min(rows, 10_000)
    batch = decode(records(events(series, rows)))
    table = events_table(batch, "shardId-000000000000")
    typed = table.cast(EVENTS)  # as a reader has it
    sizes: dict[str, int] = {}

    def ours() -> None:
        sizes["archive"] = sum(len(encode(part)) for _, part in by_hour(table, "events"))

    def plain(codec: str) -> None:
        out = io.BytesIO()
        pq.write_table(typed, out, compression=codec)
        sizes[codec] = out.tell()

    timed = in_turns({"archive": ours, "zstd": lambda: plain("zstd"), "snappy": lambda: plain("snappy")}, rows, rounds)
    return {
        "rows": rows,
        **{
            name: {"rowsPerSecond": round(one.rate), "bytesPerRow": round(sizes[name] / rows, 1)}
            for name, one in timed.items()
        },
        "ofPlainZstd": round(ratio(timed["archive"], timed["zstd"]), 2),
        "ofPlainSnappy": round(ratio(timed["archive"], timed["snappy"]), 2),
    }


Hour = tuple[int, list[StreamRecord]]
"""An hour's records, and how far its events are moved on in time (ms)."""


def decoded(hour: Hour) -> EventBatch:
    """An hour's events."""
    move, made = hour
    batch = decode(made)
    batch.timestamp = array("q", [t + move for t in batch.timestamp])
    return batch


def stored(root: Path, hosts: int, hours: int) -> list[Hour]:
    """An archive of ten metrics a host and minute, compacted, and the records it is of."""
    series, kept = hosts * 10, []
    for hour in range(hours):
        made = records(events(series, series * 60, seed=hour))
        # The load begins at START; later hours move on in time and in the stream.
        moved = [
            StreamRecord(r.shard_id, str(int(r.sequence_number) + hour * 10**9), r.partition_key,
                         START + (hour + 1) * HOUR_MS, r.data) for r in made
        ]  # fmt: skip
        kept.append((hour * HOUR_MS, moved))
        for number, part in by_hour(events_table(decoded(kept[-1]), moved[0].shard_id), "events"):
            folder = root / "events" / partition(number)
            folder.mkdir(parents=True, exist_ok=True)
            name = file_name(moved[0].shard_id, moved[0].sequence_number, moved[-1].sequence_number)
            (folder / name).write_bytes(encode(part))
    Compactor(FolderStore(root)).run(START + 10_000 * HOUR_MS, ("events",))
    return kept


def query(root: Path, hours: int, rounds: int) -> dict[str, Any]:
    """One host's day through the reader, and by a scan of everything that is filtered afterwards."""
    archive = Archive(str(root))
    end = START + hours * HOUR_MS
    found: dict[str, int] = {}

    def narrow() -> None:
        found["narrow"] = len(archive.events(end - 24 * HOUR_MS, end, HOST))
        found["files"], found["bytes"] = len(archive.read.files), archive.read.bytes

    def full() -> None:
        table = archive.events(START - HOUR_MS, end + HOUR_MS)
        chosen = table.filter(pa.compute.equal(table["resource"].cast(pa.string()), HOST))
        at = chosen["timestamp"].cast(pa.int64())
        late = pa.compute.and_(pa.compute.greater_equal(at, end - 24 * HOUR_MS), pa.compute.less(at, end))
        found["full"] = len(chosen.filter(late))
        found["allBytes"] = archive.read.bytes

    timed = in_turns({"query": narrow, "scan": full}, 1, rounds)
    if found["narrow"] != found["full"]:
        raise RuntimeError(f"the query gave {found['narrow']} rows, the scan {found['full']}")
    return {
        "rows": found["narrow"], "files": found["files"], "bytesRead": found["bytes"], "bytesScanned": found["allBytes"],
        "times": round(ratio(timed["query"], timed["scan"]), 1),
    }  # fmt: skip


def replaying(root: Path, work: list[Hour], hours: int, rounds: int) -> dict[str, Any]:
    """Replay from the archive against scoring the same records as the scorer does, and against the core alone."""
    batches = [decoded(hour) for hour in work]
    count = sum(len(batch) for batch in batches)

    def replay() -> None:
        replayed = Replay(DetectorConfig())
        for shard, rows in shard_by_shard(Archive(str(root)), START - HOUR_MS, START + (hours + 1) * HOUR_MS):
            replayed.feed(shard, rows)
        if replayed.events != count:
            raise RuntimeError(f"{replayed.events} of {count} events were replayed")

    def score() -> None:
        scorer = Scorer()
        for hour in work:
            scorer.process(decoded(hour))

    def core() -> None:
        scorer = Scorer()
        for batch in batches:
            scorer.process(batch)

    timed = in_turns({"replay": replay, "scoring": score, "core": core}, count, rounds)
    return {
        "events": count, **{f"{name}PerSecond": round(one.rate) for name, one in timed.items()},
        "ofScoring": round(ratio(timed["replay"], timed["scoring"]), 2),
        "ofCore": round(ratio(timed["replay"], timed["core"]), 2),
    }  # fmt: skip


def run(rounds: int = 3, hosts: int = 100, hours: int = 26) -> dict[str, Any]:
    """All of it."""
    found: dict[str, Any] = {"writing": [writing(rows, rounds) for rows in (4_000, 24_000, 200_000)]}
    with tempfile.TemporaryDirectory(prefix="opsriver-bench-") as folder:
        work = stored(Path(folder), hosts, hours)
        found["query"] = query(Path(folder), hours, rounds)
        found["replay"] = replaying(Path(folder), work, hours, rounds)
    return found


def show(found: dict[str, Any], console: Console) -> None:
    """Print what ``run`` found."""
    table = Table(
        "rows a file", "rows a second", "of plain zstd", "of plain snappy", "bytes a row", "plain zstd", "plain snappy",
        title="writing, against write_table of the same table",
    )  # fmt: skip
    for one in found["writing"]:
        table.add_row(
            f"{one['rows']:,}", f"{one['archive']['rowsPerSecond']:,}", f"{one['ofPlainZstd']:.0%}",
            f"{one['ofPlainSnappy']:.0%}",
            *(f"{one[name]['bytesPerRow']}" for name in ("archive", "zstd", "snappy")),
        )  # fmt: skip
    console.print(table)
    query, replay = found["query"], found["replay"]
    console.print(
        f"one host's day: {query['rows']:,} rows, {query['bytesRead']:,} of {query['bytesScanned']:,} bytes from "
        f"{query['files']} files, {query['times']} times faster than a full scan", highlight=False,
    )  # fmt: skip
    console.print(
        f"replay: {replay['replayPerSecond']:,} of {replay['events']:,} events a CPU second, {replay['ofScoring']:.0%} of "
        f"decoding and scoring ({replay['scoringPerSecond']:,}), {replay['ofCore']:.0%} of the core alone "
        f"({replay['corePerSecond']:,})", highlight=False,
    )  # fmt: skip


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="Measures writing, reading and replaying the archive.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--hours", type=int, default=26)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(options.rounds, options.hosts, options.hours)
    tell(found, show, as_json=options.json)


if __name__ == "__main__":
    main()
