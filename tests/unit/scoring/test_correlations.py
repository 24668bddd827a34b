"""Broken relations through the scoring core: one insight a host, however batches are cut and the state is carried."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.events import Signal
from schemas.insights import Insight
from stream_processors.detectors.config import DetectorConfig, Rule
from stream_processors.detectors.correlation import BLOCK
from stream_processors.scoring import Scorer
from stream_processors.state.snapshot import apply, decode, encode
from tests.support.batches import Event, batch
from tests.support.related import DAY, START, decouple, related
from tests.support.restarts import restarted
from tests.support.simple_bank import banks

METRICS = ("cpuUsage", "diskIO", "networkIO", "requests")


def stream(seed: int = 1, alone: int = 50) -> list[Event | Signal]:
    """Four days of a host on which networkIO leaves the others on the last one; at first only one metric reports."""
    rng = np.random.default_rng(seed)
    values, rhythm = related(rng, 1, 5)
    decouple(rng, values, rhythm, 2, 4 * DAY + 30, 60)
    made: list[Event | Signal] = []
    for at in range(5 * DAY):
        for lane, metric in enumerate(METRICS):
            if at >= alone or lane == 1:
                made.append(("web-1", metric, START + at * BLOCK, 50 + float(values[0, lane, at])))
    return made


def run(items: list[Event | Signal], cuts: list[int], config: DetectorConfig | None = None) -> tuple[list[Insight], Scorer]:
    scorer = Scorer(config, banks)
    insights: list[Insight] = []
    for begin, end in itertools.pairwise([0, *sorted(cuts), len(items)]):
        insights += scorer.process(batch(items[begin:end])).insights
    return insights, scorer


def test_a_broken_relation_is_one_insight_that_names_the_metric_and_its_share() -> None:
    insights = [one for one in run(stream(), [])[0] if one.kind == "correlation"]
    assert [one.transition for one in insights] == ["opened", "closed"]
    opened, closed = insights
    assert (opened.type, opened.severity, opened.metric, opened.detector) == (
        "anomaly",
        "MEDIUM",
        "networkIO",
        "correlation",
    )
    assert next(iter(opened.evidence)) == "networkIO"
    assert sum(opened.evidence.values()) == pytest.approx(1.0, abs=0.01)
    assert opened.message.startswith("networkIO of web-1 no longer moves with cpuUsage, diskIO and requests, though")
    assert "moves with the others again" in closed.message
    print(opened.message, opened.evidence, closed.message, sep="\n")


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 1000), data=st.data())
def test_any_cut_into_batches_gives_the_same(seed: int, data: st.DataObject) -> None:
    items = stream(seed)
    cuts = data.draw(st.lists(st.integers(0, len(items)), max_size=30))
    whole, scorer = run(items, [])
    parts, other = run(items, [*cuts, *range(40, 60)])
    assert parts == whole
    assert encode(other) == encode(scorer)


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 1000), cut=st.integers(1, 5500), again=st.integers(1, 100))
@example(seed=0, cut=4531, again=100)  # what is open when the state is restored is closed in the same words
def test_a_restart_from_base_and_delta_goes_on_exactly(seed: int, cut: int, again: int) -> None:
    items = stream(seed)
    whole, scorer = run(items, [])
    assert restarted(items, cut, again) == (whole, encode(scorer))


def test_a_rule_keeps_a_metric_out() -> None:
    config = DetectorConfig(rules=(Rule(correlation=False),))
    insights, scorer = run(stream(), [], config)
    assert [one for one in insights if one.kind == "correlation"] == []
    assert len(scorer.correlations.bank) == 0


def test_a_forgotten_metric_gives_its_place_to_another() -> None:
    config = DetectorConfig(forget_after_days=1, max_series_per_resource=20)
    scorer = Scorer(config, banks)
    old: list[Event | Signal] = [("h", f"m{n}", START + at * BLOCK, float(at % 7)) for at in range(20) for n in range(10)]
    new: list[Event | Signal] = [
        ("h", f"n{n}", START + (3 * DAY + at) * BLOCK, float(at % 7)) for at in range(DAY) for n in range(10)
    ]
    scorer.process(batch(old))
    assert sorted(scorer.correlations.lane[:10].tolist()) == [-1, -1, *range(8)]
    scorer.process(batch([*new, ("h", "n0", START + 5 * DAY * BLOCK, 1.0)]))
    again = Scorer(config, banks)
    apply(again, decode(encode(scorer)))
    assert encode(again) == encode(scorer)
