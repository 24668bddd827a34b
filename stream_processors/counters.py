"""Counters among the series: what only ever rises, but for restarts, is judged by its rate.

A counter's value says how long it has been counting; what changes when something breaks is how fast
it rises. A series is a counter where its rule says so, or where its first ``RISES`` changes are all
rises: of a value that goes up and down by chance that happens once in 2³⁰. Shares, rates and series
with bounds are levels by what they are. Docs: docs/detectors.md, "Counters".

Knows neither the clock nor a detector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.quantities import SHARES
from stream_processors.detectors.base import FloatArray, IntArray
from stream_processors.detectors.config import Rule

NAME, VERSION = "counters", 1
RISES = 30
"""Rises without a fall, from the first value on, that make a series a counter."""
RESET = 0.1
"""A fall to at most this share of the value before is a counter that began anew."""
ODD_FALLS = 3
"""Other falls that are forgiven: after so many the series is no counter."""
LEVEL, DECLARED = -1, 100
"""States of a series that is judged by its value for good, and of one that its rule calls a counter. Between
them 0 to ``RISES`` - 1 count rises, and ``RISES`` and more is a counter with so many odd falls beyond."""
LARGEST = 1e300
ROW = np.dtype([("state", "i1"), ("value", "<f8")])


@dataclass(slots=True)
class Rates:
    """What the detectors are to be given instead of some values.

    ``values`` has rates a second where the series is a ``counter``. ``known`` is false where there is none:
    at a counter's first value, and after it fell. ``anew`` are the slots that have just become
    counters or ceased to be, whose models begin again.
    """

    values: FloatArray
    counter: NDArray[np.bool_]
    known: NDArray[np.bool_]
    anew: IntArray


class Counters:
    """State and last value of each series by its slot, nine bytes in all."""

    def __init__(self) -> None:
        self.state = np.full(64, LEVEL, np.int8)
        self.value = np.full(64, np.nan)

    def watch(self, slots: IntArray, levels: bool | NDArray[np.bool_], rule: Rule) -> None:
        """Begin with new series of one rule; ``levels`` tells those that are levels by their unit."""
        most = int(slots.max(initial=-1)) + 1
        if most > len(self.state):
            extra = max(most - len(self.state), len(self.state))
            self.state = np.concatenate([self.state, np.full(extra, LEVEL, np.int8)])
            self.value = np.concatenate([self.value, np.full(extra, np.nan)])
        self.value[slots] = np.nan
        if rule.kind != "auto" or rule.bounds is not None:
            self.state[slots] = DECLARED if rule.kind == "counter" else LEVEL
        else:
            self.state[slots] = np.where(levels, LEVEL, 0)

    def counts(self, slot: int) -> bool:
        """Whether a series is judged by its rate."""
        return bool(self.state[slot] >= RISES)

    def any(self, slots: IntArray) -> bool:
        """Whether one of the series may be a counter."""
        return bool((self.state[slots] >= 0).any())

    def step(self, slots: IntArray, elapsed: IntArray, values: FloatArray) -> Rates | None:
        """Take in one value each of distinct series, ``elapsed`` milliseconds (> 0) after the one before.

        None where all of them are levels.
        """
        states = self.state[slots]
        where = np.flatnonzero(states >= 0)
        if not len(where):
            return None
        slot, state, now = slots[where], states[where].astype(np.int64), values[where]
        before = self.value[slot]
        self.value[slot] = now
        known = ~np.isnan(before)
        fall = known & (now < before)
        counting = state >= RISES
        reset = now <= RESET * before
        after = state + (~counting & known & (now > before)) + (counting & fall & ~reset & (state < DECLARED))
        ended = (~counting & (fall | (now < 0))) | (counting & (state < DECLARED) & (after >= RISES + ODD_FALLS))
        after[ended] = LEVEL
        self.state[slot] = after
        counter = after >= RISES
        with np.errstate(over="ignore", invalid="ignore"):
            rate = np.clip((now - before) * 1000.0 / elapsed[where], -LARGEST, LARGEST)
        none, all_ = np.zeros(len(values), np.bool_), np.ones(len(values), np.bool_)
        made = Rates(values.copy(), counter=none, known=all_, anew=slot[counter != counting])
        made.counter[where] = counter
        made.values[where[counter]] = rate[counter]
        made.known[where] = ~counter | (known & ~fall)
        return made

    def dump(self, slots: IntArray) -> tuple[IntArray, bytes]:
        """Which of the series, by their places in ``slots``, are no levels for good; and their rows."""
        places = np.flatnonzero(self.state[slots] != LEVEL)
        rows = np.empty(len(places), ROW)
        rows["state"], rows["value"] = self.state[slots[places]], self.value[slots[places]]
        return places, rows.tobytes()

    def restore(self, slots: IntArray, places: IntArray, rows: bytes | memoryview) -> IntArray:
        """Set series from ``dump``: those it leaves out are levels. What a rule has declared stays so.

        Answers the slots that now are judged otherwise than when they were written.
        """
        read = np.zeros(len(slots), ROW)
        read["state"], read["value"] = LEVEL, np.nan
        read[places] = np.frombuffer(rows, ROW)
        free = (self.state[slots] >= 0) & (self.state[slots] < DECLARED) & (read["state"] < DECLARED)
        self.state[slots[free]] = np.maximum(read["state"][free], LEVEL)
        self.value[slots] = read["value"]
        changed: IntArray = slots[(self.state[slots] >= RISES) != (read["state"] >= RISES)]
        return changed


def is_level(unit: str | None) -> bool:
    """Whether values of this unit are shares or rates, which are no counts."""
    return unit is not None and (unit in SHARES or unit.endswith(("/Second", "/s")))


def rate_unit(unit: str | None) -> str:
    """The unit of a counter's rate."""
    return f"{'Count' if unit is None or unit == 'None' else unit}/Second"
