"""Prints the size of every built function and fails above Lambda's limit of 250 MB unzipped."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

LIMIT = 250 * 1024 * 1024


def main() -> int:
    """Print the table; 1 where a function is too large or nothing was built."""
    built = Path(".aws-sam/build")
    functions = sorted(p for p in built.iterdir() if p.is_dir()) if built.is_dir() else []
    if not functions:
        print("nothing is built; run `make build`", file=sys.stderr)
        return 1
    table = Table("function", "MB", "of 250", title="unzipped size for python3.13 on arm64")
    large = False
    for function in functions:
        size = sum(f.stat().st_size for f in function.rglob("*") if f.is_file())
        large |= size > LIMIT
        table.add_row(function.name, f"{size / 1e6:.1f}", f"{size / LIMIT:.0%}")
    Console().print(table)
    return int(large)


if __name__ == "__main__":
    sys.exit(main())
