"""``python -m benchmarks.trends [--hosts N] [--days D]``: predictions on leaks and on fleets without any, and their cost."""

from __future__ import annotations

import argparse
import time

import numpy as np

from agents.simulator import Fleet
from benchmarks import load, pipeline
from stream_processors.detectors.trend import Forecast, TrendBank
from stream_processors.predictions import Predictions
from stream_processors.scoring import Scorer
from tests.support.leaks import DAY, HOUR, MINUTE, START, leak, raised, run, teeth

LEAKS = {
    # shape, shortest and longest leak, noise, daily rhythm
    "linear, hours": ("linear", 3 * HOUR, 20 * HOUR, 0.5, 0.0),
    "linear, days": ("linear", 36 * HOUR, 8 * DAY, 0.5, 0.0),
    "step-wise, hours": ("step-wise", 6 * HOUR, 30 * HOUR, 0.3, 0.0),
    "step-wise, days": ("step-wise", 2 * DAY, 8 * DAY, 0.3, 0.0),
    "noisy": ("linear", 10 * HOUR, 4 * DAY, 4.0, 0.0),
    "accelerating": ("accelerating", 6 * HOUR, 5 * DAY, 0.5, 0.0),
    "slowing": ("slowing", 6 * HOUR, 5 * DAY, 0.5, 0.0),
    "with a rhythm, hours": ("linear", 5 * HOUR, 20 * HOUR, 0.5, 8.0),
    "with a rhythm, days": ("linear", 2 * DAY, 8 * DAY, 0.5, 8.0),
    "slow fill": ("linear", 9 * DAY, 25 * DAY, 0.5, 2.0),
}


def leaks(count: int = 40, seed: int = 7) -> None:
    """How many leaks are foretold, how early, and how often the interval held the truth."""
    print(f"{'leak':22} foretold  again  before it began  interval held  warned at (share of the leak)  time told / true")
    sums = [0, 0, 0]
    for name, (shape, shortest, longest, noise, daily) in LEAKS.items():
        rng = np.random.default_rng(seed)
        made = [
            leak(
                rng, shape, int(rng.uniform(shortest, longest)), quiet=int(rng.uniform(4, 10) * DAY), cadence=MINUTE,
                noise=noise, daily=daily,
            )
            for _ in range(count)
        ]  # fmt: skip
        held, again, early, when, ratio = 0, 0, 0, [], []
        for told, (_, begin, full) in zip(run([one[0] for one in made], MINUTE), made, strict=True):
            found = [(at, forecast) for at, forecast in raised(told) if at < full]
            early += sum(at < begin for at, _ in found)
            found = [(at, forecast) for at, forecast in found if at >= begin]
            again += max(0, len(found) - 1)
            if found:
                at, forecast = found[0]
                held += forecast.earliest <= START + full <= forecast.latest
                when.append((at - begin) / (full - begin))
                ratio.append((forecast.at - START - at) / (full - at))
        sums = [sums[0] + len(when), sums[1] + held, sums[2] + count]
        print(
            f"{name:22} {len(when):3} of {count}  {again:4}  {early:8}  {held:14} of {len(when)}"
            f"  {np.median(when):12.0%}, latest {max(when):.0%}  {np.quantile(ratio, [0.1, 0.5, 0.9]).round(2)}"
        )
    print(f"all: {sums[0]} of {sums[2]} foretold, the interval held {sums[1]} times ({sums[1] / sums[0]:.0%})")


def harmless(hosts: int, days: int) -> None:
    """Predictions on the simulator's fleets without faults, and on hard cases made here."""
    print("\npredictions a series and month where nothing leaks")
    metrics = ("memoryUsage", "diskUsage", "heapUsage", "cpuUsage")
    for varied in (False, True):
        fleet = Fleet(hosts=hosts, seed=1, start=START, end=START + days * DAY, metrics=metrics, varied=varied)
        _, values = fleet.columns(START, START + days * DAY)
        for lane, metric in enumerate(metrics):
            count = sum(len(raised(told)) for told in run(list(values[:, lane]), MINUTE))
            name = f"{'varied' if varied else 'smooth'} fleet, {metric}"
            print(f"{name:30} {count * 30 / days / hosts:.3f}  ({count} on {hosts} hosts in {days} days)")
    rng = np.random.default_rng(1)
    size = 28 * 1440
    shapes = {
        "saw of 1 to 10 h, +-10 %": lambda: teeth(
            rng, size, rng.uniform(60, 600), rng.uniform(20, 50), rng.uniform(60, 90), 0.1
        ),
        "saw of 1 to 10 h, +-25 %": lambda: teeth(
            rng, size, rng.uniform(60, 600), rng.uniform(20, 50), rng.uniform(55, 80), 0.25
        ),
        "saw of half a day to 2 days": lambda: teeth(rng, size, rng.uniform(720, 2880), 40, rng.uniform(60, 90), 0.02),
        "saw of a week": lambda: teeth(rng, size, 7 * 1440, 40, rng.uniform(60, 90), 0.0),
        "random walk": lambda: np.clip(
            rng.uniform(50, 80) + np.cumsum(rng.normal(size=size)) * rng.uniform(0.02, 0.05), 0, 100
        ),
    }
    for name, make in shapes.items():
        found = [at for told in run([make() for _ in range(40)], MINUTE) for at, _ in raised(told)]
        print(
            f"{name:30} {len(found) / 40 * 30 / 28:.3f}  ({sum(at < 9 * DAY for at in found)} of {len(found)} in nine days)"
        )


def cost() -> None:
    """Share of the whole path where no series has a limit, and where all have."""
    print("\ncost on the whole path of a scorer and an archiver, 10,000 series, one sample a minute")
    spent = 0.0
    step = Predictions.step

    def timed(*given: object) -> None:
        nonlocal spent
        begin = time.thread_time()
        step(*given)  # type: ignore[arg-type]
        spent += time.thread_time() - begin

    Predictions.step = timed  # type: ignore[method-assign, assignment]
    for name, metric in (("no series has a limit", b"metric.number."), ("all have one", b"memory.used.")):
        scorer, used, whole = Scorer(), 0.0, 0.0
        template = [(key, data.replace(b"metric.number.", metric)) for key, data in load.events(10_000, 200_000)]
        for stretch in (0, 1, 150, 151, 152):  # two days later the series are old enough to be judged
            work = load.records([(key, pipeline._later(data, stretch * 21 * MINUTE)) for key, data in template])
            spent, begin = 0.0, time.thread_time()
            pipeline.ours(work, scorer)
            if stretch > 150:
                used, whole = used + spent, whole + time.thread_time() - begin
        print(f"{name:24} {used / whole:.2%}, {used / 400_000 * 1e9:.0f} ns an event")
    Predictions.step = step  # type: ignore[method-assign]


def mass() -> None:
    """The worst: all series of a large shard leak at once."""
    bank = TrendBank()
    rows = np.array([bank.add(100.0, 1.0) for _ in range(2_000)])
    rng = np.random.default_rng(1)
    spent, told = 0.0, list[Forecast]()
    for minute in range(0, 4 * 1440, 2):
        values = 50 + np.maximum(0, minute - 3 * 1440) / 60 * 1.5 + rng.normal(size=len(rows))
        begin = time.thread_time()
        told += bank.step(rows, np.full(len(rows), START + minute * MINUTE), values)
        spent += (time.thread_time() - begin) * (minute >= 3 * 1440)
    count = sum(forecast.what == "raised" for forecast in told)
    print(f"all leak at once         {spent / len(rows) * 1000:.1f} ms a series and day ({count} of {len(rows)} foretold)")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description="Measures predictions.")
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--days", type=int, default=28)
    options = parser.parse_args()
    leaks()
    harmless(options.hosts, options.days)
    cost()
    mass()


if __name__ == "__main__":
    main()
