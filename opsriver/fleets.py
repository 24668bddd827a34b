"""How good detectors are on a simulated fleet whose faults are known: recall, delay, false pages.

A fleet is a folder of ``<host>/<metric>.csv`` with ``truth.json``, as ``opsriver simulate --out`` writes
it. All series go through one core in the order of time, silence included, as on a shard.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from opsriver import labelled
from opsriver.errors import Problem
from opsriver.evaluation import bytes_a_series, moment, read_json
from schemas.insights import SEVERITY_ORDER, Insight
from stream_processors.detectors.config import DetectorConfig
from stream_processors.episodes import TTL_MS
from stream_processors.records.batch import EventBatch, Shared
from stream_processors.scoring import Scorer

TRUTH = "truth.json"
DAY = 86_400_000
MONTH = 30 * DAY
SLACK = 10
"""A page counts for a fault until this many samples after its end."""
AFTERMATH = 60
"""A page within so many samples after a fault, or within its own length, is its echo: neither a hit nor false."""
YOUNG = 3 * DAY
"""Days in which a series' rhythm is not known yet, counted apart."""
_EVENTS_A_BATCH = 200_000


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the ground truth; ``metric`` is ``*`` where it is the whole host's. Epoch milliseconds."""

    host: str
    metric: str
    kind: str
    start: int
    end: int
    size: float


@dataclass(frozen=True, slots=True)
class Harmless:
    """Something that happens to a host and should wake nobody."""

    host: str
    kind: str
    start: int
    end: int


@dataclass(slots=True)
class Fleet:
    """Series of a fleet: (host, metric), times in epoch milliseconds and values, and what is true of them."""

    names: list[tuple[str, str]]
    times: list[NDArray[np.int64]]
    values: list[NDArray[np.float64]]
    faults: list[Fault]
    harmless: list[Harmless]
    cadence: float = field(init=False)

    def __post_init__(self) -> None:
        gaps = [float(np.median(np.diff(t))) for t in self.times if len(t) > 1]
        self.cadence = median(gaps) if gaps else 60_000.0

    @property
    def hosts(self) -> list[str]:
        """Names of the hosts."""
        return sorted({host for host, _ in self.names})

    @property
    def span(self) -> tuple[int, int]:
        """First and last time of a sample."""
        full = [t for t in self.times if len(t)]
        return (min(int(t[0]) for t in full), max(int(t[-1]) for t in full)) if full else (0, 0)


def load(folder: Path, progress: Callable[[int], object] = abs) -> Fleet:
    """Read a fleet; Problem where it is not laid out as one."""
    place = folder / TRUTH
    truth = read_json(place)
    if not isinstance(truth, dict) or not isinstance(truth.get("faults"), list):
        raise Problem(f'{place} has no list "faults"; write it as `opsriver simulate --out` does')
    files = sorted(path for path in folder.rglob("*.csv") if path.is_file())
    if not files:
        raise Problem(f"{folder} holds no .csv file; simulate it with --format csv")
    fleet: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for path in files:
        inside = path.relative_to(folder)
        if len(inside.parts) != 2:
            raise Problem(f"{path} is not <host>/<metric>.csv below {folder}; move it there")
        times, values = _read(path, inside)
        fresh = np.concatenate([[True], times[1:] > np.maximum.accumulate(times)[:-1]]) if len(times) else times > 0
        usable = fresh & np.isfinite(values)
        for column, part in zip(
            fleet, ((unquote(inside.parts[0]), unquote(inside.stem)), times[usable], values[usable]), strict=True
        ):
            column.append(part)
        progress(1)
    faults = [_fault(one, f"{place}: fault {n + 1}") for n, one in enumerate(truth["faults"])]
    events = truth.get("harmless") or []
    if not isinstance(events, list):
        raise Problem(f'{place}: "harmless" must be a list; write it as `opsriver simulate --out` does')
    harmless = [_harmless(one, f"{place}: harmless {n + 1}") for n, one in enumerate(events)]
    made = Fleet(*fleet, faults, harmless)
    for fault in faults:
        if fault.host not in made.hosts or (fault.metric != "*" and (fault.host, fault.metric) not in made.names):
            raise Problem(
                f"{place} has a fault of {fault.metric} of {fault.host}, which has no file; add it or the fault goes"
            )
    return made


def _read(path: Path, name: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Times and values of a file; plain numbers of milliseconds, as simulated, by Arrow, anything else by rows."""
    import pyarrow as pa
    from pyarrow import csv

    try:
        kinds = csv.ConvertOptions(
            column_types={"timestamp": pa.int64(), "value": pa.float64()}, include_columns=["timestamp", "value"]
        )
        table = csv.read_csv(path, convert_options=kinds)
        times = table["timestamp"].to_numpy().astype(np.int64)
        sizes = np.abs(times)
        if not len(times) or (sizes.min() >= 1e11 and sizes.max() < labelled.MILLISECONDS_BELOW):
            return times, table["value"].to_numpy().astype(np.float64)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError):
        pass
    series = labelled.read(path, name)
    return np.array(series.times, np.int64), np.array(series.values)


def _text(one: Any, name: str, where: str) -> str:
    if not isinstance(one, dict) or not isinstance(one.get(name), str):
        raise Problem(f"{where} has no text {name!r}; add it")
    return str(one[name])


def _fault(one: Any, where: str) -> Fault:
    host, metric, kind = (_text(one, name, where) for name in ("host", "metric", "kind"))
    size = one.get("size", math.nan)
    if not isinstance(size, int | float) or abs(size) > 1e300:
        raise Problem(f"{where}: size {str(size)[:40]!r} is not a number; give it in standard deviations")
    return Fault(host, metric, kind, *_span(one, where), float(size))


def _harmless(one: Any, where: str) -> Harmless:
    host, kind = (_text(one, name, where) for name in ("host", "kind"))
    return Harmless(host, kind, *_span(one, where))


def _span(one: Any, where: str) -> tuple[int, int]:
    start, end = moment(one.get("start"), where), moment(one.get("end"), where)
    if start > end:
        raise Problem(f"{where} ends before it starts; exchange its ends")
    return start, end


# ---------------------------------------------------------------------- insights


@dataclass(frozen=True, slots=True)
class Told:
    """The first time that an insight reached a severity. ``metric`` is ``*`` for a whole host."""

    host: str
    metric: str
    kind: str
    at: int
    severity: str
    covered: bool = False
    """Told by its group: known to who was paged for that, and no page of its own."""


def insights_of(
    fleet: Fleet, config: DetectorConfig, progress: Callable[[int], object] = abs
) -> tuple[list[Insight], float, float]:
    """All revisions of insights about a fleet, events a second of the core, and bytes a series."""
    scorer = Scorer(config)
    insights: list[Insight] = []
    begin, end = fleet.span
    length = max(int(_EVENTS_A_BATCH / max(len(fleet.names), 1) * fleet.cadence), int(fleet.cadence), 1)
    host_of = np.array([host for host, _ in fleet.names], object)
    shared_of = np.empty(len(fleet.names), object)
    shared_of[:] = [Shared(metric, metric) for _, metric in fleet.names]
    seconds, events = 0.0, 0
    for start in range(begin, end + 1, length):
        times, values, owners = [], [], []
        for number, (t, v) in enumerate(zip(fleet.times, fleet.values, strict=True)):
            low, high = np.searchsorted(t, (start, start + length))
            times.append(t[low:high])
            values.append(v[low:high])
            owners.append(np.full(high - low, number))
        time_column, owner = np.concatenate(times), np.concatenate(owners)
        order = np.lexsort((owner, time_column))
        owner = owner[order]
        batch = EventBatch()
        batch.timestamp = batch.arrival = array("q", time_column[order].tobytes())
        batch.value = array("d", np.concatenate(values)[order].tobytes())
        batch.resource, batch.shared = host_of[owner].tolist(), shared_of[owner].tolist()
        began = time.perf_counter()
        insights += scorer.process(batch).insights
        seconds, events = seconds + time.perf_counter() - began, events + len(order)
        progress(len(order))
    return insights, events / seconds if seconds else 0.0, bytes_a_series(scorer)


def told(insights: Sequence[Insight], least: str) -> list[Told]:
    """When each anomaly first reached a severity, in order. The time of a revision is the event's that caused it."""
    first: dict[str, Told] = {}
    loud: dict[str, int] = {}
    for insight in insights:
        if insight.kind == "group" and SEVERITY_ORDER[insight.severity] >= SEVERITY_ORDER[least]:
            loud.setdefault(insight.insight_id, insight.peak_at)
    for insight in insights:
        if insight.kind not in ("anomaly", "silence", "group"):
            continue
        if SEVERITY_ORDER[insight.severity] < SEVERITY_ORDER[least]:
            group = loud.get(insight.related[0]) if insight.related else None
            if group is not None and insight.insight_id not in first:
                at = max(insight.peak_at, group)
                first[insight.insight_id] = Told(
                    insight.resource, insight.metric, insight.kind, at, insight.severity, covered=True
                )
            continue
        if insight.insight_id not in first or first[insight.insight_id].covered:
            # An anomaly has reached a severity at its peak so far; silence is told later than it began, and its
            # revision is kept for a fixed time after the telling.
            at = insight.peak_at if insight.kind != "silence" else insight.ttl * 1000 - TTL_MS
            first[insight.insight_id] = Told(insight.resource, insight.metric, insight.kind, at, insight.severity)
    return sorted(first.values(), key=lambda one: (one.at, one.host, one.metric))


def judge(fleet: Fleet, insights: Sequence[Insight]) -> dict[str, Any]:
    """Recall by kind of fault, delay, and false pages a host-month."""
    pages, notes = told(insights, "HIGH"), told(insights, "LOW")
    kinds: dict[str, Any] = {}
    for kind in sorted({fault.kind for fault in fleet.faults}):
        mine = [fault for fault in fleet.faults if fault.kind == kind]
        paging = [_delay(fleet, fault, pages) for fault in mine]
        delays = [delay for delay in paging if delay is not None]
        # An insight that was open before, and is escalated by the fault, has told of it too.
        seen = [
            min(known)
            for fault, paged in zip(mine, paging, strict=True)
            if (known := [delay for delay in (_delay(fleet, fault, notes), paged) if delay is not None])
        ]
        kinds[kind] = {
            "faults": len(mine),
            "paged": len(delays),
            "recall": len(delays) / len(mine),
            "medianDelaySamples": median(delays) if delays else None,
            "reportedAtAll": len(seen),
            "medianDelayReported": median(seen) if seen else None,
        }
    own = [page for page in pages if not page.covered]
    false, noted = (
        [one for one in ones if not any(_echo(fleet, fault, one) for fault in fleet.faults)] for ones in (own, notes)
    )
    begin, end = fleet.span
    months = len(fleet.hosts) * max(end - begin, 1) / MONTH
    at_harmless = sum(any(_near(fleet, one, page) for one in fleet.harmless if one.host == page.host) for page in false)
    young = sum(page.at < begin + YOUNG for page in false)
    silences = sum(page.kind == "silence" for page in false)
    by_kind = {"anomaly": len(false) - silences, "silence": silences}
    return {
        "faults": kinds,
        "pages": len(own),
        "falsePages": len(false),
        "falsePagesAHostMonth": len(false) / months,
        "otherInsightsAHostMonth": sum(one.severity in ("LOW", "MEDIUM") for one in noted) / months,
        "falsePagesInTheFirstThreeDays": young,
        "falsePagesAtHarmless": at_harmless,
        "falsePagesByKind": by_kind,
        "hostMonths": months,
    }


def _delay(fleet: Fleet, fault: Fault, ones: Sequence[Told]) -> float | None:
    """Samples from a fault's start to the first word about it."""
    for one in ones:
        if _same(fault, one) and fault.start <= one.at <= fault.end + SLACK * fleet.cadence:
            return (one.at - fault.start) / fleet.cadence
    return None


def _same(fault: Fault, one: Told) -> bool:
    return fault.host == one.host and (fault.metric == one.metric or "*" in (fault.metric, one.metric))


def _echo(fleet: Fleet, fault: Fault, page: Told) -> bool:
    after = max(AFTERMATH * fleet.cadence, fault.end - fault.start)
    return _same(fault, page) and fault.start <= page.at <= fault.end + after


def _near(fleet: Fleet, one: Harmless, page: Told) -> bool:
    return one.start <= page.at <= one.end + AFTERMATH * fleet.cadence


def evaluate(fleet: Fleet, config: DetectorConfig, progress: Callable[[int], object] = abs) -> dict[str, Any]:
    """Judge a configuration on a fleet."""
    insights, speed, size = insights_of(fleet, config, progress)
    return {**judge(fleet, insights), "eventsASecond": speed, "bytesASeries": size}
