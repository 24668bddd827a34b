"""``python -m benchmarks [--rounds N] [--json]``: run the benchmarks and print their ratios."""

from __future__ import annotations

import argparse

from benchmarks import pipeline
from benchmarks.measure import tell


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures OpsRiver against a baseline in the same run.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = pipeline.run(options.series, options.events, options.rounds)
    tell(found, pipeline.show, as_json=options.json)


if __name__ == "__main__":
    main()
