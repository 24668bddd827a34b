"""Timing in turns: the contestants of a benchmark run interleaved, so that a drifting machine is fair to all."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console


@dataclass(slots=True)
class Timed:
    """CPU seconds of each round of one contestant."""

    name: str
    work: int
    seconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Median work a second of CPU time."""
        return self.work / statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Slowest and fastest round, as work a second."""
        return self.work / max(self.seconds), self.work / min(self.seconds)


def in_turns(contestants: dict[str, Callable[[], object]], work: int, rounds: int) -> dict[str, Timed]:
    """Run every contestant once to warm up, then all of them ``rounds`` times in turn."""
    results = {name: Timed(name, work) for name in contestants}
    for run in contestants.values():
        run()
    for _ in range(rounds):
        for name, run in contestants.items():
            began = time.process_time()
            run()
            results[name].seconds.append(time.process_time() - began)
    return results


def ratio(ours: Timed, base: Timed) -> float:
    """Median of the round-by-round ratios of speed, ours to the baseline's."""
    pairs = zip(base.seconds, ours.seconds, strict=True)
    return statistics.median(b / o * ours.work / base.work for b, o in pairs)


def tell(found: dict[str, Any], show: Callable[[dict[str, Any], Console], None], *, as_json: bool) -> None:
    """Print what a benchmark found, for people or as JSON."""
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        show(found, Console())
