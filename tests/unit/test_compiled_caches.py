"""What numba keeps on disk must not outlive the constants it was compiled with."""

from __future__ import annotations

import ast
import importlib
import inspect
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba, the extra `compiled`, is not installed")

MODULES = [
    "stream_processors.detectors.seasonal.compiled",
    "stream_processors.detectors.correlation_compiled",
]


def imported(module: ModuleType) -> set[str]:
    """Names of numbers that the module imports: numba looks at a module's own source only for whether it has changed."""
    tree = ast.parse(inspect.getsource(module))
    names = {one.asname or one.name for node in tree.body if isinstance(node, ast.ImportFrom) for one in node.names}
    return {name for name in names if isinstance(getattr(module, name, None), int | float | tuple | np.ndarray)}


def kept(module: ModuleType) -> list[Any]:
    """Compiled functions of the module that have a file of their own."""
    from numba.core.caching import NullCache

    compiled = [one for one in vars(module).values() if hasattr(one, "py_func")]
    assert compiled
    return [one for one in compiled if not isinstance(one._cache, NullCache)]


@pytest.mark.parametrize("name", MODULES)
def test_what_is_kept_by_itself_uses_no_number_of_another_module(name: str) -> None:
    module = importlib.import_module(name)
    for function in kept(module):
        assert not imported(module) & set(function.py_func.__code__.co_names), function.py_func.__name__


def test_the_default_detector_s_numbers_come_from_elsewhere() -> None:
    module = importlib.import_module(MODULES[0])
    assert {"_FACTOR_GROWTH", "_SEASON_MEMORY", "_LARGEST"} <= imported(module)
