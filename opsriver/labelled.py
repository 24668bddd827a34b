"""Series in CSV files: reading, scoring them with the production core, writing the verdicts."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from opsriver.errors import Problem
from schemas.insights import Insight
from schemas.times import from_iso, in_calendar
from stream_processors.detectors.config import DetectorConfig
from stream_processors.episodes import severity_name
from stream_processors.records.batch import EventBatch, Shared
from stream_processors.scoring import Scorer

CHUNK = 512
"""Rows of each file that go into one batch."""
MILLISECONDS_BELOW = 1e14
"""Larger numbers are no milliseconds but micro- or nanoseconds, and refused."""
GROUP_ROWS = 2_000_000
"""Rows held in memory at once; files beyond them are scored afterwards."""
COLUMNS = ("timestamp", "value", "anomaly_score", "expected_low", "expected", "expected_high", "severity", "episode")


@dataclass(slots=True)
class Series:
    """One file's series. ``times`` are epoch milliseconds, NaN values are rows without a usable value."""

    path: Path
    name: Path
    stamps: list[str]
    texts: list[str]
    times: list[int]
    values: list[float]

    @property
    def resource(self) -> str:
        """The name as text; bytes of it that are no UTF-8 are escaped."""
        return os.fsencode(self.name).decode(errors="backslashreplace")


@dataclass(slots=True)
class Scored:
    """Verdicts of one series, a row each, and its insights."""

    series: Series
    score: list[float]
    expected_low: list[float]
    expected: list[float]
    expected_high: list[float]
    severity: list[str]
    episode: list[str]
    unscored: int = 0
    insights: list[Insight] = field(default_factory=list)

    @classmethod
    def blank(cls, series: Series) -> Scored:
        """A series of which nothing is known yet."""
        rows = len(series.times)
        unknown = [math.nan] * rows
        return cls(series, [0.0] * rows, unknown, unknown.copy(), unknown.copy(), [""] * rows, [""] * rows)


def find(paths: Sequence[Path], out: Path) -> list[tuple[Path, Path]]:
    """Files to read and their names below the output folder; folders keep their layout.

    What lies in an output folder below an input is no input but the result of an earlier run. Raises
    Problem where an input would be overwritten.
    """
    found: list[tuple[Path, Path]] = []
    goal = out.resolve()
    for path in paths:
        if path.is_dir():
            inside = goal != path.resolve() and goal.is_relative_to(path.resolve())
            files = sorted(
                p for p in path.rglob("*.csv") if p.is_file() and not (inside and p.resolve().is_relative_to(goal))
            )
            if not files:
                raise Problem(f"folder {path} holds no .csv file; name a folder or files with columns timestamp,value")
            found += [(file, file.relative_to(path)) for file in files]
        elif path.is_file():
            found.append((path, Path(path.name)))
        elif path.exists():
            raise Problem(f"{path} is neither a file nor a folder; save what comes out of it as a CSV file first")
        else:
            raise Problem(f"{path} does not exist; name a CSV file or a folder of them")
    names = [name for _, name in found]
    if len(set(names)) != len(names):
        twice = sorted({str(n) for n in names if names.count(n) > 1})[0]
        raise Problem(f"two inputs would both be written as {twice}; score them with different --out folders")
    inputs = {file.resolve() for file, _ in found}
    for file, name in found:
        if (goal / name).resolve() in inputs:
            raise Problem(f"{file} would be overwritten by what is written to --out {out}; choose another folder")
    return found


def read(path: Path, name: Path) -> Series:
    """Read a CSV file with the columns ``timestamp`` and ``value`` (others are ignored)."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = next(rows, None)
            if header is None:
                raise Problem(f"{path} is empty; its first line must be timestamp,value")
            columns = [column.strip().lower() for column in header]
            for needed in ("timestamp", "value"):
                if needed not in columns:
                    raise Problem(f"{path} has the columns {', '.join(header)[:100]!r}; it needs timestamp and value")
            at, of = columns.index("timestamp"), columns.index("value")
            series = Series(path, name, [], [], [], [])
            for row in rows:
                if not row:
                    continue
                if len(row) <= max(at, of):
                    raise Problem(f"{path} line {rows.line_num} has {len(row)} columns; complete or remove the line")
                series.stamps.append(row[at])
                series.texts.append(row[of])
                series.times.append(_time(row[at], path, rows.line_num))
                series.values.append(_value(row[of]))
            return series
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    except UnicodeDecodeError:
        raise Problem(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except csv.Error as error:
        raise Problem(f"{path} is not a usable CSV file: {error}") from None


def _time(text: str, path: Path, line: int) -> int:
    found = None
    try:
        found = round(from_iso(text.strip()).timestamp() * 1000)
    except (ValueError, OverflowError):
        with suppress(ValueError):
            number = float(text)
            if abs(number) < MILLISECONDS_BELOW:
                found = round(number if abs(number) >= 1e11 else number * 1000)
    if found is not None and in_calendar(found):
        return found
    raise Problem(f"{path} line {line}: {text[:40]!r} is not a time; write 2026-11-26 15:04:05, RFC 3339 or epoch seconds")


def _value(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def score(
    series: Sequence[Series],
    config: DetectorConfig,
    progress: Callable[[int], object] = abs,
    scorer: Scorer | None = None,
) -> list[Scored]:
    """Score series strictly online, each row from itself and the rows before it.

    Rows without a finite value, and rows that are not later than the one before, are not scored:
    their score is 0. ``scorer`` is a fresh one of this configuration, for callers that look at its
    banks afterwards.
    """
    scorer = scorer or Scorer(config, watch_silence=False)
    results = [Scored.blank(s) for s in series]
    by_name = {s.resource: result for s, result in zip(series, results, strict=True)}
    longest = max((len(s.times) for s in series), default=0)
    for begin in range(0, longest, CHUNK):
        batch, places = _batch(results, begin)
        outcome = scorer.process(batch, collect=True)
        for insight in outcome.insights:
            by_name[insight.resource].insights.append(insight)
        told = outcome.verdicts
        if told is None:
            raise RuntimeError("verdicts were asked for")
        for index, (result, row) in enumerate(places):
            result.score[row] = float(told.score[index])
            result.expected_low[row] = float(told.expected_low[index])
            result.expected[row] = float(told.expected[index])
            result.expected_high[row] = float(told.expected_high[index])
            level = int(told.severity[index])
            result.severity[row] = severity_name(level) if level else ""
            result.episode[row] = told.episode[index]
        progress(len(places))
    for result in results:
        newest, unscored = -math.inf, 0
        for time, value in zip(result.series.times, result.series.values, strict=True):
            if math.isnan(value) or time <= newest:
                unscored += 1
            else:
                newest = time
        result.unscored = unscored
    return results


def _batch(results: Sequence[Scored], begin: int) -> tuple[EventBatch, list[tuple[Scored, int]]]:
    batch, places = EventBatch(), list[tuple[Scored, int]]()
    for result in results:
        s = result.series
        resource = s.resource
        for row in range(begin, min(begin + CHUNK, len(s.times))):
            if math.isnan(s.values[row]):
                continue
            places.append((result, row))
            batch.resource.append(resource)
            batch.timestamp.append(s.times[row])
            batch.value.append(s.values[row])
    batch.shared = [Shared("value", "value")] * len(places)
    batch.arrival = batch.timestamp
    return batch, places


def groups(files: Sequence[tuple[Path, Path]], progress: Callable[[int], object] = abs) -> Iterator[list[Series]]:
    """Read files in groups that fit in memory; ``progress`` is told of each file."""
    held: list[Series] = []
    rows = 0
    for path, name in files:
        one = read(path, name)
        held.append(one)
        rows += len(one.times)
        progress(1)
        if rows >= GROUP_ROWS:
            yield held
            held, rows = [], 0
    if held:
        yield held


def write(result: Scored, out: Path) -> Path:
    """Write a series' verdicts below ``out``, under its own name; the file appears whole or not at all."""
    target = out / result.series.name
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            s = result.series
            for row in range(len(s.times)):
                writer.writerow(
                    (
                        s.stamps[row],
                        s.texts[row],
                        f"{result.score[row]:.6f}",
                        _number(result.expected_low[row]),
                        _number(result.expected[row]),
                        _number(result.expected_high[row]),
                        result.severity[row],
                        result.episode[row],
                    )
                )
        partial.replace(target)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise Problem(f"{target} cannot be written: {error.strerror}; choose another --out or free some space") from None
    return target


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.10g}"
