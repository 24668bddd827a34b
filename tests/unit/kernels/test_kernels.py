"""The compiled kernels: headers of their faces, the library that is taken, and what is refused before C sees it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stream_processors import kernels
from stream_processors.detectors.seasonal import compiled
from stream_processors.detectors.seasonal.bank import SeasonalBank
from stream_processors.kernels import Kernel
from tests.support.paths import BUILT

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "stream_processors" / "kernels"
sys.path.insert(0, str(ROOT / "tools"))

import kernel_headers  # noqa: E402
import package_function  # noqa: E402

KERNELS = kernel_headers.KERNELS
CC = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.mark.parametrize("path", kernel_headers.HEADERS, ids=lambda path: path.name)
def test_a_header_is_that_of_its_python_face(path: Path) -> None:
    assert path.read_text() == kernel_headers.HEADERS[path], "run `make headers install`"


@CC
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_with_a_compiler_the_kernels_are_built_so_that_nothing_skips_them(kernel: Kernel) -> None:
    assert kernel.available, "run `make install`"


@CC
def test_the_sources_compile_without_a_warning(tmp_path: Path) -> None:
    command = ["cc", "-Wextra", "-Wall", "-Wpedantic", "-Werror", "-std=c99", "-O2", "-c"]
    for source in FOLDER.glob("*.c"):
        done = subprocess.run(
            [*command, str(source), "-o", str(tmp_path / "o")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@CC
def test_what_is_packaged_for_a_function_are_these_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stream_processors" / "kernels").mkdir(parents=True)
    package_function.compile_kernels(["cc"], dict(os.environ), tmp_path)
    [library] = (tmp_path / "stream_processors" / "kernels").iterdir()
    assert library.name == "_kernels.so"
    monkeypatch.setattr(kernels, "_FOLDER", library.parent)
    monkeypatch.setattr(kernels, "_library", kernels._library.__wrapped__)
    for one in KERNELS:
        assert Kernel(one.name, one.constants, one.fields).available


def test_sources_that_do_not_compile_end_the_build_with_a_sentence(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('x.c: error: no such thing')"]
    with pytest.raises(SystemExit, match=r"the kernels could not be compiled: x\.c: error: no such thing"):
        package_function.compile_kernels(failing, dict(os.environ), tmp_path)


@BUILT
def test_a_library_of_other_constants_is_left_alone() -> None:
    other = Kernel("seasonal", {**compiled.KERNEL.constants, "DAY_GAIN": 0.25}, compiled.KERNEL.fields)
    assert not other.available
    with pytest.raises(ImportError, match="built from other constants: run `make install`"):
        other.function("first")
    assert not Kernel("seasonal", compiled.KERNEL.constants, {**compiled.KERNEL.fields, "more": "f8"}).available


def test_without_a_library_numpy_computes_and_who_insists_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "_kernels.so").write_bytes(b"\x7fELF cut short")
    monkeypatch.setattr(kernels, "_FOLDER", tmp_path)
    monkeypatch.setattr(kernels, "_library", kernels._library.__wrapped__)
    own = Kernel("seasonal", compiled.KERNEL.constants, compiled.KERNEL.fields)
    monkeypatch.setattr(compiled, "KERNEL", own)
    compiled.halves.cache_clear()
    try:
        assert not SeasonalBank(1).compiled
        with pytest.raises(ImportError, match="needs a C compiler"):
            SeasonalBank(1, compiled=True)
    finally:
        compiled.halves.cache_clear()


KERNEL = Kernel("one", {"A": 1, "B": 0.1, "C": (0.5, 2.0)}, {"values": "f8", "rows": "i8", "count": "number"})


def test_a_header_holds_constants_to_the_last_bit_and_the_fields_in_order() -> None:
    assert KERNEL.header.splitlines()[4:] == [
        "#define A 1", "#define B 0.1", "#define C {0.5, 2.0}", "",
        "struct arguments {", "    double *values;", "    int64_t *rows;", "    int64_t count;", "};",
    ]  # fmt: skip


def test_arguments_are_the_arrays_themselves() -> None:
    values, rows = np.arange(3.0), np.zeros(0, np.int64)
    frozen = values.copy()
    frozen.flags.writeable = False
    for array in (values, frozen):
        made = KERNEL.arguments(values=array, rows=rows, count=3)
        found = ctypes.cast(ctypes.c_void_p.from_param(made), ctypes.POINTER(ctypes.c_int64))
        assert [found[0], found[2]] == [array.ctypes.data, 3]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"values": np.arange(3)}, "values must be contiguous and of type f8, not int64"),
        ({"values": np.arange(6.0)[::2]}, "values must be contiguous"),
        ({"rows": np.zeros(1, np.int32)}, "rows must be contiguous and of type i8, not int32"),
        ({"rows": np.zeros(1, ">i8")}, "rows must be contiguous and of type i8"),
        ({"more": 1}, "missing or unknown: more"),
        ({"count": None}, "int"),
    ],
)
def test_what_c_would_misread_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        KERNEL.arguments(**{"values": np.arange(3.0), "rows": np.zeros(1, np.int64), "count": 1, **wrong})
