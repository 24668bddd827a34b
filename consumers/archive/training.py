"""A labelled training set from the archive: Parquet below ``training/<name>/``, split by time.

A row is one event of one series: features of the event and of the two hours before it, and a label.
Everything is read an hour at a time, so a set may be far larger than memory. The same archive and the
same arguments give the same bytes: nothing here knows the clock (docs/training.md).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from numpy.typing import NDArray

from consumers.archive.layout import HOUR_MS
from consumers.archive.reader import Archive
from consumers.archive.store import Store
from consumers.archive.writer import file_writer, sort
from schemas.arrow import KEYS
from schemas.events import Feedback
from schemas.insights import Insight
from schemas.names import series_name

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FOLDER = "training"
VERSION = 1
"""Of the columns and their meaning."""
MINUTE_MS = 60_000
SHORT_MS = 15 * MINUTE_MS
LOOKBACK_MS = 2 * HOUR_MS
"""How far features look back; the gap between the parts is never shorter."""
MISSED_MS = 15 * MINUTE_MS
"""What a ``missed`` verdict labels, before and after the moment it names."""
EPISODE_MS = 7 * 24 * HOUR_MS
"""The scorer ends every episode after so long."""
PART_ROWS = 2_000_000
GROUP_ROWS = 256 * 1024
PARTS = ("train", "validation")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_COLUMNS = (*KEYS["events"], "resource", "metric", "series", "timestamp", "value")

FEATURES: dict[str, str] = {
    "value": "the value itself, in the metric's unit",
    "hour_sin": "time of day (UTC) as an angle: its sine",
    "hour_cos": "time of day (UTC) as an angle: its cosine",
    "weekday": "day of the week (UTC), 0 is Monday",
    "since_last_s": "seconds since the series' event before",
    "change": "value less the value before",
    "count_15m": "events of the series in the 15 minutes before",
    "mean_15m": "mean of the values of the 15 minutes before",
    "std_15m": "their standard deviation",
    "count_2h": "events of the series in the two hours before",
    "mean_2h": "mean of the values of the two hours before",
    "std_2h": "their standard deviation",
    "min_2h": "least value of the two hours before",
    "max_2h": "greatest value of the two hours before",
    "z_2h": "(value - mean_2h) / std_2h; null where the two hours were constant",
}
"""Columns a model may learn from, and what they are. "Before" is by event time, without the event itself; a
feature is null where the time before has too few events for it."""

SCHEMA = pa.schema(
    [
        pa.field("label", pa.int8(), nullable=False),
        *(pa.field(name, pa.float64()) for name in FEATURES),
        pa.field("label_source", pa.string(), nullable=False),
        pa.field("label_id", pa.string()),
        pa.field("severity", pa.string()),
        pa.field("resource", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("series", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC"), nullable=False),
    ],
    metadata={b"opsriver.training": str(VERSION).encode()},
)
_ABOUT = {
    "label": "1 anomalous, 0 ordinary",
    "label_source": "who says so: feedback (a person), insight (the detector), none (nobody said anything: label 0)",
    "label_id": "the insight, or missed:<place of the verdict on its shard>; equal for all rows of one anomaly",
    "severity": "worst severity of the insight",
    "resource": "host or resource",
    "metric": "name of the metric",
    "series": "name of the series: the metric, with its dimensions in braces where it has some",
    "timestamp": "time of the event",
}


class TrainingSetError(ValueError):
    """No training set can be made of this; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Span:
    """A labelled stretch of one series, both ends inside, in epoch milliseconds."""

    resource: str
    series: str
    start: int
    end: int
    label: int
    source: str
    identity: str
    severity: str = ""


@dataclass(slots=True)
class _Labels:
    """Spans in the order in which they apply, a later one over an earlier one, and how they came about."""

    spans: list[Span]
    counts: dict[str, int]
    detectors: list[str]


@dataclass(slots=True)
class _Part:
    """One side of the split while it is written."""

    folder: Path
    rows: int = 0
    positive: int = 0
    first: int = 0
    last: int = 0
    reach: int = 2**62
    """The oldest moment that features of its rows saw."""
    sources: Counter[str] = field(default_factory=Counter)
    identities: set[str] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)
    _held: list[pa.Table] = field(default_factory=list)
    _waiting: int = 0
    _in_file: int = 0
    _writer: Any = None

    def add(self, table: pa.Table, oldest: int) -> None:
        """Take rows of one hour, of which features saw nothing before ``oldest``."""
        times = table["timestamp"].cast(pa.int64())
        low, high = pc.min(times).as_py(), pc.max(times).as_py()
        self.first, self.last = min(self.first, low) if self.rows else low, max(self.last, high)
        self.rows += len(table)
        self.reach = min(self.reach, oldest)
        self.positive += pc.sum(table["label"]).as_py() or 0
        for one in pc.value_counts(table["label_source"]).to_pylist():
            self.sources[one["values"]] += one["counts"]
        self.identities.update(pc.unique(table["label_id"].drop_null()).to_pylist())
        self._held.append(table)
        self._waiting += len(table)
        if self._waiting >= GROUP_ROWS:
            self._write()

    def close(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._write()
        self._close_file()

    def _write(self) -> None:
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.files.append(self.folder / f"part-{len(self.files):05d}.parquet")
            self._writer = file_writer(str(self.files[-1]), SCHEMA)
        self._writer.write_table(pa.concat_tables(self._held), row_group_size=GROUP_ROWS)
        self._in_file += self._waiting
        self._held, self._waiting = [], 0
        if self._in_file >= PART_ROWS:
            self._close_file()

    def _close_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer, self._in_file = None, 0


def build(
    store: Store,
    begin: int,
    end: int,
    validation: float = 0.2,
    gap_hours: float = 2.0,
    name: str = "",
    progress: Callable[[str], object] = len,
    damaged: Literal["raise", "skip"] = "raise",
) -> dict[str, Any]:
    """Make a training set of the events from ``begin`` up to before ``end`` (epoch ms) and store it.

    The last share ``validation`` of the time that has events is held back; between the parts lie
    ``gap_hours``. ``progress`` is told what is being done. Returns the manifest with the set's location.
    Raises TrainingSetError; DamagedFile and errors of the store pass through.
    """
    _check_arguments(begin, end, validation, gap_hours, name)
    archive = Archive(store.root, store.filesystem, damaged=damaged)
    progress("looking for events")
    first, last, rows = _extent(archive, begin, end)
    left_out = list(archive.read.damaged)
    if not rows:
        raise TrainingSetError(
            f"the archive has no metric events from {_written(begin)} to {_written(end)}; choose another range"
        )
    name = name or _written(last)[:10]
    where = f"{FOLDER}/{name}"
    if any(entry.name == "manifest.json" for entry in store.entries(where)):
        raise TrainingSetError(f"there is a training set {name!r} already; choose another name, or delete {where}/ first")
    split = first + round((1 - validation) * (last + 1 - first))
    cut = split - round(gap_hours * HOUR_MS)
    if cut <= first:
        raise TrainingSetError(
            f"events from {_written(first)} to {_written(last)} are {(last - first) / HOUR_MS:.1f} hours: too few "
            f"to hold back {validation:.0%} and leave {gap_hours:g} hours between the parts; take a longer range"
        )
    labels = _labels(archive, begin, end, progress)
    left_out += [path for path in archive.read.damaged if path not in left_out]
    with TemporaryDirectory(prefix="opsriver-training-") as scratch:
        parts = {part: _Part(Path(scratch) / part) for part in PARTS}
        straddling = _fill(parts, archive, labels, (begin, end), (cut, split), progress)
        left_out += [path for path in archive.read.damaged if path not in left_out]
        _check_parts(parts)
        manifest = {
            "name": name,
            "version": VERSION,
            "range": {"from": _written(begin), "to": _written(end)},
            "configuration": {
                "validation": validation,
                "gapHours": gap_hours,
                "lookbackHours": LOOKBACK_MS / HOUR_MS,
                "missedMinutes": MISSED_MS / MINUTE_MS,
            },
            **{part: _described(parts[part], where) for part in PARTS},
            "gap": {"from": _written(cut), "to": _written(split)},
            "labels": {**labels.counts, "rowsOfAnomaliesInBothParts": straddling},
            "detectors": labels.detectors,
            "features": list(FEATURES),
            "damaged": sorted(left_out),
        }
        progress("storing")
        _put(store, where, parts, manifest)
    return {"location": _location(store, where), **manifest}


def _check_arguments(begin: int, end: int, validation: float, gap_hours: float, name: str) -> None:
    if begin >= end:
        raise TrainingSetError(f"the range begins {_written(begin)}, not before its end {_written(end)}; exchange them")
    if not 0 < validation < 1:
        raise TrainingSetError(f"validation is {validation:g}; give a share between 0 and 1, such as 0.2")
    if not math.isfinite(gap_hours) or gap_hours * HOUR_MS < LOOKBACK_MS:
        raise TrainingSetError(
            f"a gap of {gap_hours:g} hours would leak: features of validation look back {LOOKBACK_MS / HOUR_MS:g} hours, "
            f"into training; leave at least so much"
        )
    if name and not _NAME.fullmatch(name):
        raise TrainingSetError(
            f"{name[:80]!r} cannot be a set's name; take up to 64 letters, digits, '-', '_' and '.', a letter or digit first"
        )


def _extent(archive: Archive, begin: int, end: int) -> tuple[int, int, int]:
    """First and last time of the metric events of a range, and how many there are."""
    first, last, rows = end, begin, 0
    for _, table in archive.hourly("events", begin, end, [*KEYS["events"], "timestamp"], kind="metric"):
        times = table["timestamp"].cast(pa.int64())
        first, last = min(first, pc.min(times).as_py()), max(last, pc.max(times).as_py())
        rows += len(table)
    return first, last, rows


# ---------------------------------------------------------------------- labels


def _labels(archive: Archive, begin: int, end: int, progress: Callable[[str], object]) -> _Labels:
    """What insights and people say of the series in a range."""
    progress("reading insights")
    found = archive.insights(begin - EPISODE_MS, end, columns=["insight_id", "revision", "insight"])
    known: dict[str, Insight] = {}
    for row in sorted(found.to_pylist(), key=lambda one: (one["insight_id"], one["revision"])):
        insight = msgspec.json.decode(row["insight"], type=Insight)
        if insight.kind == "anomaly" and insight.resource and insight.metric != "*":
            known[insight.insight_id] = insight  # the last revision has the end and the worst severity
    ordered = sorted(known.values(), key=lambda one: (one.opened_at, one.insight_id))
    spans = [_span(one, end) for one in ordered]
    counts = Counter({"insights": len(spans), "falsePositive": 0, "missed": 0, "feedbackOfNoInsight": 0})
    progress("reading feedback")
    for verdict, place in _feedback(archive, begin):
        if verdict.verdict == "missed":
            low, high = verdict.timestamp - MISSED_MS, verdict.timestamp + MISSED_MS
            spans.append(Span(verdict.resource, verdict.series, low, high, 1, "feedback", f"missed:{place}"))
            counts["missed"] += 1
        elif (meant := _meant(verdict, known, ordered)) is not None:
            spans.append(_ordinary(meant, end))
            counts["falsePositive"] += 1
        else:
            counts["feedbackOfNoInsight"] += 1
    detectors = sorted({f"{one.detector} {one.detector_version}" for one in ordered})
    return _Labels(spans, dict(counts), detectors)


def _span(insight: Insight, end: int) -> Span:
    closed = end if insight.closed_at is None else insight.closed_at
    series = series_name(insight.metric, insight.dimensions)
    return Span(
        insight.resource, series, insight.opened_at, min(closed, insight.opened_at + EPISODE_MS), 1, "insight",
        insight.insight_id, insight.severity,
    )  # fmt: skip


def _ordinary(insight: Insight, end: int) -> Span:
    """What a person says was no anomaly."""
    one = _span(insight, end)
    return Span(one.resource, one.series, one.start, one.end, 0, "feedback", one.identity, one.severity)


def _feedback(archive: Archive, begin: int) -> Iterator[tuple[Feedback, str]]:
    """Verdicts of people with their places, in order of time; also those given after the range."""
    hours = archive.hours("events")
    if not hours:
        return
    columns = [*KEYS["events"], "timestamp", "detail"]
    table = archive.events(begin - EPISODE_MS, (hours[-1] + 1) * HOUR_MS, columns=columns, kind="feedback")
    rows = table.to_pylist()
    rows.sort(key=lambda one: (one["timestamp"], len(one["sequence"]), *(one[key] for key in reversed(KEYS["events"]))))
    for row in rows:
        place = "/".join(str(row[key]) for key in KEYS["events"])
        yield msgspec.json.decode(row["detail"], type=Feedback), place


def _meant(verdict: Feedback, known: dict[str, Insight], ordered: list[Insight]) -> Insight | None:
    """The insight of a verdict: the one it names, else the series' latest one at its time."""
    if verdict.insight_id:
        return known.get(verdict.insight_id)
    for one in reversed(ordered):
        if (
            one.opened_at <= verdict.timestamp
            and one.resource == verdict.resource
            and series_name(one.metric, one.dimensions) == verdict.series
        ):
            return one
    return None


# ---------------------------------------------------------------------- features


def features(series: IntArray, times: IntArray, values: FloatArray) -> tuple[dict[str, FloatArray], IntArray]:
    """Features of events, and for each the oldest moment (epoch ms) that they saw.

    series, times, values
        Number of each event's series, epoch milliseconds and value, shape (n,), sorted by series and time.

    A feature of an event follows from itself and from events of its series that are older by up to
    ``LOOKBACK_MS``, so it is the same whatever comes later, and however the events are cut.
    """
    count = len(times)
    if not count:
        return {name: np.zeros(0) for name in FEATURES}, np.zeros(0, np.int64)
    shifted = times - times.min()
    key = series * (int(shifted.max()) + 2 * LOOKBACK_MS) + shifted  # rises; series lie apart by more than a window
    own = np.searchsorted(key, key, "left")
    short = np.searchsorted(key, key - SHORT_MS, "left")
    long = np.searchsorted(key, key - LOOKBACK_MS, "left")
    none = long == own
    angle = (times % (24 * HOUR_MS)) / (24 * HOUR_MS) * 2 * math.pi
    before = np.maximum(own - 1, 0)
    made = {
        "value": values,
        "hour_sin": np.sin(angle),
        "hour_cos": np.cos(angle),
        "weekday": ((times // (24 * HOUR_MS) + 3) % 7).astype(np.float64),
        "since_last_s": np.where(none, np.nan, (times - times[before]) / 1000),
        "change": np.where(none, np.nan, values - values[before]),
    }
    for window, start in (("15m", short), ("2h", long)):
        made[f"count_{window}"], made[f"mean_{window}"], made[f"std_{window}"] = _moments(values, start, own)
    made["min_2h"] = np.where(none, np.nan, _reduced(np.minimum, values, long, own))
    made["max_2h"] = np.where(none, np.nan, _reduced(np.maximum, values, long, own))
    steady = ~(made["std_2h"] > 0)
    made["z_2h"] = np.where(steady, np.nan, (values - made["mean_2h"]) / np.where(steady, 1.0, made["std_2h"]))
    return {name: made[name] for name in FEATURES}, times[long]


def _moments(values: FloatArray, start: IntArray, stop: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Number, mean and standard deviation of the values in windows; NaN where there are none, or one."""
    number = (stop - start).astype(np.float64)
    some = np.maximum(number, 1.0)
    mean = np.where(number > 0, _reduced(np.add, values, start, stop) / some, np.nan)
    spread = np.full(len(values), np.nan)
    wide = np.flatnonzero(number > 1)
    step = max(1, 4_000_000 // max(1, int(number.max())))
    for begin in range(0, len(wide), step):  # two passes keep the digits of large values with little spread
        rows = wide[begin : begin + step]
        width = (stop - start)[rows]
        ends = np.cumsum(width)
        inside = np.arange(ends[-1]) - np.repeat(ends - width, width) + np.repeat(start[rows], width)
        off = values[inside] - np.repeat(mean[rows], width)
        spread[rows] = np.sqrt(np.add.reduceat(off * off, ends - width) / width)
    return number, mean, spread


def _reduced(function: np.ufunc, values: FloatArray, start: IntArray, stop: IntArray) -> FloatArray:
    """A ufunc over ``values[start:stop]`` of each row; an empty window gives some value."""
    pairs = np.empty(2 * len(start), np.int64)
    pairs[0::2], pairs[1::2] = start, stop
    reduced: FloatArray = function.reduceat(values, pairs)[0::2]
    return reduced


def check_past_only(
    series: IntArray, times: IntArray, values: FloatArray,
    compute: Callable[[IntArray, IntArray, FloatArray], tuple[dict[str, FloatArray], IntArray]] = features,
) -> None:  # fmt: skip
    """Raise TrainingSetError where a feature changes when what comes after the middle is taken away."""
    if not len(times):
        return
    kept = times <= (int(times.min()) + int(times.max())) // 2
    whole, _ = compute(series, times, values)
    past, _ = compute(series[kept], times[kept], values[kept])
    for name in whole:
        if not np.allclose(whole[name][kept], past[name], rtol=1e-9, atol=0.0, equal_nan=True):
            raise TrainingSetError(f"feature {name!r} sees what comes after its event; a model would learn from the future")


# ---------------------------------------------------------------------- the parts


def _fill(
    parts: dict[str, _Part], archive: Archive, labels: _Labels, span: tuple[int, int], between: tuple[int, int],
    progress: Callable[[str], object],
) -> int:  # fmt: skip
    """Write both parts; returns how many rows of training were left out, since validation has the same anomaly."""
    begin, end = span
    cut, split = between
    both = {one.identity for one in labels.spans if one.start < cut and one.end >= split}
    straddling = 0
    carried: pa.Table | None = None
    seen: set[str] = set()
    for hour, table in archive.hourly("events", begin - LOOKBACK_MS, end, _COLUMNS, kind="metric"):
        progress(f"reading {_written(hour * HOUR_MS)[:16]}")
        whole = sort(table if carried is None else pa.concat_tables([carried, table]), "events")
        stamps = whole["timestamp"].cast(pa.int64()).to_numpy()
        numbers = _numbers(whole)
        values = whole["value"].to_numpy()
        made, oldest = features(numbers, stamps, values)
        now = stamps >= max(hour * HOUR_MS, begin)
        for part, inside in (("train", now & (stamps < cut)), ("validation", now & (stamps >= split))):
            if not inside.any():
                continue
            if part not in seen:  # the first hour of each part stands for all: the arithmetic is the same
                check_past_only(numbers, stamps, values)
                seen.add(part)
            rows = _rows(whole, stamps, made, [one for one in labels.spans if _touches(one, hour)])
            keep = inside
            if part == "train" and both:
                shared = pc.is_in(rows["label_id"], pa.array(sorted(both), pa.string())).to_numpy()
                keep = inside & ~shared
                straddling += int((inside & shared).sum())
            if keep.any():
                parts[part].add(rows.filter(pa.array(keep)), int(oldest[keep].min()))
        carried = whole.filter(pa.array(stamps >= (hour + 1) * HOUR_MS - LOOKBACK_MS))
    for one in parts.values():
        one.close()
    return straddling


def _touches(span: Span, hour: int) -> bool:
    return span.start < (hour + 1) * HOUR_MS and span.end >= hour * HOUR_MS


def _numbers(rows: pa.Table) -> IntArray:
    """A number for each series, rising with the rows, which are sorted by resource and series."""
    count = len(rows)
    fresh = np.zeros(count, bool)
    for name in ("resource", "series"):
        codes = rows[name].combine_chunks().dictionary_encode().indices.to_numpy()
        fresh[1:] |= codes[1:] != codes[:-1]
    return np.cumsum(fresh)


def _rows(whole: pa.Table, stamps: IntArray, made: dict[str, FloatArray], spans: Iterable[Span]) -> pa.Table:
    """Rows of the set, with labels."""
    count = len(whole)
    label = np.zeros(count, np.int8)
    source, identity, severity = (np.full(count, None, object) for _ in range(3))
    source[:] = "none"
    names = list(zip(whole["resource"].to_pylist(), whole["series"].to_pylist(), strict=True)) if spans else []
    starts: dict[tuple[str, str], list[int]] = {}
    for at, pair in enumerate(names):
        found = starts.get(pair)
        if found is None:
            starts[pair] = [at, at + 1]
        else:
            found[1] = at + 1
    for one in spans:
        place = starts.get((one.resource, one.series))
        if place is None:
            continue
        mine = stamps[place[0] : place[1]]
        low = place[0] + int(np.searchsorted(mine, one.start, "left"))
        high = place[0] + int(np.searchsorted(mine, one.end, "right"))
        label[low:high] = one.label
        source[low:high], identity[low:high], severity[low:high] = one.source, one.identity, one.severity or None
    columns: dict[str, Any] = {
        "label": label,
        **{name: pa.array(column, pa.float64(), from_pandas=True) for name, column in made.items()},
        "label_source": pa.array(source.tolist(), pa.string()),
        "label_id": pa.array(identity.tolist(), pa.string()),
        "severity": pa.array(severity.tolist(), pa.string()),
        **{name: whole[name] for name in ("resource", "metric", "series", "timestamp")},
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _check_parts(parts: dict[str, _Part]) -> None:
    """Raise TrainingSetError where a part is of no use, or validation knows something of training."""
    for name, part in parts.items():
        if not part.rows:
            raise TrainingSetError(f"no events are left for {name}; take a longer range")
        if not part.positive:
            raise TrainingSetError(
                f"none of the {part.rows:,} rows for {name}, up to {_written(part.last)}, is labelled anomalous; take a "
                "longer range, or give feedback on what was missed (docs/training.md)"
            )
        if part.positive == part.rows:
            raise TrainingSetError(f"all {part.rows:,} rows for {name} are labelled anomalous; take a longer range")
    train, validation = (parts[name] for name in PARTS)
    if validation.reach <= train.last:
        raise TrainingSetError(
            f"features of validation reach back to {_written(validation.reach)}, and training has rows up to "
            f"{_written(train.last)}; leave a longer gap"
        )
    shared = train.identities & validation.identities
    if shared:
        raise TrainingSetError(f"anomaly {min(shared)} has rows in both parts; choose another split")


# ---------------------------------------------------------------------- storing


def _described(part: _Part, where: str) -> dict[str, Any]:
    return {
        "rows": part.rows,
        "positive": part.positive,
        "from": _written(part.first),
        "to": _written(part.last),
        "anomalies": len(part.identities),
        "rowsByLabelSource": dict(sorted(part.sources.items())),
        "files": [
            {"key": f"{where}/{part.folder.name}/{one.name}", "bytes": one.stat().st_size} for one in part.files
        ],
    }  # fmt: skip


def _put(store: Store, where: str, parts: dict[str, _Part], manifest: dict[str, Any]) -> None:
    """Store everything; the manifest comes last, so a set without one is left from a run that was ended."""
    for part in PARTS:
        folder = f"{where}/{part}"
        store.delete([f"{folder}/{entry.name}" for entry in store.entries(folder)])
    for part, one in parts.items():
        for path in one.files:
            store.put_file(f"{where}/{part}/{path.name}", path)
    store.put(f"{where}/schema.json", _json(_schema_document()))
    store.put(f"{where}/README.md", _readme(manifest).encode())
    if not store.create(f"{where}/manifest.json", _json(manifest)):
        raise TrainingSetError(f"a training set {manifest['name']!r} was made at the same time; choose another name")


def _location(store: Store, where: str) -> str:
    scheme = "s3://" if isinstance(store.filesystem, pafs.S3FileSystem) else ""
    return f"{scheme}{store.root}/{where}/"


def _schema_document() -> dict[str, Any]:
    columns = []
    for one in SCHEMA:
        role = "feature" if one.name in FEATURES else "label" if one.name.startswith("label") else "identifier"
        text = FEATURES.get(one.name) or _ABOUT[one.name]
        columns.append({"name": one.name, "type": str(one.type), "role": role, "nullable": one.nullable, "meaning": text})
    return {"version": VERSION, "columns": columns}


def _readme(manifest: dict[str, Any]) -> str:
    lines = [
        f"# Training set {manifest['name']}",
        "",
        f"Events from {manifest['range']['from']} to {manifest['range']['to']}, split by time.",
        "",
        "| part | rows | anomalous | from | to |",
        "|---|---|---|---|---|",
        *(
            f"| {part}/ | {manifest[part]['rows']:,} | {manifest[part]['positive']:,} | {manifest[part]['from']} "
            f"| {manifest[part]['to']} |"
            for part in PARTS
        ),
        "",
        f"Nothing from {manifest['gap']['from']} to {manifest['gap']['to']} is in it: features look back "
        f"{manifest['configuration']['lookbackHours']:g} hours, so no row of validation has seen one of training.",
        "Rows of an anomaly that reaches into validation are left out of training.",
        "",
        f"Labels: {manifest['labels']['insights']} insights, {manifest['labels']['falsePositive']} verdicts that one was a "
        f"false positive, {manifest['labels']['missed']} that one was missed. A person's verdict goes before an insight.",
        "Rows of which nobody said anything are ordinary.",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
        *(f"| {one['name']} | {one['type']} | {one['meaning']} |" for one in _schema_document()["columns"]),
        "",
    ]
    return "\n".join(lines)


def _json(document: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _written(moment: int) -> str:
    try:
        text = datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"epoch {moment} ms"
    return text.replace(".000", "").replace("+00:00", "Z")
