"""Words for insights: messages that a person understands at 3 a.m. Pure text from numbers."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

from schemas.quantities import SHARES, duration, quantity
from schemas.times import moment
from stream_processors.detectors.base import SEVERITY_SCORES
from stream_processors.detectors.config import Bounds
from stream_processors.episodes import Episode, GroupEpisode, PredictionEpisode

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


def rarity(score: float, seen: list[float], days: float) -> str:
    """How often a series shows at least this much, as a clause that ends "for this series".

    ``seen`` are the scores of the series' earlier insights and ``days`` the time over which they came. What
    such a score means on fleets without faults counts as one occasion, each earlier insight as another.
    """
    usual = _wait(score)
    as_much = sum(1 for one in seen if one >= score)
    wait = (usual + days) / (1 + as_much)
    if wait > 3 * 365:
        return "less than once in 3 years for this series"
    return f"about once in {duration(wait * _DAY)} for this series"


def _wait(score: float) -> float:
    """Days that pass between insights of at least this score on a series without faults."""
    for (x0, y0), (x1, y1) in itertools.pairwise(_WAITS):
        if score <= x1:
            return float(y0 * (y1 / y0) ** max(0.0, (score - x0) / (x1 - x0)))
    return _WAITS[-1][1]


BOUND = "configured bound"
"""What speaks where a bound of the configuration decided."""
STANDSTILL = "standstill"
"""The family that speaks of a value which stops changing."""
UNKNOWN = "not known yet"
BY_BOUND = "not judged, a configured bound decides"
BY_SOURCE = "not judged, its source decides"
BY_LIMIT = "not judged, a fixed limit decides"
SILENT = "longer than the usual pauses of these reports"
BEYOND = "beyond anything that this series has shown in two weeks"
NO_CHANCE = "by chance once in 100,000 episodes"
LOOSE = "at least 1.6 times what this host shows on an ordinary day"
"""How rare something is where no rate is known."""

FAMILIES = {
    "spike": "sudden value",
    "time of day": "unusual for the time of day",
    "time of week": "unusual for the hour of the week",
    "range": "outside of the range seen so far",
    "course": "a course or a range not seen so far",
    "level": "shifted level",
    "restlessness": "unusual restlessness",
    STANDSTILL: "the same value for unusually long",
    "trend": "steady trend",
    "recurrence": "the same hour",
    "group": "the same metric on other hosts",
}
"""Families of evidence as a reader understands them; others are called by their own name."""


_NAMED, _LEAST = 3, 5.0
"""Families that a message names at most, and the least share of one in percent; the rest is one entry."""


def evidence(shares: dict[str, float]) -> str:
    """The families that spoke and their shares in whole percent, which add up to 100; the strongest first."""
    total = sum(share for share in shares.values() if share > 0)
    if not total > 0:
        return ""
    exact = {family: 100 * share / total for family, share in shares.items() if share > 0}
    ranked = sorted(exact, key=lambda family: (-exact[family], family))
    named = [family for family in ranked[:_NAMED] if exact[family] >= _LEAST]
    whole = {FAMILIES.get(family, family): round(exact[family]) for family in named}
    if (rest := 100 - sum(whole.values())) > 0 and len(named) < len(ranked):
        whole["other evidence"] = rest
    elif rest:  # rounding
        whole[next(iter(whole))] += rest
    return ", ".join(f"{family} {share} %" for family, share in whole.items())


def whole(message: str, shares: dict[str, float], how_rare: str, told: float = 0.0, told_at: int = 0) -> str:
    """A message with what spoke for it, how rare that is, and what people's verdicts did to it."""
    parts = [message if message.endswith((".", "!", "?")) else f"{message}."]
    if spoke := evidence(shares):
        parts.append(f"Evidence: {spoke}.")
    if how_rare:
        parts.append(f"How rare: {how_rare}.")
    if told < 0:
        parts.append(f"Lowered because marked as false alarm on {moment(told_at)}.")
    elif told > 0:
        parts.append(f"Raised because marked as missed on {moment(told_at)}.")
    return " ".join(parts)


_DAY = 86_400_000
_WAITS = ((0.3, 1.3), (0.4, 16.0), (0.5, 50.0), (0.55, 600.0), (0.6, 1000.0), (0.7, 3000.0))
"""Days between insights of at least this score on series without faults, measured (docs/detectors.md)."""


def _name(episode: Episode) -> str:
    return f"{'The rate of ' if episode.rate else ''}{episode.series} of {episode.resource}"


def anomaly(episode: Episode, *, bounds: Bounds | None = None, worse: bool = False) -> str:
    """Message of an anomaly of one series, open or still open; ``worse`` where it has been told before.

    ``bounds`` are the configured ones, for where one of them decided.
    """
    name = _name(episode)
    since = f"since {moment(episode.opened_at)}"
    verb = "got worse and is" if worse else "is"
    if episode.observed is None:
        return f"{name} {verb} unusual {since}."
    observed = quantity(episode.observed, episode.unit)
    if episode.expected_low is None or episode.expected_high is None:
        return f"{name} {verb} {observed}, unusual for this series, {since}."
    low, high, expected = _expected(episode, episode.expected_low, episode.expected_high)
    if episode.expected_low <= episode.observed <= episode.expected_high:
        if episode.evidence and max(episode.evidence, key=lambda one: episode.evidence[one]) == STANDSTILL:
            noticed = f"noticed {moment(episode.opened_at)}"
            return f"{name} stands still for unusually long, {noticed}; it stays at {observed}, expected {expected}."
        moves = "got worse and moves" if worse else "moves"
        return f"{name} {moves} unusually {since}; its value, {observed}, is within the expected {expected}."
    where, edge = ("above", high) if episode.observed > episode.expected_high else ("below", low)
    if observed == edge:
        where = f"just {where}"
    if BOUND in episode.evidence:
        passed = None if bounds is None else bounds.high if where.endswith("above") else bounds.low
        told = "" if passed is None else f" of {quantity(passed, episode.unit)}"
        also = "" if low == high else f"; the expected is {expected}"
        return f"{name} {verb} {observed}, {where} its configured bound{told}, {since}{also}."
    return f"{name} {verb} {observed}, {where} the expected {expected}, {since}."


def _expected(episode: Episode, low: float, high: float) -> tuple[str, str, str]:
    """Ends of the band, and the band; of a share it does not begin below zero."""
    if episode.unit in SHARES and low < 0 <= (episode.observed or 0.0):
        low = 0.0
    begin, end = quantity(low, episode.unit), quantity(high, episode.unit)
    return begin, end, begin if begin == end else f"{begin} to {end}"


def anomaly_over(episode: Episode, closed_at: int) -> str:
    """Message of an anomaly that is over."""
    span = duration(max(0, closed_at - episode.opened_at))
    over = f"{_name(episode)} is back to normal after {span} (began {moment(episode.opened_at)})."
    if episode.observed is None:
        return over
    worst = f"{over} At its worst it was {quantity(episode.observed, episode.unit)}"
    if episode.expected_low is None or episode.expected_high is None:
        return f"{worst}."
    return f"{worst}, expected {_expected(episode, episode.expected_low, episode.expected_high)[2]}."


def silence(resource: str, series: str, last: int, interval: float, pause: float, *, still: bool = False) -> str:
    """Message of a host (``series`` empty) or a series that stopped reporting; ``pause`` is its longest lately."""
    who = f"{series} of {resource}" if series else resource
    usual = f"usually every {duration(interval)}"
    if pause > 1.5 * interval:
        usual += f", at the longest after {duration(pause)}"
    what = "still does not report" if still else "has stopped reporting"
    return f"{who} {what}: nothing since {moment(last)}, {usual}."


def silence_over(resource: str, series: str, last: int, now: int) -> str:
    """Message of a host or a series that reports again."""
    who = f"{series} of {resource}" if series else resource
    return f"{who} reports again after {duration(max(0, now - last))} of silence, since {moment(now)}."


def alarm(message: str, opened_at: int, closed_at: int | None) -> str:
    """Message of an alarm in its source's words, with its time; an event without an end is over when it begins."""
    said = message if message.endswith((".", "!", "?")) else f"{message}."
    if closed_at is None or closed_at <= opened_at:
        return f"{said} Since {moment(opened_at)}." if closed_at is None else f"{said} At {moment(opened_at)}."
    return f"{said} Over since {moment(closed_at)}, after {duration(closed_at - opened_at)}."


def series_limit(resource: str, limit: int) -> str:
    """Message of a resource that makes more series than are watched."""
    return (
        f"{resource} reports more than {limit:,} different series; further ones are archived but not watched. "
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


def correlation(resource: str, series: str, others: list[str], explained: float, since: int) -> str:
    """Message of a metric that left the others of its host; ``explained`` is the share they usually foretell."""
    with_whom = f"{', '.join(others[:-1])} and {others[-1]}" if len(others) > 1 else "".join(others)
    return (
        f"{series} of {resource} no longer moves with {with_whom}, though each by itself looks ordinary. "
        f"Noticed {moment(since)}; usually they foretell {100 * explained:.0f} % of its movement."
    )


def correlation_over(resource: str, series: str, now: int) -> str:
    """Message of a relation that holds again, or is taken as it is now."""
    return f"{series} of {resource} moves with the others again, as of {moment(now)}."


GROUP_MEMBER = "The same happens on other hosts: their group pages, this does not."
RECURRENCE_LARGER = "It usually comes at this time, but not so large."


def _usual_time(period: int, at: int) -> str:
    clock = datetime.fromtimestamp(at / 1000, UTC)
    return f"{clock:%H:%M} UTC" if period <= 86_400_000 else f"{clock:%A} {clock:%H:%M} UTC"


def recurrence(episode: Episode, side: int, period: int, span: int, seen: int, of: int) -> str:
    """Message of anomalies that come back at the same time."""
    how = "rises" if side > 0 else "falls"
    every = "each day at" if period <= 86_400_000 else "each week on"
    lasting = f" for {duration(span)}" if span >= 1000 else ""
    units = "days" if period <= 86_400_000 else "weeks"
    return (
        f"{episode.series} of {episode.resource} {how} {every} about {_usual_time(period, episode.opened_at)}{lasting} "
        f"(on {seen} of the last {of} {units}): likely a scheduled job. It does not page while it stays like that."
    )


def recurrence_usual(period: int, at: int) -> str:
    """Why an episode is quieter than its score."""
    every = "each day" if period <= 86_400_000 else "each week"
    return f"It comes {every} at about {_usual_time(period, at)} and is not larger than usual, so it does not page."


def recurrence_over(resource: str, series: str, period: int, last: int) -> str:
    """Message of a recurrence that stays away."""
    every = "daily" if period <= 86_400_000 else "weekly"
    return (
        f"The {every} anomaly of {series} of {resource} has not come since {moment(last)}: the job has stopped, or its "
        "rhythm is learned. The next one pages again."
    )


def group(episode: GroupEpisode) -> str:
    """Message of the same anomaly on many hosts."""
    names = episode.named[:3]
    more = f" and {len(episode.named) - 3:,} more" if len(episode.named) > 3 else ""
    how = "high" if episode.side > 0 else "low"
    return (
        f"{episode.metric} is unusually {how} on {len(episode.named):,} hosts at once since {moment(episode.opened_at)}: "
        f"{', '.join(names)}{more}. One cause is likely."
    )


def group_over(episode: GroupEpisode, now: int) -> str:
    """Message of a group all of whose members are over."""
    span = duration(max(0, now - episode.opened_at))
    hosts = f"all {len(episode.named):,} hosts"
    return f"{episode.metric} is back to normal on {hosts} after {span} (began {moment(episode.opened_at)})."
