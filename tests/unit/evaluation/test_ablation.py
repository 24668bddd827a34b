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
    stamps = times(400, 5 * MINUTE)
    values = noise("gaussian", (400, 16), np.random.default_rng(2))
    values[300:] += 30
    usual = run(SeasonalBank(16), stamps, values)
    level = SeasonalBank.families.index("level")
    told = run(SeasonalBank(16, without=["level"]), stamps, values)
    assert usual.evidence[:, :, level].any()
    assert not told.evidence[:, :, level].any()
    assert told.pages.any()
    slow_only = run(SeasonalBank(16, without=[SINGLE]), stamps, values)
    assert (slow_only.level <= usual.level).all()
    assert not run(SeasonalBank(16, without=[*SeasonalBank.families, SINGLE]), stamps, values).level.any()
    with pytest.raises(ValueError, match="no evidence is called magic"):
        SeasonalBank(without=["magic"])


def test_the_ablation_names_every_family_and_scores_everything_as_evaluate_does(tmp_path: Path) -> None:
    series = evaluation.load(folder(tmp_path, folders=1, rows=300))
    found = ablation.run(series, ["negated"])
    assert list(found) == ["everything", *SeasonalBank.families, SINGLE]
    judged = evaluation.evaluate(series, evaluation.named([], None), splits=0)["detectors"]["seasonal"]
    assert found["everything"]["best"] == pytest.approx(judged["best"]["standard"]["score"])
    assert found["everything"]["own"] == pytest.approx(judged["default"]["standard"]["score"])
