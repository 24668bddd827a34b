"""Insights for tests."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.insights import Insight

OPENED = 1_795_705_440_000
"""2026-11-26 15:04 UTC."""


def insight(**changes: Any) -> Insight:
    """An open CRITICAL anomaly of one host's memory, with changes."""
    plain = Insight(
        insight_id="k3f7q2mzt5x6w1a8b9c0d4e5fg",
        timestamp=OPENED,
        type="anomaly",
        kind="anomaly",
        severity="CRITICAL",
        confidence=95,
        message="memoryUsage of web-07 is 97.3 %, above the expected 41.2 % to 55.0 %, since 2026-11-26 15:04 UTC.",
        affected_hosts=["web-07"],
        resource="web-07",
        metric="memoryUsage",
        state="open",
        opened_at=OPENED,
        peak_at=OPENED + 300_000,
        revision=1,
        transition="opened",
        detector="seasonal",
        detector_version=2,
        ttl=OPENED // 1000 + 180 * 86_400,
        score=0.98,
        observed=97.31,
        expected_low=41.2,
        expected=48.1,
        expected_high=55.04,
        unit="Percent",
        evidence={"level": 0.62, "range": 0.3, "time of day": 0.08},
        rarity="about once in 40 days for this series",
    )
    return msgspec.structs.replace(plain, **changes)


def closed(**changes: Any) -> Insight:
    """The same, over after 23 minutes."""
    return insight(
        **{
            "state": "closed",
            "transition": "closed",
            "revision": 2,
            "closed_at": OPENED + 1_380_000,
            "message": "memoryUsage of web-07 is back to normal after 23 min (began 2026-11-26 15:04 UTC).",
            **changes,
        }
    )
