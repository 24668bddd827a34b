"""Further copies of labelled series, and faults put into them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import copies
from opsriver import evaluation, perturbations
from tests.support.labelled import folder


@pytest.mark.parametrize("seed", range(8))
def test_faults_lie_in_windows_of_their_own_and_nothing_else_is_changed(tmp_path: Path, seed: int) -> None:
    for one in evaluation.load(folder(tmp_path, folders=1, rows=600)):
        spoiled, kinds = copies.injected(one, seed)
        assert kinds
        assert set(kinds.values()) <= set(copies.FAULTS)
        assert set(spoiled.windows) == {*one.windows, *kinds}
        assert all(end < start for (_, end), (start, _) in zip(spoiled.windows, spoiled.windows[1:], strict=False))
        times = np.array(one.series.times)
        inside = np.zeros(len(times), bool)
        for start, end in kinds:
            inside |= (times >= start) & (times <= end)
        before, after = np.array(one.series.values), np.array(spoiled.series.values)
        assert np.isfinite(after).all()
        assert (before == after)[~inside].all()
        assert (before != after).any()
        assert copies.injected(one, seed)[0].series.values == spoiled.series.values


def test_every_further_change_and_every_kind_of_fault_is_scored(tmp_path: Path) -> None:
    series = evaluation.load(folder(tmp_path, folders=1, rows=600))
    told = copies.run(series, "seasonal", copies=3)
    assert list(told["further"]) == list(copies.FURTHER)
    assert list(told["faults"]) == ["faults 0", "faults 1", "faults 2"]
    assert sum(kind["number"] for kind in told["kinds"].values()) == sum(
        len(copies.injected(one, seed)[1]) for one in series for seed in range(3)
    )
    assert all(0 <= kind["found"] <= kind["number"] for kind in told["kinds"].values())
    moved = {"moved": perturbations.changed(series, "moved by 67 hours", changes=copies.FURTHER)}
    judged = evaluation.evaluate(series, evaluation.named([], None), splits=0, copies=moved)["detectors"]["seasonal"]
    assert told["further"]["moved by 67 hours"] == judged["perturbed"]["copies"]["moved"]
