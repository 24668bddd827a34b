"""Tests once more with the kernels under AddressSanitizer, which ends the process at the first byte out of bounds.

``python -m tests.support.sanitized LIBRARY ARGUMENTS`` is that process: pytest with these arguments and that library.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stream_processors import kernels

ROOT = Path(__file__).parents[2]


def build(folder: Path) -> Path:
    """The kernels with every access checked, as a library in ``folder``; skips where they cannot be built or run so."""
    if not (cc := shutil.which("cc")):
        pytest.skip("there is no C compiler `cc`")
    if not _runtime(cc):
        pytest.skip("there is no libasan that could be preloaded")
    library = folder / "kernels.so"
    flags = ["-std=c99", "-g", "-O1", "-ffp-contract=off", "-fsanitize=address", "-fno-omit-frame-pointer"]
    sources = sorted(map(str, (ROOT / "stream_processors" / "kernels").glob("*.c")))
    subprocess.run([cc, "-shared", "-fPIC", *flags, "-o", str(library), *sources, "-lm"], check=True)
    return library


def run(library: Path, file: str) -> None:
    """Run with this library of ``build`` the tests of a file whose names, or its own, tell that they are of a kernel."""
    environment = {
        **os.environ,
        "LD_PRELOAD": str(_runtime("cc")),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own
    }
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--capture=sys"]  # so that its report is seen
    arguments += ["-k", "compiled", file]
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(library), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[:3000]
    assert " passed" in done.stdout, done.stdout
    assert " skipped" not in done.stdout, done.stdout


def _runtime(cc: str) -> Path | None:
    asked = subprocess.run([cc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    found = Path(asked.stdout.strip())
    return found if found.is_file() and found.read_bytes().startswith(b"\x7fELF") else None


def main() -> int:
    """pytest with another library, whose functions get bytes without the zero that Python has behind them."""
    library = ctypes.PyDLL(sys.argv[1])
    kernels._library = lambda: library  # type: ignore[assignment]
    function = kernels.Kernel.function

    def exact(self: kernels.Kernel, *names: Any, **result: Any) -> Any:
        found = function(self, *names, **result)
        return lambda *given: found(*[ctypes.create_string_buffer(g, len(g)) if isinstance(g, bytes) else g for g in given])

    kernels.Kernel.function = exact  # type: ignore[method-assign]
    return pytest.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
