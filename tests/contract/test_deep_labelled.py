"""The deep detector on labelled series: what was measured must not fall."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsriver import evaluation
from stream_processors.detectors.deep.bank import DeepBank

LABELLED = Path(__file__).resolve().parents[2].parent / "shared" / "nab"


@pytest.mark.slow
@pytest.mark.skipif(not (LABELLED / "labels").exists(), reason="the labelled series are not beside the repository")
def test_the_standard_score_and_what_splits_leave_of_it_stay_where_they_were_measured() -> None:
    series = evaluation.load(LABELLED)
    report = evaluation.evaluate(series, evaluation.named([DeepBank.name], None))["detectors"][DeepBank.name]
    best, own = report["best"]["standard"]["score"], report["default"]["standard"]["score"]
    assert best >= 77.0
    assert own >= 77.0
    assert report["halfSplits"]["mean"] >= 76.0
    assert report["foldersOut"]["score"] >= 75.5
    assert report["bytesASeries"] <= 65_536
    assert report["eventsASecond"] >= 5_000
