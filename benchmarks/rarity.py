"""``python -m benchmarks.rarity``: whether "about once in N days for this series" is so, on fleets without faults."""

from __future__ import annotations

import argparse
import re
from array import array
from collections.abc import Iterator

import numpy as np

from agents.simulator import DAY, METRICS, Fleet
from schemas.insights import Insight
from stream_processors.records.batch import EventBatch, Shared
from stream_processors.scoring import Scorer

START = 1_790_000_000_000 - 1_790_000_000_000 % DAY
SETTLED = 3
"""Days of a series that are left out: it pages more while it is young."""
SCORES = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)
DAYS = (1, 2, 3, 7, 14, 30, 60, 100, 365)
_UNITS = {"s": 1 / 86_400, "min": 1 / 1_440, "h": 1 / 24, "days": 1.0}


def batches(fleet: Fleet, start: int, days: int) -> Iterator[EventBatch]:
    """The samples of a fleet, six hours a batch."""
    names = [(host, Shared(metric, metric)) for host in fleet.names for metric in METRICS]
    for begin in range(start, start + days * DAY, DAY // 4):
        times, values = fleet.columns(begin, begin + DAY // 4)
        by_time = values.reshape(len(names), -1).T
        at, which = np.nonzero(np.isfinite(by_time))
        stamps = array("q", times[at].tobytes())
        yield EventBatch(
            resource=[names[one][0] for one in which], shared=[names[one][1] for one in which], timestamp=stamps,
            arrival=stamps, value=array("d", by_time[at, which].tobytes()),
        )  # fmt: skip


def insights(hosts: int, days: int, seed: int, *, varied: bool) -> list[Insight]:
    """Insights about single series of a fleet without faults, in order, with one sample a minute."""
    fleet = Fleet(hosts=hosts, seed=seed, start=START, end=START + days * DAY, varied=varied)
    scorer = Scorer(watch_silence=False)
    found = [one for batch in batches(fleet, START, days) for one in scorer.process(batch).insights]
    return [one for one in found if one.kind == "anomaly"]


def stated(rarity: str) -> float:
    """Days of a rarity in words."""
    told = re.match(r"about once in (\d+) (\w+)", rarity)
    return float(told[1]) * _UNITS[told[2]] if told else 3 * 365.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rarity", description=__doc__)
    parser.add_argument("--hosts", type=int, default=30)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22])
    given = parser.parse_args()
    series_days = given.hosts * len(METRICS) * (given.days - SETTLED)
    for varied in (False, True):
        for seed in given.seeds:
            best: dict[str, float] = {}
            told: dict[str, float] = {}
            for one in insights(given.hosts, given.days, seed, varied=varied):
                if one.opened_at < START + SETTLED * DAY:
                    continue
                best[one.insight_id] = one.score
                if one.transition != "closed":
                    told[one.insight_id] = stated(one.rarity)
            print(
                f"{'varied' if varied else 'smooth'} fleet, seed {seed}: {len(best)} insights in {series_days:,} series-days"
            )
            score, wait = np.array(list(best.values())), np.array(list(told.values()))
            print("  days between insights of at least this score:", _rates(score, SCORES, series_days))
            print("  stated at least, and really once in (days):  ", _rates(wait, DAYS, series_days))


def _rates(found: np.ndarray, marks: tuple[float, ...], series_days: int) -> str:
    counts = {mark: int((found >= mark).sum()) for mark in marks}
    return ", ".join(
        f"{mark:g}: {series_days / count:.1f} ({count})" if count else f"{mark:g}: none" for mark, count in counts.items()
    )


if __name__ == "__main__":
    main()
