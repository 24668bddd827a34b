"""Hosts whose metrics follow one load, and what breaks the relation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_processors.detectors.correlation import BLOCK, Break, CorrelationBank
from stream_processors.detectors.correlation_compiled import KERNEL

Floats = NDArray[np.float64]
START = 1_789_948_800_000
DAY = 288
"""Samples of a day: one in five minutes."""


def wandering(rng: np.random.Generator, hosts: int, count: int) -> Floats:
    """Noise of unit size that remembers about twenty minutes."""
    made = rng.normal(size=(hosts, count))
    for at in range(1, count):
        made[:, at] = 0.75 * made[:, at - 1] + 0.66 * made[:, at]
    return made


def related(rng: np.random.Generator, hosts: int, days: int, noise: float = 0.3, lanes: int = 4) -> tuple[Floats, Floats]:
    """Values of shape (hosts, lanes, samples) that follow one load with a daily rhythm; and that rhythm."""
    count = days * DAY
    rhythm = 2 * np.cos(np.arange(count) / DAY * 2 * np.pi)
    load = rhythm + wandering(rng, hosts, count)
    return load[:, None] + noise * rng.normal(size=(hosts, lanes, count)), rhythm


def decouple(rng: np.random.Generator, values: Floats, rhythm: Floats, lane: int, start: int, length: int) -> None:
    """One lane goes its own way, by the same rhythm, size and noise as before."""
    own = wandering(rng, len(values), length) + 0.3 * rng.normal(size=(len(values), length))
    values[:, lane, start : start + length] = rhythm[start : start + length] + own


def run(values: Floats, bank: CorrelationBank | None = None) -> list[list[tuple[int, Break]]]:
    """What a bank tells of each host, with the number of the sample; NaN is a missing one.

    Without a bank it is one that is compiled where that is possible: the bits are the same.
    """
    hosts, lanes, count = values.shape
    if bank is None:
        bank = CorrelationBank()
        bank.compiled = KERNEL.available
    while len(bank) < hosts:
        bank.add()
    host, lane = np.repeat(np.arange(hosts), lanes), np.tile(np.arange(lanes), hosts)
    told: list[list[tuple[int, Break]]] = [[] for _ in range(hosts)]
    for at in range(count):
        there = np.flatnonzero(np.isfinite(values[:, :, at].ravel()))
        stamps = np.full(len(there), START + at * BLOCK)
        for one in bank.step(host[there], lane[there], stamps, values[:, :, at].ravel()[there])[0]:
            told[one.host].append((at, one))
    return told
