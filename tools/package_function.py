"""Fills a function's build directory: pinned wheels for python3.13 on arm64, our own packages, and their compiled kernels.

``python tools/package_function.py SET DIRECTORY``; SET names a lock in requirements/. The kernels go where NumPy goes. Zig,
which brings a C compiler for every processor, makes them for Lambda's on any machine; it is installed once, into build/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zlib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("agents", "consumers", "runtime", "schemas", "stream_processors")
USELESS_FOLDERS = ("tests", "test", "include", "__pycache__", "benchmarks", "examples", "src")
USELESS_OURS = ("__pycache__", "*.pyc", "*.c", "*.h", "_kernels*")
"""Of our own packages: also what was compiled for the machine that builds."""
USELESS_FILES = ("*.pyc", "*.pyx", "*.pxd", "*.c", "*.cpp", "*.h", "*.hpp", "*.a", "*.pyi")


def install(lock: Path, target: Path) -> None:
    """Install the lock's wheels for the runtime, whatever machine this is."""
    command = [
        sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--require-hashes", "--only-binary=:all:",
        "--platform", "manylinux_2_28_aarch64", "--platform", "manylinux2014_aarch64", "--implementation", "cp",
        "--python-version", "3.13", "--ignore-requires-python", "--target", str(target), "-r", str(lock),
    ]  # fmt: skip
    run(command, f"the wheels of {lock.name} could not be installed")


def strip(target: Path) -> None:
    """Remove what a function never runs: tests, headers, sources, caches."""
    for folder in sorted((p for p in target.rglob("*") if p.is_dir() and p.name in USELESS_FOLDERS), reverse=True):
        # NumPy imports a package of this name; it is not one of its tests.
        if folder.name == "tests" and folder.parent.name == "_core":
            continue
        shutil.rmtree(folder, ignore_errors=True)
    if not (target / "cffi").exists():  # zstandard's second backend, 11 MB, needs it
        for file in target.glob("zstandard/_cffi*.so"):
            file.unlink()
    for pattern in USELESS_FILES:
        for file in target.rglob(pattern):
            file.unlink(missing_ok=True)


def cross_compiler() -> tuple[list[str], dict[str, str]]:
    """The command of a C compiler for arm64 and the glibc of python3.13 on Lambda, and the environment that it needs."""
    lock = ROOT / "requirements" / "cross.lock"
    zig = ROOT / "build" / f"zig-{zlib.crc32(lock.read_bytes()):08x}"
    if not zig.exists():
        zig.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=zig.parent) as folder:
            made = Path(folder) / "zig"
            command = [
                sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--require-hashes", "--only-binary=:all:",
                "--target", str(made), "-r", str(lock),
            ]  # fmt: skip
            run(command, f"the C compiler of {lock.name} could not be installed")
            try:
                made.rename(zig)
            except OSError:
                if not zig.exists():  # else another build was first
                    raise
    environment = {**os.environ, "PYTHONPATH": str(zig), "ZIG_GLOBAL_CACHE_DIR": str(zig / "cache")}
    return [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu.2.34", "-s"], environment


def compile_kernels(compiler: Sequence[str], environment: dict[str, str], target: Path) -> None:
    """Compile the kernels into ``target``, with the arguments that installing the project gives."""
    [kernels] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    library = target / f"{kernels['name'].replace('.', '/')}.so"
    sources = [str(ROOT / source) for source in kernels["sources"]]
    command = [*compiler, "-shared", "-fPIC", *kernels["extra-compile-args"], "-o", str(library), *sources]
    run(command, "the kernels could not be compiled", environment)


def run(command: Sequence[str], failed: str, environment: dict[str, str] | None = None) -> None:
    """Run a command; where it fails, leave with a sentence and what the command said of its errors."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        problems = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        sys.exit(f"{failed}: {' '.join(problems)[:500]}")


def main() -> None:
    """Package one function."""
    name, target = sys.argv[1], Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    install(ROOT / "requirements" / f"{name}.lock", target)
    strip(target)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, target / package, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*USELESS_OURS))
    if (target / "numpy").exists():
        compile_kernels(*cross_compiler(), target)


if __name__ == "__main__":
    main()
