"""Both ways in which the default detector computes: NumPy alone, and by the compiled loops where they were built."""

from __future__ import annotations

import pytest

from stream_processors.detectors.seasonal.compiled import KERNEL

BUILT = pytest.mark.skipif(not KERNEL.available, reason="the compiled kernels are not built")
PATHS = [pytest.param(False, id="numpy"), pytest.param(True, id="compiled", marks=BUILT)]
"""Values of ``compiled`` for SeasonalBank and default_banks, to parametrise a test with."""

FASTEST = KERNEL.available
"""Value of ``compiled`` for tests of what is detected and when: both ways give the same bits, as others assert."""
