"""Timestamps as the formats write them, and how far they may lie from a record's arrival.

Knows no clock: the arrival that Kinesis noted is the only "now" there is.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from stream_processors.records.refused import Refused, shown, wrong_type

MILLISECONDS_FROM = 100_000_000_000
"""Numbers of this size or more are milliseconds, smaller ones seconds (this many seconds is the year 5138)."""
MICROSECONDS_FROM = 100_000_000_000_000
NANOSECONDS_FROM = 100_000_000_000_000_000
MAX_AHEAD = 60 * 60 * 1000
"""How far an event may lie after its record's arrival, in milliseconds: clocks run ahead, but not for hours."""
MAX_BEHIND = 400 * 24 * 60 * 60 * 1000
"""How far an event may lie before its record's arrival, in milliseconds: history of a year and a month."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LONGEST = 40
_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(\.\d+)?(Z|z|[+-]\d\d:?\d\d)?", re.ASCII)
_texts: dict[str, int] = {}


def milliseconds(value: Any, field: str = "timestamp") -> int:
    """Epoch milliseconds of RFC 3339 text, epoch seconds (a fraction is allowed) or epoch milliseconds.

    Raises Refused for anything else.
    """
    if value.__class__ is int:
        return value if abs(value) >= MILLISECONDS_FROM else value * 1000
    if value.__class__ is float:
        return round(value if abs(value) >= MILLISECONDS_FROM else value * 1000)
    if value.__class__ is str:
        return from_text(value, field)
    raise wrong_type(field, value, "RFC 3339 text or epoch seconds")


def any_unit(value: Any, field: str = "timestamp") -> int:
    """As ``milliseconds``, and larger numbers as micro- or nanoseconds, for formats whose unit is a setting."""
    if value.__class__ is int or value.__class__ is float:
        if value >= NANOSECONDS_FROM:
            return int(value // 1_000_000)
        if value >= MICROSECONDS_FROM:
            return int(value // 1000)
    return milliseconds(value, field)


def from_text(text: str, field: str = "timestamp") -> int:
    """Epoch milliseconds of RFC 3339 text; the offset may lack its colon, as CloudWatch writes it."""
    found = _texts.get(text)
    if found is None:
        found = _parse(text, field)
        if len(_texts) >= 4096:
            _texts.clear()
        _texts[text] = found
    return found


def _parse(text: str, field: str) -> int:
    found = _RFC_3339.fullmatch(text) if len(text) <= _LONGEST else None
    try:
        if found is None:
            raise ValueError
        date, time, second, fraction, zone = found.groups()
        # RFC 3339 allows the leap second; Python's calendar has none.
        leap = second == "60"
        moment = datetime.fromisoformat(f"{date}T{time}:{'59' if leap else second}{fraction or ''}+00:00")
        if zone is None:
            raise Refused("time", f"{field} {shown(text)} has no time zone; end it with Z or an offset like +01:00")
        moment -= _offset(zone)
    except (ValueError, OverflowError):
        raise Refused(
            "time",
            f"{field} {shown(text)} is no point in time; write it like 2026-03-01T12:00:00Z or as epoch seconds",
        ) from None
    return (moment - _EPOCH) // _MILLISECOND + (1000 if leap else 0)


def _offset(zone: str) -> timedelta:
    """Offset from UTC of ``Z``, ``+01:00`` or ``+0100``. Raises ValueError beyond a day."""
    if zone in "Zz":
        return timedelta(0)
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    if hours > 23 or minutes > 59:
        raise ValueError
    offset = timedelta(hours=hours, minutes=minutes)
    return -offset if zone[0] == "-" else offset


def check(timestamp: int, arrival: int, given: Any, field: str = "timestamp") -> None:
    """Raise Refused where a time lies too far from its record's arrival; the reason names both."""
    if arrival - MAX_BEHIND <= timestamp <= arrival + MAX_AHEAD:
        return
    side = (
        "more than 1 hour after; set the sender's clock"
        if timestamp > arrival
        else "more than 400 days before; check its unit and the sender's clock"
    )
    raise Refused(
        "time", f"{field} {shown(given)} ({written(timestamp)}) lies {side} (the record arrived {written(arrival)})"
    )


def written(timestamp: int) -> str:
    """Epoch milliseconds as RFC 3339 text, or in words where the calendar has no such year."""
    try:
        return (_EPOCH + timedelta(milliseconds=timestamp)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        return "a year beyond 9999" if timestamp > 0 else "a year before 1"
