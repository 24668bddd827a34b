"""The default detector's bank: invariants, guards, warm-up, state and feedback."""

from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.detectors.base import joined
from stream_processors.detectors.deep.bank import DeepBank
from stream_processors.detectors.seasonal.bank import _BLOCK, SeasonalBank
from tests.support.paths import BUILT, FASTEST, PATHS
from tests.support.series import DAY, HOUR, MINUTE, START, Run, noise, rhythm, run, times

FIVE = 5 * MINUTE
FIELDS = [field.name for field in dataclasses.fields(Run)]
pytestmark = pytest.mark.together


def quick(rows):
    """A bank for tests of what is detected: compiled where that is possible, which changes no bit."""
    return SeasonalBank(rows, compiled=FASTEST)


@pytest.fixture(scope="module")
def ordinary():
    """Six days of twelve series at five minutes, and what a bank says of them, with NumPy alone."""
    stamps = times(6 * 288, FIVE)
    values = rhythm(stamps)[:, None] + noise("gaussian", (len(stamps), 12), np.random.default_rng(1))
    return stamps, values, run(SeasonalBank(12, compiled=False), stamps, values)


# ------------------------------------------------------------------ invariants


@pytest.mark.parametrize("compiled", PATHS)
@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**32 - 1), series=st.integers(1, 24))
def test_rows_stepped_together_and_one_by_one_give_the_same_bits(compiled, seed, series):
    rng = np.random.default_rng(seed)
    together = SeasonalBank(series, compiled=compiled)
    alone = [SeasonalBank(1, compiled=compiled) for _ in range(series)]
    stamps = START + rng.integers(0, 1000, series)
    scale = 10.0 ** rng.integers(-6, 9, series)
    for _ in range(90):
        stamps = stamps + rng.integers(1, 5 * MINUTE, series)
        values = rng.standard_t(2, series) * scale
        order = rng.permutation(series)[: rng.integers(1, series + 1)]
        verdicts = together.step(order, stamps[order], values[order])
        for place, row in enumerate(order):
            single = alone[row].step(np.zeros(1, np.int64), stamps[row : row + 1], values[row : row + 1])
            for field in FIELDS:
                assert np.array_equal(getattr(single, field)[0], getattr(verdicts, field)[place], equal_nan=True)
    for row, bank in enumerate(alone):
        assert bank.dump(np.zeros(1, np.int64)) == together.dump(np.array([row]))


@BUILT
@settings(deadline=None, max_examples=6)
@given(
    seed=st.integers(0, 2**32 - 1),
    series=st.integers(1, 40),
    cadence=st.sampled_from([1000, MINUTE, HOUR, 6 * HOUR]),
    kind=st.sampled_from(["heavy", "sparse", "whole", "wild", "standing"]),
)
def test_the_compiled_path_gives_the_bits_of_numpy(seed, series, cadence, kind):
    rng = np.random.default_rng(seed)
    plain, compiled = SeasonalBank(series, compiled=False), SeasonalBank(series, compiled=True)
    stamps = START + rng.integers(0, 1000, series)
    values = np.zeros(series)
    for number in range(250):
        stamps = stamps + rng.integers(0, 2 * cadence, series)
        before, values = values, rng.standard_t(2, series) * 10.0 ** rng.integers(-6, 9)
        if kind == "sparse":
            values *= rng.random(series) < 0.1
        elif kind == "whole":
            values = np.round(rng.standard_t(2, series))
        elif kind == "standing":
            values = np.where(rng.random(series) < (0.1 if number < 150 else 0.97), before, values)
        elif kind == "wild" and rng.random() < 0.05:
            values *= 10.0 ** rng.integers(-320, 300)
        order = rng.permutation(series)[: rng.integers(1, series + 1)]
        expected = plain.step(order, stamps[order], values[order])
        found = compiled.step(order, stamps[order], values[order])
        for field in FIELDS:
            assert np.array_equal(getattr(expected, field), getattr(found, field), equal_nan=True), field
        if rng.random() < 0.05:
            row, missed = int(rng.integers(series)), bool(rng.integers(2))
            plain.feedback(row, missed=missed)
            compiled.feedback(row, missed=missed)
    assert compiled.dump(np.arange(series)) == plain.dump(np.arange(series))


@pytest.mark.parametrize("compiled", PATHS)
@settings(deadline=None, max_examples=3)
@given(seed=st.integers(0, 2**32 - 1), series=st.integers(1, 300), most=st.integers(2, 120))
def test_rounds_taken_together_give_the_bits_of_rounds_one_by_one(compiled, seed, series, most):
    rng = np.random.default_rng(seed)
    each = np.sort(rng.integers(1, most, series))[::-1]
    rounds = [np.flatnonzero(each > number) for number in range(int(each.max()))]
    rows = np.concatenate(rounds)
    stamps = np.concatenate(
        [START + number * 20 * MINUTE + rng.integers(0, HOUR // 4, len(r)) for number, r in enumerate(rounds)]
    )
    values = rng.standard_t(2, len(rows))
    together, alone = SeasonalBank(series, compiled=compiled), SeasonalBank(series, compiled=False)
    parts = together.steps(rows, stamps, values, np.array([len(one) for one in rounds]))
    begin = 0
    expected = []
    for one in rounds:
        block = slice(begin, begin := begin + len(one))
        expected.append(alone.step(rows[block], stamps[block], values[block]))
    for field in FIELDS:
        found = np.concatenate([getattr(part, field) for part in parts])
        assert np.array_equal(np.concatenate([getattr(part, field) for part in expected]), found, equal_nan=True), field
    assert together.dump(np.arange(series)) == alone.dump(np.arange(series))


@pytest.mark.parametrize("bank", [functools.partial(SeasonalBank, compiled=False), DeepBank])
def test_rounds_of_the_same_rows_and_of_as_many_others_give_the_bits_of_rounds_one_by_one(bank):
    rng = np.random.default_rng(3)
    count, half = (_BLOCK + 37, _BLOCK) if bank is not DeepBank else (37, 20)
    all_of_them, some, others = np.arange(count), np.arange(half), rng.permutation(count)[:half]
    rounds = [all_of_them] * 70 + [some, some, others, others, some]
    stamps = [START + number * 5 * MINUTE + rng.integers(0, MINUTE, len(rows)) for number, rows in enumerate(rounds)]
    values = [rng.standard_t(2, len(rows)) for rows in rounds]
    together, alone = bank(count), bank(count)
    parts = together.steps(*map(np.concatenate, (rounds, stamps, values)), np.array([len(rows) for rows in rounds]))
    expected = joined([alone.step(*turn) for turn in zip(rounds, stamps, values, strict=True)])
    for field in FIELDS:
        assert np.array_equal(getattr(joined(parts), field), getattr(expected, field), equal_nan=True), field
    assert together.dump(all_of_them) == alone.dump(all_of_them)


@pytest.mark.parametrize("compiled", PATHS)
def test_rows_beyond_the_bank_are_refused(compiled):
    bank = SeasonalBank(2, compiled=compiled)
    for row in (-1, 2):
        with pytest.raises(IndexError, match="0 to 1"):
            bank.step(np.array([row]), np.array([START]), np.array([1.0]))


@pytest.mark.parametrize(("factor", "offset"), [(-1.0, 0.0), (-0.01, 500.0), (1e6, 1e6)])
def test_scores_do_not_depend_on_unit_origin_or_sign(ordinary, factor, offset):
    stamps, values, plain = ordinary
    some = slice(0, 3 * 288)
    changed = run(quick(12), stamps[some], values[some] * factor + offset)
    np.testing.assert_allclose(changed.level, plain.level[some], atol=1e-6)


def test_scores_do_not_depend_on_the_clock_s_hour(ordinary):
    stamps, values, plain = ordinary
    some = slice(0, 4 * 288)
    shifted = run(quick(12), stamps[some] + 7 * HOUR, values[some])
    assert np.abs(shifted.level - plain.level[some]).max() < 0.05


@pytest.mark.parametrize("cadence", [1000, 10_000, MINUTE, HOUR])
def test_the_interval_is_learned_in_spite_of_gaps(cadence):
    stamps = times(400, cadence) + np.repeat([0, 50 * cadence], 200)
    result = run(SeasonalBank(1), stamps, np.random.default_rng(0).normal(size=(400, 1)))
    assert result.interval[-1, 0] == pytest.approx(cadence, rel=0.05)


# ------------------------------------------------------------------ warm-up


@pytest.mark.parametrize("cadence", [1000, MINUTE, HOUR])
def test_a_series_warms_up_for_sixty_events(cadence):
    result = run(SeasonalBank(1), times(80, cadence), np.random.default_rng(2).normal(size=(80, 1)))
    assert result.warming[:60].all()
    assert not result.warming[60:].any()


def test_while_warming_the_score_is_zero_and_the_tail_one_whatever_happens():
    values = np.random.default_rng(3).normal(size=(60, 1))
    values[30:40] += 1e6
    result = run(SeasonalBank(1), times(60), values)
    assert not result.score.any()
    assert not result.level.any()
    assert (result.tail == 1).all()
    assert not result.evidence.any()


def test_a_large_level_shift_is_seen_on_the_first_day():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(8 * 60, 8))
    values[5 * 60 :] += 25
    result = run(quick(8), times(len(values)), values)
    assert (result.level[5 * 60 :].max(axis=0) >= 0.3).all()
    assert result.pages[5 * 60 :].any(axis=0).mean() >= 0.5
    assert not result.pages[: 5 * 60].any()


# ------------------------------------------------------------------ guards


@pytest.mark.parametrize("wild", [1e6, -1e6, 1e12])
def test_one_wild_value_pages_and_then_changes_later_levels_briefly_and_little(ordinary, wild):
    stamps, values, plain = ordinary
    at = 4 * 288
    spoiled = values.copy()
    spoiled[at] = wild
    result = run(quick(12), stamps, spoiled)
    assert (result.score[at] >= 0.5).all()
    later = np.abs(result.level - plain.level)
    assert later[at + 12 :].max() < 0.35  # from an hour later
    assert later[at + 288 :].mean() < 0.05
    assert not result.pages[at + 12 :].any()
    assert np.abs(result.expected - plain.expected)[at + 1 :].max() < 1.0  # standard deviations


def test_after_a_wild_value_a_fault_is_still_seen(ordinary):
    stamps, values, _ = ordinary
    spoiled = values.copy()
    spoiled[3 * 288] = 1e12
    spoiled[5 * 288 :] += 12
    result = run(quick(12), stamps, spoiled)
    assert (result.level[5 * 288 : 5 * 288 + 24].max(axis=0) >= 0.5).all()


def test_a_level_shift_is_one_alarm_or_two_and_is_learned_within_a_day(ordinary):
    stamps, values, plain = ordinary
    at = 4 * 288
    for size in (10.0, 1e6):
        shifted = values.copy()
        shifted[at:] += size
        result = run(quick(12), stamps, shifted)
        pages = result.pages[at:]
        assert (pages.sum(axis=0) >= 1).all()
        assert pages.sum(axis=0).mean() <= 2.5
        assert (pages.argmax(axis=0) <= 3).all()
        assert (result.level[at + 288 :] < 0.5).all()
        moved = (result.expected - plain.expected)[at + 288]
        assert (moved > 0.7 * size).all()


def test_constant_binary_stepping_heavy_tailed_and_skewed_series_stay_quiet():
    rng = np.random.default_rng(5)
    n = 7 * 288
    values = np.stack(
        [
            np.full(n, 7.5),
            np.full(n, 1e9),
            (rng.random(n) < 0.3) * 1.0,
            np.repeat(rng.integers(0, 9, n // 24 + 1), 24)[:n] * 1.0,
            rng.standard_t(3, n),
            np.exp(rng.normal(size=n)),
            np.round(rng.normal(size=n)),
            1e9 + rng.normal(size=n),
            rng.uniform(0, 100, n),
        ],
        axis=1,
    )
    result = run(quick(values.shape[1]), times(n, FIVE), values)
    assert result.pages.sum() <= 4
    assert (result.pages.sum(axis=0) <= 3).all()
    assert not result.score[:, :2].any()


@settings(deadline=None, max_examples=10)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=80, max_size=120), st.integers(1, HOUR))
def test_any_finite_values_keep_state_and_verdicts_finite(values, cadence):
    bank = SeasonalBank(1)
    result = run(bank, times(len(values), cadence), np.array(values)[:, None])
    for field in ("score", "level", "tail", "evidence"):
        got = getattr(result, field)
        assert np.isfinite(got).all()
        assert (got >= 0).all()
        assert (got <= 1 + 1e-9).all()
    assert np.isfinite(result.expected[2:]).all()
    state = np.frombuffer(bank.dump(np.zeros(1, np.int64)), "<f8", (SeasonalBank.row_bytes - 432) // 8)
    assert np.isfinite(state).all()


def test_the_largest_doubles_raise_no_warning_and_leave_finite_state():
    values = np.random.default_rng(6).normal(size=(400, 2))
    values[200] = 1.7e308
    values[201] = -1.7e308
    result = run(SeasonalBank(2), times(400), values)
    assert np.isfinite(result.level).all()
    assert np.isfinite(result.expected[2:]).all()


def test_an_offset_of_a_thousand_million_costs_no_precision(ordinary):
    stamps, values, plain = ordinary
    some = slice(0, 4 * 288)
    result = run(quick(12), stamps[some], values[some] + 1e9)
    # A double has eight digits left here; while the longest means still form they are not enough.
    assert np.abs(result.level - plain.level[some])[3 * 288 :].max() < 0.02


def test_gaps_and_a_clock_that_stands_still_are_survived():
    rng = np.random.default_rng(7)
    stamps = times(2000, FIVE)
    stamps[1000:] += 3 * DAY
    stamps[1500] = stamps[1499]
    result = run(quick(4), stamps, rhythm(stamps)[:, None] + rng.normal(size=(2000, 4)))
    assert np.isfinite(result.level).all()
    assert result.pages.sum() <= 1


# ------------------------------------------------------------------ what the numbers mean


def test_the_band_holds_about_ninety_nine_percent_of_ordinary_values(ordinary):
    _, values, result = ordinary
    inside = (values >= result.expected_low) & (values <= result.expected_high)
    assert 0.97 < inside[2 * 288 :].mean() < 0.999
    width = (result.expected_high - result.expected_low)[3 * 288 :]
    assert 4.0 < width.mean() < 8.0  # standard deviations of the noise


def test_the_band_is_computed_before_the_value_is_learned(ordinary):
    stamps, values, plain = ordinary
    spoiled = values.copy()
    spoiled[-1] = 1e3
    result = run(quick(12), stamps, spoiled)
    assert np.array_equal(result.expected[-1], plain.expected[-1])
    assert np.array_equal(result.expected_high[-1], plain.expected_high[-1])


def test_the_tail_is_a_calibrated_probability():
    rng = np.random.default_rng(8)
    stamps = times(8 * 288, FIVE)
    values = rhythm(stamps)[:, None] + noise("heavy-tailed", (len(stamps), 16), rng)
    tail = run(quick(16), stamps, values).tail[4 * 288 :]
    assert 0.07 < (tail < 0.1).mean() < 0.14
    assert 0.004 < (tail < 0.01).mean() < 0.02
    assert (tail > 0).all()


def test_shares_of_evidence_sum_to_one_where_something_is_unusual(ordinary):
    sums = ordinary[2].evidence.sum(axis=2)
    level = ordinary[2].level
    np.testing.assert_allclose(sums[level > 0], 1.0)
    assert not sums[level == 0].any()


def test_the_family_that_speaks_fits_the_fault(ordinary):
    stamps, values, _ = ordinary
    at = 4 * 288
    end = at + 50
    spike, shift, flat = values.copy(), values.copy(), values.copy()
    spike[at] += 15
    shift[at:] += 15
    flat[at:] = -values[at:]
    families = SeasonalBank.families
    seen = run(quick(12), stamps[:end], spike[:end]).evidence[at].mean(axis=0)
    assert families[int(seen.argmax())] == "spike"
    seen = run(quick(12), stamps[:end], shift[:end]).evidence[at + 24].mean(axis=0)
    assert seen[families.index("level")] > 0.1
    seen = run(quick(12), stamps[:end], flat[:end]).evidence[at + 48].mean(axis=0)
    assert {families[one] for one in seen.argsort()[-2:]} == {"time of day", "level"}


# ------------------------------------------------------------------ standstills, steps of one, weeks


STANDSTILL = SeasonalBank.families.index("standstill")


def still(told):
    """Pages that are about a value that does not change."""
    return told.pages & (told.evidence.argmax(axis=2) == STANDSTILL)


def unrhythmic(days):
    stamps = times(days * 288, FIVE)
    return stamps, 50 + noise("gaussian", (len(stamps), 12), np.random.default_rng(8))


def frozen(values, begin, samples):
    """Stands still at an ordinary value, which is no evidence by itself."""
    values = values.copy()
    values[begin : begin + samples] = 50.25
    return values


@pytest.mark.parametrize("compiled", PATHS)
def test_a_value_that_stops_changing_is_one_high_report_within_three_hours(compiled):
    stamps, values = unrhythmic(6)
    at, samples = 5 * 288, 144
    told = run(SeasonalBank(12, compiled=compiled), stamps, frozen(values, at, samples))
    pages = told.pages[at + 1 : at + samples]
    assert (pages.sum(axis=0) == 1).all()
    assert (pages.argmax(axis=0) < 36).all()
    assert (pages == still(told)[at + 1 : at + samples]).all()
    assert (told.score[at:] < 0.75).all()  # HIGH, never CRITICAL
    goes_on = told.level[at + 1 : at + samples] >= 0.5
    assert (goes_on.sum(axis=0) >= samples - 40).all()  # the incident ends with the run, not with its report


def test_a_series_that_stands_still_for_good_is_reported_once_and_then_constant():
    stamps, values = unrhythmic(40)
    at = 5 * 288
    told = run(quick(12), stamps, frozen(values, at, len(values) - at))
    assert (told.pages[at:].sum(axis=0) == 1).all()
    assert told.level[at + 289 :].max() < 0.5


def test_standstills_that_are_usual_page_nobody():
    rng = np.random.default_rng(9)
    stamps = times(12 * 288, FIVE)
    moment = stamps % DAY
    busy = (moment >= 6 * HOUR) & (moment < 20 * HOUR)
    slow = np.cumsum(rng.normal(0, 0.05, len(stamps)))
    values = np.stack(
        [
            np.where(busy, 30 + 5 * rng.normal(size=len(stamps)), 0.0),  # idle at night
            np.round(rhythm(stamps) + 0.2 * rng.normal(size=len(stamps))),  # coarse, so mostly the same
            np.round(slow),
            np.repeat(rng.normal(size=len(stamps) // 6), 6),  # a value of half an hour, told six times
            rng.poisson(0.7, len(stamps)) * 1.0,
        ],
        axis=1,
    )
    told = run(quick(values.shape[1]), stamps, values)
    assert not still(told).any()


def test_one_standstill_does_not_hide_the_next():
    stamps, values = unrhythmic(12)
    one, two = 5 * 288, 11 * 288
    told = run(quick(12), stamps, frozen(frozen(values, one, 144), two, 144))
    assert still(told)[two : two + 144].any(axis=0).all()


def test_steps_of_one_between_two_neighbouring_values_are_ordinary_and_a_step_of_five_is_not():
    rng = np.random.default_rng(4)
    stamps = times(5 * 1440)
    values = 35.0 + (rng.random((len(stamps), 12)) < 0.1)
    at = 4 * 1440
    values[at : at + 2] += 5.0
    told = run(quick(12), stamps[: at + 60], values[: at + 60])
    assert not told.pages[:at].any()
    assert told.pages[at : at + 2].any(axis=0).all()


@pytest.mark.parametrize("begin", [1, 5])  # on a Tuesday; on a weekend, whose first hours are learned against little
def test_what_happens_every_week_is_no_sudden_value_from_the_fourth_week_on(begin):
    rng = np.random.default_rng(6)
    stamps = times(28 * 288, FIVE) + begin * DAY
    weekend = (stamps // DAY + 3) % 7 >= 5
    values = np.where(weekend, 5.0, 40.0 + 4 * rhythm(stamps))[:, None] + rng.normal(0, 1, (len(stamps), 12))
    told = run(quick(12), stamps, values)
    week = (stamps - stamps[0]) // (7 * DAY)
    pages = np.array([told.pages[week == one].sum() for one in range(4)]) / 12
    assert pages[0] >= 1.0  # the first weekend is news
    assert pages[3] <= 0.1


def test_a_sudden_value_on_a_steep_slope_of_the_day_is_reported_once_the_week_is_known():
    stamps = times(10 * 1440)
    values = 20 * rhythm(stamps)[:, None] + np.random.default_rng(7).normal(0, 1, (len(stamps), 12))
    at, series = 9 * 1440 + 110 * np.arange(12), np.arange(12)  # up to five deviations an hour
    values[at, series] += 8.0
    told = run(quick(12), stamps, values)
    assert told.pages[at, series].mean() >= 0.9


# ------------------------------------------------------------------ fleets


def nightly(days, size=12.0):
    """Share of calm hosts that page, by day; on each of ``days`` a job raises them at two for a quarter of an hour."""
    stamps = times(16 * 288, FIVE)
    values = noise("gaussian", (len(stamps), 12), np.random.default_rng(5))
    day, moment = (stamps - stamps[0]) // DAY, stamps % DAY
    values[np.isin(day, days) & (moment >= 2 * HOUR) & (moment < 2 * HOUR + 3 * FIVE)] += size
    told = run(quick(12), stamps, values)
    return np.array([(told.score[day == one] >= 0.5).any(axis=0).mean() for one in range(16)])


def test_what_comes_at_the_same_hour_every_day_is_reported_on_some_days_and_then_no_more():
    paged = nightly(range(4, 16), size=30.0)
    assert paged[4] == 1.0
    assert paged[6] <= 0.5
    assert paged[7:].max() <= 0.1


def weekly(sizes):
    """Share of calm hosts that page, by week; for an hour of the third day of each a job raises them by its size."""
    stamps = times(len(sizes) * 7 * 288, FIVE)
    values = noise("gaussian", (len(stamps), 12), np.random.default_rng(5))
    week, moment = (stamps - stamps[0]) // (7 * DAY), (stamps - stamps[0]) % (7 * DAY) - 2 * DAY
    values += np.where((moment >= 2 * HOUR) & (moment < 3 * HOUR), np.array(sizes)[week], 0.0)[:, np.newaxis]
    told = run(quick(12), stamps, values)
    return np.array([(told.score[week == one] >= 0.5).any(axis=0).mean() for one in range(len(sizes))])


def test_what_comes_at_the_same_hour_every_week_is_reported_twice_or_three_times_and_then_no_more():
    paged = weekly([30.0] * 5)
    assert paged[:2].min() == 1.0
    assert paged[3:].max() <= 0.1


def test_what_came_at_an_hour_of_some_weeks_is_reported_where_it_is_stronger_and_after_a_month_without_it():
    assert weekly([12.0] * 5 + [30.0])[5] == 1.0
    assert weekly([30.0, 0.0, 0.0, 0.0, 0.0, 30.0])[5] == 1.0


def test_what_came_at_this_hour_once_is_reported_when_it_comes_again_a_week_later():
    paged = nightly([5, 12])
    assert paged[5] == 1.0
    assert paged[12] >= 0.9


@pytest.mark.parametrize("compiled", PATHS)
def test_what_the_bar_of_an_earlier_report_holds_is_medium_at_once_and_reported_when_it_has_lasted_two_hours(
    ordinary, compiled
):
    stamps, values, _ = ordinary
    faulty, first, again = values.copy(), 4 * 288, 4 * 288 + 48
    faulty[first] = 1e6
    faulty[again : again + 36] += 12
    told = run(SeasonalBank(12, compiled=compiled), stamps, faulty)
    assert (told.score[first] >= 0.5).all()
    calm = told.level[first + 1 : again].min(axis=0) < 0.2
    assert calm.mean() > 0.5
    scores, levels = told.score[again : again + 36, calm], told.level[again : again + 36, calm]
    assert (scores[:2] == 0.4375).any(axis=0).all()
    assert (scores[:12] <= 0.4375).all()
    assert (((scores == 0.4375) | (scores >= 0.5)).sum(axis=0) <= 24).all()
    reported = (scores >= 0.5).argmax(axis=0)
    assert ((scores >= 0.5).sum(axis=0) == 1).all()
    for series, at in enumerate(reported):
        assert (scores[at + 1 :, series] == 0.0).all()
        assert (levels[:at, series] >= 0.5).sum() <= 24
        assert scores[at, series] == np.floor(8 * levels[at, series]) / 8


def test_a_report_s_score_has_grades_and_the_level_has_none(ordinary):
    stamps, values, _ = ordinary
    rng = np.random.default_rng(8)
    faulty = values + (rng.random(values.shape) < 0.002) * rng.uniform(5, 30, values.shape)
    told = run(quick(12), stamps, faulty)
    reports = told.score[told.score >= 0.5]
    assert len(reports) > 10
    assert np.array_equal(reports * 8, np.floor(reports * 8))
    assert (told.level[told.score >= 0.5] >= reports).all()


def test_a_fleet_without_faults_at_five_minutes_pages_a_few_times_a_host_month_at_most():
    rng = np.random.default_rng(9)
    stamps = times(10 * 288, FIVE)
    kinds = ["gaussian", "heavy-tailed", "bursty", "gaussian"]
    series = 240
    values = np.concatenate([noise(kind, (len(stamps), series // 4), rng) for kind in kinds], axis=1)
    values += rhythm(stamps, 1.0)[:, None] * rng.uniform(0, 15, series)
    present = rng.random(values.shape) > 0.02
    pages = run(quick(series), stamps, values, present).pages
    host_months = series / 4 * 10 / 30
    assert pages[:, : series // 4].sum() / (host_months / 4) <= 2.5  # gaussian series, four to a host
    assert pages.sum() / host_months <= 5.0


def test_series_sampled_by_the_hour_are_not_paged_for_being_few():
    stamps = times(60 * 24, HOUR)
    values = rhythm(stamps, 3.0)[:, None] + noise("gaussian", (len(stamps), 60), np.random.default_rng(3))
    assert run(quick(60), stamps, values).pages.sum() / (60 * 2) <= 1.5  # a series-month; it was 2.6


def test_shifts_and_seasonal_breaks_and_spikes_of_gaussian_series_are_paged_at_once():
    rng = np.random.default_rng(10)
    stamps = times(7 * 288, FIVE)
    series = 60
    seasonal = rhythm(stamps)[:, None] * rng.uniform(0.5, 2, series)
    values = seasonal + rng.normal(size=(len(stamps), series))
    at = 5 * 288 + rng.integers(0, 288, series)
    sizes = rng.uniform(6, 12, series)
    for row in range(20):
        values[at[row], row] += sizes[row]
    for row in range(20, 40):
        values[at[row] :, row] += sizes[row]
    for row in range(40, 60):
        turned = -2 * seasonal[at[row] : at[row] + 72, row]
        least = np.where(turned >= 0, 1.0, -1.0) * sizes[row]
        values[at[row] : at[row] + 72, row] += np.where(np.abs(turned) > sizes[row], turned, least)
    result = run(quick(series), stamps, values)
    delays = np.array(
        [
            int(np.argmax(result.pages[at[row] : at[row] + 72, row]))
            if result.pages[at[row] : at[row] + 72, row].any()
            else 99
            for row in range(series)
        ]
    )
    assert (delays[:20] <= 1).mean() >= 0.85
    assert (delays[20:40] < 99).mean() >= 0.85
    assert (delays[40:] < 99).mean() >= 0.9
    assert np.median(delays) <= 3


# ------------------------------------------------------------------ state


def test_a_restored_bank_goes_on_with_the_same_bits(ordinary):
    stamps, values, plain = ordinary
    half = len(stamps) // 2
    first = quick(12)
    run(first, stamps[:half], values[:half])
    second = quick(20)
    places = np.array([19, 3, 5, 0, 1, 2, 4, 6, 7, 8, 9, 10])
    second.restore(places, first.dump(np.arange(12)))
    for at in range(half, len(stamps)):
        verdicts = second.step(places, np.full(12, stamps[at]), values[at])
        assert np.array_equal(verdicts.level, plain.level[at])
        assert np.array_equal(verdicts.tail, plain.tail[at])


@pytest.mark.parametrize("compiled", PATHS)
def test_a_pickled_or_copied_bank_goes_on_with_the_same_bits_and_apart(ordinary, compiled):
    stamps, values, _ = ordinary
    bank = SeasonalBank(12, compiled=compiled)
    run(bank, stamps[:300], values[:300])
    twins = [copy.deepcopy(bank), pickle.loads(pickle.dumps(bank))]
    assert all(twin.compiled is bank.compiled for twin in twins)
    rows = np.arange(12)
    untouched = bank.dump(rows)
    for twin in twins:
        run(twin, stamps[300:400], values[300:400])
    assert bank.dump(rows) == untouched
    run(bank, stamps[300:400], values[300:400])
    assert all(twin.dump(rows) == bank.dump(rows) for twin in twins)


def test_a_row_takes_no_more_than_four_kibibytes():
    bank = SeasonalBank(3)
    assert SeasonalBank.row_bytes <= 4096
    assert len(bank.dump(np.array([2, 0]))) == 2 * SeasonalBank.row_bytes


def test_restoring_bytes_of_another_length_says_so():
    with pytest.raises(ValueError, match=r"2 rows has \d+ bytes, not 3"):
        SeasonalBank(2).restore(np.arange(2), b"abc")


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, b"\x00", b"\x7f", b"\xff"]))
def test_any_bytes_of_the_right_length_are_safe_to_load(seed, fill):
    bank = SeasonalBank(3)
    before = bank.dump(np.array([0, 2]))
    count = SeasonalBank.row_bytes
    bank.restore(np.array([1]), np.random.default_rng(seed).bytes(count) if fill is None else fill * count)
    bank.step(np.array([1]), np.array([START]), np.array([1.0]))
    bank.step(np.array([1]), np.array([START + MINUTE]), np.array([2.0]))
    bank.feedback(1, missed=True)
    assert bank.dump(np.array([0, 2])) == before


def test_rows_appended_later_are_unseen_series_and_leave_the_others_alone():
    bank = SeasonalBank()
    assert len(bank) == 0
    bank.append(2)
    bank.step(np.arange(2), np.full(2, START), np.array([1.0, 2.0]))
    before = bank.dump(np.arange(2))
    for _ in range(5):
        bank.append(7)
    assert len(bank) == 37
    assert bank.dump(np.arange(2)) == before
    assert bank.dump(np.array([36])) == SeasonalBank(1).dump(np.array([0]))


def test_an_empty_step_gives_empty_verdicts_and_a_strange_row_is_refused():
    bank = SeasonalBank(1)
    nothing = bank.step(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    assert nothing.score.shape == (0,)
    assert nothing.evidence.shape == (0, len(SeasonalBank.families))
    with pytest.raises(IndexError, match="rows must lie in 0 to 0"):
        bank.step(np.array([1]), np.array([START]), np.array([1.0]))


# ------------------------------------------------------------------ feedback


def test_feedback_makes_the_next_occurrence_quieter_or_louder_within_bounds_and_can_be_undone(ordinary):
    stamps, values, _ = ordinary
    half = 4 * 288
    shifted = values.copy()
    shifted[half : half + 36] += 8
    shifted[half + 200 : half + 236] += 8
    end = half + 236

    first = quick(12)
    run(first, stamps[: half + 36], shifted[: half + 36])
    state = first.dump(np.arange(12))

    def second(verdicts: list[bool]) -> float:
        bank = quick(12)
        bank.restore(np.arange(12), state)
        for missed in verdicts:
            for row in range(12):
                bank.feedback(row, missed=missed)
        result = run(bank, stamps[half + 36 : end], shifted[half + 36 : end])
        return float(result.level[-30:].max(axis=0).mean())  # when the jump itself is over, and the level speaks

    plain = second([])
    assert second([False]) < plain < second([True])
    assert second([False, True]) == plain
    quietest = second([False] * 4)
    assert 0 < quietest == second([False] * 9)


def test_feedback_travels_with_the_state():
    bank = SeasonalBank(1)
    bank.feedback(0, missed=True)
    other = SeasonalBank(1)
    other.restore(np.zeros(1, np.int64), bank.dump(np.zeros(1, np.int64)))
    other.feedback(0, missed=False)
    assert other.dump(np.zeros(1, np.int64)) == SeasonalBank(1).dump(np.zeros(1, np.int64))


# ------------------------------------------------------------------ packaging


def test_importing_the_bank_imports_neither_river_nor_scipy():
    code = (
        "import sys; import stream_processors.detectors.seasonal.bank; "
        "print([m for m in ('river', 'scipy', 'boto3', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
