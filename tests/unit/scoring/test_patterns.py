"""Patterns through the scoring core: a job is told once and then quiet, many hosts are one page, chance is no pattern."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.alerts.format import Links, plain_text, subject
from consumers.alerts.notifications import transitions
from consumers.insights.store import from_item, to_item
from schemas.events import Signal
from schemas.insights import PAGING_SEVERITIES, Insight
from stream_processors.episodes import Episode
from stream_processors.patterns import CHANCE, DAY, MAX_STREAMS, MINUTE, Patterns, chance_of_matches, chance_of_starts
from stream_processors.scoring import Scorer
from stream_processors.state.snapshot import BankRows, apply, decode, encode
from tests.support.batches import Event, batch
from tests.support.restarts import restarted
from tests.support.simple_bank import banks

START = 1_750_032_000_000  # midnight, 16 June 2025
STEP = 10 * MINUTE
HOUR = 60 * MINUTE
JOB = 2 * HOUR + 10 * MINUTE


def host(
    days: int, value: Callable[[int, int], float | None], name: str = "host-3", metric: str = "cpu"
) -> list[Event | Signal]:
    """A metric every ten minutes; ``value`` tells what differs from 50 by day and time of day."""
    made: list[Event | Signal] = []
    for at in range(0, days * DAY, STEP):
        special = value(at // DAY, at % DAY)
        made.append((name, metric, START + at, 50.0 if special is None else special))
    return made


def job(days: set[int], high: float = 90.0, moved: int = 0) -> Callable[[int, int], float | None]:
    return lambda day, clock: high if day in days and JOB + moved <= clock < JOB + moved + 2 * STEP else None


def run(items: list[Event | Signal], cuts: list[int] | None = None) -> tuple[list[Insight], Scorer]:
    scorer = Scorer(None, banks)
    insights: list[Insight] = []
    for begin, end in itertools.pairwise([0, *sorted(cuts or []), len(items)]):
        insights += scorer.process(batch(items[begin:end])).insights
    return insights, scorer


def pages(insights: list[Insight]) -> list[Insight]:
    return [one for one in insights if one.transition in ("opened", "escalated") and one.severity in PAGING_SEVERITIES]


def days_of(insights: list[Insight]) -> list[int]:
    return [(one.opened_at - START) // DAY for one in insights]


def of_kind(insights: list[Insight], kind: str) -> list[Insight]:
    return [one for one in insights if one.kind == kind]


# ---------------------------------------------------------------------- recurrence


def test_a_job_every_day_is_told_once_and_then_is_quiet_until_it_stays_away() -> None:
    insights, _ = run(host(20, job(set(range(1, 14)))))
    opened, closed = of_kind(insights, "recurrence")
    assert (opened.type, opened.severity, opened.metric, days_of([opened])) == ("pattern", "LOW", "cpu", [5])
    assert "cpu of host-3 rises each day at about 02:10 UTC for 20 min" in opened.message
    assert "on 5 of the last 7 days" in opened.message
    assert "likely a scheduled job" in opened.message
    assert (closed.insight_id, closed.transition, closed.revision) == (opened.insight_id, "closed", 2)
    assert days_of(pages(insights)) == [1, 2, 3, 4, 5]
    quiet = [one for one in of_kind(insights, "anomaly") if one.transition == "opened" and days_of([one])[0] > 5]
    assert [one.severity for one in quiet] == ["MEDIUM"] * 8
    assert all("each day at about 02:10 UTC and is not larger than usual" in one.message for one in quiet)
    ends = [one for one in of_kind(insights, "anomaly") if one.transition == "closed" and days_of([one])[0] > 5]
    assert {one.severity for one in ends} == {"MEDIUM"}  # no "it is over" of what never paged
    print(opened.message, quiet[0].message, closed.message, sep="\n")


def test_a_larger_one_at_the_hour_and_one_at_another_hour_page_as_before() -> None:
    usual = job(set(range(1, 12)))

    def value(day: int, clock: int) -> float | None:
        if day == 8 and usual(day, clock):
            return 200.0
        if day == 9 and usual(day, clock):
            return 90.0 if clock == JOB else 200.0  # begins as usual, then grows
        if day == 10 and 14 * HOUR <= clock < 14 * HOUR + 2 * STEP:
            return 90.0
        return usual(day, clock)

    paged = pages(run(host(12, value))[0])
    assert days_of(paged) == [1, 2, 3, 4, 5, 8, 9, 10]
    assert [one.transition for one in paged][-3:] == ["opened", "escalated", "opened"]
    assert paged[-1].opened_at - START == 10 * DAY + 14 * HOUR


def test_one_in_the_other_direction_pages_as_before() -> None:
    insights, _ = run(
        host(9, lambda day, clock: (-20.0 if day == 8 else 90.0) if job(set(range(1, 9)))(day, clock) else None)
    )
    assert days_of(pages(insights)) == [1, 2, 3, 4, 5, 8]


def test_jitter_and_skipped_days_are_still_the_job() -> None:
    def value(day: int, clock: int) -> float | None:
        return None if day in (0, 4, 7) else job({day}, moved=(day % 2) * STEP)(day, clock)

    insights, _ = run(host(14, value))
    assert len(of_kind(insights, "recurrence")) == 1
    assert days_of(pages(insights)) == [1, 2, 3, 5, 6]


def test_what_flickers_at_the_usual_time_is_quiet_and_does_not_move_it_on() -> None:
    patterns = Patterns()

    def opens(day: int, minute: int) -> bool:
        episode = anomaly("h", START + day * DAY + JOB + minute * MINUTE)
        patterns.opened({}, 0, episode, 60_000.0)
        episode.last_abnormal += MINUTE
        patterns.closed(0, episode, episode.last_abnormal)
        return episode.shown() == 2

    assert [opens(day, 0) for day in range(6)] == [False] * 5 + [True]
    assert [opens(6, minute) for minute in (1, 8, 14, 22, 30)] == [True, True, True, False, False]
    assert [opens(7, -12), opens(7, 9)] == [True, False]


def test_a_job_every_week_is_told_as_weekly() -> None:
    insights, _ = run(host(43, job({1, 8, 15, 22, 29, 36})))
    (opened,) = of_kind(insights, "recurrence")
    assert "each week on about Tuesday 02:10 UTC" in opened.message
    assert days_of(pages(insights)) == [1, 8, 15, 22]


def test_random_episodes_of_a_year_make_no_recurrence() -> None:
    rng = random.Random(7)
    told = episodes = 0
    for rate in (0.1, 0.5, 1.0, 2.0, 3.0):
        patterns = Patterns(groups=False)
        for slot in range(15):
            at = 0.0
            while (at := at + rng.expovariate(rate) * DAY) < 365 * DAY:
                found = patterns.opened({}, slot, anomaly(f"h{slot}", START + int(at)), 60_000.0)
                told, episodes = told + len(found), episodes + 1
    print(f"{told} recurrences told in {episodes:,} episodes at random times")
    assert told <= 1


def anomaly(resource: str, at: int, metric: str = "cpu", severity: int = 3) -> Episode:
    return Episode(
        kind="anomaly", resource=resource, series=metric, metric=metric, opened_at=at, peak_at=at, last_abnormal=at,
        severity=severity, revision=0, insight_id=f"{resource}-{metric}-{at}", detector="seasonal", detector_version=1,
        observed=9.0, expected=1.0,
    )  # fmt: skip


# ---------------------------------------------------------------------- groups


def fleet(hosts: int, fault: Callable[[int, int, str], float | None], minutes: int = 120) -> list[Event | Signal]:
    made: list[Event | Signal] = []
    for minute in range(minutes):
        for number in range(hosts):
            for metric in ("cpu", "memory"):
                special = fault(number, minute, metric)
                made.append(
                    (
                        f"web-{number:02}",
                        metric,
                        START + minute * MINUTE + number * 100,
                        50.0 if special is None else special,
                    )
                )
    return made


def shared(hosts: int, high: float = 90.0) -> Callable[[int, int, str], float | None]:
    return lambda number, minute, metric: (
        high if metric == "cpu" and number < hosts and 60 <= minute - number % 3 < 70 else None
    )


def test_twenty_hosts_at_once_are_one_group_and_no_storm() -> None:
    insights, scorer = run(fleet(24, shared(20)))
    group = of_kind(insights, "group")
    assert [one.transition for one in group] == ["opened", "updated", "updated", "closed"]
    opened, closed = group[0], group[-1]
    assert (opened.type, opened.severity, opened.metric, len(opened.affected_hosts)) == ("pattern", "HIGH", "cpu", 3)
    assert opened.resource == opened.affected_hosts[0] == "web-00"
    assert len(closed.affected_hosts) == 20
    assert closed.state == "closed"
    assert "cpu is unusually high on 3 hosts at once" in opened.message
    # Two hosts had paged before there was a group; the third completes it.
    assert [one.kind for one in pages(insights)] == ["anomaly", "anomaly", "group"]
    members = [one for one in of_kind(insights, "anomaly") if one.transition == "opened"]
    assert len(members) == 20
    assert all(one.related == [opened.insight_id] and one.severity == "MEDIUM" for one in members[2:])
    assert scorer.patterns.groups == {} or all(one.over for one in scorer.patterns.groups.values())
    assert from_item(to_item(closed)) == closed
    assert "20 hosts" in subject(closed)
    assert "also web-03" in plain_text(closed, Links())
    print(opened.message, members[5].message, closed.message, sep="\n")


def test_a_group_is_one_notification_and_its_members_are_none() -> None:
    insights, _ = run(fleet(24, shared(20)))
    images: dict[str, Insight] = {}
    sent = []
    for one in insights:  # as the table's stream shows them to the publisher
        for transition in transitions(images.get(one.insight_id), one):
            if one.severity in PAGING_SEVERITIES:  # the rule of the bus
                sent.append((one.kind, transition))
        images[one.insight_id] = one
    assert sent.count(("group", "opened")) == sent.count(("group", "closed")) == 1
    assert sorted(sent) == sorted(
        [("group", "opened"), ("group", "closed"), *[("anomaly", "opened"), ("anomaly", "closed")] * 2]
    )


def test_a_member_that_is_worse_than_its_group_makes_the_group_worse_once() -> None:
    def fault(number: int, minute: int, metric: str) -> float | None:
        usual = shared(10)(number, minute, metric)
        return 300.0 if usual and number in (7, 8) else usual

    paged = pages(run(fleet(10, fault))[0])
    assert [(one.kind, one.transition, one.severity) for one in paged[2:]] == [
        ("group", "opened", "HIGH"),
        ("group", "escalated", "CRITICAL"),
    ]


def test_two_hosts_or_different_metrics_or_directions_are_no_group() -> None:
    assert of_kind(run(fleet(24, shared(2)))[0], "group") == []
    two = {
        0: ("cpu", 90.0),
        1: ("cpu", 90.0),
        2: ("memory", 90.0),
        3: ("memory", 90.0),
        4: ("cpu", -20.0),
        5: ("cpu", -20.0),
    }

    def mixed(number: int, minute: int, metric: str) -> float | None:
        which, high = two.get(number, ("", 0.0))
        return high if which == metric and 60 <= minute < 63 else None

    insights, _ = run(fleet(24, mixed))
    assert of_kind(insights, "group") == []
    assert len(pages(insights)) == 6


def test_random_episodes_of_many_hosts_make_no_group_in_a_year() -> None:
    rng = random.Random(11)
    for a_week in (0.2, 1.0, 3.0):
        patterns = Patterns()
        told, at, number = 0, 0.0, 0
        while (at := at + rng.expovariate(100 * a_week) * 7 * DAY) < 365 * DAY:
            told += len(list(patterns.opened({}, number, anomaly(f"h{rng.randrange(100)}", START + int(at)), 0.0)))
            number += 1
        print(f"{told} groups told in {number:,} episodes of 100 hosts, each about {a_week} a week")
        assert told == 0


def test_metrics_that_are_followed_are_bounded() -> None:
    patterns = Patterns()
    for number in range(3 * MAX_STREAMS):
        patterns.opened({}, 0, anomaly("h", START + number * HOUR, metric=f"id-{number}"), 0.0)
    assert len(patterns.streams) == MAX_STREAMS
    assert ("id-0", 1) not in patterns.streams
    assert len(patterns.series[0].starts) == 24


def test_chances_are_those_of_the_distributions() -> None:
    assert chance_of_matches(1, 6, 1 / 48) == pytest.approx(1 - (47 / 48) ** 6)
    assert chance_of_matches(4, 6, 1 / 48) < CHANCE < chance_of_matches(3, 6, 1 / 48)
    assert chance_of_starts(1, 0.5) == pytest.approx(1 - np.exp(-0.5))
    assert chance_of_starts(2, 0.5) == pytest.approx(1 - 1.5 * np.exp(-0.5))


# ---------------------------------------------------------------------- state


def mixture(seed: int) -> list[Event | Signal]:
    """Eight days of five hosts with jobs, spikes and faults they share."""
    rng = random.Random(seed)
    common = [rng.randrange(DAY // STEP, 8 * DAY // STEP) for _ in range(3)]
    made: list[Event | Signal] = []
    for at in range(8 * DAY // STEP):
        for number in range(5):
            high = number < 2 and JOB <= at * STEP % DAY < JOB + 2 * STEP
            high = high or any(one <= at < one + 2 for one in common) or rng.random() < 0.002
            value = 50.0 if not high else rng.choice([80.0, 90.0, 120.0])
            made.append((f"h{number}", "cpu", START + at * STEP + number, value))
    return made


@settings(deadline=None, max_examples=3)
@given(seed=st.integers(0, 1000), data=st.data())
def test_any_cut_into_batches_gives_the_same(seed: int, data: st.DataObject) -> None:
    items = mixture(seed)
    whole, scorer = run(items)
    assert {"recurrence", "group"} & {one.kind for one in whole}
    parts, other = run(items, data.draw(st.lists(st.integers(0, len(items)), max_size=40)))
    assert parts == whole
    assert encode(other) == encode(scorer)


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 1000), cut=st.integers(1, 5500), again=st.integers(1, 200))
def test_a_restart_from_base_and_delta_goes_on_exactly(seed: int, cut: int, again: int) -> None:
    items = mixture(seed)
    whole, scorer = run(items)
    assert restarted(items, cut, again) == (whole, encode(scorer))


def test_damaged_memories_are_left_out_and_the_rest_is_restored() -> None:
    _, scorer = run(host(8, job(set(range(1, 8)))))
    body = decode(encode(scorer))
    rows = next(one for one in body.banks if one.name == "recurrence")
    assert isinstance(rows, BankRows)
    assert rows.row_bytes < 1024
    for damage in (b"\xff" * rows.row_bytes, bytes(rows.row_bytes)):
        patterns = Patterns()
        patterns.restore(np.array([0, 1]), damage + rows.rows)
        assert list(patterns.series) == [1]
        assert patterns.dump(np.array([1])) == rows.rows


def test_after_a_split_each_child_has_its_members_and_one_has_the_group() -> None:
    items = fleet(24, shared(20))
    cut = next(n for n, one in enumerate(items) if isinstance(one, tuple) and one[2] >= START + 65 * MINUTE)
    parent = Scorer(None, banks)
    before = parent.process(batch(items[:cut])).insights
    (group,) = [one for one in of_kind(before, "group") if one.transition == "opened"]
    data, closings = encode(parent), []
    for even in (True, False):

        def mine(resource: str, even: bool = even) -> bool:
            return (int(resource[-2:]) % 2 == 0) == even

        child = Scorer(None, banks)
        assert apply(child, decode(data), keep=mine) == []
        assert set(child.patterns.groups) == ({group.insight_id} if mine(group.resource) else set())
        rest = [one for one in items[cut:] if isinstance(one, tuple) and mine(one[0])]
        after = child.process(batch(rest)).insights
        closings += [one for one in of_kind(after, "group") if one.state == "closed"]
        assert pages(after) == []
    assert [one.insight_id for one in closings] == [group.insight_id]
