"""Timestamps as the formats write them, and how far they may lie from a record's arrival.

Knows no clock: the arrival that Kinesis noted is the only "now" there is.
"""

from __future__ import annotations

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
    wanted = "write it like 2026-03-01T12:00:00Z or as epoch seconds"
    # fromisoformat reads much more than RFC 3339 (weeks, dates alone, no separators): this keeps to the profile.
    if not (20 <= len(text) <= 40 and text.isascii() and text[4] == "-" == text[7] and text[10] in "Tt "):
        if 19 <= len(text) <= 29 and text[4:5] == "-" and text[10:11] in ("T", "t", " "):
            raise Refused("time", f"{field} {shown(text)} has no time zone; end it with Z or an offset like +01:00")
        raise Refused("time", f"{field} {shown(text)} is no point in time; {wanted}")
    # RFC 3339 allows the leap second; Python's calendar has none.
    leap = text[16:19] == ":60"
    try:
        moment = datetime.fromisoformat(f"{text[:16]}:59{text[19:]}" if leap else text)
    except ValueError:
        raise Refused("time", f"{field} {shown(text)} is no point in time; {wanted}") from None
    if moment.tzinfo is None:
        raise Refused("time", f"{field} {shown(text)} has no time zone; end it with Z or an offset like +01:00")
    return (moment - _EPOCH) // _MILLISECOND + (1000 if leap else 0)


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
