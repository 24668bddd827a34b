"""The correlation bank's recurrences as compiled loops, where numba is installed: the same bits as NumPy's, sooner.

A host whose blocks close one after the other within a batch costs NumPy some eighty calls a block.
Here ``gather`` takes in events and learns means and covariance, which need nothing of what is judged;
the regressions of all closed blocks then are NumPy's, as inverses are LAPACK's; ``judge`` follows.
What a number means is told in ``correlation``.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from stream_processors.detectors import correlation
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

_jit: Callable[[Any], Any] = numba.njit(cache=True, error_model="numpy", fastmath=False)
RAISED, OVER = 1, 2
"""What ``judge`` finds of a closed block."""


def _py_least(a: float, b: float) -> float:
    """NumPy's minimum: NaN passes."""
    return a if a < b or a != a else b


def _py_most(a: float, b: float) -> float:
    """NumPy's maximum."""
    return a if a > b or a != a else b


_least, _most = _jit(_py_least), _jit(_py_most)


@cache
def kernels() -> tuple[Any, Any]:
    """Both kernels. The stamp tells the source of the constants, which numba does not compare when it looks for
    what it compiled before."""
    stamp = zlib.crc32(Path(correlation.__file__).read_bytes())

    def gather(
        begin: int,
        host: IntArray,
        block: IntArray,
        lane: IntArray,
        values: FloatArray,
        current: IntArray,
        first: IntArray,
        learned: FloatArray,
        total: FloatArray,
        count: FloatArray,
        seen: IntArray,
        means: FloatArray,
        covariance: FloatArray,
        states: IntArray,
        touched: IntArray,
        closing: IntArray,
        before: FloatArray,
        deviation: FloatArray,
        usable: NDArray[np.bool_],
        clipped: FloatArray,
        sizes: FloatArray,
        scalars: FloatArray,
    ) -> tuple[int, int, int, int]:
        """Take in events from ``begin`` on until there is no room for blocks to judge: where it stopped, their number,
        and the number of all ``touched`` hosts that closed a block."""
        made = closed = 0
        d, taken = np.zeros(LANES), np.zeros(LANES)
        for i in range(begin, len(host)):
            h = host[i]
            if block[i] > current[h]:
                if current[h] < 0:
                    first[h] = block[i]
                else:
                    if made == len(closing):
                        return i, made, closed, stamp
                    at = current[h]
                    last = seen[h].max()
                    lapse = _most(float(min(at - last, LONGEST_STEP)) if last >= 0 else 1.0, 1.0)
                    early = 1.0 / (learned[h] + 1.0)
                    whole = True
                    for k in range(LANES):
                        x = total[h, k] / count[h, k]
                        there = count[h, k] > 0 and abs(x) < 1e100
                        total[h, k] = count[h, k] = 0.0
                        active = there or (seen[h, k] >= 0 and at - seen[h, k] <= LONGEST_STEP)
                        whole = whole and there == active
                        mean = x if there and seen[h, k] < 0 else means[h, k]
                        if there:
                            seen[h, k] = at
                        d[k] = x - mean if there else 0.0
                        sd = math.sqrt(_most(covariance[h, k, k], 0.0))
                        known = active and sd > 1e-12 * abs(mean)
                        size = d[k] / sd if known else 0.0
                        deviation[made, k], usable[made, k] = sd, known
                        clipped[made, k] = _least(_most(size, -CLIP), CLIP)
                        sizes[made, k] = _least(size * size, 1e6)
                        taken[k] = _least(_most(d[k], -TAKEN * sd), TAKEN * sd) if sd > 0 else d[k]
                        step = _most(lapse / (lapse + COURSE), early) * taken[k] if there else 0.0
                        means[h, k] = mean + step
                    touched[closed] = h
                    closed += 1
                    judged = whole and learned[h] > DAY / 2
                    # A host's events follow one another: of this one something may be open before long.
                    if judged or states[h] > 0 or (made > 0 and closing[made - 1, 0] == h):
                        before[made] = covariance[h]
                        closing[made, 0], closing[made, 1], closing[made, 2] = h, i, at
                        scalars[made, 0], scalars[made, 1], scalars[made, 2] = lapse, learned[h], 1.0 if judged else 0.0
                        made += 1
                    if whole:
                        weight = _most(lapse / (lapse + MEMORY), early)
                        for k in range(LANES):
                            for other in range(LANES):
                                s = covariance[h, k, other]
                                covariance[h, k, other] = s + weight * (taken[k] * taken[other] - s)
                        learned[h] += 1.0
                current[h] = block[i]
            total[h, lane[i]] += values[i]
            count[h, lane[i]] += 1.0
        return len(host), made, closed, stamp

    def judge(
        closing: IntArray,
        usable: NDArray[np.bool_],
        sizes: FloatArray,
        scalars: FloatArray,
        explained: FloatArray,
        surprise: FloatArray,
        evidence: FloatArray,
        alone: FloatArray,
        first: IntArray,
        usuals: FloatArray,
        peaks: FloatArray,
        days: IntArray,
        states: IntArray,
        since: IntArray,
        calms: IntArray,
        levels: FloatArray,
        told: IntArray,
    ) -> int:
        """What closed blocks say, one after the other: ``levels`` of the lanes, and in ``told`` what to report."""
        for m in range(len(closing)):
            h, at = closing[m, 0], closing[m, 2]
            lapse, learned = scalars[m, 0], scalars[m, 1]
            if scalars[m, 2] == 0.0:
                expired = states[h] > 0 and at - since[h] > DAY
                told[m] = OVER if expired and states[h] == OPEN else 0
                states[h] = 0 if expired else states[h]
                levels[m], explained[m] = 0.0, 0.0
                continue
            gain = lapse / (lapse + SMOOTH)
            top = -np.inf
            for k in range(LANES):
                e, a = evidence[h, k], alone[h, k]
                evidence[h, k] = e + gain * (surprise[m, k] / (surprise[m, k] + ORDINARY) - e)
                alone[h, k] = a + gain * (sizes[m, k] / (sizes[m, k] + ORDINARY) - a)
                levels[m, k] = evidence[h, k] if explained[m, k] >= EXPLAINED and usable[m, k] else 0.0
                top = _most(top, levels[m, k])
            own = -np.inf
            for k in range(LANES):
                own = _most(own, alone[h, k] if levels[m, k] >= INVOLVED * top else 0.0)
            usual, peak, day = usuals[h], peaks[h], at // DAY
            over = day != days[h] and peak > 0
            if over:
                reached = _least(peak, 1.5 * usual + 0.05) if usual > 0 else peak
                usual = usual + DAY_WEIGHT * (reached - usual) if usual > 0 else peak
            usuals[h], days[h] = usual, day
            peaks[h] = _most(0.0 if over else peak, top)
            mark = _most(FLOOR, USUAL * usual)
            ripe = at - first[h] >= MATURE and learned + 1.0 >= LEARNED and usual > 0
            state = states[h]
            opened = state > 0
            high = ripe and not opened and top >= mark
            raised = high and own < ALONE
            calm = calms[h] + 1 if opened and top < CALM * mark else 0
            ended = opened and (calm >= CALM_BLOCKS or at - since[h] > DAY)
            calms[h] = calm
            states[h] = OPEN if raised else LEFT if high else 0 if ended else state
            if high:
                since[h] = at
            told[m] = RAISED if raised else OVER if ended and state == OPEN else 0
        return stamp

    return _jit(gather), _jit(judge)
