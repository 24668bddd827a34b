"""The order of numbers, which is found by radix where that is sooner."""

from __future__ import annotations

import numpy as np
import pytest

from stream_processors.detectors.base import in_order


@pytest.mark.parametrize("count", [0, 1, 2, 300, 5_000])
@pytest.mark.parametrize(
    "bounds", [(0, 9), (0, 2**16), (2**16 - 2, 2**16 + 2), (0, 2**32), (2**32 - 2, 2**32 + 2), (-3, 2**20)]
)
def test_equal_numbers_stay_as_they_come_whatever_their_size(count: int, bounds: tuple[int, int]) -> None:
    numbers = np.random.default_rng(count).integers(*bounds, count)
    assert in_order(numbers).tolist() == sorted(range(count), key=numbers.tolist().__getitem__)
