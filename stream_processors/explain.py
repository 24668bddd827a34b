"""Words for insights: messages that a person understands at 3 a.m. Pure text from numbers."""

from __future__ import annotations

import itertools
import math

from schemas.times import moment
from stream_processors.detectors.base import SEVERITY_SCORES
from stream_processors.episodes import Episode

_CONFIDENCE = (
    (0.0, 0),
    (SEVERITY_SCORES[0], 60),
    (SEVERITY_SCORES[1], 70),
    (SEVERITY_SCORES[2], 80),
    (SEVERITY_SCORES[3], 95),
    (1.0, 99),
)
"""Confidence by score, linear between these points."""

_UNITS = {"Percent": " %", "Seconds": " s", "Milliseconds": " ms", "Bytes": " B", "None": "", "Count": ""}
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def confidence(score: float) -> int:
    """Confidence 0 to 99 of an anomaly score: rises with it, 80 where paging begins."""
    for (x0, y0), (x1, y1) in itertools.pairwise(_CONFIDENCE):
        if score <= x1:
            return round(y0 + (y1 - y0) * (score - x0) / (x1 - x0))
    return 99


def quantity(value: float, unit: str | None) -> str:
    """A value with three significant digits, a decimal prefix where it helps, and its unit."""
    suffix = _UNITS.get(unit or "", f" {unit}" if unit else "")
    if unit in ("Bytes", "Bytes/Second") or (unit is None and abs(value) >= 1e6):
        for size, prefix in _PREFIXES:
            if abs(value) >= size:
                base = "B" if unit == "Bytes" else "B/s" if unit == "Bytes/Second" else ""
                return f"{_digits(value / size)} {prefix}{base}".rstrip()
        suffix = " B" if unit == "Bytes" else " B/s" if unit == "Bytes/Second" else suffix
    return f"{_digits(value)}{suffix}"


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        return f"{value:.3g}"
    decimals = max(0, 2 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}"


def duration(milliseconds: float) -> str:
    """A span of time in the unit that reads best: ``45 s``, ``12 min``, ``5 h``, ``40 days``."""
    seconds = milliseconds / 1000
    for size, name in ((86_400 * 2, "days"), (7_200, "h"), (120, "min")):
        if seconds >= size:
            per = {"days": 86_400, "h": 3_600, "min": 60}[name]
            return f"{seconds / per:.0f} {name}"
    return f"{seconds:.0f} s"


def rarity(tail: float, interval: float) -> str:
    """How seldom a series shows this much evidence, from its tail probability and sampling interval."""
    if not (0 < tail < 1) or not interval > 0:
        return ""
    wait = interval / tail
    if wait > 3 * 365 * 86_400_000:
        return "less than once in 3 years for this series"
    return f"about once in {duration(wait)} for this series"


def anomaly(episode: Episode) -> str:
    """Message of an anomaly of one series, open or still open."""
    name = f"{episode.series} of {episode.resource}"
    if episode.observed is None:
        return f"{name} is unusual since {moment(episode.opened_at)}."
    observed = quantity(episode.observed, episode.unit)
    if episode.expected_low is None or episode.expected_high is None:
        return f"{name} is {observed}, unusual for this series, since {moment(episode.opened_at)}."
    low, high = quantity(episode.expected_low, episode.unit), quantity(episode.expected_high, episode.unit)
    if episode.observed > episode.expected_high:
        where = "above"
    elif episode.observed < episode.expected_low:
        where = "below"
    else:
        where = "within the usual range but in an unusual pattern;"
    return f"{name} is {observed}, {where} the expected {low} to {high}, since {moment(episode.opened_at)}."


def anomaly_over(episode: Episode, closed_at: int) -> str:
    """Message of an anomaly that is over."""
    span = duration(max(0, closed_at - episode.opened_at))
    return f"{episode.series} of {episode.resource} is back to normal after {span} (began {moment(episode.opened_at)})."


def silence(resource: str, series: str, last: int, interval: float) -> str:
    """Message of a host (``series`` empty) or a series that stopped reporting."""
    who = f"{series} of {resource}" if series else resource
    return f"{who} has stopped reporting: nothing since {moment(last)}, usually every {duration(interval)}."


def silence_over(resource: str, series: str, last: int, now: int) -> str:
    """Message of a host or a series that reports again."""
    who = f"{series} of {resource}" if series else resource
    return f"{who} reports again after {duration(max(0, now - last))} of silence."


def series_limit(resource: str, limit: int) -> str:
    """Message of a resource that makes more series than are watched."""
    return (
        f"{resource} reports more than {limit:,} different series; further ones are archived but not scored. "
        "A metric name or dimension probably holds an id: take it out."
    )
