"""Insights: what OpsRiver found, as stored, published and read by others."""

from __future__ import annotations

from typing import Literal

import msgspec

InsightType = Literal["anomaly", "prediction", "pattern", "alarm"]
Severity = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
State = Literal["open", "closed"]
Transition = Literal["opened", "escalated", "updated", "closed"]

SEVERITY_ORDER: dict[str, int] = {"LOW": 1, "MEDIUM": 2, "HIGH": 3, "CRITICAL": 4}
"""Severity names by rank."""
PAGING_SEVERITIES: tuple[Severity, ...] = ("HIGH", "CRITICAL")
"""Severities that are sent to subscribers."""
EVENT_SOURCE = "opsriver"
"""Source of every event on the bus."""
DETAIL_TYPES: dict[str, str] = {
    "opened": "Insight opened",
    "escalated": "Insight escalated",
    "closed": "Insight closed",
}
"""Detail type on the bus by transition; an ``updated`` insight is stored and not published."""


class Insight(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One insight at one revision.

    Times are epoch milliseconds of event time. ``insight_id`` and ``timestamp`` never change; a
    later revision replaces an earlier one. ``ttl`` is in epoch seconds. ``evidence`` holds the
    share of each family of evidence, summing to 1. ``expected…`` and ``observed`` are in the
    metric's own unit, absent where there is none (an alarm has no expected value). A prediction has the
    ``limit`` that will be reached, when in the middle case (``limit_at``), and the interval around it.
    """

    insight_id: str
    timestamp: int
    type: InsightType
    kind: str
    severity: Severity
    confidence: int
    message: str
    affected_hosts: list[str]
    resource: str
    metric: str
    state: State
    opened_at: int
    peak_at: int
    revision: int
    transition: Transition
    detector: str
    detector_version: int
    ttl: int
    score: float = 0.0
    observed: float | None = None
    expected_low: float | None = None
    expected: float | None = None
    expected_high: float | None = None
    closed_at: int | None = None
    evidence: dict[str, float] = {}
    unit: str | None = None
    dimensions: dict[str, str] | None = None
    rarity: str = ""
    related: list[str] = []
    source: str = ""
    limit: float | None = None
    limit_at: int | None = None
    limit_earliest: int | None = None
    limit_latest: int | None = None
