"""Trends towards a limit: leaks are foretold once and in time, and what only looks like one is not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.detectors.trend import BLOCK, ROW_BYTES, TrendBank
from tests.support.leaks import DAY, HOUR, MINUTE, START, leak, raised, run, teeth

pytestmark = pytest.mark.together
FIVE = 5 * MINUTE


def side_by_side(sets, cadence):
    """What one bank tells of several sets of series, by name: its rows do not see each other."""
    told = iter(run([one for series in sets.values() for one in series], cadence))
    return {name: list(itertools.islice(told, len(series))) for name, series in sets.items()}


LEAKS = {
    # shape, shortest and longest leak, cadence, noise, daily rhythm
    "within hours": ("linear", 3 * HOUR, 20 * HOUR, 2 * MINUTE, 0.5, 0.0),
    "over days": ("linear", 36 * HOUR, 8 * DAY, FIVE, 0.5, 0.0),
    "step-wise": ("step-wise", 6 * HOUR, 8 * DAY, FIVE, 0.3, 0.0),
    "noisy": ("linear", 10 * HOUR, 4 * DAY, FIVE, 4.0, 0.0),
    "accelerating": ("accelerating", 6 * HOUR, 5 * DAY, FIVE, 0.5, 0.0),
    "slowing": ("slowing", 6 * HOUR, 5 * DAY, FIVE, 0.5, 0.0),
    "with a daily rhythm": ("linear", 2 * DAY, 8 * DAY, FIVE, 0.5, 8.0),
    "slow fill": ("linear", 9 * DAY, 25 * DAY, 10 * MINUTE, 0.5, 2.0),
}


@pytest.fixture(scope="module")
def leaks():
    """Twelve leaks of each kind, and what a bank tells of them."""
    made = {}
    for name, (shape, shortest, longest, cadence, noise, daily) in LEAKS.items():
        rng = np.random.default_rng(7)
        made[name] = [
            leak(
                rng, shape, int(rng.uniform(shortest, longest)), quiet=int(rng.uniform(4, 10) * DAY), cadence=cadence,
                noise=noise, daily=daily,
            )
            for _ in range(12)
        ]  # fmt: skip
    found = {}
    for cadence in {one[3] for one in LEAKS.values()}:
        names = [name for name, one in LEAKS.items() if one[3] == cadence]
        found |= side_by_side({name: [values for values, _, _ in made[name]] for name in names}, cadence)
    return made, found


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_foretold_once_and_in_time_with_an_interval_that_holds(leaks, name):
    made, found = (one[name] for one in leaks)
    held = 0
    for told, (_, begin, full) in zip(found, made, strict=True):
        found = [(at, forecast) for at, forecast in raised(told) if at < full]
        assert len(found) == 1
        at, forecast = found[0]
        assert begin < at < begin + 0.9 * (full - begin)
        assert forecast.earliest <= forecast.at <= forecast.latest
        held += forecast.earliest <= START + full <= forecast.latest
    print(f"{name}: the interval held the true time {held} of 12 times")
    assert held >= 9


def day(rng, at):
    hours = at / HOUR - rng.uniform(0, 24)
    return np.cos(hours / 24 * 2 * np.pi) + 0.3 * np.cos(hours / 12 * 2 * np.pi)


HARMLESS = {
    "a daily rhythm": lambda rng, at: rng.uniform(40, 70) + rng.uniform(5, 25) * day(rng, at),
    "busier and quieter days": lambda rng, at: (
        rng.uniform(40, 70) + rng.uniform(5, 20) * day(rng, at) * np.repeat(rng.normal(1, 0.12, 28), 288)
    ),
    "a weekly rhythm": lambda rng, at: (
        rng.uniform(40, 70) + rng.uniform(3, 12) * np.where((at // DAY) % 7 >= 5, -1, 1) + rng.uniform(1, 5) * day(rng, at)
    ),
    "garbage collection every few hours": lambda rng, at: teeth(
        rng, len(at), rng.uniform(12, 120), rng.uniform(20, 50), rng.uniform(60, 90), 0.1
    ),
    "log rotation every night": lambda rng, at: teeth(rng, len(at), 288, rng.uniform(20, 50), rng.uniform(60, 90), 0.0),
    "nearly full for ever": lambda rng, at: np.full(len(at), rng.uniform(90, 98)),
    "spikes": lambda rng, at: rng.uniform(40, 80) + np.where(rng.random(len(at)) < 0.002, 50, 0),
    "a cache that fills and stays full": lambda rng, at: np.minimum(rng.uniform(60, 90), 20 + at / HOUR * 5),
    "deploys": lambda rng, at: rng.uniform(50, 70) + np.cumsum((rng.random(len(at)) < 1 / 576) * rng.normal(0, 1, len(at))),
}


@pytest.fixture(scope="module")
def harmless():
    """What a bank tells of eight series of each kind, by kind."""
    at = np.arange(0, 28 * DAY, FIVE)
    sets = {}
    for name, kind in HARMLESS.items():
        rng = np.random.default_rng(11)
        sets[name] = [np.clip(kind(rng, at) + 0.5 * rng.normal(size=len(at)), 0, 100) for _ in range(8)]
    return side_by_side(sets, FIVE)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_like_a_leak_raises_nothing(harmless, name):
    assert [raised(told) for told in harmless[name]] == [[]] * 8


@pytest.mark.parametrize(("after", "most_hours"), [("reset", 2), ("plateau", 12)])
def test_a_forecast_is_withdrawn_when_the_trend_ends_and_not_raised_again(after, most_hours):
    rng = np.random.default_rng(3)
    at = np.arange(0, 12 * DAY, FIVE)
    end = 5 * DAY + 14 * HOUR
    rise = np.clip((np.minimum(at, end) - 5 * DAY) / HOUR, 0, None) * 2
    value = 55 + np.where((at > end) & (after == "reset"), 0, rise) + 0.5 * rng.normal(size=len(at))
    told = run([value], FIVE)[0]
    assert [forecast.what for _, forecast in told if forecast.what != "moved"] == ["raised", "withdrawn"]
    ended = next(at for at, forecast in told if forecast.what == "withdrawn")
    assert 0 <= ended - end <= most_hours * HOUR


def test_a_resource_that_is_full_stays_foretold_until_it_is_freed():
    at = np.arange(0, 12 * DAY, FIVE)
    rise = np.clip((at - 5 * DAY) / HOUR, 0, None) * 2
    value = np.minimum(55 + rise, 100) * np.where(at > 9 * DAY, 0.5, 1)
    told = run([value], FIVE)[0]
    assert [at > 9 * DAY for at, forecast in told if forecast.what == "withdrawn"] == [True]


def test_the_forecast_follows_a_leak_to_its_end():
    rng = np.random.default_rng(5)
    values, _, full = leak(rng, "accelerating", 3 * DAY, quiet=6 * DAY, cadence=FIVE)
    told = [(at, forecast) for at, forecast in run([values], FIVE)[0] if forecast.at and at < full - HOUR]
    errors = [abs(forecast.at - START - full) for _, forecast in told]
    assert len(errors) > 10
    assert max(errors) < 6 * HOUR
    assert errors[-1] < 2 * HOUR


@pytest.mark.parametrize("cadence", [10_000, MINUTE, 15 * MINUTE, HOUR])
def test_any_sampling_interval_will_do(cadence):
    rng = np.random.default_rng(2)
    values, _, full = leak(rng, "linear", 30 * HOUR, quiet=3 * DAY, cadence=cadence)
    values[rng.random(len(values)) < 0.05] = np.nan
    found = raised(run([values], cadence)[0])
    assert len(found) == 1
    assert found[0][0] < full


@pytest.mark.parametrize("wild", [1e6, 1e12, -1e6, -1e12])
def test_one_wild_value_raises_nothing_and_hides_no_leak(wild):
    rng = np.random.default_rng(4)
    values, begin, full = leak(rng, "linear", 2 * DAY, quiet=6 * DAY, cadence=FIVE)
    values[begin // FIVE - 500] = wild
    found = raised(run([values], FIVE)[0])
    assert len(found) == 1
    assert begin < found[0][0] < full


def test_free_space_falls_to_nothing_as_used_space_rises_to_all():
    rng = np.random.default_rng(6)
    values, _, _ = leak(rng, "linear", 2 * DAY, quiet=4 * DAY, cadence=FIVE)
    used = raised(run([values], FIVE)[0])[0][1]
    free = raised(run([100 - values], FIVE, limit=0.0, sign=-1.0)[0])[0][1]
    assert (free.at, free.earliest, free.latest) == pytest.approx((used.at, used.earliest, used.latest), abs=BLOCK)
    assert free.slope == pytest.approx(-used.slope, rel=1e-3)


# ------------------------------------------------------------------ invariants


@settings(deadline=None, max_examples=3)
@given(seed=st.integers(0, 2**32 - 1))
def test_rows_stepped_together_and_one_by_one_give_the_same_bits(seed):
    rng = np.random.default_rng(seed)
    series = 12
    together = TrendBank()
    alone = [TrendBank() for _ in range(series)]
    for bank in (together,):
        for _ in range(series):
            bank.add(100.0, 1.0)
    for bank in alone:
        bank.add(100.0, 1.0)
    stamps = START + rng.integers(0, HOUR, series)
    level = rng.uniform(50, 70, series)
    told = 0
    for step in range(600):
        stamps = stamps + rng.integers(MINUTE, 20 * MINUTE, series) + (rng.random(series) < 0.01) * rng.integers(0, 2 * DAY)
        values = level + (step > 480) * (step - 480) * 0.25 + rng.normal(size=series)
        order = rng.permutation(series)[: rng.integers(1, series + 1)]
        found = together.step(order, stamps[order], values[order])
        single = []
        for place, row in enumerate(order):
            for one in alone[row].step(np.zeros(1, np.int64), stamps[row : row + 1], values[row : row + 1]):
                single.append((place, int(row), one.what, one.at, one.earliest, one.latest, one.level, one.slope))
        assert single == [(f.index, f.row, f.what, f.at, f.earliest, f.latest, f.level, f.slope) for f in found]
        told += len(found)
    assert told, "something must be told, or the comparison says nothing"
    for row, bank in enumerate(alone):
        assert bank.dump(np.zeros(1, np.int64)) == together.dump(np.array([row]))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), zeros=st.integers(0, 2 * ROW_BYTES))
def test_any_bytes_may_be_restored_and_reach_no_other_row(seed, zeros):
    rng = np.random.default_rng(seed)
    wild = np.frombuffer(rng.bytes(2 * ROW_BYTES), np.uint8).copy()
    wild[rng.permutation(len(wild))[:zeros]] = 0
    data = wild.tobytes()
    bank = TrendBank()
    for _ in range(3):
        bank.add(100.0, 1.0)
    bank.step(np.arange(3), np.full(3, START), np.full(3, 50.0))
    before = bank.dump(np.array([1]))
    limits = np.array([100.0, 1.0]).tobytes()
    bank.restore(np.array([0, 2]), limits + data[16:ROW_BYTES] + limits + data[ROW_BYTES + 16 :])
    assert bank.dump(np.array([1])) == before
    for hour in range(1, 60):
        bank.step(np.arange(3), np.full(3, START + hour * HOUR), np.full(3, 50.0))


def test_bytes_of_another_length_are_refused():
    with pytest.raises(ValueError, match="bytes"):
        TrendBank().restore(np.zeros(0, np.int64), b"x")


def test_state_is_a_few_hundred_bytes_a_series():
    assert ROW_BYTES < 700
