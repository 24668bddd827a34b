"""``python -m benchmarks.snapshots``: what a delta costs against a base, by the share of series a batch touches."""

from __future__ import annotations

import argparse
import time

from rich.console import Console
from rich.table import Table

from benchmarks.load import START
from stream_processors.records.batch import EventBatch, Shared
from stream_processors.scoring import Scorer
from stream_processors.state.snapshot import apply, decode, encode, mark_clean


def batch(count: int, minute: int) -> EventBatch:
    """One event of each of the first ``count`` series."""
    made = EventBatch()
    for one in range(count):
        made.resource.append(f"host-{one // 10}")
        made.shared.append(Shared(f"metric-{one % 10}", f"metric-{one % 10}"))
        made.timestamp.append(START + minute * 60_000)
        made.value.append(50.0 + one % 7)
    made.arrival = made.timestamp
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=10_000)
    options = parser.parse_args()
    scorer = Scorer()
    for minute in range(3):
        scorer.process(batch(options.series, minute))
    table = Table("series touched", "delta MB", "base MB", "base to delta", "delta ms", "base ms", "load base MB/s")
    for step, share in enumerate((0.01, 0.1, 1.0)):
        mark_clean(scorer)
        scorer.process(batch(int(options.series * share), 10 + step))
        began = time.process_time()
        delta = encode(scorer, full=False)
        between = time.process_time()
        base = encode(scorer)
        ended = time.process_time()
        apply(Scorer(), decode(base))
        loaded = time.process_time() - ended
        table.add_row(
            f"{share:.0%}", f"{len(delta) / 1e6:.2f}", f"{len(base) / 1e6:.2f}", f"{len(base) / len(delta):.1f}",
            f"{(between - began) * 1e3:.0f}", f"{(ended - between) * 1e3:.0f}", f"{len(base) / 1e6 / loaded:.0f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
