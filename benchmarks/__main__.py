"""``python -m benchmarks [--rounds N] [--json]``: run the benchmarks and print their ratios."""

from __future__ import annotations

import argparse
import json

from rich.console import Console
from rich.table import Table

from benchmarks import pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures OpsRiver against a baseline in the same run.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = pipeline.run(options.series, options.events, options.rounds)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    table = Table(
        "path", "events a CPU second", "slowest", "fastest", title=f"{found['events']:,} events, {found['series']:,} series"
    )
    for name, one in found["contestants"].items():
        table.add_row(name, f"{one['eventsPerSecond']:,}", f"{one['slowest']:,}", f"{one['fastest']:,}")
    console = Console()
    console.print(table)
    console.print(f"{found['ratio']} times the baseline (median of {found['rounds']} rounds, run in turns)")


if __name__ == "__main__":
    main()
