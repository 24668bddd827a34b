"""``python -m benchmarks.correlations``: broken relations found, false alarms on fleets without faults, and the cost."""

from __future__ import annotations

import argparse
import time

import numpy as np

from agents.simulator import Fleet
from benchmarks import load, pipeline
from stream_processors.correlations import Correlations
from stream_processors.detectors.correlation import CorrelationBank
from stream_processors.scoring import Scorer
from tests.support.related import DAY, START, decouple, related, run

MINUTE = 60_000


def found(hosts: int = 100) -> None:
    """Breaks of three hours on hosts whose four metrics follow one load, one sample in five minutes."""
    for noise in (0.2, 0.3, 0.5, 0.8):
        rng = np.random.default_rng(1)
        values, rhythm = related(rng, hosts, 14, noise)
        start = 11 * DAY + 40
        decouple(rng, values, rhythm, 2, start, 36)
        hit, named, wrong, delay = 0, 0, 0, []
        for told in run(values):
            for at, one in told:
                if one.what != "raised":
                    continue
                if start <= at < start + 40:
                    hit, named = hit + 1, named + (one.lane == 2)
                    delay.append((at - start) * 5)
                else:
                    wrong += 1
        print(
            f"own noise {noise} of the load: {hit} of {hosts} found, {named} named right, "
            f"median after {np.median(delay) if delay else 0:.0f} min; {wrong} false on {hosts} hosts in 14 days"
        )


def clean(hosts: int, days: int) -> None:
    """Insights on the simulator's fleets without faults."""
    for varied in (False, True):
        end = START + days * DAY * 5 * MINUTE
        fleet = Fleet(hosts=hosts, seed=1, start=START, end=end, varied=varied)
        times, values = fleet.columns(START, end)
        bank, count = CorrelationBank(), 0
        for _ in range(hosts):
            bank.add()
        host, lane = np.repeat(np.arange(hosts), 4), np.tile(np.arange(4), hosts)
        for at, stamp in enumerate(times.tolist()):
            one = values[:, :, at].ravel()
            there = np.flatnonzero(np.isfinite(one))
            told = bank.step(host[there], lane[there], np.full(len(there), stamp), one[there])[0]
            count += sum(each.what == "raised" for each in told)
        print(f"{'varied' if varied else 'smooth'} fleet: {count} on {hosts} hosts in {days} days without a broken relation")


def cost() -> None:
    """Share of the whole path, 10,000 series on 1,000 hosts, one sample a minute."""
    spent, step = 0.0, Correlations.step

    def timed(*given: object) -> None:
        nonlocal spent
        begin = time.thread_time()
        step(*given)  # type: ignore[arg-type]
        spent += time.thread_time() - begin

    Correlations.step = timed  # type: ignore[method-assign, assignment]
    scorer, template, used, whole = Scorer(), load.events(10_000, 200_000), 0.0, 0.0
    for stretch in range(4):
        work = load.records([(key, pipeline._later(data, stretch * 21 * MINUTE)) for key, data in template])
        spent, begin = 0.0, time.thread_time()
        pipeline.ours(work, scorer)
        if stretch:
            used, whole = used + spent, whole + time.thread_time() - begin
    Correlations.step = step  # type: ignore[method-assign]
    print(f"cost: {used / whole:.1%} of the whole path, {used / 600_000 * 1e9:.0f} ns an event")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description="Measures broken relations.")
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--days", type=int, default=28)
    options = parser.parse_args()
    found()
    clean(options.hosts, options.days)
    cost()


if __name__ == "__main__":
    main()
