"""Episodes: one insight for one anomaly, opened, escalated and closed by event time.

Knows neither AWS nor the clock. An episode's identity comes from what it is about and from the
event that opened it, so the same stream always gives the same insights.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Literal

import msgspec

from schemas.insights import SEVERITY_ORDER, Insight, InsightType, Severity

QUIET_SAMPLES = 5
"""Ordinary samples in a row that end an episode."""
QUIET_INTERVALS = 10
"""An episode also ends when this many sampling intervals pass without an abnormal sample."""
LONGEST_MS = 7 * 86_400_000
"""After this long the abnormal is the new ordinary; the episode ends."""
TTL_MS = 180 * 86_400_000
"""How long the Insights table keeps an insight, counted from its last revision."""

EpisodeKind = Literal["anomaly", "silence", "alarm", "series-limit", "prediction", "correlation", "recurrence", "group"]


class Explained(msgspec.Struct, frozen=True):
    """What a pattern says of an anomaly: the worst severity that is told, and why.

    ``usual`` is how far from what is expected a known recurrence may go (0: it is none), ``group`` the
    insight about all hosts that show the same.
    """

    ceiling: int = 4
    note: str = ""
    usual: float = 0.0
    group: str = ""


UNEXPLAINED = Explained()


class Episode(msgspec.Struct, kw_only=True):
    """An open episode; what its next revision needs to know.

    Times are epoch milliseconds, ``severity`` is 1 (LOW) to 4 (CRITICAL), ``quiet`` counts
    ordinary samples since the last abnormal one. With ``rate`` the numbers are a counter's rate a second.
    ``explained`` is left out of a snapshot where it is not set.
    """

    kind: EpisodeKind
    resource: str
    series: str
    metric: str
    opened_at: int
    peak_at: int
    last_abnormal: int
    severity: int
    revision: int
    insight_id: str
    detector: str
    detector_version: int
    score: float = 0.0
    tail: float = 1.0
    observed: float | None = None
    expected_low: float | None = None
    expected: float | None = None
    expected_high: float | None = None
    evidence: dict[str, float] = {}
    interval: float = 0.0
    rate: bool = False
    quiet: int = 0
    unit: str | None = None
    dimensions: dict[str, str] | None = None
    message: str = ""
    source: str = ""
    explained: Explained | msgspec.UnsetType = msgspec.UNSET

    def bound(self) -> Explained:
        """What a pattern says of it; by default nothing."""
        return UNEXPLAINED if self.explained is msgspec.UNSET else self.explained

    def shown(self) -> int:
        """The severity that is told."""
        return min(self.severity, self.bound().ceiling)

    def hosts(self) -> list[str]:
        """Hosts that it affects."""
        return [self.resource]

    def details(self) -> dict[str, Any]:
        """Fields of the insight that only this kind of episode has."""
        return {}


class PredictionEpisode(Episode, kw_only=True):
    """An open prediction: the limit that will be reached, and when: in the middle case, at the earliest and latest."""

    limit: float
    limit_at: int
    limit_earliest: int
    limit_latest: int
    confidence: int

    def details(self) -> dict[str, Any]:
        """The limit and its time."""
        return {
            "limit": self.limit,
            "limit_at": self.limit_at,
            "limit_earliest": self.limit_earliest,
            "limit_latest": self.limit_latest,
        }


class GroupEpisode(Episode, kw_only=True):
    """The same anomaly on many hosts: which, how many were told, how many of its members are still open."""

    side: int
    named: list[str]
    told: int = 0
    open: int = 0
    over: bool = False

    def hosts(self) -> list[str]:
        """All that it names."""
        return list(self.named)


def insight_id(kind: str, resource: str, series: str, detector: str, opened_at: int) -> str:
    """Identity of an insight: 26 characters of base32 over what it is about and what opened it."""
    text = msgspec.json.encode([kind, resource, series, detector, opened_at])
    return base64.b32encode(hashlib.sha256(text).digest())[:26].decode().lower()


def severity_name(level: int) -> Severity:
    """Name of a severity level, 1 to 4."""
    return _NAMES[level]


_NAMES: dict[int, Severity] = {level: name for name, level in SEVERITY_ORDER.items()}  # type: ignore[misc]
_TYPES: dict[str, InsightType] = {
    "anomaly": "anomaly",
    "silence": "anomaly",
    "alarm": "alarm",
    "series-limit": "pattern",
    "prediction": "prediction",
    "correlation": "anomaly",
    "recurrence": "pattern",
    "group": "pattern",
}


def insight_type(kind: str) -> InsightType:
    """Type of the insight that an episode of this kind makes."""
    return _TYPES[kind]


def revise(
    episode: Episode,
    transition: Literal["opened", "escalated", "updated", "closed"],
    *,
    at: int,
    message: str,
    confidence: int,
    rarity: str,
    closed_at: int | None = None,
) -> Insight:
    """The insight of an episode at its next revision; counts the revision up."""
    episode.revision += 1
    return Insight(
        insight_id=episode.insight_id,
        timestamp=episode.opened_at,
        type=insight_type(episode.kind),
        kind=episode.kind,
        severity=severity_name(episode.shown()),
        confidence=confidence,
        message=message,
        affected_hosts=episode.hosts(),
        resource=episode.resource,
        metric=episode.metric,
        state="open" if closed_at is None else "closed",
        opened_at=episode.opened_at,
        peak_at=episode.peak_at,
        revision=episode.revision,
        transition=transition,
        detector=episode.detector,
        detector_version=episode.detector_version,
        ttl=(at + TTL_MS) // 1000,
        score=episode.score,
        observed=episode.observed,
        expected_low=episode.expected_low,
        expected=episode.expected,
        expected_high=episode.expected_high,
        closed_at=closed_at,
        evidence=episode.evidence,
        unit=episode.unit,
        dimensions=episode.dimensions,
        rarity=rarity,
        related=[group] if (group := episode.bound().group) else [],
        source=episode.source,
        **episode.details(),
    )
