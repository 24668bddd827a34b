"""``python -m benchmarks.limits [--json]``: where the time goes now, next to what the machine allows.

The parts of the path are timed by themselves and in turns on the same records, and next to each what
bounds it: MD5 over the aggregates, JSON parsing into typed structures, writing the same columns as
Parquet, and how fast memory is copied. The profile is cProfile's own time by function of one whole pass.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import io
import json
import pstats
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.load import events
from benchmarks.measure import tell
from benchmarks.path import Stretches, whole_path
from benchmarks.pipeline import ours

ROOT = Path(__file__).resolve().parents[1]
COPY_BYTES = 256 << 20
LINES = 12
"""Cache lines of the seasonal tables that an event touches, beside its row of columns."""


class Typed(msgspec.Struct):
    """The fields of an event, for the limit of parsing."""

    resource: str
    metric: str
    timestamp: int
    value: float
    unit: str | None = None
    dimensions: dict[str, str] | None = None


def parts(scorer: Any, work: list[Any]) -> dict[str, float]:
    """CPU seconds of each part of one pass."""
    names = ("decode: KPL, MD5, JSON, validation", "score: detector, episodes, silence", "table: Arrow columns by hour",
             "encode: Parquet")  # fmt: skip
    stages: dict[str, float] = {}
    ours(work, scorer, stages)
    return dict(zip(names, stages.values(), strict=True))


def limits(work: list[Any], texts: list[bytes]) -> dict[str, Callable[[], object]]:
    """What bounds the parts, as calls over the same data."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    decoder = msgspec.json.Decoder(Typed)
    rows = [decoder.decode(text) for text in texts]
    table = pa.table({
        "resource": [r.resource for r in rows], "metric": [r.metric for r in rows],
        "timestamp": pa.array([r.timestamp for r in rows], pa.int64()), "value": [r.value for r in rows],
        "unit": [r.unit for r in rows],
    })  # fmt: skip
    return {
        "MD5 of the aggregates": lambda: [hashlib.md5(r.data, usedforsecurity=False).digest() for r in work],
        "json.loads of every event": lambda: deque(map(json.loads, texts), maxlen=0),
        "msgspec into a structure": lambda: deque(map(decoder.decode, texts), maxlen=0),
        "Parquet, five plain columns, zstd": lambda: pq.write_table(table, io.BytesIO(), compression="zstd"),
    }


def copying() -> float:
    """Bytes a CPU second that NumPy copies between two arrays larger than the caches."""
    source, target = np.ones(COPY_BYTES // 8), np.empty(COPY_BYTES // 8)
    target[:] = source
    took = []
    for _ in range(5):
        began = time.process_time()
        target[:] = source
        took.append(time.process_time() - began)
    return COPY_BYTES / statistics.median(took)


def profile(scorer: Any, work: list[Any], most: int = 16) -> list[tuple[str, float, int]]:
    """Functions by their own share of one pass: name, share, calls."""
    runner = cProfile.Profile()
    runner.enable()
    whole_path(work, scorer)
    runner.disable()
    stats = pstats.Stats(runner)
    whole = stats.total_tt  # type: ignore[attr-defined]
    found = []
    for (file, line, name), (_, calls, own, _, _) in stats.stats.items():  # type: ignore[attr-defined]
        path = Path(file)
        place = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) and "site-packages" not in file else path.name
        found.append((f"{place}:{name}" if line else name.strip("<>"), own / whole, calls))
    return sorted(found, key=lambda one: -one[1])[:most]


def run(series: int = 10_000, count: int = 100_000, rounds: int = 5) -> dict[str, Any]:
    """Parts and limits in turns, then the profile."""
    from stream_processors.scoring import Scorer

    scorer = Scorer()
    stretches: Iterator[list[Any]] = iter(Stretches(series, count))
    work = next(stretches)
    texts = [data for _, data in events(series, count)]
    bounds = limits(work, texts)
    took: dict[str, list[float]] = {}
    for step in range(rounds + 1):
        found = parts(scorer, next(stretches))
        for name, call in bounds.items():
            began = time.process_time()
            call()
            found[name] = time.process_time() - began
        if step:
            for name, value in found.items():
                took.setdefault(name, []).append(value)
    each = {name: round(1e9 * statistics.median(values) / count) for name, values in took.items()}
    whole = sum(value for name, value in each.items() if name not in bounds)
    return {
        "series": series,
        "events": count,
        "bytesAnEvent": round(sum(len(r.data) for r in work) / count),
        "nanoseconds": {name: value for name, value in each.items() if name not in bounds},
        "wholeNanoseconds": whole,
        "eventsPerSecond": round(1e9 / whole),
        "limits": {name: value for name, value in each.items() if name in bounds},
        "copyGigabytesPerSecond": round(copying() / 1e9, 1),
        "touchedBytes": 8 * next(iter(scorer.banks.values()))._state.shape[1] + LINES * 64,
        "profile": profile(scorer, next(stretches)),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Print tables for people."""
    table = Table("part", "ns an event", "share", title=f"{found['events']:,} events, {found['series']:,} series")
    for name, value in found["nanoseconds"].items():
        table.add_row(name, f"{value:,}", f"{value / found['wholeNanoseconds']:.0%}")
    table.add_row("all", f"{found['wholeNanoseconds']:,}", f"{found['eventsPerSecond']:,} events a CPU second")
    table.add_section()
    for name, value in found["limits"].items():
        table.add_row(f"limit: {name}", f"{value:,}", f"{value / found['wholeNanoseconds']:.0%}")
    state = 2 * found["touchedBytes"] / found["copyGigabytesPerSecond"]
    name = f"limit: memory, {found['touchedBytes']:,} bytes of state in and out"
    table.add_row(name, f"{state:,.0f}", f"{state / found['wholeNanoseconds']:.0%}")
    console.print(table)
    console.print(
        f"memory is copied at {found['copyGigabytesPerSecond']} GB/s; {found['bytesAnEvent']} bytes an event in KPL"
    )
    table = Table("function", "own share", "calls", title="Profile of one pass")
    for name, share, calls in found["profile"]:
        table.add_row(name, f"{share:.1%}", f"{calls:,}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the parts of the path and what bounds them.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(options.series, options.events, options.rounds)
    tell(found, show, as_json=options.json)


if __name__ == "__main__":
    main()
