"""The core is a function of the record order: cuts, repeats and interleaving change nothing."""

from __future__ import annotations

import functools
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import AlarmSignal, Feedback, Signal, Tick
from schemas.insights import Insight
from stream_processors.detectors.base import Bank
from stream_processors.detectors.config import DetectorConfig
from stream_processors.scoring import Scorer, default_banks
from stream_processors.state.snapshot import apply, decode, encode, mark_clean
from tests.support.batches import Event, batch
from tests.support.paths import BUILT, PATHS
from tests.support.simple_bank import banks

START = 1_750_000_000_000
CONFIG = DetectorConfig(max_series_per_resource=3)


def stream(seed: int, minutes: int = 160, *, signals: bool = True) -> list[Event | Signal]:
    """A few hosts with spikes, pauses, late and repeated events, an invented metric, alarms, feedback."""
    rng = random.Random(seed)
    hosts = ["a", "b", "c"]
    paused = {h: (s := rng.randrange(70, 150), s + rng.randrange(3, 30)) for h in hosts}
    made: list[Event | Signal] = []
    for minute in range(minutes):
        now = START + minute * 60_000
        for host in hosts:
            if paused[host][0] <= minute < paused[host][1] or rng.random() < 0.03:
                continue
            for metric in ("cpu", "memory"):
                value = 50 + rng.gauss(0, 1) + (100 if rng.random() < 0.03 else 0)
                late = rng.choice([-240_000, 0]) if rng.random() < 0.05 else 0
                made.append((host, metric, now + rng.randrange(0, 5_000) + late, value))
        if rng.random() < 0.02:
            made.append((rng.choice(hosts), f"id-{minute}", now, 1.0))
        if signals and rng.random() < 0.1:
            host = rng.choice(hosts)
            made.append(
                rng.choice(
                    [
                        Tick(now + 30_000),
                        AlarmSignal(host, "disk", now, "HIGH", "disk is full", True, "aws.cloudwatch", "alarm"),
                        AlarmSignal(host, "disk", now, "HIGH", "disk is fine", False, "aws.cloudwatch", "alarm"),
                        AlarmSignal(host, "deploy", now, "LOW", "deployed", None, "aws.codepipeline", "event", "e1"),
                        Feedback(host, "cpu", "missed", now),
                    ]
                )
            )
    return made


WILD = [0.0, -0.0, 1e308, -1e308, 1.7976931348623157e308, 5e-324, -5e-324, 1e-300, 100.0, 2.0**53, 1e6, 1e12, -1e100, 1e200]


def hostile(seed: int) -> list[Event | Signal]:
    """Values of any size, clocks that jump by days, events that come late by up to more than a year."""
    rng = random.Random(seed)
    hosts = [f"host-{number}" for number in range(rng.choice([1, 2, 6]))]
    metrics = ["cpu", "memory", "diskUsage", "disk", "connections"][: rng.choice([1, 2, 4, 5])]
    step = rng.choice([1_000, 60_000, 300_000, 3_600_000])
    wild, late, jump = rng.choice([0, 0.01, 0.3, 1]), rng.choice([0, 0.05, 0.5]), rng.choice([0, 0.01, 0.1])
    day = 24 * 60 * 60 * 1000
    now, made = START, list[Event | Signal]()
    for _ in range(rng.choice([30, 300])):
        now += int(step * rng.uniform(0.5, 1.5))
        if rng.random() < jump:
            now += rng.choice([1, 10_000, day, 40 * day, -day, -300_000])
        for host, metric in itertools.product(hosts, metrics):
            behind = rng.choice([0, 1, 300_000, day, 400 * day]) if rng.random() < late else 0
            value = rng.choice(WILD) if rng.random() < wild else 1e9 * (metric == "disk") + rng.gauss(0, 1)
            made.append((host, metric, now - behind, value))
        if rng.random() < 0.08:
            verdict = Feedback(rng.choice([*hosts, "unknown"]), "cpu", rng.choice(["missed", "false_positive"]), now)
            made.append(rng.choice([Tick(now + rng.choice([0, -step, 10 * step])), verdict]))
    return made


def run(
    items: list[Event | Signal], cuts: list[int], kind: object = banks, config: DetectorConfig = CONFIG
) -> tuple[list[Insight], bytes]:
    scorer = Scorer(config, kind)  # type: ignore[arg-type]
    insights: list[Insight] = []
    edges = [0, *sorted(cuts), len(items)]
    for begin, end in itertools.pairwise(edges):
        insights += scorer.process(batch(items[begin:end])).insights
    return insights, encode(scorer)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_any_cut_into_batches_gives_the_same_insights_and_state(seed: int, data: st.DataObject) -> None:
    items = stream(seed)
    cuts = data.draw(st.lists(st.integers(0, len(items)), max_size=30))
    whole = run(items, [])
    assert run(items, cuts) == whole
    assert whole[0], "the stream must lead to insights, or the comparison says nothing"


@pytest.mark.parametrize("compiled", PATHS)
def test_one_event_a_batch_gives_the_same_with_the_real_detector(compiled: bool) -> None:
    items = stream(3, minutes=120)
    kind = functools.partial(default_banks, compiled=compiled)
    assert run(items, list(range(len(items))), kind) == run(items, [], kind)


@BUILT
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_the_compiled_path_gives_the_insights_and_state_of_numpy_at_any_cut(seed: int, data: st.DataObject) -> None:
    items = stream(seed)
    cuts = data.draw(st.lists(st.integers(0, len(items)), max_size=10))
    plain = run(items, [], functools.partial(default_banks, compiled=False))
    assert run(items, cuts, functools.partial(default_banks, compiled=True)) == plain
    assert plain[0], "the stream must lead to insights, or the comparison says nothing"


@BUILT
@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_wild_values_and_jumping_clocks_end_nothing_and_keep_the_invariance(seed: int, data: st.DataObject) -> None:
    items = hostile(seed)
    cuts = data.draw(st.lists(st.integers(0, len(items)), max_size=10))
    plain = run(items, [], functools.partial(default_banks, compiled=False), DetectorConfig())
    assert run(items, cuts, functools.partial(default_banks, compiled=True), DetectorConfig()) == plain


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 400), again=st.integers(1, 60))
def test_events_seen_again_change_nothing_but_the_count_of_late_ones(seed: int, cut: int, again: int) -> None:
    items = [item for item in stream(seed, signals=False) if not isinstance(item, Signal)]
    repeated = items[:cut] + items[max(0, cut - again) : cut] + items[cut:]
    assert run(repeated, [cut]) == run(items, [])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False))
def test_any_interleaving_of_resources_gives_the_same_apart_from_silence(seed: int, order: random.Random) -> None:
    items = [item for item in stream(seed, signals=False) if not isinstance(item, Signal)]
    queues = {host: [item for item in items if item[0] == host] for host in "abc"}
    mixed = []
    while any(queues.values()):
        host = order.choice([name for name, queue in queues.items() if queue])
        mixed.append(queues[host].pop(0))

    def anomalies(given_items: list[Event | Signal]) -> tuple[list[Insight], list[bytes]]:
        scorer = Scorer(CONFIG, banks, watch_silence=False)
        insights = scorer.process(batch(given_items)).insights
        return sorted(insights, key=lambda i: (i.insight_id, i.revision)), [encode(scorer)]

    assert anomalies(list(mixed)) == anomalies(list(items))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_a_restart_from_base_and_deltas_goes_on_exactly(seed: int, data: st.DataObject) -> None:
    items = stream(seed)
    cuts = sorted(data.draw(st.lists(st.integers(1, len(items) - 1), min_size=2, max_size=6, unique=True)))
    first, chain = Scorer(CONFIG, banks), []
    insights = []
    for number, (begin, end) in enumerate(zip([0, *cuts], cuts, strict=False)):
        insights += first.process(batch(items[begin:end])).insights
        chain.append(encode(first, full=number == 0))
        mark_clean(first)
    second = Scorer(CONFIG, banks)
    for data_bytes in chain:
        assert apply(second, decode(data_bytes)) == []
    assert encode(second) == encode(first)
    insights += second.process(batch(items[cuts[-1] :])).insights
    assert (insights, encode(second)) == run(items, [])


@pytest.mark.parametrize("kind", [banks, default_banks])
def test_a_forgotten_series_leaves_no_trace_in_the_series_that_takes_its_place(kind: object) -> None:
    config = DetectorConfig(forget_after_days=1)
    day = 86_400_000
    old: list[Event | Signal] = [("old", "m", START + n * 60_000, float(n)) for n in range(100)]
    keeper: list[Event | Signal] = [("keeper", "m", START + n * day // 4, 5.0) for n in range(20)]
    new: list[Event | Signal] = [("new", "m", START + 5 * day + n * 60_000, 7.0) for n in range(50)]
    with_old = Scorer(config, kind)  # type: ignore[arg-type]
    with_old.process(batch(old + keeper + new))
    without = Scorer(config, kind)  # type: ignore[arg-type]
    without.process(batch(keeper + new))
    assert "old" not in with_old.resources
    assert decode(encode(with_old)).banks[0].rows == decode(encode(without)).banks[0].rows


def test_banks_are_those_of_the_contract() -> None:
    assert all(isinstance(bank, Bank) for bank in default_banks().values())
