"""How good detectors are on labelled series: scores, half-splits, folders left out, changed copies.

The rules are those published with the Numenta Anomaly Benchmark (Lavin & Ahmad, ICMLA 2015): the
first 15 % of a series, at most 750 rows, do not count; within a labelled window the earliest detection
earns up to 1, less the later it comes, by a scaled sigmoid; a detection outside costs up to the
profile's price, less where it follows a window closely; a missed window costs the profile's price. One
threshold serves all series. 0 is a detector that says nothing, 100 one that is right at once.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsriver import labelled
from opsriver.errors import Problem
from opsriver.labelled import Scored, Series
from schemas.times import from_iso, in_calendar
from stream_processors.detectors.base import SEVERITY_SCORES, Bank
from stream_processors.detectors.config import DetectorConfig
from stream_processors.records.batch import EventBatch, Shared
from stream_processors.scoring import Scorer

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PROFILES: Mapping[str, tuple[float, float]] = {"standard": (1.0, 0.11), "low FP": (1.0, 0.22), "low FN": (2.0, 0.11)}
"""Price of a missed window and of a false detection; a window found at once earns 1."""
DEFAULT = SEVERITY_SCORES[2]
"""The threshold at which insights page."""
NOTHING = 1.1
"""A threshold above every score."""
WEEK = 7 * 86_400_000
_CHUNK = 512
LABELS = Path("labels") / "combined_windows.json"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A series and its anomaly windows, epoch milliseconds with both ends inside, in order."""

    series: Series
    windows: tuple[tuple[int, int], ...]

    @property
    def key(self) -> str:
        """``folder/file.csv``."""
        return self.series.resource

    @property
    def folder(self) -> str:
        """The folder below ``data`` that holds the series."""
        return self.series.name.parent.as_posix()


def moment(text: object, where: str) -> int:
    """Epoch milliseconds of a time written as RFC 3339 (UTC where it names no zone) or as a number of milliseconds."""
    try:
        if isinstance(text, int | float) and not isinstance(text, bool):
            found = int(text)
        else:
            told = str(text).strip()
            found = int(told) if told.isdecimal() else round(from_iso(told).timestamp() * 1000)
        if not in_calendar(found):
            raise ValueError
        return found
    except (ValueError, OverflowError):
        message = f"{where}: {str(text)[:40]!r} is not a time; write 2026-11-26T15:04:05Z or epoch milliseconds"
        raise Problem(message) from None


def _written(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_json(path: Path) -> Any:
    """A JSON file of people's making; Problem where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}; check the path") from None
    except RecursionError:
        raise Problem(f"{path} is nested too deeply; docs/evaluation.md shows what it holds") from None
    except ValueError as error:
        raise Problem(f"{path} is not valid JSON: {error}; mend that place") from None


def load(folder: Path, progress: Callable[[int], object] = abs) -> list[Labelled]:
    """Labelled series of ``folder/data/<folder>/<file>.csv`` and ``folder/labels/combined_windows.json``.

    The labels decide which series there are; ``progress`` is told of each. Raises Problem where something is missing or
    unreadable.
    """
    place = folder / LABELS
    labels = read_json(place)
    if not isinstance(labels, dict) or not labels:
        raise Problem(f"{place} names no series; it must be an object of windows by file name")
    found = []
    for key in sorted(labels):
        spans = labels[key]
        if not isinstance(spans, list) or not all(isinstance(span, list) and len(span) == 2 for span in spans):
            raise Problem(f"{place}: the windows of {key} must be a list of [start, end]")
        windows = sorted((moment(start, f"{place}: {key}"), moment(end, f"{place}: {key}")) for start, end in spans)
        if any(start > end for start, end in windows):
            raise Problem(f"{place}: a window of {key} ends before it starts; exchange its ends")
        path = folder / "data" / key
        if not path.is_file():
            raise Problem(f"{path} does not exist, but {place} labels it; add the file or remove the label")
        one = labelled.read(path, Path(key))
        if windows and not one.times:
            raise Problem(f"{path} has no rows, but {place} has windows of it; add the rows or remove the windows")
        for start, end in windows:
            if start > max(one.times) or end < min(one.times):
                told = f"{_written(start)} to {_written(end)}"
                raise Problem(f"{place}: the window {told} of {key} lies outside of the file's rows; correct or remove it")
        found.append(Labelled(one, tuple(windows)))
        progress(1)
    return found


# ---------------------------------------------------------------------- the rules


def _sigmoid(x: FloatArray) -> FloatArray:
    """From 1 far before a window's end over 0 there to -1 far behind."""
    return np.asarray(np.where(x > 3.0, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(x, 3.0))) - 1.0))


class Terrain:
    """What a detection at each row of a series is worth.

    ``worth`` is what the row earns in a window (``window`` is its index) or costs outside (-1), before
    the profile's prices. Rows before ``probation`` do not count.
    """

    def __init__(self, one: Labelled) -> None:
        times = one.series.times
        rows = len(times)
        self.probation = math.ceil(min(math.floor(0.15 * rows), 0.15 * 5000))
        self.spans = [_rows(times, window) for window in one.windows]
        self.window = np.full(rows, -1, np.int64)
        self.worth = np.full(rows, -1.0)
        at_once = float(_sigmoid(np.array([-1.0]))[0])
        for number, (first, last) in enumerate(self.spans):
            width = last - first + 1
            inside = np.arange(first, last + 1)
            self.window[inside] = number
            self.worth[inside] = _sigmoid((inside - last - 1) / width) / at_once
            until = self.spans[number + 1][0] if number + 1 < len(self.spans) else rows
            after = np.arange(last + 1, until)
            self.worth[after] = _sigmoid((after - last) / (width - 1)) if width > 1 else -1.0


def _rows(times: Sequence[int], window: tuple[int, int]) -> tuple[int, int]:
    """First and last row of a window; the first row of a time that occurs twice."""
    start, end = window
    begin = next((row for row, time in enumerate(times) if time >= start), len(times) - 1)
    finish = next((row for row, time in enumerate(times) if time == end), None)
    if finish is None:
        finish = next((row for row in range(len(times) - 1, -1, -1) if times[row] <= end), begin)
    if start != times[begin] and start in times:
        begin = times.index(start)
    return begin, max(begin, finish)


@dataclass(frozen=True, slots=True)
class Sweep:
    """A series' parts of the score as its threshold sinks: changes at each row, highest score first."""

    scores: FloatArray
    earned: FloatArray
    hits: FloatArray
    spent: FloatArray
    windows: int
    countable: int


def sweep(terrain: Terrain, scores: FloatArray) -> Sweep:
    """The changes of a series' score at each of its rows' scores."""
    order = np.argsort(-scores[terrain.probation :], kind="stable") + terrain.probation
    window, worth = terrain.window[order], terrain.worth[order]
    earned, hits = np.zeros(len(order)), np.zeros(len(order))
    countable = 0
    for number in range(len(terrain.spans)):
        mine = np.flatnonzero(window == number)
        if not len(mine):
            continue
        countable += 1
        hits[mine[0]] = 1.0
        earned[mine] = np.diff(np.maximum.accumulate(worth[mine]), prepend=0.0)
    return Sweep(scores[order], earned, hits, np.where(window < 0, worth, 0.0), len(terrain.spans), countable)


@dataclass(frozen=True, slots=True)
class Standing:
    """A normalised score at one threshold."""

    score: float
    threshold: float
    hits: int
    windows: int


def standing(sweeps: Iterable[Sweep], profile: str, threshold: float | None = None) -> Standing:
    """Score over several series, at a threshold or at the best one. NaN where they have no windows."""
    parts = list(sweeps)
    missed, false = PROFILES[profile]
    scores = np.concatenate([part.scores for part in parts])
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    earned, hits, spent = (
        np.cumsum(np.concatenate([getattr(part, name) for part in parts])[order]) for name in ("earned", "hits", "spent")
    )
    steps = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, np.int64)
    thresholds = np.append(NOTHING, scores[steps])
    earned, hits, spent = (np.append(0.0, column[steps]) for column in (earned, hits, spent))
    windows, countable = sum(part.windows for part in parts), sum(part.countable for part in parts)
    raw = earned - missed * (countable - hits) + false * spent
    at = int(np.argmax(raw)) if threshold is None else int((thresholds[1:] >= threshold).sum())
    nothing = -missed * countable
    whole = windows - nothing
    score = 100.0 * (float(raw[at]) - nothing) / whole if whole else math.nan
    return Standing(score, float(thresholds[at]) if threshold is None else threshold, int(hits[at]), windows)


def both(terrains: Iterable[Terrain], scores: Iterable[FloatArray], profile: str = "standard") -> dict[str, float]:
    """Scores over several series at the best threshold and at the detector's own: ``best`` and ``default``."""
    sweeps = [sweep(terrain, one) for terrain, one in zip(terrains, scores, strict=True)]
    return {"best": standing(sweeps, profile).score, "default": standing(sweeps, profile, DEFAULT).score}


def _raw(sweeps: Sequence[Sweep], threshold: float) -> tuple[float, float]:
    """Standard profile: score above the null detector's, and the perfect detector's above it."""
    at = standing(sweeps, "standard", threshold)
    whole = sum(part.windows + part.countable for part in sweeps)
    return (at.score * whole / 100.0 if whole else 0.0) + _cost(sweeps, threshold, whole), float(whole)


def _cost(sweeps: Sequence[Sweep], threshold: float, whole: int) -> float:
    """What false detections cost series without windows, whose score is not defined alone."""
    if whole:
        return 0.0
    return PROFILES["standard"][1] * float(sum(part.spent[part.scores >= threshold].sum() for part in sweeps))


# ---------------------------------------------------------------------- what was found


def findings(series: Sequence[Labelled], terrains: Sequence[Terrain], scores: Sequence[FloatArray], threshold: float) -> Any:
    """Windows found, false alarms a week and median delay at a threshold, over several series.

    A false alarm is a run of rows at or above the threshold outside all windows; the delay is from a
    window's first row to its first detection, in milliseconds (None where nothing was found).
    """
    found, windows, false, span = 0, 0, 0, 0
    delays: list[float] = []
    for one, terrain, told in zip(series, terrains, scores, strict=True):
        times = one.series.times
        loud = told >= threshold
        loud[: terrain.probation] = False
        outside = loud & (terrain.window < 0)
        false += int((outside & ~np.append(False, loud[:-1])).sum())
        windows += len(terrain.spans)
        for number, (first, _) in enumerate(terrain.spans):
            rows = np.flatnonzero(loud & (terrain.window == number))
            if len(rows):
                found += 1
                delays.append(float(times[rows[0]] - times[first]))
        if len(times) > terrain.probation:
            span += max(times[-1] - times[terrain.probation], 0)
    return {
        "hits": found,
        "windows": windows,
        "falseAlarms": false,
        "falseAlarmsAWeek": false / (span / WEEK) if span else 0.0,
        "medianDelayMs": median(delays) if delays else None,
    }


def half_splits(runs: Mapping[str, Sequence[Sweep]], count: int, seed: int = 0) -> dict[str, Any]:
    """Standard scores of random halves of the series with what the other half chose.

    ``runs`` has each detector's sweeps in the same order. A detector's entry chooses its threshold, and in
    ``own`` nothing; ``chosen`` chooses the detector too, the first of equally good ones, ``choices`` times each.
    Mean, standard deviation and least over ``count`` splits.
    """
    size = len(next(iter(runs.values())))
    rng = np.random.default_rng(seed)
    told: dict[str, list[float]] = {name: [] for name in runs}
    own: dict[str, list[float]] = {name: [] for name in runs}
    chosen: list[float] = []
    choices = dict.fromkeys(runs, 0)
    for _ in range(count):
        order = rng.permutation(size)
        here, there = order[: size // 2], order[size // 2 :]
        known: dict[str, tuple[float, float]] = {}
        for name, sweeps in runs.items():
            learned = standing([sweeps[n] for n in here], "standard") if len(here) else None
            judged = standing([sweeps[n] for n in there], "standard", learned.threshold) if learned else None
            if learned and judged and not math.isnan(learned.score) and not math.isnan(judged.score):
                told[name].append(judged.score)
                own[name].append(standing([sweeps[n] for n in there], "standard", DEFAULT).score)
                known[name] = (learned.score, judged.score)
        if known:
            name = max(known, key=lambda name: known[name][0])
            chosen.append(known[name][1])
            choices[name] += 1
    return {
        "detectors": {name: _spread(scores) for name, scores in told.items()},
        "own": {name: _spread(scores) for name, scores in own.items()},
        "chosen": _spread(chosen) if len(runs) > 1 else None,
        "choices": choices,
    }


def _spread(scores: Sequence[float]) -> dict[str, float] | None:
    if not scores:
        return None
    return {"mean": float(np.mean(scores)), "deviation": float(np.std(scores)), "worst": min(scores), "splits": len(scores)}


def folders_out(series: Sequence[Labelled], sweeps: Sequence[Sweep]) -> dict[str, Any] | None:
    """Standard score where each folder is judged at the threshold that the others chose; None for one folder."""
    folders = sorted({one.folder for one in series})
    if len(folders) < 2:
        return None
    total, whole, single = 0.0, 0.0, {}
    for folder in folders:
        mine = [part for one, part in zip(series, sweeps, strict=True) if one.folder == folder]
        others = [part for one, part in zip(series, sweeps, strict=True) if one.folder != folder]
        learned = standing(others, "standard")
        gained, most = _raw(mine, learned.threshold)
        total, whole = total + gained, whole + most
        single[folder] = {"score": 100 * gained / most if most else None, "threshold": learned.threshold}
    return {"score": 100 * total / whole if whole else None, "folders": single}


# ---------------------------------------------------------------------- runs


@dataclass(slots=True)
class Run:
    """One detector over labelled series."""

    results: list[Scored]
    events_a_second: float
    bytes_a_series: float


def run(series: Sequence[Labelled], config: DetectorConfig, progress: Callable[[int], object] = abs) -> Run:
    """Score series with a configuration, by the code that runs in the pipeline."""
    scorer = Scorer(config, watch_silence=False)
    results = labelled.score([one.series for one in series], config, progress, scorer)
    return Run(results, speed(series, config), bytes_a_series(scorer))


def scores_of(
    copies: Mapping[str, Sequence[Labelled]],
    config: DetectorConfig,
    progress: Callable[[int], object] = abs,
    banks: Callable[[], dict[str, Bank]] | None = None,
) -> dict[str, list[FloatArray]]:
    """Scores of changed copies by the name of the change, all of them in the same batches: banks like many series.

    ``banks`` makes others than those of the configuration.
    """
    scorer = Scorer(config, banks, watch_silence=False)
    told = {change: [np.zeros(len(one.series.times)) for one in copy] for change, copy in copies.items()}
    flat = [(change, one, scores) for change, copy in copies.items() for one, scores in zip(copy, told[change], strict=True)]
    longest = max((len(one.series.times) for _, one, _ in flat), default=0)
    for begin in range(0, longest, _CHUNK):
        batch, places = EventBatch(), list[tuple[FloatArray, int]]()
        for change, one, scores in flat:
            times, values = one.series.times, one.series.values
            rows = [row for row in range(begin, min(begin + _CHUNK, len(times))) if math.isfinite(values[row])]
            places += [(scores, row) for row in rows]
            batch.resource += [one.key] * len(rows)  # rules see the same resource and metric as of the plain series
            batch.shared += [Shared(f"value{{{change}}}", "value")] * len(rows)
            batch.timestamp.extend(times[row] for row in rows)
            batch.value.extend(values[row] for row in rows)
        batch.arrival = batch.timestamp
        verdicts = scorer.process(batch, collect=True).verdicts
        if verdicts is not None:
            for (scores, row), score in zip(places, verdicts.score.tolist(), strict=True):
                scores[row] = score
        progress(len(places))
    return told


def speed(series: Sequence[Labelled], config: DetectorConfig) -> float:
    """Events a second of the bank of the first series' rule, alone, on this machine: about a second of many series."""
    usable = [one for one in series if len(one.series.times) > 1]
    scorer = Scorer(config, watch_silence=False)
    rule = config.rule(series[0].key, "value") if usable else None
    if rule is None or rule.bank not in scorer.banks:
        return 0.0
    bank = scorer.banks[rule.bank]
    river = hasattr(bank, "resident_bytes")
    count, warm = (20, 300) if river else (2_000, 5)
    first = len(bank)
    bank.append(count)
    rows = np.arange(first, first + count)
    tapes = [np.nan_to_num(np.array(one.series.values)) for one in usable]
    columns = [np.roll(tapes[n % len(tapes)], n) for n in range(count)]
    seconds, events, step = 0.0, 0, 0
    while seconds < 1.0:
        values = np.array([column[step % len(column)] for column in columns])
        times = np.full(count, 1_700_000_000_000 + step * 300_000, np.int64)
        began = time.perf_counter()
        bank.step(rows, times, values)
        if step >= warm:
            seconds, events = seconds + time.perf_counter() - began, events + count
        step += 1
    return events / seconds


def bytes_a_series(scorer: Scorer) -> float:
    """Bytes in memory that detectors keep of a series, mean over the series that have one."""
    total, count = 0.0, 0
    for number, name in enumerate(scorer.bank_names):
        mine = int((scorer.bank == number).sum())
        total, count = total + mine * _row_size(scorer.banks[name]), count + mine
    return total / count if count else 0.0


def _row_size(bank: Bank) -> float:
    resident = getattr(bank, "resident_bytes", None)  # river objects are larger than what is kept of them
    return float(max(resident(), bank.row_bytes)) if resident else float(bank.row_bytes)


def judge(series: Sequence[Labelled], told: Run, terrains: Sequence[Terrain]) -> tuple[dict[str, Any], list[Sweep]]:
    """Everything that one run says of a detector, and the sweeps for splits."""
    scores = [np.array(result.score) for result in told.results]
    sweeps = [sweep(terrain, score) for terrain, score in zip(terrains, scores, strict=True)]
    best = {name: standing(sweeps, name) for name in PROFILES}
    own = {name: standing(sweeps, name, DEFAULT) for name in PROFILES}
    report = {
        "best": {name: {"score": at.score, "threshold": at.threshold, "hits": at.hits} for name, at in best.items()},
        "default": {name: {"score": at.score, "threshold": DEFAULT, "hits": at.hits} for name, at in own.items()},
        "windows": best["standard"].windows,
        "atBest": findings(series, terrains, scores, best["standard"].threshold),
        "atDefault": findings(series, terrains, scores, DEFAULT),
        "eventsASecond": told.events_a_second,
        "bytesASeries": told.bytes_a_series,
        "foldersOut": folders_out(series, sweeps),
    }
    return report, sweeps


def evaluate(
    series: Sequence[Labelled],
    detectors: Mapping[str, DetectorConfig],
    *,
    splits: int = 100,
    copies: Mapping[str, Sequence[Labelled]] | None = None,
    progress: Callable[[str, int], object] = lambda _name, _rows: None,
    keep: Callable[[str, Run, Sequence[Terrain]], object] = lambda _name, _run, _terrains: None,
) -> dict[str, Any]:
    """Judge detectors on labelled series, and on changed copies of them.

    ``keep`` is given each detector's run on the plain series, for pictures. Answers a document as
    ``opsriver evaluate --json`` prints it.
    """
    terrains = [Terrain(one) for one in series]
    grounds = {name: [Terrain(one) for one in copy] for name, copy in (copies or {}).items()}
    reports: dict[str, Any] = {}
    runs: dict[str, list[Sweep]] = {}
    for name, config in detectors.items():
        told = run(series, config, lambda rows, name=name: progress(name, rows))  # type: ignore[misc]
        keep(name, told, terrains)
        reports[name], runs[name] = judge(series, told, terrains)
        again = scores_of(copies or {}, config, lambda rows, name=name: progress(name, rows))  # type: ignore[misc]
        single = {change: both(ground, again[change]) for change, ground in grounds.items()}
        reports[name]["perturbed"] = _copies(single) if single else None
    halves = half_splits(runs, splits) if splits else None
    for name in reports:
        reports[name]["halfSplits"] = halves["detectors"][name] if halves else None
    rows = sum(len(one.series.times) for one in series)
    return {
        "series": len(series),
        "rows": rows,
        "windows": sum(len(one.windows) for one in series),
        "detectors": reports,
        "halfSplitsChoosingDetector": halves["chosen"] if halves else None,
    }


def _copies(single: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    summary: dict[str, Any] = {"copies": dict(single)}
    for kind in ("best", "default"):
        worst = min(single, key=lambda change: single[change][kind])
        summary[kind] = {
            "mean": sum(one[kind] for one in single.values()) / len(single),
            "worst": single[worst][kind],
            "worstCopy": worst,
        }
    return summary


def named(names: Sequence[str], file: Path | None) -> dict[str, DetectorConfig]:
    """Configurations to judge: one a detector that is named, and that of a file; the default detector without any."""
    from opsriver.configuration import load as load_configuration
    from stream_processors.detectors.config import Rule

    found: dict[str, DetectorConfig] = {}
    for name in names or ([] if file else ["seasonal"]):
        try:
            found[name] = DetectorConfig(rules=(Rule(detector=name),))
        except ValueError as error:
            raise Problem(f"--detector: {error}") from None
        if found[name].rules[0].detector == "off":
            raise Problem("--detector off judges nothing; name seasonal, deep or a river model")
    if file:
        found[file.name] = load_configuration(file)
    return found
