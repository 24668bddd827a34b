"""Predictions: which series have a limit, and the one insight about each that will reach it.

Stands between the scoring core and the trend bank. Knows neither AWS nor the clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from schemas.insights import SEVERITY_ORDER, Insight
from stream_processors import explain
from stream_processors.detectors.base import SEVERITY_SCORES, FloatArray, IntArray, enlarged
from stream_processors.detectors.config import Rule
from stream_processors.detectors.trend import NAME, VERSION, Forecast, TrendBank
from stream_processors.episodes import Episode, PredictionEpisode, insight_id, revise

URGENT = ((2 * 3_600_000, SEVERITY_ORDER["CRITICAL"]), (24 * 3_600_000, SEVERITY_ORDER["HIGH"]))
"""Severity by the time that is left; with more it is MEDIUM."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|%")
RESOURCES = frozenset((
    "disk", "filesystem", "fs", "volume", "storage", "memory", "mem", "ram", "swap", "heap", "inode", "inodes",
    "connection", "connections", "pool", "descriptor", "descriptors", "fd", "quota", "tablespace",
))  # fmt: skip
"""Words that name something that can be used up."""
OTHERS = frozenset((
    "io", "read", "reads", "write", "writes", "op", "ops", "iops", "rate", "latency", "time", "wait", "queue",
    "error", "errors", "hit", "hits", "miss", "fault", "faults", "throughput", "speed", "busy",
))  # fmt: skip
"""Words of metrics that tell how busy such a thing is, or how well it does."""
PERCENT_WORDS = frozenset(("percent", "pct", "percentage", "%", "usage"))
UTILIZATION = frozenset(("utilization", "utilisation"))
FREE = frozenset(("free", "freeable", "available", "avail", "remaining"))
MEMORY = frozenset(("memory", "mem", "ram"))
PERCENT_UNITS = frozenset(("Percent", "percent", "%"))


def natural_limit(metric: str, unit: str | None) -> tuple[float, float] | None:
    """Limit of a metric by its name and unit, and 1 where it is reached rising, -1 falling; None if it has none.

    A share in use ends at 100 (at 1 for a utilisation of unit ``1``), and what is free ends at 0.
    """
    words = {word.lower() for word in _WORD.findall(metric)}
    if not words & RESOURCES or words & OTHERS:
        return None
    if words & FREE:
        # An operating system lets free memory shrink to nearly nothing by itself: it fills with caches.
        return None if words & MEMORY and "free" in words else (0.0, -1.0)
    if words & UTILIZATION:
        if "disk" in words or "volume" in words:  # how busy a device is
            return None
        return (1.0, 1.0) if unit == "1" else (100.0, 1.0) if unit in PERCENT_UNITS else None
    if unit in PERCENT_UNITS or (unit is None and words & PERCENT_WORDS):
        return 100.0, 1.0
    return None


def limit_of(metric: str, unit: str | None, rule: Rule) -> tuple[float, float] | None:
    """Limit and direction of a series: that of its rule's bounds, else the one its name tells; None if not watched."""
    if rule.detector == "off" or not rule.prediction:
        return None
    found = natural_limit(metric, unit)
    if rule.bounds is not None:
        high, low = rule.bounds.high, rule.bounds.low
        found = (high, 1.0) if high is not None else (low, -1.0) if low is not None else found
    if found and rule.direction == ("down" if found[1] > 0 else "up"):
        return None
    return found


@dataclass(slots=True)
class Watched:
    """What is known of the series of a row."""

    resource: str
    series: str
    metric: str
    unit: str | None
    dimensions: dict[str, str] | None
    rule: Rule


class Predictions:
    """Trends of a shard's series that have a limit, by the slots of the scoring core."""

    def __init__(self) -> None:
        self.bank = TrendBank()
        self.row = np.full(64, -1, np.int32)
        self._watched: list[Watched | None] = []
        self._free: list[int] = []

    def watch(
        self,
        slot: int,
        resource: str,
        series: str,
        metric: str,
        unit: str | None,
        dimensions: dict[str, str] | None,
        rule: Rule,
    ) -> None:
        """A slot has come to hold this series."""
        self.row = enlarged(self.row, slot + 1, -1)
        limit = limit_of(metric, unit, rule)
        if limit is None:
            self.row[slot] = -1
            return
        if self._free:
            row = self._free.pop()
            self.bank.reset(row, *limit)
        else:
            row = self.bank.add(*limit)
            self._watched.append(None)
        self._watched[row] = Watched(resource, series, metric, unit, dimensions, rule)
        self.row[slot] = row

    def unwatch(self, start: int, end: int) -> None:
        """These new slots hold series without a limit."""
        self.row = enlarged(self.row, end, -1)
        self.row[start:end] = -1

    def drop(self, slot: int) -> None:
        """A slot holds no series any more."""
        row = int(self.row[slot])
        if row >= 0:
            self._watched[row] = None
            self._free.append(row)
            self.row[slot] = -1

    def step(
        self,
        episodes: dict[tuple[str, str, str], Episode],
        slots: IntArray,
        timestamps: IntArray,
        values: FloatArray,
        index: IntArray,
        emitted: list[tuple[int, Insight]],
    ) -> None:
        """Take in one event of each slot; ``index`` are their places in the batch, with which insights are emitted."""
        if not len(self.bank):
            return
        rows = self.row[slots].astype(np.int64)
        mine = np.flatnonzero(rows >= 0)
        if not len(mine):
            return
        if len(mine) == len(rows):
            found = self.bank.step(rows, timestamps, values)
        else:
            found = self.bank.step(rows[mine], timestamps[mine], values[mine])
        for forecast in found:
            at = int(mine[forecast.index])
            insight = self._tell(episodes, forecast, int(timestamps[at]))
            if insight is not None:
                emitted.append((int(index[at]), insight))

    def adopt(self, episodes: dict[tuple[str, str, str], Episode], resource: str, slots: dict[str, int]) -> None:
        """After a restore: a prediction whose trend is not known any more is withdrawn when it is next looked at."""
        for series, slot in slots.items():
            row = int(self.row[slot])
            if row >= 0 and ("prediction", resource, series) in episodes and not self.bank.is_open(row):
                self.bank.give_up(row)

    # ------------------------------------------------------------------ insights

    def _tell(self, episodes: dict[tuple[str, str, str], Episode], forecast: Forecast, now: int) -> Insight | None:
        watched = self._watched[forecast.row]
        if watched is None:  # pragma: no cover - rows in use are watched
            raise LookupError(f"row {forecast.row} holds no series")
        key = ("prediction", watched.resource, watched.series)
        episode = episodes.get(key)
        if forecast.what == "raised":
            if watched.rule.muted(now):
                self.bank.dismiss(forecast.row)
                return None
            episode = self._new(watched, forecast, now)
            episodes[key] = episode
            return self._revised(episode, "opened", now)
        if not isinstance(episode, PredictionEpisode):
            return None
        if forecast.what == "withdrawn":
            del episodes[key]
            episode.message = explain.prediction_over(episode, forecast.level, now)
            return self._revised(episode, "closed", now)
        if forecast.at:
            _learn(episode, forecast, now)
        severity = _severity(episode.limit_at - now, watched.rule)
        if severity <= episode.severity or watched.rule.muted(now):
            return None
        episode.severity, episode.peak_at = severity, now
        episode.score = SEVERITY_SCORES[severity - 1]
        if not forecast.at:
            episode.message = explain.prediction_near(episode, forecast.level, now)
        return self._revised(episode, "escalated", now)

    @staticmethod
    def _new(watched: Watched, forecast: Forecast, now: int) -> PredictionEpisode:
        severity = _severity(forecast.at - now, watched.rule)
        episode = PredictionEpisode(
            kind="prediction",
            resource=watched.resource,
            series=watched.series,
            metric=watched.metric,
            opened_at=now,
            peak_at=now,
            last_abnormal=now,
            severity=severity,
            revision=0,
            insight_id=insight_id("prediction", watched.resource, watched.series, NAME, now),
            detector=NAME,
            detector_version=VERSION,
            score=SEVERITY_SCORES[severity - 1],
            evidence={"trend": 1.0},
            unit=watched.unit or ("Percent" if forecast.limit == 100 and watched.rule.bounds is None else None),
            dimensions=watched.dimensions,
            limit=forecast.limit,
            limit_at=0,
            limit_earliest=0,
            limit_latest=0,
            confidence=0,
        )
        _learn(episode, forecast, now)
        return episode

    @staticmethod
    def _revised(episode: PredictionEpisode, transition: Literal["opened", "escalated", "closed"], now: int) -> Insight:
        return revise(
            episode,
            transition,
            at=now,
            message=explain.whole(episode.message, episode.evidence, explain.BEYOND),
            confidence=episode.confidence,
            rarity=explain.BEYOND,
            closed_at=now if transition == "closed" else None,
        )


def _severity(left: int, rule: Rule) -> int:
    severity = next((level for within, level in URGENT if left <= within), SEVERITY_ORDER["MEDIUM"])
    return min(severity, SEVERITY_ORDER[rule.at_most])


def _learn(episode: PredictionEpisode, forecast: Forecast, now: int) -> None:
    """Take the newest forecast into the episode."""
    episode.observed = forecast.level
    episode.limit_at = max(forecast.at, now)
    episode.limit_earliest, episode.limit_latest = max(forecast.earliest, now), max(forecast.latest, now)
    # Three standard deviations of Kendall's statistic are what raises a prediction.
    episode.confidence = round(min(95.0, 80.0 + 5.0 * max(0.0, forecast.sureness - 3.0)))
    episode.message = explain.prediction(episode, forecast.slope, forecast.since, now)
