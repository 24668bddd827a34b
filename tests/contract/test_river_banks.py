"""Every river model that configuration may name obeys the contract of a bank."""

from __future__ import annotations

import ast
import inspect
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.detectors import allowed, river_adapter
from stream_processors.detectors.allowed import MODELS
from stream_processors.detectors.base import Verdicts
from stream_processors.detectors.config import DetectorConfig, Rule
from stream_processors.detectors.river_adapter import RiverBank, river_bank
from stream_processors.scoring import Scorer
from stream_processors.state import snapshot
from tests.support.batches import Event, batch
from tests.support.series import DAY, MINUTE, START, noise, rhythm, times

SMALL: dict[str, dict[str, int | float]] = {
    "river.anomaly.GaussianScorer": {"window_size": 80, "grace_period": 20},
    "river.anomaly.StandardAbsoluteDeviation": {},
    "river.anomaly.HalfSpaceTrees": {"n_trees": 3, "height": 4, "window_size": 50, "lags": 4},
    "river.anomaly.LODA": {"n_bins": 8, "n_random_cuts": 10, "lags": 4},
    "river.anomaly.OneClassSVM": {"nu": 0.2, "lags": 4},
    "river.anomaly.PredictiveAnomalyDetection": {"warmup_period": 20, "lags": 4},
}
"""Parameters that keep tests quick; they cover every model."""
EVERY = sorted(MODELS)
FIELDS = ("score", "level", "tail", "expected_low", "expected", "expected_high", "warming", "evidence", "interval")


def one(bank: RiverBank, row: int, stamp: int, value: float) -> Verdicts:
    return bank.step(np.array([row]), np.array([stamp]), np.array([value]))


def told(verdicts: Verdicts) -> list[bytes]:
    return [np.ascontiguousarray(getattr(verdicts, name)).tobytes() for name in FIELDS]


def made(path: str, rows: int = 1) -> RiverBank:
    bank = river_bank(path, SMALL[path])
    bank.append(rows)
    return bank


def sound(verdicts: Verdicts) -> bool:
    scores = np.concatenate([verdicts.score, verdicts.level, verdicts.tail])
    return bool(np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 1).all() and (verdicts.tail > 0).all())


def test_the_parameters_of_these_tests_cover_every_allowed_model() -> None:
    assert sorted(SMALL) == EVERY


@pytest.mark.parametrize("path", EVERY)
def test_the_cut_into_batches_and_the_company_change_no_bit(path: str) -> None:
    stamps = times(260)
    rng = np.random.default_rng(1)
    values = rhythm(stamps)[:, None] + noise("gaussian", (260, 3), rng)
    together, alone = made(path, 3), made(path, 3)
    apart: list[list[bytes]] = []
    for n, stamp in enumerate(stamps):
        joint = together.step(np.arange(3), np.full(3, stamp), values[n])
        for row in (2, 0, 1):
            single = one(alone, row, int(stamp), float(values[n, row]))
            if row == 1:
                apart.append(told(single))
                assert all(getattr(joint, name)[1:2].tobytes() == part for name, part in zip(FIELDS, apart[-1], strict=True))
    assert together.dump(np.arange(3)) == alone.dump(np.arange(3))


@pytest.mark.parametrize("path", EVERY)
@settings(deadline=None, max_examples=8)
@given(cut=st.integers(0, 200), seed=st.integers(0, 9))
def test_a_restored_row_goes_on_as_if_it_had_never_stopped(path: str, cut: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(size=100), np.full(60, 3.0), 1e6 * rng.normal(size=60)])
    stamps = times(len(values))
    straight, stopped = made(path), made(path)
    for n in range(cut):
        one(straight, 0, int(stamps[n]), float(values[n]))
        one(stopped, 0, int(stamps[n]), float(values[n]))
    again = made(path, 2)
    again.restore(np.array([1]), stopped.dump(np.array([0])))
    assert again.dump(np.array([1])) == stopped.dump(np.array([0]))
    for n in range(cut, len(values)):
        a = told(one(straight, 0, int(stamps[n]), float(values[n])))
        assert a == told(one(again, 1, int(stamps[n]), float(values[n]))), n
    assert straight.dump(np.array([0])) == again.dump(np.array([1]))


@pytest.mark.parametrize("path", EVERY)
def test_the_state_stays_as_large_as_it_is_told_to_be(path: str) -> None:
    bank = made(path, 2)
    sizes = set()
    for n, value in enumerate(np.random.default_rng(2).normal(size=400)):
        one(bank, 0, START + n * MINUTE, float(value))
        if n % 100 == 99:
            sizes.add(len(bank.dump(np.array([0]))))
    assert sizes == {bank.row_bytes}
    assert bank.dump(np.array([1])) == bytes(bank.row_bytes)
    assert 0 < bank.resident_bytes() < 4_000_000


@pytest.mark.parametrize("path", EVERY)
@pytest.mark.parametrize(
    "kind", ["constant", "constant, then wild", "wild", "huge and tiny", "alternating", "large offset", "steps", "gaps"]
)
def test_no_series_stops_a_model_or_gives_a_verdict_that_is_no_number(path: str, kind: str) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=220)
    stamps = times(220)
    if kind.startswith("constant"):
        values[:] = 5.0
    if kind == "constant, then wild":
        values[150] = 1e12
    if kind == "wild":
        values[[0, 120, 160]] = 1e12, -1e12, 1e100
    elif kind == "huge and tiny":
        values *= 10.0 ** rng.integers(-300, 300, 220)
    elif kind == "alternating":
        values = np.where(np.arange(220) % 2, 1.0, 0.0)
    elif kind == "large offset":
        values += 1e9
    elif kind == "steps":
        values = np.floor(np.arange(220) / 70) * 1e6
    elif kind == "gaps":
        stamps = START + np.cumsum(np.where(np.arange(220) % 40 == 39, 30 * DAY, MINUTE))
    bank = made(path)
    for stamp, value in zip(stamps.tolist(), values.tolist(), strict=True):
        verdicts = one(bank, 0, stamp, value)
        assert sound(verdicts)
        known = np.array([verdicts.expected_low, verdicts.expected, verdicts.expected_high])
        assert np.isfinite(known).all() or np.isnan(known).all()
    if kind == "constant":
        assert not verdicts.score.any()


@pytest.mark.parametrize("path", EVERY)
@pytest.mark.parametrize("wild", [1e6, 1e12])
def test_one_wild_value_is_forgotten(path: str, wild: float) -> None:
    """The scores after it are those after a value as far outside as counts: one range beyond the range."""
    values = np.random.default_rng(4).normal(size=600)
    after = []
    for outlier in (wild, 1e3 * wild):
        bank = made(path)
        scores = []
        for n, value in enumerate(values):
            verdict = one(bank, 0, START + n * MINUTE, outlier if n == 400 else float(value))
            scores.append(float(verdict.level[0]))
        after.append(scores[401:])
    # A raw score without a bound of its own may move the calibration a little; the model itself learns the same.
    assert np.allclose(after[0], after[1], atol=0.02)
    assert max(after[0]) < 0.5


@pytest.mark.parametrize("path", EVERY)
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_any_bytes_of_the_right_length_are_safe_to_restore(path: str, data: st.DataObject) -> None:
    bank = made(path, 2)
    for n in range(70):
        one(bank, 0, START + n * MINUTE, math.sin(n))
    neighbour = bank.dump(np.array([0]))
    numbers = np.frombuffer(neighbour, "<f8").copy()
    strange = st.sampled_from([0.0, -1.0, 1.0, 1e-300, 1e15, 1e18, 1e249, -1e249, 1e308, math.inf, math.nan, 0.5, 31.0])
    for place, number in data.draw(st.dictionaries(st.integers(0, len(numbers) - 1), strange, max_size=12)).items():
        numbers[place] = number
    raw = data.draw(
        st.one_of(st.just(numbers.tobytes()), st.randoms(use_true_random=False).map(lambda r: r.randbytes(len(neighbour))))
    )
    bank.restore(np.array([1]), raw)
    for n in range(70, 130):
        verdicts = one(bank, 1, START + n * MINUTE, math.sin(n))
        assert len(verdicts.score) == 1
    assert bank.dump(np.array([0])) == neighbour
    bank.dump(np.array([1]))


class Bomb:
    """Unpickling it would run a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("path", EVERY)
def test_a_pickle_in_place_of_the_state_is_never_loaded(path: str, tmp_path: Path) -> None:
    bank = made(path)
    trap = pickle.dumps(Bomb(tmp_path / "loaded"))
    bank.restore(np.array([0]), trap + bytes(bank.row_bytes - len(trap)))
    with pytest.raises(ValueError, match="bytes"):
        bank.restore(np.array([0]), trap)
    for n in range(80):
        one(bank, 0, START + n * MINUTE, math.sin(n))
    assert not (tmp_path / "loaded").exists()


def test_the_adapter_knows_no_format_that_runs_code() -> None:
    names = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(inspect.getsource(river_adapter)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert not names & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "importlib", "copyreg"}
    calls = {node.func.id for node in ast.walk(ast.parse(inspect.getsource(river_adapter)))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
    assert not calls & {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize(
    ("path", "parameters", "says"),
    [
        ("river.anomaly.LocalOutlierFactor", {}, "not allowed"),
        ("os.system", {}, "not allowed"),
        ("river.anomaly.LODA.__init__", {}, "not allowed"),
        ("river.anomaly.GaussianScorer", {"window_size": 10**9}, "from 2 to 10000"),
        ("river.anomaly.GaussianScorer", {"window_size": 10**400}, "from 2 to 10000"),
        ("river.anomaly.GaussianScorer", {"window_size": 2.5}, "whole number"),
        ("river.anomaly.GaussianScorer", {"window_size": math.inf}, "window_size = inf"),
        ("river.anomaly.GaussianScorer", {"window_size": math.nan}, "window_size = nan"),
        ("river.anomaly.GaussianScorer", {"window_size": True}, "whole number"),
        ("river.anomaly.GaussianScorer", {"__class__": 1}, "takes no parameter '__class__'"),
        ("river.anomaly.HalfSpaceTrees", {"n_trees": 100, "height": 12}, "KiB a series"),
        ("river.anomaly.LODA", {"n_bins": 200, "n_random_cuts": 500}, "KiB a series"),
        ("river.anomaly.OneClassSVM", {"nu": -0.1}, "from 0 to 1"),
        ("river.anomaly.StandardAbsoluteDeviation", {"lags": 3}, "it takes none"),
    ],
)
def test_hostile_paths_and_parameters_are_refused(path: str, parameters: dict[str, int | float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        river_bank(path, parameters)
    with pytest.raises(ValueError, match=says):
        allowed.check(path, parameters)


@pytest.mark.parametrize("path", EVERY)
def test_every_parameter_at_its_ends_makes_a_bank_that_works(path: str) -> None:
    for name, bounds in MODELS[path].parameters.items():
        for value in (bounds.least, bounds.most):
            whole = int(value) if bounds.whole else value
            if 8 * MODELS[path].numbers({name: whole}) > allowed.LARGEST_STATE:
                continue  # refused, as tested above
            bank = river_bank(path, {name: whole})
            assert bank.row_bytes <= allowed.LARGEST_STATE + 65_536
            bank.append(1)
            for n in range(3):
                assert sound(one(bank, 0, START + n * MINUTE, float(n)))


def test_parameters_that_differ_in_the_last_digit_keep_their_banks_apart() -> None:
    names = {allowed.bank_name("river.anomaly.LODA", {"seed": seed}) for seed in (123_456_788, 123_456_789)}
    assert len(names) == 2
    assert allowed.bank_name("river.anomaly.LODA", {"lags": 5}) == allowed.bank_name("river.anomaly.LODA", {"lags": 5.0})


def test_series_of_river_models_survive_a_snapshot_of_the_shard() -> None:
    rules = tuple(Rule(metric=f"m{n}", detector=path, parameters=SMALL[path]) for n, path in enumerate(EVERY))
    config = DetectorConfig(rules=(*rules, Rule(metric="off", detector="off")))
    rng = np.random.default_rng(5)
    items: list[Event] = [
        ("web-01", metric, START + minute * MINUTE, float(rng.normal() + (9e3 if minute == 180 else 0)))
        for minute in range(240)
        for metric in (*(f"m{n}" for n in range(len(EVERY))), "usual", "off")
    ]
    cut = 130 * (len(EVERY) + 2) + 3
    straight = Scorer(config)
    expected = straight.process(batch(items)).insights
    first = Scorer(config)
    insights = first.process(batch(items[:cut])).insights
    second = Scorer(config)
    assert snapshot.apply(second, snapshot.decode(snapshot.encode(first))) == []
    insights += second.process(batch(items[cut:])).insights
    assert insights == expected
    assert len({insight.detector for insight in insights}) >= 3
    assert snapshot.encode(second) == snapshot.encode(straight)


def test_river_is_imported_only_where_a_rule_names_a_model() -> None:
    program = (
        "import sys; from stream_processors.scoring import Scorer; from stream_processors.detectors.config import parse;"
        "rules = parse(sys.argv[1]); Scorer(rules); print('river.anomaly' in sys.modules)"
    )
    for text, imported in (
        ('[[rules]]\nmetric = "cpu*"\ndirection = "up"\n', "False"),
        ('[[rules]]\ndetector = "river.anomaly.LODA"\n', "True"),
    ):
        done = subprocess.run([sys.executable, "-c", program, text], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == imported
