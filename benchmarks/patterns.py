"""Pages of a simulated fleet on which many hosts share a fault, and some run a job each night.

    opsriver simulate --hosts 40 --days 14 --faults 0 --varied --start 1750032000 --out build/clean
    python -m benchmarks.patterns build/clean

On day 10 at 11:00 a metric rises on half of the hosts, detected by each in its own time, for 30 minutes. Every night
at about 02:10 the same metric rises for 15 minutes on three of the other hosts. Both by ten standard deviations of
the metric's own changes from sample to sample.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np

from opsriver.fleets import DAY, Fleet, insights_of, load
from schemas.insights import PAGING_SEVERITIES, Insight
from stream_processors.detectors.config import DetectorConfig

MINUTE = 60_000


def disturbed(fleet: Fleet, metric: str, *, shared: int, jobs: int, seed: int = 1) -> tuple[set[str], set[str]]:
    """Add a shared fault and nightly jobs to a fleet; returns the hosts of each."""
    rng = np.random.default_rng(seed)
    hosts = [str(host) for host in rng.permutation(fleet.hosts)]
    faulty, working = set(hosts[:shared]), set(hosts[shared : shared + jobs])
    begin = fleet.span[0] // DAY * DAY
    for number, (host, name) in enumerate(fleet.names):
        if name != metric or host not in faulty | working:
            continue
        t, v = fleet.times[number], fleet.values[number]
        size = 10.0 * float(np.std(np.diff(v))) / np.sqrt(2.0)
        starts = [10 * DAY + 11 * 60 * MINUTE] if host in faulty else []
        if host in working:
            starts = [day * DAY + 130 * MINUTE + int(rng.integers(-3, 4)) * MINUTE for day in range(15)]
        for start in starts:
            inside = (t >= begin + start) & (t < begin + start + (30 if host in faulty else 15) * MINUTE)
            v[inside] += size
    return faulty, working


def pages(insights: list[Insight]) -> list[Insight]:
    """Notifications to people: insights that open as, or become, HIGH or CRITICAL."""
    return [one for one in insights if one.severity in PAGING_SEVERITIES and one.transition in ("opened", "escalated")]


def main() -> None:
    """Print the figures as JSON, one line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fleet", type=Path)
    parser.add_argument("--metric", default="cpuUsage")
    given = parser.parse_args()
    for case in ("clean", "shared fault", "jobs"):
        fleet = load(given.fleet)
        counts = {"clean": (0, 0), "shared fault": (len(fleet.hosts) // 2, 0), "jobs": (0, 3)}[case]
        faulty, working = disturbed(fleet, given.metric, shared=counts[0], jobs=counts[1])
        insights, speed, _ = insights_of(fleet, DetectorConfig())
        about = faulty | working
        begin = fleet.span[0] // DAY * DAY + 10 * DAY + 11 * 60 * MINUTE
        found = pages(insights)
        mine = [one for one in found if one.resource in about and one.metric == given.metric]
        if faulty:
            mine = [one for one in mine if begin <= one.peak_at < begin + 60 * MINUTE]
        print(
            json.dumps(
                {
                    "case": case,
                    "pages": len(found),
                    "pagesOfTheCase": len(mine),
                    "byKind": dict(Counter(one.kind for one in mine)),
                    "patterns": dict(
                        Counter(one.kind for one in insights if one.kind in ("group", "recurrence") and one.revision == 1)
                    ),
                    "eventsASecond": round(speed),
                }
            ),
            flush=True,
        )
        for one in insights:
            if one.kind in ("group", "recurrence") and one.transition == "opened":
                print(f"  {one.severity}: {one.message}", flush=True)


if __name__ == "__main__":
    main()
