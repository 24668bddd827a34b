"""A host's metrics against one another: a relation that breaks while each metric by itself looks ordinary.

Up to eight metrics of a host are its *lanes*. Means of five minutes, without their slow course, make a
vector; its covariance is learned over a week. Each lane is compared with what the others foretell of
it (the regression that the inverse of the covariance holds). Evidence is bounded, so that one wild
block says little, and averaged over half an hour; it counts where the others explain at least half of
a lane, and where the lane by itself is not unusual. docs/detectors.md tells why.

Knows neither the clock nor randomness. Everything is a function of the host's own events in their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stream_processors.detectors.base import FloatArray, IntArray, enlarged, in_order

if TYPE_CHECKING:
    from stream_processors.detectors.correlation_compiled import Loops

NAME = "correlation"
VERSION = 1
LANES = 8
BLOCK = 300_000
"""Milliseconds of a block."""
COURSE = 24.0
"""The slow course of a lane is its mean over this many blocks: two hours."""
MEMORY = 7 * 288.0
"""The covariance forgets over a week."""
SMOOTH = 6.0
"""Evidence is averaged over half an hour."""
DAY = 288
MATURE = 3 * DAY
"""Age in blocks from which a host is judged; it also needs ``LEARNED`` blocks with values."""
LEARNED = 200.0
LONGEST_STEP = 12
"""A gap counts as at most this many blocks; a lane that was away longer takes no part."""
CLIP = 3.0
"""A lane counts as at most so many standard deviations from its course."""
TAKEN = 4.0
"""The covariance takes in at most so many."""
ORDINARY = 9.0
"""Half of the evidence is reached at three standard deviations (squared here)."""
RIDGE = 0.02
"""Share of noise that every lane is granted: relations closer than that are not believed."""
EXPLAINED = 0.5
"""A lane is judged when the others explain at least this share of its variance."""
ALONE = 0.25
"""With this much evidence by itself a lane is the other detectors' matter."""
OPEN, LEFT = 1, 2
"""States of a host: an insight is open; what is unusual is left to other detectors."""
INVOLVED = 0.3
"""Lanes with less than this share of the strongest evidence show what everyone shows by chance."""
FLOOR = 0.36
"""Evidence that raises an insight, at least."""
USUAL = 1.6
"""It must also be so many times what the host reaches on an ordinary day."""
DAY_WEIGHT = 0.2
CALM, CALM_BLOCKS = 0.6, 12
"""It is over when the evidence stays below this share of what raises one for an hour, or after a day."""

_HOST = {
    "started": (np.int64, ()),
    "block": (np.int64, ()),
    "first": (np.int64, ()),
    "learned": (np.float64, ()),
    "usual": (np.float64, ()),
    "peak": (np.float64, ()),
    "day": (np.int64, ()),
    "open": (np.int64, ()),
    "opened": (np.int64, ()),
    "calm": (np.int64, ()),
}
_LANE = {
    "sum": (np.float64, ()),
    "count": (np.float64, ()),
    "seen": (np.int64, ()),
    "mean": (np.float64, ()),
    "evidence": (np.float64, ()),
    "alone": (np.float64, ()),
    "covariance": (np.float64, (LANES,)),
}
_UNSEEN = ("block", "first", "seen")
"""Columns that are -1 where nothing has been seen."""
_ROW = np.dtype(
    [("lane", "<i8")]
    + [(name, np.dtype(kind).newbyteorder("<")) for name, (kind, _) in _HOST.items()]
    + [(name, np.dtype(kind).newbyteorder("<"), shape) for name, (kind, shape) in _LANE.items()]
)
ROW_BYTES = _ROW.itemsize
"""Bytes of a lane as serialised, with its host's own columns, which every lane carries."""


@dataclass(frozen=True, slots=True)
class Break:
    """A relation that broke or is whole again; ``index`` is the position of the event in the call.

    ``shares`` of the lanes in the evidence sum to 1; the first lane of ``order`` is the one that left the others.
    """

    index: int
    host: int
    what: Literal["raised", "over"]
    lane: int
    level: float
    at: int
    shares: tuple[float, ...] = ()
    explained: float = 0.0


class CorrelationBank:
    """Relations between the lanes of many hosts; a host is a position, and ``add`` makes one."""

    def __init__(self) -> None:
        self.compiled = False
        """Whether the compiled loops compute, for the same bits; they must be built (else ``step`` raises ImportError)."""
        self._loops: Loops | None = None
        self._size = 0
        self._host: dict[str, NDArray[Any]] = {n: np.zeros((0, *shape), kind) for n, (kind, shape) in _HOST.items()}
        self._lane: dict[str, NDArray[Any]] = {n: np.zeros((0, LANES, *shape), kind) for n, (kind, shape) in _LANE.items()}

    def __getstate__(self) -> dict[str, object]:
        """What is pickled and copied: no room to work in."""
        return {**self.__dict__, "_loops": None}

    def __len__(self) -> int:
        """Number of hosts."""
        return self._size

    def add(self) -> int:
        """A new host; its position."""
        return self.add_many(1)

    def add_many(self, count: int) -> int:
        """New hosts; the position of the first."""
        first = self._size
        self._size += count
        for columns in (self._host, self._lane):
            for name, column in columns.items():
                columns[name] = enlarged(column, self._size, 0)
                if name in _UNSEEN:
                    columns[name][first : self._size] = -1
        return first

    def reset(self, host: int) -> None:
        """Make a host unseen."""
        for name, column in (*self._host.items(), *self._lane.items()):
            column[host] = -1 if name in _UNSEEN else 0

    def reset_lane(self, host: int, lane: int) -> None:
        """Make one lane of a host unseen."""
        for name, column in self._lane.items():
            column[host, lane] = -1 if name == "seen" else 0
        self._lane["covariance"][host, :, lane] = 0

    def started(self, hosts: IntArray) -> NDArray[np.bool_]:
        """Whether each host has shown a second lane; before, it keeps nothing."""
        found: NDArray[np.bool_] = self._host["started"][hosts] > 0
        return found

    def dump(self, hosts: IntArray, lanes: IntArray) -> bytes:
        """State of lanes, ``ROW_BYTES`` each, little-endian."""
        made = np.zeros(len(hosts), _ROW)
        made["lane"] = lanes
        for name, column in self._host.items():
            made[name] = column[hosts]
        for name, column in self._lane.items():
            made[name] = column[hosts, lanes]
        return made.tobytes()

    @staticmethod
    def lanes(data: bytes | memoryview) -> IntArray:
        """Lane numbers of dumped rows, within what there is."""
        found: IntArray = np.clip(np.frombuffer(data, _ROW)["lane"], 0, LANES - 1).astype(np.int64)
        return found

    def restore(self, hosts: IntArray, data: bytes | memoryview) -> None:
        """Set lanes, and what their hosts share, from ``dump``; wrong numbers are harmless."""
        rows, lanes = np.frombuffer(data, _ROW), self.lanes(data)
        for name, column in self._host.items():
            column[hosts] = rows[name]
        for name, column in self._lane.items():
            column[hosts, lanes] = rows[name]
        for name in ("block", "first", "day"):
            self._host[name][hosts] = np.clip(self._host[name][hosts], -1, 2**50)

    # ------------------------------------------------------------------ events

    def step(
        self, hosts: IntArray, lanes: IntArray, timestamps: IntArray, values: FloatArray
    ) -> tuple[list[Break], IntArray]:
        """Take in events in their order; breaks, and the hosts of which a block was closed (their state changed).

        An event of an earlier block than its host's present one comes too late and is left out, and so
        are those before the second lane of a host: one metric has no relations.
        """
        if not len(hosts):
            return [], np.zeros(0, np.int64)
        order = in_order(hosts)
        if not self.started(hosts).all():
            order = self._start(hosts, lanes, order)
            if not len(order):
                return [], np.zeros(0, np.int64)
        host, block = hosts[order], timestamps[order] // BLOCK
        current = self._host["block"]
        number = np.cumsum(np.concatenate([[0], host[1:] != host[:-1]]))
        span = int(max(block.max(), current[host].max())) + 2
        if span > 2**40:  # restored bytes that are no time
            current[host] = np.minimum(current[host], block)
            span = int(block.max()) + 2
        latest = np.maximum.accumulate(number * span + np.maximum(block, current[host]) + 1) - number * span - 1
        kept = np.flatnonzero(block == latest)
        if not len(kept):  # all of them came too late
            return [], np.zeros(0, np.int64)
        order, host, block = order[kept], host[kept], block[kept]
        if self.compiled:
            return self._step_compiled(order, host, block, lanes, timestamps, values)
        # In turns: the events of every host that lie in the same block as its first one that is left.
        found: list[Break] = []
        touched: list[IntArray] = []
        start = np.flatnonzero(np.concatenate([[True], (host[1:] != host[:-1]) | (block[1:] != block[:-1])]))
        turn = np.arange(len(start)) - np.searchsorted(host[start], host[start], side="left")
        lengths = np.diff(np.append(start, len(host)))
        of_event = np.repeat(turn, lengths)
        for one in range(int(turn.max(initial=-1)) + 1):
            first = start[turn == one]
            new = first[block[first] > current[host[first]]]
            known = new[current[host[new]] >= 0]
            if len(known):
                with np.errstate(all="ignore"):
                    self._close(host[known], order[known], timestamps, found)
                touched.append(host[known])
            fresh = new[current[host[new]] < 0]
            self._host["first"][host[fresh]] = block[fresh]
            current[host[new]] = block[new]
            mine = np.flatnonzero(of_event == one)
            place = host[mine] * LANES + lanes[order[mine]]  # NumPy adds by one index much faster than by two
            with np.errstate(over="ignore", invalid="ignore"):  # a sum beyond all bounds is left out at the block's end
                np.add.at(self._lane["sum"].reshape(-1), place, values[order[mine]])
            np.add.at(self._lane["count"].reshape(-1), place, 1.0)
        found.sort(key=lambda one: one.index)
        return found, np.concatenate(touched) if touched else np.zeros(0, np.int64)

    def _step_compiled(
        self, order: IntArray, host: IntArray, block: IntArray, lanes: IntArray, timestamps: IntArray, values: FloatArray
    ) -> tuple[list[Break], IntArray]:
        """The rest of ``step`` in C, some hundred closed blocks at a time."""
        from stream_processors.detectors.correlation_compiled import EVENTS, RAISED, Loops

        columns = {**self._host, **self._lane}
        if self._loops is None or not self._loops.on(columns):
            self._loops = Loops(columns)
        loops = self._loops
        found: list[Break] = []
        touched: list[IntArray] = []
        for start in range(0, len(order), EVENTS):
            part = order[start : start + EVENTS]
            loops.take(host[start : start + EVENTS], block[start : start + EVENTS], lanes[part], values[part])
            begin = 0
            while begin < len(part):
                begin, made = loops.gather(begin, len(part))
                if not made:
                    continue
                before, deviation, usable = loops.before[:made], loops.deviation[:made], loops.usable[:made]
                with np.errstate(all="ignore"):
                    regressed = _regress(before, deviation, usable, loops.clipped[:made])
                loops.explained[:made], loops.surprise[:made] = regressed
                loops.judge()
                for one in np.flatnonzero(loops.told[:made]):
                    place = int(part[loops.closing[one, 1]])
                    what: Literal["raised", "over"] = "raised" if loops.told[one] == RAISED else "over"
                    level, explained = loops.levels[one], loops.explained[one]
                    found.append(_broken(int(loops.closing[one, 0]), place, what, level, explained, timestamps))
            touched.append(loops.touched())
        found.sort(key=lambda one: one.index)
        return found, np.concatenate(touched)

    def _start(self, hosts: IntArray, lanes: IntArray, order: IntArray) -> IntArray:
        """The events without those of hosts of which nothing but the first lane has been seen."""
        host = hosts[order]
        number = np.cumsum(np.concatenate([[0], host[1:] != host[:-1]]))
        going = self.started(host) | (lanes[order] != 0)
        going = np.maximum.accumulate(2 * number + going) % 2 > 0
        self._host["started"][host[going]] = 1
        left: IntArray = order[going]
        return left

    def _close(self, hosts: IntArray, index: IntArray, timestamps: IntArray, found: list[Break]) -> None:
        """Judge and learn the present block of each host (distinct)."""
        at = self._host["block"][hosts]
        count, seen = self._lane["count"][hosts], self._lane["seen"][hosts]
        x = self._lane["sum"][hosts] / count
        self._lane["sum"][hosts] = 0.0
        self._lane["count"][hosts] = 0.0
        there = (count > 0) & (np.abs(x) < 1e100)
        before = seen.max(axis=1)
        lapse = np.where(before >= 0, np.minimum(at - before, LONGEST_STEP), 1).astype(np.float64)[:, None]
        lapse = np.maximum(lapse, 1.0)
        active = there | ((seen >= 0) & (at[:, None] - seen <= LONGEST_STEP))
        new = there & (seen < 0)
        mean = np.where(new, x, self._lane["mean"][hosts])
        self._lane["seen"][hosts] = np.where(there, at[:, None], seen)
        learned = self._host["learned"][hosts][:, None]
        # A block in which a metric that is usually there is missing says nothing of relations.
        whole = (there == active).all(axis=1)[:, None]
        d = np.where(there, x - mean, 0.0)
        s = self._lane["covariance"][hosts]
        sd = np.sqrt(np.maximum(s[:, np.arange(LANES), np.arange(LANES)], 0.0))
        taken = np.where(sd > 0, np.minimum(np.maximum(d, -TAKEN * sd), TAKEN * sd), d)
        early = 1.0 / (learned + 1.0)
        self._lane["mean"][hosts] = mean + np.where(there, np.maximum(lapse / (lapse + COURSE), early) * taken, 0.0)
        weight = np.where(whole, np.maximum(lapse / (lapse + MEMORY), early), 0.0)
        self._lane["covariance"][hosts] = s + weight[:, :, None] * (taken[:, :, None] * taken[:, None, :] - s)
        self._host["learned"][hosts] = learned[:, 0] + whole[:, 0]
        judged = whole[:, 0] & (learned[:, 0] > DAY / 2)
        some = np.flatnonzero(judged)
        if len(some):
            sd, mean, d = sd[some], mean[some], d[some]
            usable = active[some] & (sd > 1e-12 * np.abs(mean))
            size = np.where(usable, d / np.where(usable, sd, 1.0), 0.0)
            z = np.minimum(np.maximum(size, -CLIP), CLIP)
            size = np.minimum(size * size, 1e6)
            explained, surprise = _regress(s[some], sd, usable, z)
            self._judge(
                hosts[some], at[some], index[some], timestamps, lapse[some], usable, size, explained, surprise, found
            )
        # What is open ends after a day where no block can be judged any more, too.
        for one in np.flatnonzero(~judged & (self._host["open"][hosts] > 0) & (at - self._host["opened"][hosts] > DAY)):
            if self._host["open"][hosts[one]] == OPEN:
                nothing = np.zeros(LANES)
                found.append(_broken(int(hosts[one]), int(index[one]), "over", nothing, nothing, timestamps))
            self._host["open"][hosts[one]] = 0

    def _judge(
        self,
        hosts: IntArray,
        at: IntArray,
        index: IntArray,
        timestamps: IntArray,
        lapse: FloatArray,
        usable: NDArray[np.bool_],
        size: FloatArray,
        explained: FloatArray,
        surprise: FloatArray,
        found: list[Break],
    ) -> None:
        host, lane = self._host, self._lane
        gain = lapse / (lapse + SMOOTH)
        evidence, alone = lane["evidence"][hosts], lane["alone"][hosts]
        evidence = evidence + gain * (surprise / (surprise + ORDINARY) - evidence)
        alone = alone + gain * (size / (size + ORDINARY) - alone)
        lane["evidence"][hosts], lane["alone"][hosts] = evidence, alone
        level = np.where((explained >= EXPLAINED) & usable, evidence, 0.0)
        top = level.max(axis=1)
        usual, peak, day = host["usual"][hosts], host["peak"][hosts], at // DAY
        over = (day != host["day"][hosts]) & (peak > 0)
        reached = np.where(usual > 0, np.minimum(peak, 1.5 * usual + 0.05), peak)
        usual = np.where(over, np.where(usual > 0, usual + DAY_WEIGHT * (reached - usual), peak), usual)
        host["usual"][hosts], host["day"][hosts] = usual, day
        host["peak"][hosts] = np.maximum(np.where(over, 0.0, peak), top)
        mark = np.maximum(FLOOR, USUAL * usual)
        ripe = (at - host["first"][hosts] >= MATURE) & (host["learned"][hosts] >= LEARNED) & (usual > 0)
        # A lane that is unusual by itself also spoils what is foretold of the others.
        own = np.where(level >= INVOLVED * top[:, None], alone, 0.0).max(axis=1)
        state = host["open"][hosts]
        opened = state > 0
        high = ripe & ~opened & (top >= mark)
        raised = high & (own < ALONE)
        calm = np.where(opened & (top < CALM * mark), host["calm"][hosts] + 1, 0)
        ended = opened & ((calm >= CALM_BLOCKS) | (at - host["opened"][hosts] > DAY))
        host["calm"][hosts] = calm
        # What a single metric showed at first stays its matter until all is calm again.
        host["open"][hosts] = np.where(raised, OPEN, np.where(high, LEFT, np.where(ended, 0, state)))
        host["opened"][hosts] = np.where(high, at, host["opened"][hosts])
        for one in np.flatnonzero(raised | (ended & (state == OPEN))):
            what: Literal["raised", "over"] = "raised" if raised[one] else "over"
            found.append(_broken(int(hosts[one]), int(index[one]), what, level[one], explained[one], timestamps))


def _broken(
    host: int, place: int, what: Literal["raised", "over"], level: FloatArray, explained: FloatArray, timestamps: IntArray
) -> Break:
    """What is told of a host at the event of this place."""
    lane = int(level.argmax())
    shares = level / max(float(level.max()), 1e-12)
    shares = np.where(shares >= INVOLVED, shares, 0.0)
    total = sum(shares.tolist())
    return Break(
        index=place,
        host=host,
        what=what,
        lane=lane,
        level=float(level.max()),
        at=int(timestamps[place]),
        shares=tuple(float(share) / total if total else 0.0 for share in shares),
        explained=float(explained[lane]),
    )


def _regress(s: FloatArray, sd: FloatArray, usable: NDArray[np.bool_], z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Share of each lane's variance that the others explain, and the squared residual in its own variances."""
    diagonal = np.arange(LANES)
    scale = np.where(usable, sd, 1.0)
    c = s / (scale[:, :, None] * scale[:, None, :])
    both = usable[:, :, None] & usable[:, None, :]
    c = np.where(both & np.isfinite(c), np.minimum(np.maximum(c, -1.0), 1.0), 0.0)
    c[:, diagonal, diagonal] = 1.0 + RIDGE
    try:
        q = np.linalg.inv(c)
    except np.linalg.LinAlgError:  # one host's numbers must not silence the others
        q = np.broadcast_to(np.eye(LANES), c.shape)
    own = np.maximum(q[:, diagonal, diagonal], 1e-6)
    residual = np.zeros_like(z)
    for lane in range(LANES):  # in this order always, so that no result depends on how many hosts share a call
        residual += q[:, :, lane] * z[:, lane : lane + 1]
    return 1.0 - (1.0 + RIDGE) / np.maximum(own, 1.0 / (1.0 + RIDGE)), residual * residual / own
