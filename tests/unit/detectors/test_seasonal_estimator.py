"""The default detector as a river estimator."""

from __future__ import annotations

import copy
import datetime as dt
import doctest
import math
import pickle
import sys
import types

import numpy as np
import pytest

from stream_processors.detectors.seasonal import estimator
from stream_processors.detectors.seasonal.bank import SeasonalBank
from stream_processors.detectors.seasonal.estimator import SeasonalDetector
from tests.support.series import MINUTE, START, noise, rhythm, times


@pytest.fixture
def sklearn_absent(monkeypatch):
    """River's checks import scikit-learn for data sets that this kind of detector never gets."""
    package = types.ModuleType("sklearn")
    package.datasets = types.ModuleType("sklearn.datasets")
    if "sklearn" not in sys.modules:
        monkeypatch.setitem(sys.modules, "sklearn", package)
        monkeypatch.setitem(sys.modules, "sklearn.datasets", package.datasets)


@pytest.mark.usefixtures("sklearn_absent")
def test_it_passes_river_s_estimator_checks():
    from river import checks

    ran = 0
    for check in checks.yield_checks(SeasonalDetector()):
        check(SeasonalDetector())
        ran += 1
    assert ran >= 10


def test_its_example_runs_as_documented():
    assert doctest.testmod(estimator).failed == 0


def test_it_is_a_bank_with_one_row():
    stamps = times(300)
    values = rhythm(stamps) + noise("gaussian", stamps.shape, np.random.default_rng(0))
    values[250] += 30
    detector, bank, row = SeasonalDetector(), SeasonalBank(1), np.zeros(1, np.int64)
    for stamp, value in zip(stamps.tolist(), values.tolist(), strict=True):
        score = detector.score_one({"timestamp": stamp}, value)
        detector.learn_one({"timestamp": stamp}, value)
        assert score == bank.step(row, np.array([stamp]), np.array([value])).score[0]


def test_scoring_alone_changes_nothing():
    detector = SeasonalDetector()
    for minute in range(200):
        detector.learn_one({"timestamp": START + minute * MINUTE}, float(minute % 7))
    x = {"timestamp": START + 200 * MINUTE}
    first = detector.score_one(x, 50.0)
    assert [detector.score_one(x, value) for value in (1e9, -3.0, 50.0)][-1] == first


def test_a_datetime_milliseconds_and_a_naive_datetime_in_utc_are_the_same_time():
    moments = [dt.datetime(2026, 5, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=k) for k in range(150)]
    aware, naive, epoch = SeasonalDetector(), SeasonalDetector(), SeasonalDetector()
    for k, moment in enumerate(moments):
        value = math.sin(k) + (20 if k == 140 else 0)
        scores = {
            detector.score_one({"timestamp": stamp}, value)
            for detector, stamp in (
                (aware, moment),
                (naive, moment.replace(tzinfo=None)),
                (epoch, int(moment.timestamp() * 1000)),
            )
        }
        assert len(scores) == 1
        for detector, stamp in ((aware, moment), (naive, moment.replace(tzinfo=None)), (epoch, moment)):
            detector.learn_one({"timestamp": stamp}, value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_values_that_are_no_numbers_score_zero_and_are_not_learned(value):
    detector, other = SeasonalDetector(), SeasonalDetector()
    for k in range(100):
        for one in (detector, other):
            one.learn_one({"timestamp": START + k * MINUTE}, float(k % 5))
        assert detector.score_one({"timestamp": START + k * MINUTE}, value) == 0.0
        detector.learn_one({"timestamp": START + k * MINUTE}, value)
    x = {"timestamp": START + 101 * MINUTE}
    assert detector.score_one(x, 9.0) == other.score_one(x, 9.0)


def test_copies_and_pickles_go_on_alike_and_apart():
    detector = SeasonalDetector()
    for k in range(300):
        detector.learn_one({}, math.sin(k))
    twins = [copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))]
    for k in range(300, 330):
        scores = [one.score_one({}, 5.0 + k) for one in (detector, *twins)]
        assert len(set(scores)) == 1
        for one in (detector, *twins):
            one.learn_one({}, math.sin(k))
    twins[0].learn_one({}, 1e6)
    assert twins[0].score_one({}, 1.0) != detector.score_one({}, 1.0) or len(pickle.dumps(detector)) < 8192
    assert len(pickle.dumps(detector)) < 4096


def test_feedback_changes_the_score():
    def level(missed: bool | None) -> float:
        detector = SeasonalDetector()
        for k in range(400):
            detector.learn_one({}, math.sin(k) + (20 if k >= 390 else 0))
        if missed is not None:
            detector.feedback(missed=missed)
        verdict = detector.verdict_one({}, 40.0)
        assert verdict is not None
        return float(verdict.level[0])

    assert level(False) < level(None) < level(True)
