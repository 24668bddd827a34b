"""Rules of time: late, repeated, skewed and missing events; hosts and series that fall silent."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from schemas.events import Signal, Tick
from schemas.insights import Insight
from stream_processors.detectors.config import DetectorConfig, Rule
from stream_processors.records.batch import Shared
from stream_processors.scoring import Scorer
from tests.support.batches import Event, batch
from tests.support.simple_bank import banks

START = 1_750_000_000_000
MINUTE = 60_000


def steady(host: str, begin: int, end: int, metric: str = "cpu", value: float = 50.0) -> list[Event | Signal]:
    return [(host, metric, START + n * MINUTE, value) for n in range(begin, end)]


def in_time_order(*parts: list[Event | Signal]) -> list[Event | Signal]:
    return sorted((item for part in parts for item in part), key=lambda e: e[2] if isinstance(e, tuple) else e.timestamp)


def score(items: list[Event | Signal], config: DetectorConfig | None = None) -> tuple[Scorer, list[Insight]]:
    scorer = Scorer(config, banks)
    return scorer, scorer.process(batch(items)).insights


def test_late_and_repeated_events_are_counted_and_not_scored() -> None:
    scorer = Scorer(None, banks)
    events: list[Event | Signal] = [("a", "cpu", START, 1.0), ("a", "cpu", START, 2.0), ("a", "cpu", START - 1, 3.0)]
    outcome = scorer.process(batch(events))
    assert (outcome.scored, outcome.late) == (1, 2)


def test_a_host_that_stops_is_one_insight_and_its_return_closes_it() -> None:
    items = in_time_order(
        steady("quiet", 0, 100),
        steady("quiet", 0, 100, "memory"),
        steady("other", 0, 140),
        steady("quiet", 130, 140),
        steady("quiet", 130, 140, "memory"),
    )
    _, insights = score(items)
    silences = [i for i in insights if i.kind == "silence"]
    assert [(i.transition, i.resource, i.metric, i.severity) for i in silences] == [
        ("opened", "quiet", "*", "MEDIUM"),
        ("escalated", "quiet", "*", "HIGH"),
        ("closed", "quiet", "*", "HIGH"),
    ]
    opened, longer = silences[:2]
    assert opened.peak_at <= longer.peak_at == START + 106 * MINUTE
    assert opened.timestamp == START + 100 * MINUTE, "the first sample that is missing"
    assert "quiet has stopped reporting: nothing since" in opened.message
    assert "reports again after 31 min" in silences[2].message
    assert silences[2].closed_at == START + 130 * MINUTE


def test_a_restart_of_a_few_minutes_is_told_and_pages_nobody() -> None:
    items = in_time_order(steady("quiet", 0, 100), steady("other", 0, 140), steady("quiet", 105, 140))
    _, insights = score(items)
    assert [(i.transition, i.kind, i.severity) for i in insights] == [
        ("opened", "silence", "MEDIUM"),
        ("closed", "silence", "MEDIUM"),
    ]


def test_one_silent_series_of_a_living_host_does_not_page() -> None:
    items = in_time_order(steady("a", 0, 200), steady("a", 0, 100, "disk"), steady("b", 0, 200))
    _, insights = score(items)
    assert [(i.metric, i.severity, i.transition) for i in insights] == [("disk", "MEDIUM", "opened")]


def test_a_pause_of_the_whole_stream_is_not_the_silence_of_its_hosts() -> None:
    hosts = [f"h{n}" for n in range(5)]
    items = in_time_order(*(steady(h, 0, 100) + steady(h, 400, 500) for h in hosts))
    assert score(items)[1] == []


def test_ticks_reveal_a_shard_that_is_wholly_quiet() -> None:
    ticks: list[Event | Signal] = [Tick(START + n * MINUTE) for n in range(100, 110)]
    _, insights = score(steady("alone", 0, 100) + ticks)
    assert [(i.kind, i.resource, i.transition, i.severity) for i in insights] == [
        ("silence", "alone", "opened", "MEDIUM"),
        ("silence", "alone", "escalated", "HIGH"),
    ]


def test_a_clock_that_runs_ahead_ages_nobody_else() -> None:
    made = batch(in_time_order(steady("a", 0, 100), steady("b", 0, 100)))
    for resource, metric, shift in (("ahead", "cpu", 50), ("ahead", "cpu", 55)):
        made.sequence_numbers.append(str(len(made.sequence_numbers)))
        for column, value in (
            (made.record, 0), (made.sub_sequence, 0), (made.item, 0), (made.resource, resource),
            (made.shared, Shared(metric, metric)), (made.timestamp, START + (100 + shift) * MINUTE), (made.value, 1.0),
            (made.arrival, START + 100 * MINUTE),
        ):  # fmt: skip
            column.append(value)  # type: ignore[attr-defined]
    scorer = Scorer(None, banks)
    assert scorer.process(made).insights == []
    assert scorer.watermark == START + 100 * MINUTE


def test_an_hour_that_comes_twice_in_local_time_is_two_hours_of_events() -> None:
    zone = ZoneInfo("Europe/Berlin")
    first = int(datetime(2026, 10, 25, 2, 30, tzinfo=zone, fold=0).timestamp() * 1000)
    second = int(datetime(2026, 10, 25, 2, 30, tzinfo=zone, fold=1).timestamp() * 1000)
    scorer = Scorer(None, banks)
    outcome = scorer.process(batch([("a", "cpu", first, 1.0), ("a", "cpu", second, 1.0)]))
    assert (outcome.scored, second - first) == (2, 3_600_000)


def test_a_host_with_gaps_is_given_the_gaps_it_is_known_for() -> None:
    gappy: list[Event | Signal] = [
        ("gappy", "cpu", START + n * MINUTE, 5.0) for n in range(600) if n % 40 not in (10, 11, 12, 13)
    ]
    _, insights = score(in_time_order(gappy, steady("b", 0, 600)))
    assert len([i for i in insights if i.transition == "opened"]) <= 1


def test_silence_can_be_switched_off_by_a_rule() -> None:
    config = DetectorConfig(rules=(Rule(metric="cpu", silence=False),))
    items = in_time_order(steady("quiet", 0, 100), steady("other", 0, 140))
    assert score(items, config)[1] == []


def test_a_tick_does_not_hurry_a_shard_on_which_old_events_still_arrive() -> None:
    now = START + 10_000 * MINUTE
    history = in_time_order(steady("a", 0, 200), steady("b", 0, 200))
    mixed: list[Event | Signal] = []
    for place, event in enumerate(history):
        mixed.append(event)
        if place % 50 == 0:
            mixed.append(Tick(now + place))
    scorer, insights = score(mixed)
    assert insights == []
    assert scorer.watermark == START + 199 * MINUTE


def test_a_host_that_often_misses_samples_gets_a_longer_wait_than_a_regular_one() -> None:
    ragged = [event for n, event in enumerate(steady("ragged", 0, 400)) if n % 40 >= 5 or n < 80]
    _, insights = score(in_time_order(ragged, steady("other", 0, 400)))
    told = [i.timestamp for i in insights if i.resource == "ragged" and i.transition == "opened"]
    assert len(told) <= 2, "its gaps are learned after the first ones"
    assert not [i for i in insights if i.severity in ("HIGH", "CRITICAL")]
