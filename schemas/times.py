"""Moments as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(timestamp: int) -> str:
    """Epoch milliseconds as ``2026-11-26 15:04 UTC``; text even where a calendar ends."""
    try:
        return datetime.fromtimestamp(timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"epoch {timestamp} ms"
