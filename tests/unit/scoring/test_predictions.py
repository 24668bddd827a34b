"""Predictions through the scoring core: one insight a leak, however batches are cut and the state is carried."""

from __future__ import annotations

import itertools
import re

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Signal
from schemas.insights import Insight
from stream_processors.detectors.config import Bounds, DetectorConfig, Rule, Window
from stream_processors.predictions import natural_limit
from stream_processors.scoring import Scorer
from stream_processors.state import snapshot
from stream_processors.state.snapshot import BodyWithPredictions, apply, decode, encode
from tests.support.batches import Event, batch
from tests.support.leaks import DAY, HOUR, MINUTE, START
from tests.support.restarts import restarted
from tests.support.simple_bank import banks

TEN = 10 * MINUTE


def stream(seed: int = 1, *, freed: bool = True, metric: str = "diskUsage") -> list[Event | Signal]:
    """Three quiet days of two metrics, a leak of 0.9 points an hour for 34 hours, and what follows."""
    rng = np.random.default_rng(seed)
    at = np.arange(0, 6 * DAY, TEN)
    rise = np.clip((at - 3 * DAY) / HOUR, 0, 34) * 0.9
    disk = 62 + np.where((at > 3 * DAY + 34 * HOUR) & freed, 0, rise) + 0.3 * rng.normal(size=len(at))
    cpu = 50 + 5 * np.cos(at / DAY * 2 * np.pi) + rng.normal(size=len(at))
    made: list[Event | Signal] = []
    for time, used, busy in zip((START + at).tolist(), disk.tolist(), cpu.tolist(), strict=True):
        made.append(("web-1", metric, time, used))
        made.append(("web-1", "cpuUsage", time, busy))
    return made


def run(
    items: list[Event | Signal], cuts: list[int] = [], config: DetectorConfig | None = None  # noqa: B006
) -> tuple[list[Insight], Scorer]:  # fmt: skip
    scorer = Scorer(config, banks)
    insights: list[Insight] = []
    for begin, end in itertools.pairwise([0, *sorted(cuts), len(items)]):
        insights += scorer.process(batch(items[begin:end])).insights
    return insights, scorer


def predictions(insights: list[Insight]) -> list[Insight]:
    return [insight for insight in insights if insight.type == "prediction"]


def test_a_leak_is_one_insight_in_plain_words_that_grows_and_is_withdrawn() -> None:
    told = predictions(run(stream())[0])
    assert [(i.transition, i.severity) for i in told] == [("opened", "MEDIUM"), ("escalated", "HIGH"), ("closed", "HIGH")]
    assert len({i.insight_id for i in told}) == 1
    opened, worse, closed = told
    assert re.fullmatch(
        r"diskUsage of web-1 is 7\d\.\d %, rising 0\.\d+ points an hour since 2026-09-2\d \d\d:\d\d UTC; "
        r"it reaches 100 % in about \d\d h \(\d\d h to \d\d h\)\. Evidence: steady trend 100 %\. How rare: .*\.",
        opened.message,
    )
    full = START + 3 * DAY + (100 - 62) / 0.9 * HOUR
    for one in (opened, worse):
        assert one.limit_earliest is not None
        assert one.limit_latest is not None
        assert one.limit_earliest < full < one.limit_latest
    assert (opened.limit, opened.kind, opened.detector) == (100.0, "prediction", "trend")
    assert opened.confidence >= 80
    assert "is withdrawn" in closed.message
    assert closed.closed_at is not None
    assert closed.closed_at - (START + 3 * DAY + 34 * HOUR) <= 2 * HOUR
    print("\n".join(i.message for i in told))


@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 1000), data=st.data())
def test_any_cut_into_batches_gives_the_same_predictions_and_state(seed: int, data: st.DataObject) -> None:
    items = stream(seed)
    cuts = data.draw(st.lists(st.integers(0, len(items)), max_size=30))
    whole, scorer = run(items)
    parts, other = run(items, cuts)
    assert parts == whole
    assert encode(other) == encode(scorer)
    assert predictions(whole)


@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 1000), cut=st.integers(1, 1700), again=st.integers(1, 100))
def test_a_restart_from_base_and_delta_goes_on_exactly(seed: int, cut: int, again: int) -> None:
    items = stream(seed)
    whole, scorer = run(items)
    assert restarted(items, cut, again) == (whole, encode(scorer))


def open_at_the_end() -> Scorer:
    scorer = run(stream(freed=False)[: 2 * 144 * 4])[1]
    assert ("prediction", "web-1", "diskUsage") in scorer.episodes
    return scorer


def test_an_older_snapshot_without_trends_is_read_and_its_series_warm_up() -> None:
    body = decode(encode(open_at_the_end()))
    body = msgspec.structs.replace(body, banks=[rows for rows in body.banks if rows.name != "trend"], predictions=[])
    scorer = Scorer(None, banks)
    assert apply(scorer, body) == []
    assert predictions(scorer.process(batch(stream()[2 * 144 * 4 :])).insights) == []


def test_a_version_that_knows_no_predictions_reads_the_rest() -> None:
    data = encode(open_at_the_end())
    assert isinstance(decode(data), BodyWithPredictions)
    older = msgspec.msgpack.decode(data[snapshot._HEAD.size :], type=snapshot.Body)
    assert all(episode.kind != "prediction" for episode in older.episodes)


def test_a_prediction_is_withdrawn_when_the_limit_was_changed_over_a_restart() -> None:
    data = encode(open_at_the_end())
    scorer = Scorer(DetectorConfig(rules=(Rule(bounds=Bounds(high=150.0)),)), banks)
    apply(scorer, decode(data))
    told = predictions(scorer.process(batch(stream(freed=False)[2 * 144 * 4 :])).insights)
    assert [one.transition for one in told][:1] == ["closed"]


def test_a_rule_s_bound_is_a_limit_for_any_metric() -> None:
    config = DetectorConfig(rules=(Rule(metric="queueAge", bounds=Bounds(high=100.0)),))
    assert predictions(run(stream(metric="queueAge"))[0]) == []
    assert predictions(run(stream(metric="queueAge"), config=config)[0])[0].limit == 100.0


@pytest.mark.parametrize(
    ("rule", "severities"),
    [
        (Rule(prediction=False), []),
        (Rule(detector="off"), []),
        (Rule(direction="down"), []),
        (Rule(maintenance=(Window("00:00", "23:59"),)), []),
        (Rule(at_most="LOW"), ["LOW", "LOW"]),
    ],
)
def test_rules_silence_and_soften_predictions(rule: Rule, severities: list[str]) -> None:
    told = predictions(run(stream(), config=DetectorConfig(rules=(rule,)))[0])
    assert [one.severity for one in told] == severities


def test_a_forgotten_series_ends_its_prediction() -> None:
    scorer = open_at_the_end()
    last = START + 4 * DAY
    later: list[Event | Signal] = [("other", "m", last + day * DAY, 1.0) for day in range(20)]
    told = predictions(scorer.process(batch(later)).insights)
    assert [one.transition for one in told] == ["closed"]
    assert told[0].limit == 100.0


@pytest.mark.parametrize(
    ("metric", "unit", "limit"),
    [
        ("memoryUsage", "Percent", (100.0, 1.0)),
        ("disk.usedPercent", "Percent", (100.0, 1.0)),
        ("mem_used_percent", None, (100.0, 1.0)),
        ("system.filesystem.utilization", "1", (1.0, 1.0)),
        ("connections.usedPercent", "Percent", (100.0, 1.0)),
        ("FreeStorageSpace", "Bytes", (0.0, -1.0)),
        ("FreeableMemory", "Bytes", (0.0, -1.0)),
        ("mem.free", "Bytes", None),
        ("cpuUsage", "Percent", None),
        ("diskIO", "Bytes/Second", None),
        ("disk_utilization", "Percent", None),
        ("CacheHitRate", "Percent", None),
        ("PercentIOLimit", "Percent", None),
        ("memory.used", "Bytes", None),
    ],
)
def test_limits_are_known_by_name_and_unit(metric: str, unit: str | None, limit: tuple[float, float] | None) -> None:
    assert natural_limit(metric, unit) == limit
