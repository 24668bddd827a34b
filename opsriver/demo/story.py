"""What happens in the demo's fleet: days of history, then faults at known steps. Pure."""

from __future__ import annotations

from agents.simulator import DAY, MINUTE, Fault, Fleet

CADENCE = 5 * MINUTE
HISTORY_DAYS = 3
STEPS = 60
"""Samples of each host in the live part."""
_PLOT = (
    # host, metric, kind, first step, steps, size in standard deviations
    (3, "cpuUsage", "spike", 12, 2, 12.0),
    (7, "*", "silence", 14, 12, 6.0),
    (11, "memoryUsage", "shift", 16, 20, 14.0),
    (15, "networkIO", "spike", 20, 2, 12.0),
    (19, "networkIO", "seasonal-break", 22, 18, 14.0),
    (23, "memoryUsage", "leak", 14, 40, 10.0),
    (27, "*", "silence", 26, 12, 6.0),
    (31, "diskIO", "shift", 30, 20, 14.0),
    (35, "cpuUsage", "seasonal-break", 34, 18, 14.0),
    (39, "diskIO", "spike", 42, 2, 12.0),
)


def fleet(now: int, hosts: int, seed: int) -> Fleet:
    """A fleet whose live part ends at epoch milliseconds ``now``, with one fault on each of ten hosts."""
    live = now - now % CADENCE - STEPS * CADENCE
    names = [f"host-{n:03d}" for n in range(hosts)]
    faults = [
        Fault(names[host % hosts], metric, kind, live + first * CADENCE, live + (first + steps) * CADENCE, size)  # type: ignore[arg-type]
        for host, metric, kind, first, steps, size in _PLOT
    ]
    return Fleet(
        hosts=names, seed=seed, start=live - HISTORY_DAYS * DAY, end=live + STEPS * CADENCE, cadence=CADENCE,
        faults=faults, restarts=0.2, deploys=0.2,
    )  # fmt: skip


def live_start(made: Fleet) -> int:
    """Epoch milliseconds at which the live part begins."""
    return made.end - STEPS * CADENCE
