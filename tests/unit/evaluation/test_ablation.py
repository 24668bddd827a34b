"""The default detector without a family of its evidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import ablation
from opsriver import evaluation
from stream_processors.detectors.seasonal.bank import SINGLE, SeasonalBank
from tests.support.labelled import folder
from tests.support.series import MINUTE, noise, run, times


def test_a_family_that_is_switched_off_has_no_share_and_the_others_go_on() -> None:
    stamps = times(1500, 5 * MINUTE)
    values = noise("gaussian", (1500, 2), np.random.default_rng(2))
    values[1000:] += 30
    usual = run(SeasonalBank(2), stamps, values)
    for number, family in enumerate(SeasonalBank.families[1:], 1):
        told = run(SeasonalBank(2, without=[family]), stamps, values)
        assert not told.evidence[:, :, number].any()
        assert told.pages.any()
    assert usual.evidence[:, :, 4].any()
    slow_only = run(SeasonalBank(2, without=[SINGLE]), stamps, values)
    assert slow_only.level.max() <= usual.level.max()
    assert not run(SeasonalBank(2, without=[*SeasonalBank.families, SINGLE]), stamps, values).level.any()
    with pytest.raises(ValueError, match="'?magic"):
        SeasonalBank(without=["magic"])


def test_the_ablation_names_every_family_and_scores_everything_as_evaluate_does(tmp_path: Path) -> None:
    series = evaluation.load(folder(tmp_path, folders=2, rows=700))
    found = ablation.run(series, ["negated"])
    assert list(found) == ["everything", *SeasonalBank.families, SINGLE]
    judged = evaluation.evaluate(series, evaluation.named([], None), splits=0)["detectors"]["seasonal"]
    assert found["everything"]["best"] == pytest.approx(judged["best"]["standard"]["score"])
    assert found["everything"]["own"] == pytest.approx(judged["default"]["standard"]["score"])
