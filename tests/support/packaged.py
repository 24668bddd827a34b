"""Imports a module as a function would that is built from a lock: ``python -m tests.support.packaged MODULE PIN…``.

Packages that are neither pinned nor brought by Lambda's Python runtime are not to be found. Prints what was asked for
and is missing; nothing where all is there.
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import packages_distributions
from typing import Any

RUNTIME = {"boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3"}
"""Distributions of Lambda's own."""
OURS = {"agents", "consumers", "runtime", "schemas", "stream_processors"}


class Missing:
    """Finds nothing of what is not in the function's zip."""

    def __init__(self, pinned: set[str]) -> None:
        self._there, self._known = pinned | RUNTIME, packages_distributions()

    def find_spec(self, name: str, *_: Any) -> None:
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in OURS or top not in self._known:
            return
        if not {one.lower().replace("_", "-") for one in self._known[top]} & self._there:
            raise ModuleNotFoundError(f"No module named {name!r} in the function's zip", name=name)


def main() -> None:
    module, *pins = sys.argv[1:]
    sys.meta_path.insert(0, Missing(set(pins)))  # type: ignore[arg-type]
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        print(error)


if __name__ == "__main__":
    main()
