"""Words for insights: messages that a person understands at 3 a.m. Pure text from numbers."""

from __future__ import annotations

import itertools

from schemas.quantities import duration, quantity
from schemas.times import moment
from stream_processors.detectors.base import SEVERITY_SCORES
from stream_processors.episodes import Episode, PredictionEpisode

_CONFIDENCE = (
    (0.0, 0),
    (SEVERITY_SCORES[0], 60),
    (SEVERITY_SCORES[1], 70),
    (SEVERITY_SCORES[2], 80),
    (SEVERITY_SCORES[3], 95),
    (1.0, 99),
)
"""Confidence by score, linear between these points."""


def confidence(score: float) -> int:
    """Confidence 0 to 99 of an anomaly score: rises with it, 80 where paging begins."""
    for (x0, y0), (x1, y1) in itertools.pairwise(_CONFIDENCE):
        if score <= x1:
            return round(y0 + (y1 - y0) * (score - x0) / (x1 - x0))
    return 99


def rarity(tail: float, interval: float) -> str:
    """How seldom a series shows this much evidence, from its tail probability and sampling interval."""
    if not (0 < tail < 1) or not interval > 0:
        return ""
    wait = interval / tail
    if wait > 3 * 365 * 86_400_000:
        return "less than once in 3 years for this series"
    return f"about once in {duration(wait)} for this series"


def _name(episode: Episode) -> str:
    return f"{'The rate of ' if episode.rate else ''}{episode.series} of {episode.resource}"


def anomaly(episode: Episode) -> str:
    """Message of an anomaly of one series, open or still open."""
    name = _name(episode)
    if episode.observed is None:
        return f"{name} is unusual since {moment(episode.opened_at)}."
    observed = quantity(episode.observed, episode.unit)
    if episode.expected_low is None or episode.expected_high is None:
        return f"{name} is {observed}, unusual for this series, since {moment(episode.opened_at)}."
    low, high = quantity(episode.expected_low, episode.unit), quantity(episode.expected_high, episode.unit)
    since = f"since {moment(episode.opened_at)}"
    if episode.expected_low <= episode.observed <= episode.expected_high:
        return f"{name} moves unusually {since}; its value, {observed}, is within the expected {low} to {high}."
    where = "above" if episode.observed > episode.expected_high else "below"
    return f"{name} is {observed}, {where} the expected {low} to {high}, {since}."


def anomaly_over(episode: Episode, closed_at: int) -> str:
    """Message of an anomaly that is over."""
    span = duration(max(0, closed_at - episode.opened_at))
    return f"{_name(episode)} is back to normal after {span} (began {moment(episode.opened_at)})."


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


def prediction(episode: PredictionEpisode, slope: float, since: int, now: int) -> str:
    """Message of a limit that will be reached; ``slope`` is in the metric's unit an hour."""
    name = f"{episode.series} of {episode.resource}"
    level = quantity(episode.observed or 0.0, episode.unit)
    when = duration(max(0, episode.limit_at - now))
    early, late = (duration(max(0, at - now)) for at in (episode.limit_earliest, episode.limit_latest))
    between = f" ({early} to {late})" if early != late else ""
    moves = f"{'rising' if slope >= 0 else 'falling'} {_pace(abs(slope), episode.unit)} since {moment(since)}"
    return f"{name} is {level}, {moves}; it reaches {quantity(episode.limit, episode.unit)} in about {when}{between}."


def _pace(slope: float, unit: str | None) -> str:
    size, span = (slope, "an hour") if slope >= 0.1 or unit != "Percent" else (slope * 24, "a day")
    return f"{size:.2g} points {span}" if unit == "Percent" else f"{quantity(size, unit)} {span}"


def prediction_near(episode: PredictionEpisode, level: float, now: int) -> str:
    """Message of a limit that has come near, from an earlier forecast."""
    return (
        f"{episode.series} of {episode.resource} is {quantity(level, episode.unit)}; it reaches "
        f"{quantity(episode.limit, episode.unit)} in about {duration(max(0, episode.limit_at - now))}."
    )


def prediction_over(episode: PredictionEpisode, level: float, now: int) -> str:
    """Message of a forecast that is withdrawn."""
    return (
        f"{episode.series} of {episode.resource} no longer moves towards {quantity(episode.limit, episode.unit)}: it is "
        f"{quantity(level, episode.unit)} at {moment(now)}. The forecast for {moment(episode.limit_at)} is withdrawn."
    )


def correlation(resource: str, series: str, others: list[str], explained: float) -> str:
    """Message of a metric that left the others of its host; ``explained`` is the share they usually foretell."""
    with_whom = f"{', '.join(others[:-1])} and {others[-1]}" if len(others) > 1 else "".join(others)
    return (
        f"{series} of {resource} no longer moves with {with_whom}, though each by itself looks ordinary. "
        f"Usually they foretell {explained:.0%} of its movement."
    )


def correlation_over(resource: str, metric: str, now: int) -> str:
    """Message of a relation that holds again, or is taken as it is now."""
    return f"{metric} of {resource} moves with the others again, as of {moment(now)}."
