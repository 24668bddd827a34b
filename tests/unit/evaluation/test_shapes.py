"""Ordinary series of many shapes."""

from __future__ import annotations

import numpy as np

from benchmarks import shapes


def test_every_shape_is_finite_moves_and_is_drawn_again_from_its_seed() -> None:
    minute = np.arange(3 * 1440, dtype=np.int64) + 7 * 1440
    for name, make in shapes.SHAPES.items():
        first, again = (make(minute, np.random.default_rng(5)) for _ in range(2))
        assert first.shape == minute.shape, name
        assert np.isfinite(first).all(), name
        assert len(np.unique(first)) > 1, name
        assert np.array_equal(first, again), name


def test_pages_are_told_by_shape_and_a_smooth_rhythm_has_none() -> None:
    found = shapes.run(days=2, series=2, seed=0)
    assert list(found) == list(shapes.SHAPES)
    assert found["daily rhythm"] == {"pagesASeriesMonth": 0.0, "secondHalf": 0.0, "loudest": {}}
    assert sum(float(str(one["pagesASeriesMonth"])) for one in found.values()) > 0
