"""``python -m benchmarks.verdicts``: what marking every false page does to later false pages, and to real faults."""

from __future__ import annotations

import argparse

from agents.simulator import DAY, Fault, Fleet
from benchmarks.rarity import START, batches
from schemas.events import Feedback
from schemas.insights import PAGING_SEVERITIES, Insight
from stream_processors.records.batch import PlacedSignal
from stream_processors.scoring import Scorer

AFTER = 3_600_000
"""A page so long after a fault still is of it."""
KINDS = ("spike", "shift", "leak", "seasonal-break")


def of(insight: Insight, faults: list[Fault]) -> Fault | None:
    """The fault that an insight is about."""
    return next(
        (
            one
            for one in faults
            if one.host == insight.resource
            and one.metric in (insight.metric, "*")
            and one.start <= insight.opened_at <= one.end + AFTER
        ),
        None,
    )


def run(fleet: Fleet, days: int, *, marked: bool) -> tuple[int, int, int, int]:
    """False pages of both halves, and of the second half the faults that paged and those that were reported at all."""
    scorer, paged, signals = Scorer(watch_silence=False), set[str](), []
    false, found, reported = [0, 0], set[Fault](), set[Fault]()
    half = START + days * DAY // 2
    for batch in batches(fleet, START, days):
        batch.signals = [PlacedSignal(0, 0, 0, 0, one) for one in signals]
        signals = []
        for one in scorer.process(batch).insights:
            fault = of(one, fleet.truth) if one.kind == "anomaly" else None
            if fault is not None:
                reported.add(fault)
            if one.kind != "anomaly" or one.severity not in PAGING_SEVERITIES or one.insight_id in paged:
                continue
            paged.add(one.insight_id)
            if fault is not None:
                found.add(fault)
                continue
            false[one.opened_at >= half] += 1
            if marked:
                signals.append(Feedback(one.resource, one.metric, "false-positive", one.peak_at, one.insight_id))
    late = [sum(one.start >= half for one in faults) for faults in (found, reported)]
    return false[0], false[1], late[0], late[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts", description=__doc__)
    parser.add_argument("--hosts", type=int, default=30)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--faults", type=int, default=120)
    parser.add_argument("--seed", type=int, default=31)
    given = parser.parse_args()
    for varied in (False, True):
        fleet = Fleet(
            hosts=given.hosts, seed=given.seed, start=START, end=START + given.days * DAY, varied=varied,
            faults=given.faults, kinds=KINDS,
        )  # fmt: skip
        late = sum(one.start >= START + given.days * DAY // 2 for one in fleet.truth)
        print(f"{'varied' if varied else 'smooth'} fleet, {given.hosts} hosts, {given.days} days:")
        for marked in (False, True):
            first, second, found, reported = run(fleet, given.days, marked=marked)
            how = "every false page marked" if marked else "nothing marked         "
            print(f"  {how}: {first} + {second} false pages by half;", end=" ")
            print(f"of {late} faults of the second half {found} paged, {reported} were reported")


if __name__ == "__main__":
    main()
