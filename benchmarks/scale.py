"""``python -m benchmarks.scale [--million] [--json]``: rate, memory and checkpoints by number of series; linear fits; skew.

Every size runs in a process of its own that stays up, and the sizes take turns, so a drifting machine
is fair to all. Rates count CPU time of decoding and scoring records of 100 events, 50,000 events to a
batch, as a full batch of the deployed mapping holds. Each event goes to a series drawn at random, so that
a batch touches series all over the state.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import json
import mmap
import random
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.child import Child
from benchmarks.load import START
from benchmarks.measure import tell
from stream_processors.detectors.config import DetectorConfig
from stream_processors.records.batch import EventBatch, Shared
from stream_processors.scoring import Scorer
from stream_processors.state.checkpoint import Checkpoint, HashRange, Restored
from stream_processors.state.snapshot import apply, decode, encode, mark_clean

ROOT = Path(__file__).resolve().parents[1]
BATCH = 50_000
SIZES = (10_000, 100_000)
LARGEST = 1_000_000
MEMORY_BESIDE = 300
FIT_EVENTS = (25_000, 50_000, 100_000, 200_000)
FIT_SERIES = (25_000, 50_000, 100_000, 200_000)
TOUCHED = (100, 1_000, 10_000, 100_000)


class Load:
    """Batches of events over numbered series, each batch later than the one before; made without decoding."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(1)
        self._minute = 0
        names = [f"metric.number.{one}" for one in range(10)]
        self._metrics = [Shared(name, name, "Percent") for name in names]

    def batch(self, series: Sequence[int]) -> EventBatch:
        """One event for each number given; a number that comes again is a minute later each time."""
        made, seen = EventBatch(), dict[int, int]()
        for one in series:
            nth = seen[one] = seen.get(one, -1) + 1
            made.resource.append(f"host-{one // 10:06d}.eu-west-1.example.internal")
            made.shared.append(self._metrics[one % 10])
            made.timestamp.append(START + (self._minute + nth) * 60_000)
        count = len(made.resource)
        made.value = array("d", (50 + 20 * self._rng.random(count)).tobytes())
        made.arrival = made.timestamp
        self._minute += max(seen.values(), default=0) + 1
        return made

    def even(self, series: int, count: int) -> EventBatch:
        """``count`` events over ``series`` series, as even as can be, in random order within a minute."""
        numbers: list[int] = []
        while len(numbers) < count:
            numbers += self._rng.permutation(series)[: count - len(numbers)].tolist()
        return self.batch(numbers)

    def hosts(self, series: int, count: int) -> EventBatch:
        """``count`` series of ``series``, by whole hosts of ten, as agents send them."""
        chosen = self._rng.permutation(series // 10)[: count // 10].tolist()
        return self.batch([host * 10 + metric for host in chosen for metric in range(10)])


def scorer_of(series: int, load: Load, *, rounds: int = 2) -> Scorer:
    """A scorer that has seen every series ``rounds`` times."""
    scorer = Scorer(DetectorConfig(max_series=max(series, 250_000) + 1))
    for _ in range(rounds):
        for begin in range(0, series, BATCH):
            scorer.process(load.batch(range(begin, min(series, begin + BATCH))))
    return scorer


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


# ---------------------------------------------------------------------- one size, in its own process


def _resident() -> int:
    """Bytes of this process in memory, after what is free has been given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


def _record_batches(series: int) -> Iterator[list[Any]]:
    """Kinesis records of BATCH events over random series, with dimensions, as agents send them."""
    from benchmarks.load import records

    rng, minute = random.Random(2), 1_000
    while True:
        items = []
        chosen = rng.sample(range(series), min(series, BATCH))
        for number in range(BATCH):
            one = chosen[number % len(chosen)]
            host = f"host-{one // 10:06d}.eu-west-1.example.internal"
            body = {
                "resource": host, "metric": f"metric.number.{one % 10}",
                "timestamp": START + (minute + number // len(chosen)) * 60_000,
                "value": round(50 + 20 * rng.random(), 4), "unit": "Percent", "dimensions": {"zone": "a"},
            }  # fmt: skip
            items.append((host, json.dumps(body).encode()))
        minute += BATCH // len(chosen) + 1
        yield records(items)


def serve(series: int) -> None:
    """Build a scorer of so many series from records, tell its memory, then time a batch for every line."""
    from stream_processors.records.decode import decode as decode_records

    def all_once(minute: int, scorer: Scorer) -> None:
        from benchmarks.load import records

        for begin in range(0, series, BATCH):
            items = []
            for one in range(begin, min(series, begin + BATCH)):
                host = f"host-{one // 10:06d}.eu-west-1.example.internal"
                body = {
                    "resource": host, "metric": f"metric.number.{one % 10}", "timestamp": START + minute * 60_000,
                    "value": 50 + one % 20, "unit": "Percent", "dimensions": {"zone": "a"},
                }  # fmt: skip
                items.append((host, json.dumps(body).encode()))
            scorer.process(decode_records(records(items)))

    config = DetectorConfig(max_series=max(series, 250_000) + 1)
    batches = _record_batches(series)
    next(batches)
    # What any batch needs while it is worked through is not the series' own: it is there before the first look.
    small = Scorer(config)
    series, kept = min(series, 1_000), series
    all_once(0, small)
    series = kept
    del small
    before = _resident()
    scorer = Scorer(config)
    for minute in range(2):
        all_once(minute, scorer)
    after = _resident()
    bank = next(iter(scorer.banks.values()))
    print(json.dumps({
        "residentBytes": (after - before) / series,
        "stateBytes": bank.row_bytes,
        "coreBytes": sum(c.itemsize for c in (*scorer.core.values(), scorer.row, scorer.bank, scorer.obeyed,
                                              scorer.open, scorer.dirty)),
        "peakBytes": _peak() / series,
    }), flush=True)  # fmt: skip
    for _ in sys.stdin:
        work = next(batches)
        took = seconds(lambda work=work: scorer.process(decode_records(work)))  # type: ignore[misc]
        print(json.dumps({"seconds": took}), flush=True)


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rates(sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """Rate and memory at each size, the sizes in turns.

    Shares of the smallest size's rate are the median of the rounds, and that of the fastest rounds: what others do with the
    machine's memory meanwhile slows a size that no cache holds more than one that a cache does.
    """
    running: dict[int, Child] = {}
    took: dict[int, list[float]] = {size: [] for size in sizes}
    try:
        for size in sizes:
            command = [sys.executable, "-m", "benchmarks.scale", "--serve", str(size)]
            running[size] = Child(f"{size} series", command, ROOT)
        for step in range(rounds + 1):
            for size, child in running.items():
                found = child.ask("go")["seconds"]
                if step:
                    took[size].append(found)
    finally:
        for child in running.values():
            child.close()
    base = min(sizes)
    # What a process needs for any number of series is in the growth up to the smaller size, and not counted twice.
    whole = {0: 0.0, **{size: running[size].ready["residentBytes"] * size for size in sorted(sizes)}}
    further = {b: round((whole[b] - whole[a]) / (b - a)) for a, b in itertools.pairwise(whole)}
    return {
        str(size): {
            "eventsPerSecond": round(BATCH / statistics.median(took[size])),
            "slowest": round(BATCH / max(took[size])),
            "fastest": round(BATCH / min(took[size])),
            "shareOfSmallest": round(statistics.median(a / b for a, b in zip(took[base], took[size], strict=True)), 2),
            "shareOfFastest": round(min(took[base]) / min(took[size]), 2),
            "bytesASeries": round(running[size].ready["residentBytes"]),
            "stateBytes": running[size].ready["stateBytes"],
            "bytesAFurtherSeries": further[size],
            "beside": further[size] - running[size].ready["stateBytes"],
            "coreBytes": running[size].ready["coreBytes"],
        }
        for size in sizes
    }


# ---------------------------------------------------------------------- fits


def fit(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Straight line through the points: slope, value at 0, R², and the change over the range in shares of the mean."""
    slope, start = np.polyfit(x, y, 1)
    rest = np.asarray(y) - (slope * np.asarray(x) + start)
    total = float(((np.asarray(y) - np.mean(y)) ** 2).sum())
    return {
        "slope": float(slope),
        "start": float(start),
        "r2": 1.0 - float((rest**2).sum()) / total if total else 1.0,
        "change": float(slope * (max(x) - min(x)) / np.mean(y)),
    }


def by_events(rounds: int) -> dict[str, Any]:
    """Cost of scoring against events in a batch, 10,000 series."""
    load = Load()
    scorer = scorer_of(10_000, load)
    took: dict[int, list[float]] = {count: [] for count in FIT_EVENTS}
    for _ in range(rounds + 1):
        for count in FIT_EVENTS:
            batch = load.even(10_000, count)
            took[count].append(seconds(lambda batch=batch: scorer.process(batch)))  # type: ignore[misc]
    costs = [statistics.median(took[count][1:]) for count in FIT_EVENTS]
    return {"sizes": FIT_EVENTS, "seconds": costs, **fit(FIT_EVENTS, costs)}


def by_untouched(rounds: int) -> dict[str, Any]:
    """Cost of scoring, and of a checkpoint's delta, of 10,000 touched series against the series that are left alone."""
    loads = {size: Load() for size in FIT_SERIES}
    scorers = {size: scorer_of(size, loads[size]) for size in FIT_SERIES}
    scoring: dict[int, list[float]] = {size: [] for size in FIT_SERIES}
    deltas: dict[int, list[float]] = {size: [] for size in FIT_SERIES}
    for _ in range(rounds + 1):
        for size, scorer in scorers.items():
            batch = loads[size].even(10_000, 20_000)
            mark_clean(scorer)
            scoring[size].append(seconds(lambda scorer=scorer, batch=batch: scorer.process(batch)))  # type: ignore[misc]
            deltas[size].append(seconds(lambda scorer=scorer: encode(scorer, full=False)))  # type: ignore[misc]
    found = {}
    for name, took in (("scoring", scoring), ("checkpoint", deltas)):
        costs = [statistics.median(took[size][1:]) for size in FIT_SERIES]
        found[name] = {"sizes": FIT_SERIES, "seconds": costs, **fit(FIT_SERIES, costs)}
    return found


def checkpoints(rounds: int) -> dict[str, Any]:
    """Cost of a delta by touched series of 100,000, and restoring the base from a file."""
    load, series = Load(), max(TOUCHED)
    scorer = scorer_of(series, load)
    took: dict[int, list[float]] = {count: [] for count in TOUCHED}
    sizes: dict[int, int] = {}
    for _ in range(rounds + 1):
        for count in TOUCHED:
            mark_clean(scorer)
            scorer.process(load.even(count, count))
            began = time.process_time()
            sizes[count] = len(encode(scorer, full=False))
            took[count].append(time.process_time() - began)
    costs = [statistics.median(took[count][1:]) for count in TOUCHED]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "base.snap"
        data = encode(scorer)
        file.write_bytes(data)
        megabytes = len(data) / 1e6
        del data
        readers: dict[str, Callable[[Path], bytes | memoryview]] = {"read": Path.read_bytes, "mapped": _mapped}
        cpu: dict[str, list[float]] = {name: [] for name in readers}
        wall: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(rounds + 1):
            for name, reader in readers.items():
                restored = Scorer(DetectorConfig(max_series=2 * series))
                began, began_wall = time.process_time(), time.perf_counter()
                apply(restored, decode(reader(file)))
                cpu[name].append(time.process_time() - began)
                wall[name].append(time.perf_counter() - began_wall)
                if restored.series_count() != series:
                    raise RuntimeError(f"{restored.series_count()} of {series} series were restored")
                del restored
    return {
        "series": series,
        "touched": TOUCHED,
        "seconds": costs,
        "bytes": [sizes[count] for count in TOUCHED],
        **fit(TOUCHED, costs),
        "restoreMegabytes": round(megabytes, 1),
        "restoreMegabytesPerCpuSecond": round(megabytes / statistics.median(cpu["read"][1:])),
        "restoreMegabytesPerSecond": round(megabytes / statistics.median(wall["read"][1:])),
        "restoreMappedMegabytesPerCpuSecond": round(megabytes / statistics.median(cpu["mapped"][1:])),
    }


def _mapped(file: Path) -> memoryview:
    """The file's bytes where the system keeps them; they are not copied into memory of this process."""
    with file.open("rb") as opened:
        return memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))


class Objects:
    """As much of S3 and of a table as a checkpoint needs, in memory, and the bytes that were put."""

    def __init__(self) -> None:
        self.objects: dict[str, int] = {}
        self.put = 0

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: ARG002, N803
        self.objects[Key] = len(Body)
        self.put += len(Body)

    def put_item(self, **_: Any) -> None:
        """The pointer moves."""

    def list_objects_v2(self, **_: Any) -> dict[str, Any]:
        return {"Contents": [{"Key": key} for key in sorted(self.objects)]}

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> None:  # noqa: ARG002, N803
        for one in Delete["Objects"]:
            self.objects.pop(one["Key"], None)


def chains(sizes: Sequence[int] = FIT_SERIES, touched: int = 200, batches: int = 128) -> dict[str, Any]:
    """What checkpoints write over many batches, in shares of what each batch touched, by all series."""
    found = {}
    for series in sizes:
        load, store = Load(), Objects()
        scorer = scorer_of(series, load, rounds=1)
        checkpoint = Checkpoint(store, store, table="table", bucket="bucket", stream="stream")
        held = Restored(scorer, None, HashRange(), [], [])
        checkpoint.commit("shard", held, "0")
        base, store.put = store.put, 0
        longest = 0
        began, scoring = time.process_time(), 0.0
        for number in range(1, batches + 1):
            before = time.process_time()
            scorer.process(load.hosts(series, touched))
            scoring += time.process_time() - before
            pointer = checkpoint.commit("shard", held, str(number))
            longest = max(longest, len(pointer.chain))
        found[str(series)] = {
            "timesTouched": round(store.put / (batches * touched * base / series), 2),
            "millisecondsABatch": round(1e3 * (time.process_time() - began - scoring) / batches, 2),
            "longestChain": longest,
            "objects": len(store.objects),
        }
    return {"touched": touched, "batches": batches, "sizes": found}


def skew(rounds: int, hot: int = 10, count: int = 20_000) -> dict[str, Any]:
    """Cost of the same number of events on a few hot series against all of them even."""
    load = Load()
    scorer = scorer_of(10_000, load)
    even, few = [], []
    for _ in range(rounds + 1):
        batch = load.even(10_000, count)
        even.append(seconds(lambda batch=batch: scorer.process(batch)))  # type: ignore[misc]
        batch = load.even(hot, count)
        few.append(seconds(lambda batch=batch: scorer.process(batch)))  # type: ignore[misc]
    return {
        "hotSeries": hot,
        "events": count,
        "evenEventsPerSecond": round(count / statistics.median(even[1:])),
        "hotEventsPerSecond": round(count / statistics.median(few[1:])),
        "times": round(statistics.median(b / a for a, b in zip(even[1:], few[1:], strict=True)), 2),
    }


def run(rounds: int = 5, *, million: bool = False) -> dict[str, Any]:
    """All of it; with ``million`` the largest size too, which takes some minutes and 5 GB."""
    return {
        "rates": rates((*SIZES, LARGEST) if million else SIZES, rounds),
        "events": by_events(rounds),
        "untouched": by_untouched(rounds),
        "checkpoints": checkpoints(rounds),
        "chains": chains(),
        "skew": skew(rounds),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Print tables for people."""
    table = Table(title="Decoding and scoring by number of series")
    table.add_column("series", no_wrap=True)
    for name in (
        *("events a CPU second", "slowest\nfastest", "share", "share\nat\nbest"),
        *("bytes a series", "a further series", "beside its state"),
    ):
        table.add_column(name)
    for size, one in found["rates"].items():
        table.add_row(
            f"{int(size):,}", f"{one['eventsPerSecond']:,}", f"{one['slowest']:,}\n{one['fastest']:,}",
            f"{one['shareOfSmallest']:.2f}", f"{one['shareOfFastest']:.2f}", f"{one['bytesASeries']:,}",
            f"{one['bytesAFurtherSeries']:,}", f"{one['beside']:,}",
        )  # fmt: skip
    console.print(table)
    table = Table("fit", "sizes", "ms", "a thousand", "R²", "change over the range", title="Straight lines")
    lines = {
        "scoring by events": found["events"],
        "scoring by untouched series": found["untouched"]["scoring"],
        "checkpoint by untouched series": found["untouched"]["checkpoint"],
        "checkpoint by touched series": {**found["checkpoints"], "sizes": found["checkpoints"]["touched"]},
    }
    for name, one in lines.items():
        table.add_row(
            name, " ".join(f"{size:,}" for size in one["sizes"]), " ".join(f"{1e3 * s:.1f}" for s in one["seconds"]),
            f"{1e6 * one['slope']:.3f} ms", f"{one['r2']:.4f}", f"{one['change']:+.0%}",
        )  # fmt: skip
    console.print(table)
    many = found["chains"]
    table = Table("series", "times what was touched", "ms a batch", "longest chain", "objects")
    table.title = f"Checkpoints of {many['batches']} batches that touch {many['touched']} series each"
    for size, one in many["sizes"].items():
        table.add_row(
            f"{int(size):,}", f"{one['timesTouched']}", f"{one['millisecondsABatch']}", f"{one['longestChain']}",
            f"{one['objects']}",
        )  # fmt: skip
    console.print(table)
    kept, hot = found["checkpoints"], found["skew"]
    console.print(
        f"restoring {kept['restoreMegabytes']:,} MB of {kept['series']:,} series from a file: "
        f"{kept['restoreMegabytesPerCpuSecond']} MB a CPU second, {kept['restoreMegabytesPerSecond']} MB/s; "
        f"{kept['restoreMappedMegabytesPerCpuSecond']} MB a CPU second where the file is mapped, not read"
    )
    console.print(
        f"{hot['events']:,} events on {hot['hotSeries']} series cost {hot['times']} times the even case "
        f"({hot['hotEventsPerSecond']:,} against {hot['evenEventsPerSecond']:,} events a CPU second, scoring alone)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what the number of series and their skew cost.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--million", action="store_true", help="a million series too: some minutes and 5 GB")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    found = run(options.rounds, million=options.million)
    tell(found, show, as_json=options.json)


if __name__ == "__main__":
    main()
