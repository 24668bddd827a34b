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


def run(kernel: str, node: str, folder: Path) -> None:
    """Run the other tests of the file of test ``node`` with a kernel of its own built in ``folder``; skips without ASan."""
    if not (cc := shutil.which("cc")):
        pytest.skip("there is no C compiler `cc`")
    asked = subprocess.run([cc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    preloaded = Path(asked.stdout.strip())
    if not preloaded.is_file() or not preloaded.read_bytes().startswith(b"\x7fELF"):
        pytest.skip("there is no libasan that could be preloaded")
    library = folder / f"{kernel}.so"
    flags = ["-std=c99", "-g", "-O1", "-ffp-contract=off", "-fsanitize=address", "-fno-omit-frame-pointer"]
    source = ROOT / "stream_processors" / "kernels" / f"{kernel}.c"
    subprocess.run([cc, "-shared", "-fPIC", *flags, "-o", str(library), str(source), "-lm"], check=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(preloaded),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own
    }
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--capture=sys"]  # so that its report is seen
    arguments += ["--deselect", node, node.partition("::")[0]]
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
