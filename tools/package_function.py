"""Fills a function's build directory: pinned wheels for python3.13 on arm64, and our own packages.

``python tools/package_function.py SET DIRECTORY``; SET names a lock in requirements/.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("agents", "consumers", "runtime", "schemas", "stream_processors")
USELESS_FOLDERS = ("tests", "test", "include", "__pycache__", "benchmarks", "examples", "src")
USELESS_FILES = ("*.pyc", "*.pyx", "*.pxd", "*.c", "*.cpp", "*.h", "*.hpp", "*.a", "*.pyi")


def install(lock: Path, target: Path) -> None:
    """Install the lock's wheels for the runtime, whatever machine this is."""
    command = [
        sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--require-hashes", "--only-binary=:all:",
        "--platform", "manylinux_2_28_aarch64", "--platform", "manylinux2014_aarch64", "--implementation", "cp",
        "--python-version", "3.13", "--ignore-requires-python", "--target", str(target), "-r", str(lock),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        problems = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        sys.exit(f"the wheels of {lock.name} could not be installed: {' '.join(problems)[:500]}")


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


def main() -> None:
    """Package one function."""
    name, target = sys.argv[1], Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    install(ROOT / "requirements" / f"{name}.lock", target)
    strip(target)
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, target / package, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )


if __name__ == "__main__":
    main()
