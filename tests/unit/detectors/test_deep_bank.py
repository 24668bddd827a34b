"""The deep detector's bank: what it shares with the default one, and its memory of the past days."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from stream_processors import explain
from stream_processors.detectors.config import ConfigurationError, DetectorConfig, Rule, parse
from stream_processors.detectors.deep.bank import DeepBank
from stream_processors.detectors.deep.estimator import DeepDetector
from stream_processors.detectors.seasonal.bank import SeasonalBank
from stream_processors.scoring import Scorer, default_banks
from stream_processors.state import snapshot
from tests.support.batches import Event, batch
from tests.support.paths import FASTEST
from tests.support.series import HOUR, MINUTE, START, Run, noise, rhythm, run, times

FIVE = 5 * MINUTE
FIELDS = [field.name for field in dataclasses.fields(Run)]


pytestmark = pytest.mark.together
WILD = [1e6, 1e12, -1e12]
UNITS = [(2.0**20, 0.0), (-1.0, 0.0), (1.0, 1024.0)]


@pytest.fixture(scope="module")
def ordinary():
    """Four days of three series at five minutes, and what a bank says of them."""
    stamps = times(4 * 288, FIVE)
    values = rhythm(stamps)[:, None] + noise("gaussian", (len(stamps), 3), np.random.default_rng(1))
    return stamps, values, run(DeepBank(3), stamps, values)


def side_by_side(stamps, values):
    """What one bank says of several sets of series, by name: its rows do not see each other."""
    result = run(DeepBank(sum(one.shape[1] for one in values.values())), stamps, np.concatenate([*values.values()], axis=1))
    parts, begin = {}, 0
    for name, one in values.items():
        parts[name] = Run(*(getattr(result, field)[:, begin : begin + one.shape[1]] for field in FIELDS))
        begin += one.shape[1]
    return parts


@pytest.fixture(scope="module")
def changed(ordinary):
    """What a bank says of the ordinary series with a wild value, by that value, and in other units, by factor and offset."""
    stamps, values, _ = ordinary
    sets = {(factor, offset): factor * values + offset for factor, offset in UNITS}
    for wild in WILD:
        sets[wild] = values.copy()
        sets[wild][2 * 288] = wild
    return side_by_side(stamps, sets)


def test_rows_stepped_together_and_one_by_one_give_the_same_bits():
    rng = np.random.default_rng(4)
    series = 37
    together, alone = DeepBank(series), [DeepBank(1) for _ in range(series)]
    stamps = START + rng.integers(0, 1000, series)
    for _ in range(90):
        stamps = stamps + rng.integers(1, 10 * MINUTE, series)
        values = rng.standard_t(2, series) * 10.0 ** rng.integers(-6, 9, series)
        order = rng.permutation(series)[: rng.integers(1, series + 1)]
        verdicts = together.step(order, stamps[order], values[order])
        for place, row in enumerate(order):
            single = alone[row].step(np.zeros(1, np.int64), stamps[row : row + 1], values[row : row + 1])
            for field in FIELDS:
                assert np.array_equal(getattr(single, field)[0], getattr(verdicts, field)[place], equal_nan=True)
    for row, bank in enumerate(alone):
        assert bank.dump(np.zeros(1, np.int64)) == together.dump(np.array([row]))


def test_a_restored_row_goes_on_with_the_same_bits(ordinary):
    stamps, values, whole = ordinary
    cut = 700
    first, second = DeepBank(3), DeepBank(4)
    run(first, stamps[:cut], values[:cut])
    second.restore(np.arange(3), first.dump(np.arange(3)))
    assert second.dump(np.arange(3)) == first.dump(np.arange(3))
    rest = run(second, stamps[cut:], values[cut:])
    for field in FIELDS:
        assert np.array_equal(getattr(rest, field), getattr(whole, field)[cut:], equal_nan=True), field


def test_a_row_takes_no_more_than_64_kibibytes():
    bank = DeepBank(2)
    assert len(bank.dump(np.arange(2))) == 2 * DeepBank.row_bytes
    assert DeepBank.row_bytes <= 65_536


def test_bytes_of_another_length_are_refused_and_any_of_the_right_length_leave_the_neighbour_alone():
    bank = DeepBank(2)
    with pytest.raises(ValueError, match="bytes"):
        bank.restore(np.array([0]), bytes(SeasonalBank.row_bytes))
    before = bank.dump(np.array([0]))
    for seed in range(4):
        bank.restore(np.array([1]), np.random.default_rng(seed).bytes(DeepBank.row_bytes))
        for n in range(20):
            bank.step(np.array([1]), np.array([START + n * FIVE]), np.array([float(n)]))
    assert bank.dump(np.array([0])) == before


@pytest.mark.parametrize("wild", WILD)
def test_one_wild_value_changes_later_levels_briefly_and_little(ordinary, changed, wild):
    plain, found = ordinary[2], changed[wild]
    at = 2 * 288
    assert (found.score[at] >= 0.5).all()
    later = slice(at + 8 * HOUR // FIVE, None)
    assert np.abs(found.level[later] - plain.level[later]).max() < 0.3


@pytest.mark.parametrize(("factor", "offset"), UNITS)
def test_scores_do_not_depend_on_unit_sign_or_origin(ordinary, changed, factor, offset):
    assert np.allclose(changed[factor, offset].level, ordinary[2].level, atol=1e-6)


def test_the_largest_doubles_leave_finite_verdicts():
    values = np.random.default_rng(3).choice([1.7e308, -1.7e308, 0.0, 5e-324], (200, 2))
    told = run(DeepBank(2), times(200, FIVE), values)
    assert np.isfinite(told.score).all()
    assert np.isfinite(told.level).all()


@pytest.mark.parametrize("cadence", [MINUTE, FIVE, 20 * MINUTE])
def test_the_memory_is_of_time_however_often_a_series_is_sampled(cadence):
    bank = DeepBank(1)
    stamps = times(10 * HOUR // cadence, cadence)
    run(bank, stamps, np.random.default_rng(5).normal(size=(len(stamps), 1)))
    kept = np.frombuffer(bank.dump(np.array([0])), DeepBank._record)["memory"][0][0]
    assert abs(kept - 10 * HOUR // max(cadence, FIVE)) <= 2


def test_a_break_in_a_rhythm_of_thirteen_hours_surprises_the_memory_and_the_rhythm_does_not():
    """Thirteen hours are no rhythm to the tables of a day and of a week."""
    stamps = times(7 * 288, FIVE)
    values = np.sign(np.sin(2 * np.pi * stamps / (13 * HOUR)))
    values += 0.05 * np.random.default_rng(6).normal(size=len(stamps))
    at = 6 * 288
    values[at : at + 36] = np.where(np.arange(36) // 6 % 2, 1.0, -1.0)
    bank, row = DeepBank(1), np.array([0])
    surprise = []
    for stamp, value in zip(stamps.tolist(), values.tolist(), strict=True):
        bank.step(row, np.array([stamp]), np.array([value]))
        memory = np.frombuffer(bank.dump(row), DeepBank._record)["memory"][0]
        surprise.append(memory[4:6].max())
    assert max(surprise[at : at + 36]) > 2 * max(surprise[4 * 288 : at])


def test_the_estimator_says_what_the_bank_says(ordinary):
    stamps, values, whole = ordinary
    detector = DeepDetector()
    for stamp, value in zip(stamps[:400].tolist(), values[:400, 0].tolist(), strict=True):
        detector.learn_one({"timestamp": stamp}, value)
    assert detector.score_one({"timestamp": int(stamps[400])}, float(values[400, 0])) == whole.score[400, 0]


def test_a_rule_chooses_it_and_no_other_series_pays_for_it():
    assert "deep" not in default_banks(DetectorConfig())
    config = DetectorConfig(rules=(Rule(metric="latency", detector="deep"),))
    scorer = Scorer(config)
    scorer.process(batch([("web-1", name, START, 1.0) for name in ("latency", "cpu")]))
    assert len(scorer.banks["deep"]) == 2  # the blank row and the one series
    with pytest.raises(ConfigurationError, match="takes no parameters; remove lags"):
        parse('[[rules]]\ndetector = "deep"\nparameters = { lags = 5 }\n')


def test_its_series_survive_a_snapshot_of_the_shard():
    config = DetectorConfig(rules=(Rule(metric="latency", detector="deep"),))
    rng = np.random.default_rng(7)
    items: list[Event] = [
        ("web-1", name, START + n * FIVE, float(rng.normal() + (50 if n == 180 else 0)))
        for n in range(200)
        for name in ("latency", "cpu")
    ]
    straight = Scorer(config)
    expected = straight.process(batch(items)).insights
    first, second = Scorer(config), Scorer(config)
    insights = first.process(batch(items[:301])).insights
    assert snapshot.apply(second, snapshot.decode(snapshot.encode(first))) == []
    insights += second.process(batch(items[301:])).insights
    assert insights == expected
    assert any(insight.detector == "deep" for insight in insights)
    assert snapshot.encode(second) == snapshot.encode(straight)


PERIODS = [20, 37]


@pytest.fixture(scope="module")
def pulses():
    """Thirteen days of pulses of 100 or 185 minutes by that period, and what a bank says of them."""
    count, at = 13 * 288, 12 * 288
    values = {}
    for period in PERIODS:
        on = np.arange(count) % period < 0.4 * period
        on[at : at + 60] ^= True
        values[period] = np.where(on, 10.0, 0.0)[:, None] + 0.7 * np.random.default_rng(3).normal(size=(count, 12))
    stamps = times(count, FIVE)
    return stamps, values, side_by_side(stamps, values)


@pytest.mark.parametrize("period", PERIODS)
def test_a_rhythm_that_is_none_of_the_day_falls_out_of_step_and_is_paged(pulses, period):
    """Pulses come for five hours when they should not: every single value is an ordinary one."""
    stamps, values, told = pulses
    at = 12 * 288
    deep, usual = told[period].pages, run(SeasonalBank(12, compiled=FASTEST), stamps, values[period]).pages
    assert not deep[:at].any()
    assert deep[at : at + 72].any(axis=0).all()
    assert usual[at : at + 72].any(axis=0).sum() < 12


def test_every_family_has_its_words_in_an_explanation():
    assert "course" in DeepBank.families
    assert "range" not in DeepBank.families
    assert set(DeepBank.families) <= set(explain.FAMILIES)
