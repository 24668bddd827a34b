"""Moments as people read and write them."""

from __future__ import annotations

from datetime import UTC, datetime

FIRST, LAST = -62_135_596_800_000, 253_402_300_799_999
"""Epoch milliseconds at which the calendar of dates begins and ends: the years 1 to 9999."""
_DATE = 8
"""Digits of a date without dashes."""


def moment(timestamp: int) -> str:
    """Epoch milliseconds as ``2026-11-26 15:04 UTC``; text even where a calendar ends."""
    try:
        return datetime.fromtimestamp(timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"epoch {timestamp} ms"


def in_calendar(timestamp: int) -> bool:
    """Whether epoch milliseconds can be written as a date."""
    return FIRST <= timestamp <= LAST


def from_iso(text: str) -> datetime:
    """A time written as ISO 8601, in UTC where it names no zone. Raises ValueError.

    Python reads many longer numbers as a date without dashes and an hour; they are epochs, and refused here.
    """
    if len(text) > _DATE and text[: _DATE + 1].isdigit():
        raise ValueError(f"{text!r} is a number")
    told = datetime.fromisoformat(text)
    return told if told.tzinfo else told.replace(tzinfo=UTC)
