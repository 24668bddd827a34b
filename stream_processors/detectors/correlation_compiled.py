"""The correlation bank's recurrences as compiled loops: the same bits as NumPy's, sooner.

A host whose blocks close one after the other within a batch costs NumPy some eighty calls a block.
Here ``gather`` takes in events and learns means and covariance, which need nothing of what is judged;
the regressions of all closed blocks then are NumPy's, as inverses are LAPACK's; ``judge`` follows.
What a number means is told in ``correlation``, what a field means here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_processors.detectors.base import FloatArray, IntArray
from stream_processors.detectors.correlation import (
    ALONE,
    CALM,
    CALM_BLOCKS,
    CLIP,
    COURSE,
    DAY,
    DAY_WEIGHT,
    EXPLAINED,
    FLOOR,
    INVOLVED,
    LANES,
    LEARNED,
    LEFT,
    LONGEST_STEP,
    MATURE,
    MEMORY,
    OPEN,
    ORDINARY,
    SMOOTH,
    TAKEN,
    USUAL,
)
from stream_processors.kernels import Kernel

RAISED, OVER = 1, 2
"""What ``judge`` finds of a closed block."""

ROOM = 512
"""Closed blocks that are judged at once, at most."""
EVENTS = 2**15
"""Events taken in at once, at most."""

_EVENTS = {"host": "i8", "block": "i8", "lane": "i8", "values": "f8"}
_HOSTS = {
    "hosts": "number",
    "current": "i8",
    "first": "i8",
    "learned": "f8",
    "usual": "f8",
    "peak": "f8",
    "day": "i8",
    "open": "i8",
    "opened": "i8",
    "calm": "i8",
}
"""The bank's columns (``current`` is ``block``), with room for so many hosts."""
_LANES = {
    "sum": "f8",
    "count": "f8",
    "seen": "i8",
    "mean": "f8",
    "evidence": "f8",
    "alone": "f8",
    "covariance": "f8",
}
_CLOSED = {
    "touched": "i8",  # hosts that closed a block, one after the other
    "closing": "i8",  # of each block to judge: host, place of the event that closed it, block
    "scalars": "f8",  # lapse, blocks learned before, and 1 where relations are judged
    "before": "f8",  # the covariance that did not know the block yet
    "deviation": "f8",
    "usable": "b1",
    "clipped": "f8",
    "sizes": "f8",
    "explained": "f8",  # these two are the regression's
    "surprise": "f8",
    "levels": "f8",
    "told": "i8",
    "counts": "i8",  # blocks to judge; hosts in ``touched``
}

KERNEL = Kernel(
    "correlation",
    constants={
        "LANES": LANES,
        "ROOM": ROOM,
        "COURSE": COURSE,
        "MEMORY": MEMORY,
        "SMOOTH": SMOOTH,
        "DAY": DAY,
        "MATURE": MATURE,
        "LEARNED": LEARNED,
        "LONGEST_STEP": LONGEST_STEP,
        "CLIP": CLIP,
        "TAKEN": TAKEN,
        "ORDINARY": ORDINARY,
        "EXPLAINED": EXPLAINED,
        "ALONE": ALONE,
        "OPEN": OPEN,
        "LEFT": LEFT,
        "INVOLVED": INVOLVED,
        "FLOOR": FLOOR,
        "USUAL": USUAL,
        "DAY_WEIGHT": DAY_WEIGHT,
        "CALM": CALM,
        "CALM_BLOCKS": CALM_BLOCKS,
        "RAISED": RAISED,
        "OVER": OVER,
    },
    fields={**_EVENTS, **_HOSTS, **_LANES, **_CLOSED},
)


class Loops:
    """Both loops on a bank's columns, and the room they work in, which is kept from one batch to the next.

    Parameters
    ----------
    columns
        The bank's; they must not move while the loops are used: ``on`` tells whether they have.

    Raises
    ------
    ImportError
        Where the kernel was not built.

    """

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self._gather, self._judge = KERNEL.function("gather", ctypes.c_int64, ctypes.c_int64), KERNEL.function("judge")
        self._columns = dict(columns)
        self._host, self._block, self._lane = (np.empty(EVENTS, np.int64) for _ in range(3))
        self._values = np.empty(EVENTS)
        self._touched, self._counts = np.empty(EVENTS, np.int64), np.zeros(2, np.int64)
        self.closing = np.empty((ROOM, 3), np.int64)
        self.before, self.usable = np.empty((ROOM, LANES, LANES)), np.empty((ROOM, LANES), np.bool_)
        self.deviation, self.clipped, self.explained, self.surprise, self.levels = (
            np.empty((ROOM, LANES)) for _ in range(5)
        )
        self.told = np.empty(ROOM, np.int64)
        self._arguments = KERNEL.arguments(
            host=self._host,
            block=self._block,
            lane=self._lane,
            values=self._values,
            hosts=len(columns["block"]),
            current=columns["block"],
            **{name: columns[name] for name in (*_HOSTS, *_LANES) if name not in ("hosts", "current")},
            touched=self._touched,
            closing=self.closing,
            scalars=np.empty((ROOM, 3)),
            before=self.before,
            deviation=self.deviation,
            usable=self.usable,
            clipped=self.clipped,
            sizes=np.empty((ROOM, LANES)),
            explained=self.explained,
            surprise=self.surprise,
            levels=self.levels,
            told=self.told,
            counts=self._counts,
        )

    def on(self, columns: Mapping[str, NDArray[Any]]) -> bool:
        """Whether these are still the columns; they are others once the bank has grown."""
        return all(self._columns[name] is column for name, column in columns.items())

    def take(self, host: IntArray, block: IntArray, lane: IntArray, values: FloatArray) -> None:
        """The events, ``EVENTS`` at most, that ``gather`` is to take in next."""
        count = len(host)
        self._host[:count], self._block[:count], self._lane[:count], self._values[:count] = host, block, lane, values
        self._counts[1] = 0

    def gather(self, begin: int, events: int) -> tuple[int, int]:
        """Take in events from ``begin`` on until there is no room for blocks to judge: where it stopped, their number."""
        begin = self._gather(self._arguments, begin, events)
        if begin < 0:
            raise IndexError("an event of a host or a lane that there is not")
        return begin, int(self._counts[0])

    def judge(self) -> None:
        """What these blocks say, in ``levels`` and ``told``, once ``explained`` and ``surprise`` are there."""
        self._judge(self._arguments)

    def touched(self) -> IntArray:
        """Hosts of which the events taken closed a block."""
        return self._touched[: self._counts[1]].copy()
