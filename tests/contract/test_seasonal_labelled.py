"""The default detector on labelled series: the score must not fall."""

from __future__ import annotations

import datetime as dt
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from stream_processors.detectors.seasonal.bank import SeasonalBank

LABELLED = Path(__file__).resolve().parents[2].parent / "shared" / "nab"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the scorer leaves files to the collector
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.skipif(not (LABELLED / "nabscore.py").exists(), reason="the labelled series are not beside the repository")
def test_the_standard_score_at_best_and_at_own_threshold_stays_where_it_was_measured():
    spec = importlib.util.spec_from_file_location("nabscore", LABELLED / "nabscore.py")
    assert spec is not None
    assert spec.loader is not None
    nabscore = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nabscore)
    corpus = nabscore.load_corpus(str(LABELLED))
    series = sorted(corpus.series.values(), key=lambda one: -one.n)
    stamps = np.zeros((series[0].n, len(series)), np.int64)
    values = np.zeros(stamps.shape)
    for place, one in enumerate(series):
        moments = [dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC) for text in one.ts]
        stamps[: one.n, place] = [round(moment.timestamp() * 1000) for moment in moments]
        values[: one.n, place] = one.values
    lengths = np.array([one.n for one in series])
    bank = SeasonalBank(len(series))
    scores = np.zeros(stamps.shape)
    for at in range(len(stamps)):
        live = int((lengths > at).sum())
        scores[at, :live] = bank.step(np.arange(live), stamps[at, :live], values[at, :live]).score
    by_key = {one.key: scores[: one.n, place] for place, one in enumerate(series)}
    best = corpus.score(by_key)["standard"]["score"]
    own = corpus.score(by_key, None, dict.fromkeys(nabscore.PROFILES, 0.5))["standard"]["score"]
    assert best >= 76.0
    assert own >= 76.0
    assert best - own <= 3.0
