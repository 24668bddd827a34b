"""Imports modules as a function would that is built from a lock: ``python -m tests.support.packaged MODULE,… PIN…``.

Packages that are neither pinned nor brought by Lambda's Python runtime are not to be found. Prints what was asked for
and is missing; nothing where all is there.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import packages_distributions
from typing import Any

RUNTIME = {"boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3"}
"""Distributions of Lambda's own."""
OURS = {"agents", "consumers", "runtime", "schemas", "stream_processors"}


class Zip:
    """Finds what is in the function's zip, and nothing else of this environment."""

    def __init__(self, pinned: set[str]) -> None:
        self._there, self._known = pinned | RUNTIME, packages_distributions()

    def find_spec(self, name: str, *where: Any) -> ModuleSpec | None:
        top = name.partition(".")[0]
        foreign = top in self._known and top not in sys.stdlib_module_names and top not in OURS
        if foreign and not {one.lower().replace("_", "-") for one in self._known[top]} & self._there:
            return None
        return PathFinder.find_spec(name, *where)


def main() -> None:
    modules, *pins = sys.argv[1:]
    sys.meta_path[sys.meta_path.index(PathFinder)] = Zip(set(pins))  # type: ignore[call-overload]
    for module in modules.split(","):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            print(f"{module}: {error}")


if __name__ == "__main__":
    main()
