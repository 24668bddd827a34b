"""Kills the scorer, the publisher, the event source mapper and the agent, and counts what that did.

``python -m tests.chaos --rounds 200 --seed 1 --json build/chaos.json``: so many rounds of the scorer,
the others in proportion. Ends with status 1 where anything was lost, doubled without cause, or differs.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.chaos import agent, mapper, publisher, scorer

PARTS: dict[str, tuple[Any, float]] = {
    "scorer": (scorer, 1.0), "publisher": (publisher, 0.2), "mapper": (mapper, 0.2), "agent": (agent, 0.05),
}  # fmt: skip
"""Each part's module, and its rounds for one of the scorer's."""


def kills(report: dict[str, Any]) -> int:
    """Kills of one part's report."""
    return int(report["kills"] if "kills" in report else sum(row["kills"] for row in report["points"].values()))


def main() -> int:
    """Run all parts."""
    from rich.console import Console
    from rich.progress import Progress

    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=200, help="rounds of the scorer; the others in proportion")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part; may be repeated")
    parser.add_argument("--json", type=Path, help="write the report to this file")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; it must be at least 1")
    console = Console(width=max(150, Console().width))
    reports: dict[str, Any] = {}
    for name in options.only or PARTS:
        module, share = PARTS[name]
        rounds = math.ceil(options.rounds * share)
        with tempfile.TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(name, total=rounds)
            report = module.chaos(rounds, options.seed, Path(folder), lambda n: progress.update(task, completed=n))  # noqa: B023
        reports[name] = {**report, "clean": module.clean(report)}
        console.print(module.table(report))
        told = "nothing lost, doubled without cause or different" if module.clean(report) else "DIFFERENCES, see above"
        console.print(f"{kills(report)} kills in {rounds} rounds, {report['seconds']} s: {told}\n")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(reports, indent=1))
    return 0 if all(report["clean"] for report in reports.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
