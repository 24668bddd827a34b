"""Relations between a host's metrics: which series take part, and the one insight where a relation breaks.

Stands between the scoring core and the correlation bank. Knows neither AWS nor the clock.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from schemas.insights import SEVERITY_ORDER, Insight
from stream_processors import explain
from stream_processors.detectors.base import SEVERITY_SCORES, FloatArray, IntArray
from stream_processors.detectors.config import Rule
from stream_processors.detectors.correlation import LANES, NAME, VERSION, Break, CorrelationBank
from stream_processors.episodes import Episode, insight_id, revise

SEVERITY = SEVERITY_ORDER["MEDIUM"]
"""A broken relation is worth a look in the morning; what it leads to pages by itself."""


class Correlations:
    """The lanes of a shard's hosts, by the slots of the scoring core."""

    def __init__(self) -> None:
        self.bank = CorrelationBank()
        self.host = np.full(64, -1, np.int64)
        self.lane = np.full(64, -1, np.int64)
        self._host_of: dict[str, int] = {}
        self._resources: list[str] = []
        self._slots: list[dict[int, tuple[int, str, Rule]]] = []
        self._free: list[int] = []

    def watch(self, slot: int, resource: str, series: str, rule: Rule) -> None:
        """A slot has come to hold this series; it takes a lane of its host where one is left."""
        if slot >= len(self.host):
            more = np.full(max(len(self.host), slot + 1 - len(self.host)), -1, np.int64)
            self.host, self.lane = np.concatenate([self.host, more]), np.concatenate([self.lane, more])
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
                self._slots.append({})
            self._host_of[resource] = host
        taken = self._slots[host]
        lane = next((lane for lane in range(LANES) if lane not in taken), None)
        if lane is not None:
            taken[lane] = (slot, series, rule)
            self.host[slot], self.lane[slot] = host, lane
            self.bank.reset_lane(host, lane)

    def drop(self, slot: int) -> None:
        """A slot holds no series any more."""
        host, lane = int(self.host[slot]), int(self.lane[slot])
        self.host[slot] = self.lane[slot] = -1
        if host < 0:
            return
        del self._slots[host][lane]
        self.bank.reset_lane(host, lane)
        if not self._slots[host]:
            del self._host_of[self._resources[host]]
            self._free.append(host)

    def related(self, slots: IntArray) -> IntArray:
        """Positions of the slots that have a state: lanes of hosts that have had two."""
        host = self.host[slots]
        return np.flatnonzero((host >= 0) & self.bank.started(host))

    def restore(self, slots: IntArray, data: bytes) -> None:
        """Bring in dumped lanes of these slots, in the places they had; series that take no part are left out."""
        there = np.flatnonzero(self.host[slots] >= 0)
        slots, data = slots[there], np.frombuffer(data, np.uint8).reshape(len(slots), -1)[there].tobytes()
        lanes = self.bank.lanes(data)
        known: list[tuple[int, int, tuple[int, str, Rule]]] = []
        for slot, lane in zip(slots.tolist(), lanes.tolist(), strict=True):
            host, place = int(self.host[slot]), int(self.lane[slot])
            known.append((host, lane, self._slots[host].pop(place)))
        for host, lane, entry in known:
            other = self._slots[host].pop(lane, None)
            self._slots[host][lane] = entry
            self.lane[entry[0]] = lane
            if other is not None:  # it had only just been given this place
                free = next((one for one in range(LANES) if one not in self._slots[host]), None)
                if free is None:
                    self.host[other[0]] = self.lane[other[0]] = -1
                else:
                    self._slots[host][free] = other
                    self.lane[other[0]] = free
        self.bank.restore(self.host[slots], data)

    def step(
        self,
        episodes: dict[tuple[str, str, str], Episode],
        slots: IntArray,
        timestamps: IntArray,
        values: FloatArray,
        index: IntArray,
        emitted: list[tuple[int, Insight]],
        dirty: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    ) -> None:
        """Take in events in their order; ``index`` are their places in the batch."""
        mine = index[self.host[slots[index]] >= 0]
        if not len(mine):
            return
        taking = slots[mine]
        found, touched = self.bank.step(self.host[taking], self.lane[taking], timestamps[mine], values[mine])
        if len(touched):  # a closed block has moved all lanes of its host
            changed = np.zeros(len(self.bank), np.bool_)
            changed[touched] = True
            used = np.flatnonzero(self.host >= 0)
            dirty[used[changed[self.host[used]]]] = True
        for one in found:
            at = int(mine[one.index])
            insight = self._tell(episodes, one)
            if insight is not None:
                emitted.append((at, insight))

    def _tell(self, episodes: dict[tuple[str, str, str], Episode], one: Break) -> Insight | None:
        resource = self._resources[one.host]
        key = ("correlation", resource, "")
        episode = episodes.get(key)
        if one.what == "over":
            if episode is None:
                return None
            del episodes[key]
            episode.message = explain.correlation_over(resource, episode.metric, one.at)
            return _revised(episode, "closed", one.at)
        names = {lane: series for lane, (_, series, _) in self._slots[one.host].items()}
        rule = self._slots[one.host][one.lane][2] if one.lane in names else None
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
