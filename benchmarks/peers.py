"""``python -m benchmarks.peers [--json]``: ours against Bytewax and Faust, in turns, in CPU time.

Each peer runs in an environment of its own under ``build/peers``, made from ``requirements/peers-*.lock``,
as a process that stays up, so that neither its start nor its imports are counted. What each does:

* Bytewax: deaggregates with aws-kinesis-agg, ``json.loads``, a stateful map by series, GaussianScorer.
* Faust: the same in a stream over an iterable in memory, which is its cheapest input.
* OpsRiver, same work: deaggregates with MD5 checked, validates, scores with the default detector.
* OpsRiver, whole path: that, and insights, and Parquet.

``aggregated`` is this. ``plain`` gives a peer the JSON texts as they are, without KPL, while ours still
starts at the records. ``one by one`` does so with Bytewax's default for test sources, a batch of one
item; the other rows give it batches of 1,000 events, which suits it best.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import peer
from benchmarks.child import Child, Ended
from benchmarks.load import events, records
from benchmarks.measure import Timed, ratio, tell
from benchmarks.path import Stretches, same_work, whole_path

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {"bytewax": 10.0, "faust": 4.0}
KINDS = {"bytewax": ("aggregated", "plain", "one by one"), "faust": ("aggregated", "plain")}
OURS, OURS_SAME = "opsriver, whole path", "opsriver, same work"


class NotInstalled(RuntimeError):
    """A peer's environment cannot be made on this Python."""


def seconds(child: Child, kind: str) -> float:
    """CPU seconds of one run of a peer over the work."""
    found = child.ask(kind)
    if found["events"] != child.ready["ready"]:
        raise RuntimeError(f"{child.name} gave {found['events']} of {child.ready['ready']} events")
    return float(found["seconds"])


def python(name: str) -> Path:
    return ROOT / "build" / "peers" / name / "bin" / "python"


def install(name: str) -> None:
    """Make a peer's environment, where it is not there or its requirements have changed.

    Raises NotInstalled with the installer's last line.
    """
    lock = ROOT / "requirements" / f"peers-{name}.lock"
    folder = python(name).parents[1]
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == lock.read_text():
        return
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python(name)), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps",
         "--only-binary", ":all:", "--require-hashes", "-r", str(lock)],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
            version = ".".join(map(str, sys.version_info[:3]))
            raise NotInstalled(f"{name} does not install on Python {version}: {lines[-1].removeprefix('ERROR: ')}")
    stamp.write_text(lock.read_text())


def run(series: int = 10_000, count: int = 200_000, rounds: int = 5) -> dict[str, Any]:
    """Install, warm up, then run all in turns."""
    from stream_processors.scoring import Scorer

    work = ROOT / "build" / "peers" / "work.bin"
    work.parent.mkdir(parents=True, exist_ok=True)
    peer.write(work, [(one.partition_key, one.data) for one in records(events(series, count))])
    missing: dict[str, str] = {}
    running: dict[str, Child] = {}
    try:
        for name in TARGETS:
            try:
                install(name)
                command = [str(python(name)), str(ROOT / "benchmarks" / f"peer_{name}.py"), str(work)]
                running[name] = Child(name, command, work.parent)
            except (NotInstalled, Ended) as reason:
                missing[name] = str(reason)
        timed = {
            one: Timed(one, count)
            for one in (OURS, OURS_SAME, *(f"{name}, {kind}" for name in running for kind in KINDS[name]))
        }
        stretches = iter(Stretches(series, count))
        scorer = Scorer()
        for step in range(rounds + 1):  # the first warms up
            for name, seconds in _round(running, scorer, stretches):
                if step:
                    timed[name].seconds.append(seconds)
    finally:
        for one in running.values():
            one.close()
    return _result(timed, running, missing, series, count)


def _round(running: dict[str, Child], scorer: Any, stretches: Iterator[Any]) -> Iterator[tuple[str, float]]:
    for name, does in ((OURS, whole_path), (OURS_SAME, same_work)):
        batch = next(stretches)
        began = time.process_time()
        does(batch, scorer)
        yield name, time.process_time() - began
    for name, child in running.items():
        for kind in KINDS[name]:
            yield f"{name}, {kind}", seconds(child, kind)


def _result(
    timed: dict[str, Timed], running: dict[str, Child], missing: dict[str, str], series: int, count: int
) -> dict[str, Any]:
    return {
        "series": series,
        "events": count,
        "python": ".".join(map(str, sys.version_info[:3])),
        "contestants": {
            name: {"eventsPerSecond": round(one.rate), "slowest": round(one.spread[0]), "fastest": round(one.spread[1])}
            for name, one in timed.items()
        },
        "ratios": {
            f"{ours} to {name}, {kind}": round(ratio(timed[ours], timed[f"{name}, {kind}"]), 2)
            for name in running
            for kind in KINDS[name]
            for ours in (OURS, OURS_SAME)
        },
        "targets": TARGETS,
        "notInstalled": missing,
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Print tables for people."""
    table = Table(
        "who", "events a CPU second", "slowest", "fastest",
        title=f"Peers: {found['events']:,} events, {found['series']:,} series, Python {found['python']}",
    )  # fmt: skip
    for name, one in found["contestants"].items():
        table.add_row(name, f"{one['eventsPerSecond']:,}", f"{one['slowest']:,}", f"{one['fastest']:,}")
    console.print(table)
    for name, value in found["ratios"].items():
        console.print(f"{name}: {value} times")
    for reason in found["notInstalled"].values():
        console.print(reason)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures OpsRiver against Bytewax and Faust in the same run.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(options.series, options.events, options.rounds)
    tell(found, show, as_json=options.json)


if __name__ == "__main__":
    main()
