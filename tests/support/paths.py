"""Both ways in which the default detector computes: NumPy alone, and compiled where numba is installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

PATHS = [
    pytest.param(False, id="numpy"),
    pytest.param(
        True,
        id="compiled",
        marks=pytest.mark.skipif(find_spec("numba") is None, reason="numba, the extra `compiled`, is not installed"),
    ),
]
"""Values of ``compiled`` for SeasonalBank and default_banks, to parametrise a test with."""

FASTEST = find_spec("numba") is not None
"""Value of ``compiled`` for tests of what is detected and when: both ways give the same bits, as others assert."""
