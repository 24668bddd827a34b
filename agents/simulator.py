"""A fleet of hosts that behave like real ones, with labelled faults. Pure and repeatable by seed.

Every host has a daily and a weekly rhythm, noise of its own kind, missing samples, restarts and
deploys; what a host is busy with shows in all of its metrics. Faults are drawn by the seed and
written down as ground truth, with their size in standard deviations of the series' noise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
METRICS = ("cpuUsage", "memoryUsage", "diskIO", "networkIO")
FaultKind = Literal["spike", "shift", "leak", "silence", "seasonal-break"]
KINDS: tuple[FaultKind, ...] = ("spike", "shift", "leak", "silence", "seasonal-break")
NOISES = ("gaussian", "heavy-tailed", "bursty", "correlated")
COUPLING = {"cpuUsage": 0.8, "memoryUsage": 0.3, "diskIO": 0.5, "networkIO": 0.7}
"""How much of a metric's noise is the work that its host does at the moment: correlation with it. The
noise of any two metrics of a host correlates by the product."""
OTHER_COUPLING = 0.4
ROLES = ("web", "office", "batch", "steady")
"""Kinds of work in a varied fleet: a smooth day; office hours on working days; a job each night; hardly any rhythm."""
LENGTHS = {"spike": (1, 2), "shift": (60, 240), "leak": (180, 480), "silence": (15, 60), "seasonal-break": (120, 360)}
"""Shortest and longest fault of each kind, in samples."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fault:
    """One labelled fault. ``metric`` is ``*`` where the whole host is silent; times are epoch ms.

    ``size`` is in standard deviations of the series' noise, upwards; a negative one goes down. A leak
    rises evenly: it passes its size after a third of its time and ends at three times that. A seasonal
    break turns the rhythm upside down, and moves by ``size`` where the rhythm itself would move less.
    """

    host: str
    metric: str
    kind: FaultKind
    start: int
    end: int
    size: float


@dataclass(frozen=True, slots=True)
class Harmless:
    """A restart or a deploy: something happens, and nobody should be woken for it.

    A restart is a gap from ``start`` to ``end`` and a brief transient; a deploy is unsettled from
    ``start`` to ``end`` and leaves every metric at a slightly different level for good.
    """

    host: str
    kind: Literal["restart", "deploy"]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Shape:
    """How one series of one host behaves."""

    base: float
    daily: float
    weekly: float
    phase: float
    noise: float
    kind: str


@dataclass(slots=True)
class Fleet:
    """A simulated fleet.

    Parameters
    ----------
    hosts
        Number of hosts, or their names.
    seed
        Everything follows from it: the same seed gives the same samples, however they are asked for.
    start, end
        Epoch milliseconds between which faults, restarts and deploys may lie.
    cadence
        Milliseconds between the samples of a host.
    faults
        Labelled faults to draw, or the faults themselves.
    size
        Smallest size of a drawn fault in standard deviations of the series' noise.
    missing
        Probability that a sample is missing.
    restarts, deploys
        Expected number of each, a host and week.
    fault_start
        Epoch milliseconds before which no fault is drawn; half of the time without it.
    kinds
        Kinds of the drawn faults, in turn.
    metrics
        Metrics of every host. Others than those of the host sample may be named too: percentages where
        the name ends in Usage or Percent.

    varied
        Hosts of different kinds of work (``ROLES``) with days that differ from one another, instead of one
        smooth curve for all: nearer to real fleets, and harder to predict.

    Raises ValueError for settings that make no fleet, and for faults of hosts or metrics it lacks.
    ``truth`` has fewer faults than asked for where they do not fit in side by side.
    """

    hosts: int | Sequence[str] = 50
    seed: int = 1
    start: int = 1_790_000_000_000
    end: int = 1_790_000_000_000 + 14 * DAY
    cadence: int = MINUTE
    faults: int | Sequence[Fault] = 0
    size: float = 6.0
    missing: float = 0.01
    restarts: float = 0.5
    deploys: float = 0.5
    fault_start: int | None = None
    kinds: Sequence[FaultKind] = KINDS
    metrics: Sequence[str] = METRICS
    varied: bool = False
    names: list[str] = field(init=False)
    truth: list[Fault] = field(init=False)
    harmless: list[Harmless] = field(init=False)
    _shapes: dict[tuple[str, str], Shape] = field(init=False)

    def __post_init__(self) -> None:
        self._check_settings()
        self.start -= self.start % self.cadence
        self.names = (
            [f"host-{n:03d}" for n in range(self.hosts)] if isinstance(self.hosts, int) else [str(h) for h in self.hosts]
        )
        self._shapes = {(host, metric): self._shape(host, metric) for host in self.names for metric in self.metrics}
        self.harmless = [one for host in self.names for one in self._draw_harmless(host)]
        self.truth = self._draw_faults(self.faults) if isinstance(self.faults, int) else list(self.faults)
        self.truth.sort(key=lambda fault: (fault.start, fault.host, fault.metric))
        for fault in self.truth:
            if (fault.metric != "*" and (fault.host, fault.metric) not in self._shapes) or fault.host not in self.names:
                raise ValueError(f"the fleet has no series {fault.metric} of {fault.host} that could have a fault")
            if fault.kind not in KINDS or (fault.metric == "*" and fault.kind != "silence"):
                raise ValueError(f"no fault of kind {fault.kind!r} can be given to metric {fault.metric!r}")

    def _check_settings(self) -> None:
        if self.cadence < 1:
            raise ValueError(f"cadence is {self.cadence} ms; it must be at least 1")
        if self.end < self.start:
            raise ValueError(f"the fleet ends at {self.end}, before it starts at {self.start}")
        if not 0 <= self.missing <= 1:
            raise ValueError(f"missing is {self.missing}; a probability lies between 0 and 1")
        for what, names in (("host", self.hosts), ("metric", self.metrics)):
            if not isinstance(names, int) and len(set(names)) != len(names):
                raise ValueError(f"a {what} is named twice")
        if not self.metrics or self.hosts == 0:
            raise ValueError("a fleet has at least one host and one metric")

    def _rng(self, *names: object) -> np.random.Generator:
        text = "/".join(str(name) for name in (self.seed, *names))
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))

    # ------------------------------------------------------------------ what is drawn once

    def _shape(self, host: str, metric: str) -> Shape:
        rng = self._rng("shape", host, metric)
        kind = str(rng.choice(NOISES))
        phase = float(self._rng("phase", host).normal(14.0, 1.5)) + float(rng.normal(0, 0.3))
        if metric == "cpuUsage":
            return Shape(rng.uniform(15, 40), rng.uniform(4, 18), rng.uniform(0, 0.35), phase, rng.uniform(0.6, 2.0), kind)
        if metric == "memoryUsage" or _percent(metric):
            return Shape(rng.uniform(30, 65), rng.uniform(0.5, 5), rng.uniform(0, 0.2), phase, rng.uniform(0.2, 0.8), kind)
        size = float(10 ** rng.uniform(5, 7.5))
        return Shape(size, size * rng.uniform(0.1, 0.6), rng.uniform(0, 0.4), phase, size * rng.uniform(0.02, 0.06), kind)

    def _draw_harmless(self, host: str) -> list[Harmless]:
        rng = self._rng("harmless", host)
        weeks = (self.end - self.start) / (7 * DAY)
        made = []
        kinds: tuple[tuple[Literal["restart", "deploy"], float], ...] = (
            ("restart", self.restarts), ("deploy", self.deploys),
        )  # fmt: skip
        for kind, rate in kinds:
            for _ in range(rng.poisson(rate * weeks)):
                at = int(rng.integers(self.start, max(self.end, self.start + 1)))
                at -= at % self.cadence
                samples = int(rng.integers(2, 6)) if kind == "restart" else int(rng.integers(3, 10))
                made.append(Harmless(host, kind, at, at + samples * self.cadence))
        return sorted(made, key=lambda one: one.start)

    def _draw_faults(self, count: int) -> list[Fault]:
        rng = self._rng("faults")
        made: list[Fault] = []
        begin = self.fault_start if self.fault_start is not None else self.start + (self.end - self.start) // 2
        tries = 0
        while len(made) < count and tries < 200 * count:
            tries += 1
            kind = self.kinds[len(made) % len(self.kinds)]
            shortest, longest = LENGTHS[kind]
            length = int(rng.integers(shortest, longest + 1)) * self.cadence
            room = self.end - begin - length
            if room <= 0:
                length, room = max(self.cadence, (self.end - begin) // 4), (self.end - begin) * 3 // 4
            at = begin + int(rng.integers(0, max(1, room)))
            at -= at % self.cadence
            host = str(rng.choice(self.names))
            metric = "*" if kind == "silence" else str(rng.choice(list(self.metrics)))
            calm = 3 * HOUR if self.end - begin > DAY else 10 * self.cadence
            busy = [(f.start, f.end) for f in made if f.host == host]
            busy += [(h.start, h.end) for h in self.harmless if h.host == host]
            if any(at < end + calm and start < at + length + calm for start, end in busy):
                continue
            made.append(Fault(host, metric, kind, at, at + length, float(rng.uniform(self.size, 2 * self.size))))
        return made

    # ------------------------------------------------------------------ samples

    def times(self, begin: int, end: int) -> NDArray[np.int64]:
        """Sampling times from ``begin`` up to before ``end``."""
        first = -(-(begin - self.start) // self.cadence)
        last = -(-(end - self.start) // self.cadence)
        return self.start + np.arange(first, last, dtype=np.int64) * self.cadence

    def column(self, host: str, metric: str, times: NDArray[np.int64]) -> FloatArray:
        """Values of one series at sampling times, without holes as ``times()`` gives them; NaN where one is missing."""
        shape = self._shapes[host, metric]
        seasonal = shape.daily * self._rhythm(host, shape, times)
        noise = shape.noise * self._noise(host, metric, shape.kind, times)
        value = shape.base + seasonal + noise
        for one in self.harmless:
            if one.host == host:
                self._disturb(value, times, one, metric, shape)
        for fault in self.truth:
            if fault.host == host and fault.metric in (metric, "*"):
                self._break(value, times, fault, shape, seasonal)
        value[self._unit_noise(host, "missing", times, 1)[0] < self.missing] = np.nan
        np.clip(value, 0.0, 100.0 if _percent(metric) else np.inf, out=value)
        return value

    def _rhythm(self, host: str, shape: Shape, times: NDArray[np.int64]) -> FloatArray:
        """The course of day and week, from about -1 to 1.3."""
        hours = (times % DAY) / HOUR
        day = (times // DAY + 3) % 7
        smooth: FloatArray = np.cos((hours - shape.phase) / 24 * 2 * math.pi)
        smooth += 0.3 * np.cos((hours - shape.phase) / 12 * 2 * math.pi)
        week = np.where(day >= 5, 1 - shape.weekly, 1.0)
        if not self.varied:
            return smooth * week
        rng = self._rng("role", host)
        role = str(rng.choice(ROLES))
        number = times // DAY
        if role == "office":
            edges = 1 / (1 + np.exp(-4 * (hours - shape.phase + 5))) - 1 / (1 + np.exp(-4 * (hours - shape.phase - 5)))
            smooth = np.where(day >= 5, 0.15, 1.0) * 1.6 * edges - 0.7
        elif role == "batch":
            late = self._unit_noise(host, "late", number * DAY, 1)[0] * 0.2  # hours, each night other ones
            begin, length = float(rng.uniform(0.5, 5.0)), float(rng.uniform(0.3, 1.5))
            job = (hours >= begin + late) & (hours < begin + length + 2 * late)
            smooth = 0.25 * smooth + np.where(job, 1.0, 0.0)
        elif role == "steady":
            smooth = 0.15 * smooth
        else:
            smooth = smooth * week
        # Busier and quieter days, without a step at midnight.
        place = (times % DAY) / DAY
        before, after = (np.clip(0.1 * self._gaussian(host, "day", n * DAY), -0.2, 0.2) for n in (number, number + 1))
        return smooth * (1 + (1 - place) * before + place * after)

    def _disturb(self, value: FloatArray, times: NDArray[np.int64], one: Harmless, metric: str, shape: Shape) -> None:
        inside = (times >= one.start) & (times < one.end)
        if one.kind == "restart":
            value[inside] = np.nan
            after = (times >= one.end) & (times < one.end + 3 * self.cadence)
            value[after] += 1.5 * shape.noise
        else:
            value[inside] += 1.5 * shape.noise
            step = float(self._rng("deploy", one.host, metric, one.start).uniform(-1.0, 1.0))
            value[times >= one.end] += step * shape.noise

    def _break(self, value: FloatArray, times: NDArray[np.int64], fault: Fault, shape: Shape, seasonal: FloatArray) -> None:
        inside = (times >= fault.start) & (times < fault.end)
        if not inside.any():
            return
        size = fault.size * shape.noise * self._spread(shape.kind)
        if fault.kind == "silence":
            value[inside] = np.nan
        elif fault.kind == "leak":
            share = (times[inside] - fault.start) / max(1, fault.end - fault.start)
            value[inside] += share * 3 * size
        elif fault.kind == "seasonal-break":
            # The rhythm stands on its head, by at least the fault's size.
            turned = -2 * seasonal[inside]
            value[inside] += np.where(np.abs(turned) >= size, turned, np.where(turned >= 0, size, -size))
        else:
            value[inside] += size

    @staticmethod
    def _spread(kind: str) -> float:
        """Standard deviation of each kind of noise of unit scale."""
        return {"gaussian": 1.0, "heavy-tailed": 1.29, "bursty": 1.26, "correlated": 1.0}[kind]

    def _unit_noise(self, host: str, name: str, times: NDArray[np.int64], lanes: int) -> FloatArray:
        """Uniform numbers in (0, 1), ``lanes`` for each time; a function of seed, host, name and time alone."""
        key = np.uint64(int.from_bytes(hashlib.sha256(f"{self.seed}/{host}/{name}".encode()).digest()[:8], "big"))
        out = np.empty((lanes, len(times)))
        counter = (times // self.cadence).astype(np.uint64)
        with np.errstate(over="ignore"):
            for lane in range(lanes):
                x = counter * np.uint64(0x9E3779B97F4A7C15) + key
                x += np.uint64(lane + 1) * np.uint64(0xD1B54A32D192ED03)
                x ^= x >> np.uint64(30)
                x *= np.uint64(0xBF58476D1CE4E5B9)
                x ^= x >> np.uint64(27)
                x *= np.uint64(0x94D049BB133111EB)
                x ^= x >> np.uint64(31)
                out[lane] = ((x >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
        return out

    def _gaussian(self, host: str, name: str, times: NDArray[np.int64]) -> FloatArray:
        u = self._unit_noise(host, name, times, 2)
        gaussian: FloatArray = np.sqrt(-2 * np.log(u[0])) * np.cos(2 * math.pi * u[1])
        return gaussian

    def _coupled(self, host: str, metric: str, times: NDArray[np.int64]) -> FloatArray:
        """Gaussian noise of which a part is the host's own work; what one series alone looks like does not change."""
        share = COUPLING.get(metric, OTHER_COUPLING)
        work = self._gaussian(host, "work", times)
        return share * work + math.sqrt(1 - share**2) * self._gaussian(host, metric, times)

    def _noise(self, host: str, metric: str, kind: str, times: NDArray[np.int64]) -> FloatArray:
        if kind == "correlated":
            weights = np.array([0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15])
            weights /= np.sqrt((weights**2).sum())
            lags = len(weights) - 1
            before = times[:1] - self.cadence * np.arange(lags, 0, -1, dtype=np.int64)
            coupled = self._coupled(host, metric, np.concatenate([before, times]))
            correlated = np.zeros(len(times))
            for lag, weight in enumerate(weights):  # in this order always, so that chunks agree to the last bit
                correlated += weight * coupled[lags - lag : len(coupled) - lag]
            return correlated
        gaussian = self._coupled(host, metric, times)
        if kind == "gaussian":
            return gaussian
        if kind == "heavy-tailed":  # Student's t with 5 degrees of freedom, by its mixture of normals
            u = self._unit_noise(host, metric + "/kind", times, 2)
            chi = -2 * (np.log(u[0]) + np.log(u[1])) + self._gaussian(host, metric + "/chi", times) ** 2
            heavy: FloatArray = gaussian / np.sqrt(chi / 5)
            return heavy
        # Bursty: a busy quarter of an hour now and then doubles the noise.
        slots = times - times % (15 * MINUTE)
        busy = self._unit_noise(host, metric + "/burst", slots, 3)[2] < 0.2
        return np.where(busy, 2.0, 1.0) * gaussian

    def columns(self, begin: int, end: int) -> tuple[NDArray[np.int64], FloatArray]:
        """Sampling times and values of shape (hosts, metrics, times); NaN where a sample is missing."""
        times = self.times(begin, end)
        values = np.stack([np.stack([self.column(host, metric, times) for metric in self.metrics]) for host in self.names])
        return times, values

    def samples(self, begin: int, end: int, chunk: int = 6 * HOUR) -> Iterator[dict[str, Any]]:
        """Samples in order of time, as they go on the wire.

        Host samples, where the fleet has all four of their metrics (one that lacks a value is not sent),
        and native metrics for all others.
        """
        whole = set(METRICS) <= set(self.metrics)
        lanes = [(self.metrics.index(metric), metric) for metric in METRICS] if whole else []
        others = [(lane, metric) for lane, metric in enumerate(self.metrics) if not (whole and metric in METRICS)]
        for at in range(begin, end, chunk):
            times, values = self.columns(at, min(at + chunk, end))
            missing: NDArray[np.bool_] = np.isnan(values)
            absent: NDArray[np.bool_] = np.asarray(missing[:, [lane for lane, _ in lanes]].any(axis=1))
            for place, time in enumerate(times.tolist()):
                for number, host in enumerate(self.names):
                    if lanes and not absent[number, place]:
                        sample: dict[str, Any] = {"hostname": host, "timestamp": time}
                        for lane, metric in lanes:
                            sample[metric] = round(float(values[number, lane, place]), 4)
                        yield sample
                    for lane, metric in others:
                        if not missing[number, lane, place]:
                            value = round(float(values[number, lane, place]), 4)
                            yield {"resource": host, "metric": metric, "timestamp": time, "value": value}

    def truth_document(self) -> dict[str, object]:
        """Ground truth for a file: faults, and what is harmless."""
        return {
            "seed": self.seed,
            "cadenceMs": self.cadence,
            "faults": [
                {"host": f.host, "metric": f.metric, "kind": f.kind, "start": f.start, "end": f.end, "size": f.size}
                for f in self.truth
            ],
            "harmless": [{"host": h.host, "kind": h.kind, "start": h.start, "end": h.end} for h in self.harmless],
        }


def _percent(metric: str) -> bool:
    return metric.endswith(("Usage", "Percent"))
