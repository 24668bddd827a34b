"""``opsriver version``."""

from __future__ import annotations

from importlib.metadata import version as installed
from typing import Annotated

import typer

from opsriver.output import out, print_json


def version(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print the installed version."""
    if as_json:
        print_json({"version": installed("opsriver")})
    else:
        out.print(installed("opsriver"))
