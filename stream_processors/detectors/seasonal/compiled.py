"""The bank's recurrence as compiled loops, where they were built: the same bits as NumPy's, sooner.

``kernels/seasonal.c`` holds the loops; here are its constants, which are the bank's, and NumPy's
logarithms and exponentials between its two halves. What a number means is told in ``bank``.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_processors.detectors.base import FloatArray, IntArray, Verdicts
from stream_processors.detectors.seasonal import bank
from stream_processors.detectors.seasonal.bank import _AT, _CHANNELS, _COLUMNS, _FAMILIES, _LANES, _N
from stream_processors.kernels import Kernel

_BLOCK = 1024
"""Rows computed at once: what passes between the halves stays in the processor's cache."""
_KINDS = len(_FAMILIES)

_LOG = {"SHARE": _N, "WANTED": _N + 2, "ORDINARY": _N + 3, "BEGINS": _N + 4, "GOES_ON": _N + 5}
"""What passes from the first half to the second: arguments of logarithms, the channels' first. Shares, shapes and
whether a tail has begun are two each, of single values and of pairs."""
_LOGS = _N + 6
_EXP = {"SHARES": 0, "KEPT": 1}
"""Arguments of exponentials."""
_HAVE = {"N": 0, "V": 1, "BOUNDED": 2, "EXPECTED": 3, "LAPSE": 4, "ELAPSED": 5, "AGE": 6, "SHAPE": 7, "BEYOND": 9}
_HAVE |= {"INTERVAL": 11, "RUN": 12}
"""Plain numbers."""
_HAD = 13
_MARK = {"TENTH": _AT["tenth"], "HUNDREDTH": _AT["hundredth"], "UP": _AT["width_up"], "DOWN": _AT["width_down"]}
"""Columns of which the second half needs exponentials, and which it moves itself."""
_MARKED = np.array([*_MARK.values()])[:, np.newaxis]
_OUT = {name: at for at, name in enumerate(("SCORE", "LEVEL", "LOW", "EXPECTED", "HIGH", "INTERVAL", "WARMING", "PLAIN"))}
"""Verdicts; of plain ones the tail is 1."""

_NUMBERS = {
    name.lstrip("_"): value for name, value in vars(bank).items() if isinstance(value, int | float) and name.isupper()
}
"""All numbers that the bank names."""
_ARRAYS = ("GAINS", "TAIL_MEAN", "TAIL_RATE", "TAIL_START")

KERNEL = Kernel(
    "seasonal",
    constants={
        **_NUMBERS,
        **{name: tuple(getattr(bank, f"_{name}").ravel().tolist()) for name in _ARRAYS},
        "COLUMNS": len(_COLUMNS),
        "DECADE": -math.log(10.0),
        "FAMILY_OF": tuple(family for family, _ in _CHANNELS),
        "KINDS": _KINDS,
        "SCALES": bank._SCALES,
        "WEIGHTS": tuple(weight for _, weight in _CHANNELS),
        **{f"AT_{name.upper()}": at for name, at in _AT.items()},
        **{f"LOG_{name}": at for name, at in _LOG.items()},
        **{f"EXP_{name}": at for name, at in _EXP.items()},
        **{f"HAVE_{name}": at for name, at in _HAVE.items()},
        **{f"MARK_{name}": at for at, name in enumerate(_MARK)},
        **{f"OUT_{name}": at for name, at in _OUT.items()},
    },
    fields={
        **dict.fromkeys(("state", "bins", "values", "logs", "growths", "exps", "have", "decades"), "f8"),
        **dict.fromkeys(("exponentials", "marks", "out", "shares"), "f8"),
        **dict.fromkeys(("rows", "timestamps", "places"), "i8"),
        "visits": "u2",
        "reached": "u1",
        **dict.fromkeys(("count", "padded", "marks_width", "out_at", "out_width"), "number"),
    },
)


def step(
    state: FloatArray,
    bins: FloatArray,
    visits: NDArray[np.uint16],
    reached: NDArray[np.uint8],
    rows: IntArray,
    timestamps: IntArray,
    values: FloatArray,
) -> Verdicts:
    """Score and then learn one event of each given row, in place. Rows must be in range and differ."""
    sizes = np.diff([*range(0, len(rows), _BLOCK), len(rows)])
    return steps(state, bins, visits, reached, rows, timestamps, values, sizes)


def steps(
    state: FloatArray,
    bins: FloatArray,
    visits: NDArray[np.uint16],
    reached: NDArray[np.uint8],
    rows: IntArray,
    timestamps: IntArray,
    values: FloatArray,
    sizes: IntArray,
) -> Verdicts:
    """As ``step``, for rounds of few events, of ``sizes``; rows must differ within a round only."""
    count = len(rows)
    out, shares, tail = np.empty((len(_OUT), count)), np.empty((count, _KINDS)), np.empty(count)
    ends = np.cumsum(sizes)
    with np.errstate(all="ignore"):
        start = first = 0
        while start < count:
            last = max(int(np.searchsorted(ends, start + _BLOCK, side="right")), first + 1)
            block = slice(start, int(ends[last - 1]))
            of_series = {"state": state, "bins": bins, "visits": visits, "reached": reached}
            events = {"rows": rows[block], "timestamps": timestamps[block], "values": values[block]}
            found = {"out": out, "out_at": start, "out_width": count, "shares": shares[block]}
            tail[block] = _block(sizes[first:last].tolist(), {**of_series, **events, **found})
            start, first = block.stop, last
    return Verdicts(
        score=out[_OUT["SCORE"]],
        level=out[_OUT["LEVEL"]],
        tail=np.where(out[_OUT["PLAIN"]] > 0.0, 1.0, tail),
        expected_low=out[_OUT["LOW"]],
        expected=out[_OUT["EXPECTED"]],
        expected_high=out[_OUT["HIGH"]],
        warming=out[_OUT["WARMING"]] > 0.0,
        evidence=shares,
        interval=out[_OUT["INTERVAL"]],
    )


def _block(sizes: list[int], given: dict[str, Any]) -> FloatArray:
    """Some rounds; their tails. The first half needs nothing of what the second learns: it goes ahead through all of them.

    The second needs exponentials of what it itself has moved an event before: they are NumPy's, a round at a time.
    """
    first, second = halves()
    rows, state = given["rows"], given["state"]
    count = len(rows)
    # One lane more, as of lengths that are powers of two all numbers of an event would share a place in the cache.
    padded = count + -count % _LANES + _LANES
    logs, growths, exps = np.ones((_LOGS, padded)), np.ones((2, padded)), np.ones((len(_EXP), padded))
    have, decades = np.empty((_HAD, padded)), np.ones(padded)
    distinct, places = rows[: sizes[0]], np.arange(count)
    if len(sizes) > 1:
        distinct, places = np.unique(rows, return_inverse=True)
    marks = np.zeros((len(_MARK), len(distinct) + -len(distinct) % _LANES))
    marks[:, : len(distinct)] = state[distinct, _MARKED]
    exponentials = np.empty(marks.shape)
    between = {"logs": logs, "growths": growths, "exps": exps, "have": have, "decades": decades, "padded": padded}
    moved = {"places": places, "exponentials": exponentials, "marks": marks, "marks_width": marks.shape[1]}
    block = KERNEL.arguments(**given, **between, **moved, count=count)
    first(block)
    np.log(logs, out=logs)
    np.log1p(growths, out=growths)
    np.exp(exps, out=exps)
    begin = 0
    for size in sizes:
        np.exp(marks, out=exponentials)
        second(block, begin, size)
        begin += size
    np.exp(decades, out=decades)
    return decades[:count]


@cache
def halves() -> tuple[Any, Any]:
    """Both C functions. ImportError where they were not built."""
    return KERNEL.function("first"), KERNEL.function("second", ctypes.c_int64, ctypes.c_int64)
