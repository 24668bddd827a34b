"""The default detector, its constants chosen on the other half of the series."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import nested
from opsriver import evaluation
from opsriver.evaluation import Labelled, Sweep, Terrain, standing, sweep
from stream_processors.detectors.seasonal import bank
from tests.support.labelled import folder

TWO = {nested.AS_IS: {}, "deaf": {"_BASE": 1e6, "_RARE": 1e300}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("labelled"), folders=2, rows=600)


def test_every_setting_moves_constants_and_keeps_their_shape() -> None:
    found = nested.settings()
    assert next(iter(found)) == nested.AS_IS
    assert not found.pop(nested.AS_IS)
    assert len(found) == 2 * (len(nested.CONSTANTS) + len({family for family, _ in bank._CHANNELS}))
    for name, values in found.items():
        for attribute, value in values.items():
            usual = getattr(bank, attribute)
            assert np.shape(value) == np.shape(usual), name
            assert not np.array_equal(value, usual), name
    for way in ("scales / 2", "scales × 2"):
        assert found[way]["_SCALE_COLUMN"].ravel().tolist() == list(found[way]["_SCALES"])


def test_constants_are_moved_while_series_are_scored_and_then_put_back(place: Path) -> None:
    series = evaluation.load(place)
    usual = {attribute: getattr(bank, attribute) for attribute in TWO["deaf"]}
    seen = []
    runs = nested.scored(series, TWO, lambda _rows: seen.append(bank._BASE))
    assert set(seen) == {usual["_BASE"], 1e6}
    assert {attribute: getattr(bank, attribute) for attribute in usual} == usual
    judged = evaluation.evaluate(series, evaluation.named([], None), splits=0)["detectors"]["seasonal"]
    assert standing(runs[nested.AS_IS], "standard").score == pytest.approx(judged["best"]["standard"]["score"])
    assert standing(runs["deaf"], "standard", 0.5).score < standing(runs[nested.AS_IS], "standard", 0.5).score

    def broken(_rows: int) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        nested.scored(series, {"deaf": TWO["deaf"]}, broken)
    assert {attribute: getattr(bank, attribute) for attribute in usual} == usual


def found_at(one: Labelled, after: int | None) -> Sweep:
    """One detection so many rows after the window's begin, or a false one; nothing else."""
    terrain = Terrain(one)
    scores = np.zeros(len(one.series.times))
    scores[terrain.probation if after is None else terrain.spans[0][0] + after] = 0.9
    return sweep(terrain, scores)


def test_what_is_judged_has_no_part_in_choosing_the_setting(place: Path) -> None:
    """Each setting is right on one series alone: who chooses on the other one is always wrong, who cheats always right."""
    here, there = evaluation.load(place)
    told = nested.judged(
        {nested.AS_IS: [found_at(here, 0), found_at(there, None)], "moved": [found_at(here, None), found_at(there, 0)]}, 40
    )
    moved, wrong = told["settings"]["moved"]["chosen"], -100 * 0.11 / 2
    assert told["settings"][nested.AS_IS]["chosen"] == told["nested"]["splits"] - moved == 40 - moved
    assert 0 < moved < 40
    assert told["nested"]["mean"] == pytest.approx(wrong)  # the window missed and a false detection, every time
    assert told["nested"]["deviation"] == pytest.approx(0.0)
    assert told["own"]["mean"] == pytest.approx((100 * moved + wrong * (40 - moved)) / 40)  # where nothing is chosen


def test_of_equally_good_settings_the_constants_as_they_are_stay(place: Path) -> None:
    """Where both are equal on the half that chooses, it is no matter how much better the other is on the one judged."""
    here, there = evaluation.load(place)
    told = nested.judged(
        {nested.AS_IS: [found_at(here, 5), found_at(there, 40)], "moved": [found_at(here, 5), found_at(there, 0)]}, 40
    )
    chosen_by_there = told["settings"]["moved"]["chosen"]
    assert 0 < chosen_by_there < 40
    late = standing([found_at(there, 40)], "standard").score
    soon = standing([found_at(here, 5)], "standard").score
    expected = (chosen_by_there * soon + (40 - chosen_by_there) * late) / 40
    assert told["nested"]["mean"] == pytest.approx(expected)


def test_the_command_prints_both(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(nested, "settings", lambda: TWO)
    monkeypatch.setattr("sys.argv", ["nested", str(place), "--splits", "4", "--json"])
    nested.main()
    told = json.loads(capsys.readouterr().out)
    assert list(told["settings"]) == list(TWO)
    assert told["nested"]["splits"] == told["own"]["splits"] == 4
    monkeypatch.setattr("sys.argv", ["nested", str(place), "--splits", "4"])
    nested.main()
    printed = capsys.readouterr().out
    for part in ("setting and threshold", f"{told['nested']['mean']:.1f}", "deaf", "own threshold"):
        assert part in printed
