"""How detectors are judged: the published rules, splits, folders left out, changed copies, findings."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsriver import evaluation, perturbations
from opsriver.errors import Problem
from opsriver.evaluation import DEFAULT, PROFILES, Labelled, Terrain, standing, sweep
from opsriver.labelled import Series
from stream_processors.detectors.config import DetectorConfig
from tests.support.series import START

NAB = Path(__file__).resolve().parents[3].parent / "shared" / "nab"
THEIRS = {"standard": "standard", "low FP": "reward_low_FP_rate", "low FN": "reward_low_FN_rate"}
needs_labelled = pytest.mark.skipif(
    not (NAB / "nabscore.py").exists(), reason="the labelled series are not beside the repository"
)


def reference(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, NAB / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def series(rows: int, *windows: tuple[int, int], key: str = "a/b.csv", cadence: int = 60_000) -> Labelled:
    """A series whose windows are given in rows."""
    stamps = [START + n * cadence for n in range(rows)]
    made = Series(Path(), Path(key), [""] * rows, [""] * rows, stamps, [float(n % 7) for n in range(rows)])
    return Labelled(made, tuple((stamps[a], stamps[b]) for a, b in windows))


def at(rows: int, *loud: int) -> np.ndarray:
    scores = np.zeros(rows)
    scores[list(loud)] = 1.0
    return scores


def points(one: Labelled, scores: np.ndarray, profile: str = "standard", threshold: float | None = 0.5) -> float:
    return standing([sweep(Terrain(one), scores)], profile, threshold).score


# ---------------------------------------------------------------------- the rules


@needs_labelled
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_scores_equal_those_of_the_reference_scorer_on_the_labelled_series() -> None:
    corpus = reference("nabscore").load_corpus(str(NAB))
    mine = evaluation.load(NAB)
    assert [one.key for one in mine] == sorted(corpus.series)
    terrains = [Terrain(one) for one in mine]
    rng = np.random.default_rng(6)
    for digits in (2, 9):
        told = {one.key: np.round(rng.random(len(one.series.times)) ** 3, digits) for one in mine}
        for one, terrain in zip(mine, terrains, strict=True):
            assert np.array_equal(terrain.window, corpus.series[one.key].win)
            told[one.key][terrain.window >= 0] *= 1.2  # better than chance
            told[one.key] = np.round(np.minimum(told[one.key], 1.0), digits)
        sweeps = [sweep(terrain, told[one.key]) for one, terrain in zip(mine, terrains, strict=True)]
        for threshold in (None, 0.0, 0.5, 0.97, 1.0, 1.05):
            given = None if threshold is None else dict.fromkeys(THEIRS.values(), threshold)
            theirs = corpus.score(told, None, given)
            for profile, name in THEIRS.items():
                ours = standing(sweeps, profile, threshold)
                assert ours.score == pytest.approx(theirs[name]["score"], abs=1e-9)
                assert (ours.hits, ours.windows) == (theirs[name]["hit_windows"], theirs[name]["windows"])
                if threshold is None:
                    assert ours.threshold == theirs[name]["threshold"]
        some = [one.key for one in mine][3:11]
        part = standing([s for one, s in zip(mine, sweeps, strict=True) if one.key in some], "standard")
        assert part.score == pytest.approx(corpus.score(told, some)["standard"]["score"], abs=1e-9)


def test_silence_scores_nothing_and_the_first_row_of_every_window_everything() -> None:
    one = series(1000, (300, 400), (700, 720))
    for profile in PROFILES:
        assert points(one, at(1000), profile) == pytest.approx(0.0)
        assert points(one, at(1000, 300, 700), profile) == pytest.approx(100.0)
    assert points(one, at(1000, 300)) == pytest.approx(50.0)


def test_later_detections_earn_less_and_further_ones_add_nothing() -> None:
    one = series(1000, (300, 400))
    earned = [points(one, at(1000, row)) for row in (300, 340, 380, 400)]
    assert earned == sorted(earned, reverse=True)
    assert 50.0 < earned[-1] < earned[0] == pytest.approx(100.0)
    assert points(one, at(1000, 340, 350, 390)) == earned[1]


def test_false_detections_cost_by_the_profile_and_less_shortly_after_a_window() -> None:
    one = series(1000, (300, 400))
    far, near = at(1000, 300, 900), at(1000, 300, 405)
    assert points(one, far) < points(one, near) < 100.0
    assert points(one, far, "low FP") < points(one, far)
    assert points(one, at(1000), "low FN") == pytest.approx(0.0)
    assert points(one, at(1000, 350, 900), "low FN") > points(one, at(1000, 350, 900))


def test_probation_does_not_count() -> None:
    one = series(1000, (10, 40), (300, 400))
    assert points(one, at(1000, 300, *range(150))) == pytest.approx(points(one, at(1000, 300)))
    assert Terrain(one).probation == 150
    assert Terrain(series(100_000)).probation == 750


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_the_best_threshold_is_the_best_of_all_thresholds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    several = [series(300, (80, 100), (200, 230)), series(200, (120, 150)), series(150)]
    sweeps = [sweep(Terrain(one), np.round(rng.random(len(one.series.times)), 1)) for one in several]
    for profile in PROFILES:
        best = standing(sweeps, profile)
        others = [standing(sweeps, profile, threshold).score for threshold in (*np.arange(0, 1.05, 0.05), 1.1)]
        assert best.score == pytest.approx(max(others))
        assert standing(sweeps, profile, best.threshold).score == pytest.approx(best.score)


# ---------------------------------------------------------------------- findings


def test_hits_false_alarms_a_week_and_delay_are_counted_in_time() -> None:
    one = series(2016 * 2, (1000, 1100), (2000, 2100), (3000, 3100), cadence=300_000)
    loud = at(4032, 5, 1010, 1011, 2050, 2500, 2501, 2502, 3500)
    found = evaluation.findings([one], [Terrain(one)], [loud], DEFAULT)
    assert (found["hits"], found["windows"], found["falseAlarms"]) == (2, 3, 2)
    counted = (4031 - 604) / 2016  # weeks after probation
    assert found["falseAlarmsAWeek"] == pytest.approx(2 / counted)
    assert found["medianDelayMs"] == 30 * 300_000
    nothing = evaluation.findings([one], [Terrain(one)], [at(4032)], DEFAULT)
    assert (nothing["hits"], nothing["falseAlarms"], nothing["medianDelayMs"]) == (0, 0, None)


# ---------------------------------------------------------------------- splits


def made_runs(seed: int = 1) -> tuple[list[Labelled], dict[str, list[evaluation.Sweep]]]:
    rng = np.random.default_rng(seed)
    several = [series(400, (200, 240), key=f"folder{n % 3}/{n}.csv") for n in range(9)]
    runs: dict[str, list[evaluation.Sweep]] = {"good": [], "poor": []}
    for one in several:
        terrain = Terrain(one)
        noise = rng.random(400) * 0.6
        runs["poor"].append(sweep(terrain, rng.random(400)))
        noise[205] = 0.7 + 0.2 * rng.random()
        runs["good"].append(sweep(terrain, noise))
    return several, runs


def test_half_splits_choose_detector_and_threshold_on_the_other_half() -> None:
    _, runs = made_runs()
    told = evaluation.half_splits(runs, 50)
    assert told == evaluation.half_splits(runs, 50)
    assert told["detectors"]["good"]["splits"] == told["chosen"]["splits"] == 50
    assert told["detectors"]["good"]["mean"] > told["detectors"]["poor"]["mean"] + 20
    assert told["chosen"] == told["detectors"]["good"]  # the better detector is always chosen
    best = standing(runs["good"], "standard").score
    assert told["detectors"]["good"]["mean"] <= best
    assert told["detectors"]["good"]["worst"] <= told["detectors"]["good"]["mean"]
    assert evaluation.half_splits({"good": runs["good"]}, 5)["chosen"] is None


def test_what_is_judged_has_no_part_in_choosing() -> None:
    """One series whose noise is loud: a threshold chosen without it pays for it, one chosen with it does not."""
    quiet, loud = series(400, (200, 240), key="q/a.csv"), series(400, (200, 240), key="l/a.csv")
    soft, hard = np.full(400, 0.1), np.full(400, 0.6)
    soft[200], hard[200] = 0.5, 0.9
    sweeps = [sweep(Terrain(quiet), soft), sweep(Terrain(loud), hard)]
    told = evaluation.folders_out([quiet, loud], sweeps)
    assert told is not None
    assert told["folders"]["q"]["threshold"] == 0.9  # learned on l
    assert told["folders"]["l"]["threshold"] == 0.5
    assert told["folders"]["q"]["score"] == pytest.approx(0.0)
    assert told["folders"]["l"]["score"] < -100
    assert told["score"] == pytest.approx((told["folders"]["q"]["score"] + told["folders"]["l"]["score"]) / 2)
    halves = evaluation.half_splits({"x": sweeps}, 20)["detectors"]["x"]
    assert halves["mean"] < standing(sweeps, "standard").score


def test_folders_left_out_are_weighted_by_their_windows_and_need_two_folders() -> None:
    several, runs = made_runs()
    told = evaluation.folders_out(several, runs["good"])
    assert told is not None
    assert sorted(told["folders"]) == ["folder0", "folder1", "folder2"]
    assert told["score"] == pytest.approx(np.mean([one["score"] for one in told["folders"].values()]))
    assert evaluation.folders_out([several[0]], runs["good"][:1]) is None


def test_a_folder_without_windows_costs_what_it_raises_falsely() -> None:
    several = [series(400, (200, 240), key="a/1.csv"), series(400, (200, 240), key="b/1.csv"), series(400, key="c/1.csv")]
    clean = [sweep(Terrain(one), at(400, 200) if one.windows else at(400)) for one in several]
    noisy = [*clean[:2], sweep(Terrain(several[2]), at(400, 100, 300))]
    best, worse = evaluation.folders_out(several, clean), evaluation.folders_out(several, noisy)
    assert best is not None
    assert worse is not None
    assert best["score"] == pytest.approx(100.0)
    assert worse["score"] == pytest.approx(100.0 - 100 * 2 * 0.11 / 4)
    assert worse["folders"]["c"]["score"] is None


# ---------------------------------------------------------------------- changed copies


@pytest.mark.parametrize("change", perturbations.CHANGES)
def test_a_changed_copy_is_the_same_for_the_same_seed_and_keeps_its_labels_true(change: str) -> None:
    rng = np.random.default_rng(3)
    one = series(600, (200, 260), (400, 401), cadence=300_000)
    one.series.values[:] = (10 + rng.normal(size=600)).tolist()
    first, again = (perturbations.changed([one], change)[0] for _ in range(2))
    assert (first.series.times, first.series.values, first.windows) == (
        again.series.times,
        again.series.values,
        again.windows,
    )
    assert first.key == one.key
    assert first.series.values != one.series.values or first.series.times != one.series.times
    assert first.series.times == sorted(set(first.series.times))
    assert len(first.windows) == 2
    for start, end in first.windows:
        assert start <= end
        assert {start, end} <= set(first.series.times)
    if change in ("noisy", "missing"):
        other = perturbations.changed([one], change, seed=1)[0]
        assert (other.series.times, other.series.values) != (first.series.times, first.series.values)
    shift = {"clock-shifted": 7 * 3_600_000}.get(change, 0)
    assert all(abs(a - b - shift) <= 600_000 for new, old in zip(first.windows, one.windows, strict=True)
               for a, b in zip(new, old, strict=True))  # fmt: skip


@pytest.mark.parametrize("change", perturbations.CHANGES)
@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [2.0] * 40, [math.nan] * 40, [math.nan, 1.0] * 20])
def test_series_without_a_spread_are_changed_without_a_warning(change: str, values: list[float]) -> None:
    one = series(len(values), *([(10, 20)] if len(values) > 20 else []))
    one.series.values[:] = values
    made = perturbations.changed([one], change)[0]
    assert len(made.series.times) == len(made.series.values)
    assert not any(math.isinf(value) for value in made.series.values)


@needs_labelled
def test_changes_without_chance_equal_those_of_the_reference() -> None:
    from datetime import UTC, datetime

    theirs = reference("perturb").CHANGES
    one = next(one for one in evaluation.load(NAB) if one.key.endswith("nyc_taxi.csv"))
    moments = [datetime.fromtimestamp(t / 1000, UTC) for t in one.series.times]
    spans = [tuple(datetime.fromtimestamp(t / 1000, UTC) for t in window) for window in one.windows]
    for change in set(perturbations.CHANGES) - {"noisy", "missing"}:
        t, v, w = theirs[change.replace("-", "_").replace(" ", "_")](moments, np.array(one.series.values), spans, None)
        made = perturbations.changed([one], change)[0]
        assert made.series.times == [round(moment.timestamp() * 1000) for moment in t]
        assert np.allclose(made.series.values, v, rtol=1e-12, atol=1e-9)
        assert made.windows == tuple((round(a.timestamp() * 1000), round(b.timestamp() * 1000)) for a, b in w)


def test_copies_judged_together_score_as_each_would_alone() -> None:
    rng = np.random.default_rng(4)
    one = series(700, (400, 450), cadence=300_000)
    one.series.values[:] = (10 + rng.normal(size=700)).tolist()
    one.series.values[420:430] = [40.0] * 10
    one.series.values[5] = math.nan
    copies = {name: perturbations.changed([one], name) for name in ("negated", "missing", "half cadence")}
    together = evaluation.scores_of(copies, DetectorConfig())
    for name, copy in copies.items():
        alone = evaluation.run(copy, DetectorConfig()).results[0].score
        assert together[name][0].tolist() == alone
    assert max(together["negated"][0]) >= DEFAULT


# ---------------------------------------------------------------------- names and folders


@pytest.mark.parametrize(
    ("name", "says"), [("magic", "'magic' is not known"), ("river.anomaly.X", "not allowed"), ("off", "judges nothing")]
)
def test_a_detector_that_cannot_be_judged_is_told(name: str, says: str) -> None:
    with pytest.raises(Problem, match=says):
        evaluation.named([name], None)


def test_detectors_by_name_and_by_file_are_judged_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[[rules]]\ndirection = "up"\n')
    told = evaluation.named(["seasonal", "river.anomaly.LODA"], file)
    assert list(told) == ["seasonal", "river.anomaly.LODA", "rules.toml"]
    assert list(evaluation.named([], file)) == ["rules.toml"]
    assert list(evaluation.named([], None)) == ["seasonal"]
