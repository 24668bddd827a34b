"""Compares what was alerted with the ground truth. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from agents.simulator import Fault, Fleet
from opsriver.demo.story import CADENCE
from schemas.insights import PAGING_SEVERITIES, Insight

SLACK = 6 * CADENCE
"""How long after a fault's end an insight still counts for it."""


@dataclass(slots=True)
class Verdict:
    """Faults by what became of them, and alerts that were about nothing."""

    paged: list[Fault] = field(default_factory=list)
    seen: list[Fault] = field(default_factory=list)
    missed: list[Fault] = field(default_factory=list)
    false_live: list[Insight] = field(default_factory=list)
    false_history: list[Insight] = field(default_factory=list)
    at_harmless: list[Insight] = field(default_factory=list)


def judge(fleet: Fleet, live: int, insights: Iterable[Insight], hosts: set[str]) -> Verdict:
    """Sort the fleet's faults and paging insights. ``live`` is epoch ms; ``hosts`` are the fleet's."""
    verdict = Verdict()
    mine = [i for i in insights if i.resource in hosts]
    explained: set[str] = set()
    groups = {i.insight_id for i in mine if i.kind == "group" and i.severity in PAGING_SEVERITIES}
    for fault in fleet.truth:
        about = [
            i for i in mine
            if i.resource == fault.host and fault.start - CADENCE <= max(i.timestamp, i.peak_at)
            and i.timestamp <= fault.end + SLACK
        ]  # fmt: skip
        explained |= {i.insight_id for i in about} | {group for i in about for group in i.related}
        if any(i.severity in PAGING_SEVERITIES or not groups.isdisjoint(i.related) for i in about):
            verdict.paged.append(fault)
        elif about:
            verdict.seen.append(fault)
        else:
            verdict.missed.append(fault)
    for insight in mine:
        if insight.severity not in PAGING_SEVERITIES or insight.insight_id in explained:
            continue
        near = any(
            h.host == insight.resource and h.start - CADENCE <= insight.timestamp <= h.end + SLACK for h in fleet.harmless
        )
        if near:
            verdict.at_harmless.append(insight)
        elif insight.timestamp >= live:
            verdict.false_live.append(insight)
        else:
            verdict.false_history.append(insight)
    return verdict
