"""Counters are judged by their rate: recognised, declared, reset, restored; levels stay what they are."""

from __future__ import annotations

import functools
import itertools
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.insights import Insight
from stream_processors.counters import LEVEL, RISES, Counters
from stream_processors.detectors.config import DetectorConfig, Rule
from stream_processors.scoring import Scorer, default_banks
from stream_processors.state.snapshot import apply, decode, encode
from tests.support.batches import Event, batch
from tests.support.paths import PATHS

START = 1_790_000_000_000
MINUTE = 60_000


def counter(count: int, seed: int = 1, cadence: int = MINUTE, rate: float = 1000.0) -> list[float]:
    """Bytes since boot, in steps of a steady rate with some noise."""
    rng = random.Random(seed)
    return list(itertools.accumulate(rate * cadence / 1000 * max(0.0, rng.gauss(1, 0.1)) for _ in range(count)))


def events(values: list[float], name: str = "bytes_sent", cadence: int = MINUTE, host: str = "web-1") -> list[Event]:
    return [(host, name, START + n * cadence, value) for n, value in enumerate(values)]


def told(items: list[Event], *rules: Rule, unit: str | None = "Bytes") -> list[Insight]:
    scorer = Scorer(DetectorConfig(rules), watch_silence=False)
    made = batch(items)
    made.shared = [msgspec.structs.replace(one, unit=unit) for one in made.shared]
    return scorer.process(made).insights


def pages(found: list[Insight]) -> list[Insight]:
    return [one for one in found if one.severity in ("HIGH", "CRITICAL") and one.transition != "closed"]


@pytest.mark.parametrize("cadence", [1_000, MINUTE, 300_000, 3_600_000])
def test_a_steady_counter_with_restarts_is_never_paged(cadence: int) -> None:
    values = counter(1200, cadence=cadence)
    for restart in (400, 401, 700, 1000):  # twice in a row, too
        values[restart:] = [value - values[restart] * 0.999 for value in values[restart:]]
    assert pages(told(events(values, cadence=cadence))) == []


def test_a_counter_whose_rate_changes_is_paged_in_words_about_its_rate() -> None:
    values = counter(900)
    steps = np.diff(values, prepend=0.0)
    steps[700:760] *= 4
    found = pages(told(events(np.cumsum(steps).tolist())))
    assert len(found) in (1, 2)
    first = found[0]
    assert 700 <= (first.opened_at - START) / MINUTE <= 703
    assert first.unit == "Bytes/Second"
    assert first.message.startswith("The rate of bytes_sent of web-1 ")
    assert " is 4." in first.message
    assert "kB/s, above the expected" in first.message
    assert first.observed == pytest.approx(4000, rel=0.4)


def test_a_counter_that_stops_counting_is_paged() -> None:
    steps = np.diff(counter(2200), prepend=0.0)
    steps[2000:] = 0.0
    found = pages(told(events(np.cumsum(steps).tolist())))
    assert found
    assert START + 2000 * MINUTE <= found[0].peak_at < START + 2030 * MINUTE


def test_a_counter_that_rises_seldom_is_not_a_level_that_shifts_each_time() -> None:
    rng = random.Random(3)
    values = list(itertools.accumulate(float(rng.random() < 0.3) for _ in range(4000)))
    assert pages(told(events(values, "errors_total"), unit="Count")) == []


@pytest.mark.parametrize(
    ("what", "unit"),
    [
        ("noise", None),
        ("binary", None),
        ("leak", "Percent"),
        ("rates", "Bytes/Second"),
        ("sawtooth", None),
        ("constant", None),
    ],
)
def test_levels_are_no_counters(what: str, unit: str | None) -> None:
    rng = random.Random(4)
    values = {
        "noise": [rng.gauss(50, 1) for _ in range(500)],
        "binary": [float(rng.random() < 0.5) for _ in range(500)],
        "leak": [40 + n * 0.05 for n in range(500)],
        "rates": [1e3 + n * 10.0 for n in range(500)],
        "sawtooth": [float(n % 20) for n in range(500)],
        "constant": [7.0] * 500,
    }[what]
    scorer = Scorer()
    made = batch(events(values))
    made.shared = [msgspec.structs.replace(one, unit=unit) for one in made.shared]
    scorer.process(made)
    assert not scorer.counters.counts(0)
    assert what == "constant" or scorer.counters.state[0] == LEVEL


def test_a_rule_decides_where_values_cannot_tell() -> None:
    values = counter(900)
    for restart in range(5, 900, 7):  # a job that counts anew with every run
        values[restart:] = [value - values[restart] for value in values[restart:]]
    assert pages(told(events(values), Rule(kind="counter"))) == []
    scorer = Scorer(DetectorConfig((Rule(kind="gauge"),)))
    scorer.process(batch(events(counter(200))))
    assert scorer.counters.state[0] == LEVEL


def test_a_level_that_only_rose_at_first_is_a_level_again_after_three_falls() -> None:
    values = [1e9 + n * 1e5 for n in range(200)]
    values += [values[-1] - n * 1e4 for n in range(200)]
    scorer = Scorer(watch_silence=False)
    scorer.process(batch(events(values[:200])))
    assert scorer.counters.counts(0)
    scorer.process(batch(events(values)))
    assert scorer.counters.state[0] == LEVEL


@pytest.mark.parametrize("compiled", PATHS)
@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_any_cut_and_any_restart_gives_the_same_insights_and_state(compiled: bool, seed: int, data: st.DataObject) -> None:
    rng = random.Random(seed)
    items: list[Event] = []
    for host in ("a", "b"):
        values = counter(200, seed)
        for _ in range(rng.randrange(4)):
            at = rng.randrange(200)
            values[at:] = [value - values[at] * rng.choice([0.5, 0.95, 1.0]) for value in values[at:]]
        values[150] += rng.choice([0, 1e7])
        items += events(values, host=host)
    items.sort(key=lambda one: one[2])
    kind = functools.partial(default_banks, compiled=compiled)
    whole = Scorer(None, kind)
    expected = whole.process(batch(items)).insights
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=5))), len(items)]
    found, scorer = list[Insight](), Scorer(None, kind)
    for begin, end in itertools.pairwise(cuts):
        found += scorer.process(batch(items[begin:end])).insights
        again = Scorer(None, kind)
        assert apply(again, decode(encode(scorer))) == []
        scorer = again
    assert found == expected
    assert encode(scorer) == encode(whole)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=80), st.sampled_from(["auto", "counter"]))
def test_rates_of_any_values_are_finite_and_fresh_starts_are_told(values: list[float], kind: str) -> None:
    counters = Counters()
    counters.watch(np.array([0]), False, Rule(kind=kind))  # type: ignore[arg-type]
    was = counters.counts(0)
    for value in values:
        rates = counters.step(np.array([0]), np.array([1000]), np.array([value]))
        if rates is not None:
            assert np.isfinite(rates.values[rates.known]).all()
            assert rates.anew.tolist() == ([0] if counters.counts(0) != was else [])
        was = counters.counts(0)
    assert kind == "auto" or was
    assert RISES > 8 or not was
