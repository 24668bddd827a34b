"""The kernels' tests once more, in a process that ends at the first byte out of bounds; else a wrong index reads on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import sanitized

FILES = (
    "tests/unit/detectors/test_correlation.py",
    "tests/unit/detectors/test_seasonal_bank.py",
    "tests/unit/records/test_compiled.py",
    "tests/unit/scoring/test_compiled_names.py",
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sanitized.build(tmp_path_factory.mktemp("kernels"))


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: Path(file).stem)
def test_no_index_is_ever_out_of_bounds(library: Path, file: str) -> None:
    sanitized.run(library, file)
