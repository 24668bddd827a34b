"""Relations between a host's metrics: which series take part, and the one insight where a relation breaks.

Stands between the scoring core and the correlation bank. Knows neither AWS nor the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from operator import ne
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.insights import SEVERITY_ORDER, Insight
from stream_processors import explain
from stream_processors.detectors.base import SEVERITY_SCORES, FloatArray, IntArray, enlarged
from stream_processors.detectors.config import Rule
from stream_processors.detectors.correlation import LANES, NAME, VERSION, Break, CorrelationBank
from stream_processors.episodes import Episode, insight_id, revise

SEVERITY = SEVERITY_ORDER["MEDIUM"]
"""A broken relation is worth a look in the morning; what it leads to pages by itself."""


class Named(Protocol):
    """What the scoring core knows of a slot's series."""

    resource: str
    series: str


class Correlations:
    """The lanes of a shard's hosts, by the slots of the scoring core.

    ``info`` is the core's own list, by slot. ``rule_of``, which tells a slot's rule, is not kept: the core's memory would
    stay where the core itself is dropped, until the cycle is found.
    """

    def __init__(self, info: Sequence[Named | None]) -> None:
        self._info = info
        self.bank = CorrelationBank()
        self.host = np.full(64, -1, np.int32)
        self.lane = np.full(64, -1, np.int8)
        self._host_of: dict[str, int] = {}
        self._resources: list[str] = []
        self._slot = np.full((16, LANES), -1, np.int32)
        """Slot in each lane of each host, -1 where the lane is free."""
        self._free: list[int] = []

    def _make_room(self, slots: int, hosts: int) -> None:
        self.host, self.lane = enlarged(self.host, slots, -1), enlarged(self.lane, slots, -1)
        self._slot = enlarged(self._slot, hosts, -1)

    def watch(self, slot: int, resource: str, rule: Rule) -> None:
        """A slot has come to hold this series; it takes a lane of its host where one is left."""
        self._make_room(slot + 1, len(self.bank) + 1)
        self.host[slot] = self.lane[slot] = -1
        if rule.detector == "off" or not rule.correlation:
            return
        host = self._host_of.get(resource)
        if host is None:
            if self._free:
                host = self._free.pop()
                self.bank.reset(host)
                self._resources[host] = resource
            else:
                host = self.bank.add()
                self._resources.append(resource)
            self._host_of[resource] = host
        free = np.flatnonzero(self._slot[host] < 0)
        if len(free):
            lane = int(free[0])
            self._slot[host, lane] = slot
            self.host[slot], self.lane[slot] = host, lane
            self.bank.reset_lane(host, lane)

    def watch_together(
        self, start: int, resources: Sequence[str], taking: NDArray[np.bool_], rule_of: Callable[[int], Rule]
    ) -> None:
        """Slots from ``start`` on have come to hold series of these resources; those ``taking`` part get lanes.

        As ``watch`` for one after the other, but for the hosts that are new and whose series follow one another.
        """
        self._make_room(start + len(resources), len(self.bank))
        self.host[start : start + len(resources)] = self.lane[start : start + len(resources)] = -1
        chosen = np.flatnonzero(taking)
        if not len(chosen):
            return
        names = list(compress(resources, taking.tolist()))
        begins = [0, *compress(range(1, len(names)), map(ne, names, names[1:]))]
        heads = [names[at] for at in begins]
        if self._free or len(set(heads)) < len(heads) or not self._host_of.keys().isdisjoint(heads):
            for at, name in zip(chosen.tolist(), names, strict=True):
                self.watch(start + at, name, rule_of(start + at))
            return
        first = self.bank.add_many(len(heads))
        self._resources.extend(heads)
        self._host_of.update(zip(heads, range(first, first + len(heads)), strict=True))
        self._make_room(0, len(self.bank))
        sizes = np.diff([*begins, len(names)])
        host = np.repeat(np.arange(first, first + len(heads)), sizes)
        lane = np.arange(len(names)) - np.repeat(begins, sizes)
        held = lane < LANES
        slots, host, lane = start + chosen[held], host[held], lane[held]
        self._slot[host, lane] = slots
        self.host[slots], self.lane[slots] = host, lane

    def drop(self, slot: int) -> None:
        """A slot holds no series any more."""
        host, lane = int(self.host[slot]), int(self.lane[slot])
        self.host[slot] = self.lane[slot] = -1
        if host < 0:
            return
        self._slot[host, lane] = -1
        self.bank.reset_lane(host, lane)
        if (self._slot[host] < 0).all():
            del self._host_of[self._resources[host]]
            self._free.append(host)

    def related(self, slots: IntArray) -> IntArray:
        """Positions of the slots that have a state: lanes of hosts that have had two."""
        host = self.host[slots]
        return np.flatnonzero((host >= 0) & self.bank.started(host.astype(np.int64)))

    def dump(self, slots: IntArray) -> bytes:
        """State of the lanes of these slots."""
        return self.bank.dump(self.host[slots].astype(np.int64), self.lane[slots].astype(np.int64))

    def restore(self, slots: IntArray, data: bytes | memoryview) -> None:
        """Bring in dumped lanes of these slots, in the places they had; series that take no part are left out."""
        there = np.flatnonzero(self.host[slots] >= 0)
        if not _distinct(slots[there], len(self.host)):  # damaged bytes may name a series twice
            there = there[np.unique(slots[there], return_index=True)[1]]
        if len(there) < len(slots):
            slots, data = slots[there], np.frombuffer(data, np.uint8).reshape(len(slots), -1)[there].tobytes()
        lanes = self.bank.lanes(data)
        hosts = self.host[slots].astype(np.int64)
        self._slot[hosts, self.lane[slots]] = -1
        place = hosts * LANES + lanes
        if _distinct(place, self._slot.size) and (self._slot[hosts, lanes] < 0).all():
            self._slot[hosts, lanes], self.lane[slots] = slots, lanes
        else:
            self._put(slots.tolist(), hosts.tolist(), lanes.tolist())
        self.bank.restore(hosts, data)

    def _put(self, slots: list[int], hosts: list[int], lanes: list[int]) -> None:
        """Give slots their lanes; what had only just been given one of these places takes another."""
        for slot, host, lane in zip(slots, hosts, lanes, strict=True):
            other = int(self._slot[host, lane])
            self._slot[host, lane], self.lane[slot] = slot, lane
            if other >= 0:
                free = np.flatnonzero(self._slot[host] < 0)
                if len(free):
                    self._slot[host, free[0]], self.lane[other] = other, free[0]
                else:
                    self.host[other] = self.lane[other] = -1

    def step(
        self,
        episodes: dict[tuple[str, str, str], Episode],
        slots: IntArray,
        timestamps: IntArray,
        values: FloatArray,
        index: IntArray,
        emitted: list[tuple[int, Insight]],
        dirty: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
        rule_of: Callable[[int], Rule],
    ) -> None:
        """Take in events in their order; ``index`` are their places in the batch."""
        mine = index[self.host[slots[index]] >= 0]
        if not len(mine):
            return
        taking = slots[mine]
        found, touched = self.bank.step(
            self.host[taking].astype(np.int64), self.lane[taking].astype(np.int64), timestamps[mine], values[mine]
        )
        changed = self._slot[touched]  # a closed block has moved all lanes of its host
        dirty[changed[changed >= 0]] = True
        for one in found:
            at = int(mine[one.index])
            insight = self._tell(episodes, one, rule_of)
            if insight is not None:
                emitted.append((at, insight))

    def _tell(
        self, episodes: dict[tuple[str, str, str], Episode], one: Break, rule_of: Callable[[int], Rule]
    ) -> Insight | None:
        resource = self._resources[one.host]
        key = ("correlation", resource, "")
        episode = episodes.get(key)
        if one.what == "over":
            if episode is None:
                return None
            del episodes[key]
            episode.message = explain.correlation_over(resource, episode.metric, one.at)
            return _revised(episode, "closed", one.at)
        there = {lane: slot for lane, slot in enumerate(self._slot[one.host].tolist()) if slot >= 0}
        names = {lane: info.series for lane, slot in there.items() if (info := self._info[slot]) is not None}
        rule = rule_of(there[one.lane]) if one.lane in names else None
        if episode is not None or rule is None or rule.muted(one.at):
            return None
        shares = {names[lane]: round(share, 3) for lane, share in enumerate(one.shares) if share > 0 and lane in names}
        ordered = dict(sorted(shares.items(), key=lambda pair: (-pair[1], pair[0])))
        severity = min(SEVERITY, SEVERITY_ORDER[rule.at_most])
        others = [name for name in names.values() if name != names[one.lane]]
        episode = Episode(
            kind="correlation",
            resource=resource,
            series="",
            metric=names[one.lane],
            opened_at=one.at,
            peak_at=one.at,
            last_abnormal=one.at,
            severity=severity,
            revision=0,
            insight_id=insight_id("correlation", resource, "", NAME, one.at),
            detector=NAME,
            detector_version=VERSION,
            score=SEVERITY_SCORES[severity - 1],
            evidence=ordered,
            message=explain.correlation(resource, names[one.lane], sorted(others), one.explained, one.at),
        )
        episodes[key] = episode
        return _revised(episode, "opened", one.at)


def _distinct(numbers: IntArray, most: int) -> bool:
    """Whether none of these numbers below ``most`` comes twice; sooner than NumPy's ``unique``."""
    seen = np.zeros(most, np.bool_)
    seen[numbers] = True
    return int(np.count_nonzero(seen)) == len(numbers)


def _revised(episode: Episode, transition: Literal["opened", "closed"], now: int) -> Insight:
    return revise(
        episode,
        transition,
        at=now,
        message=explain.whole(episode.message, episode.evidence, explain.LOOSE),
        confidence=explain.confidence(episode.score),
        rarity=explain.LOOSE,
        closed_at=now if transition == "closed" else None,
    )
