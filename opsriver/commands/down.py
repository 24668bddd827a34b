"""``opsriver down``: the embedded AWS stops and keeps its data."""

from __future__ import annotations

from typing import Annotated

import typer

from opsriver.output import err, out, print_json
from opsriver.target import DEFAULT_STATE, StateOption

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def down(state: StateOption = DEFAULT_STATE, as_json: JsonOption = False) -> None:
    """Stop the embedded AWS; it comes up again with its data."""
    from opsriver import embedded

    with err.status("stopping"):
        stopped = embedded.stop(state)
    if as_json:
        print_json({"stopped": stopped, "state": str(state)})
    else:
        out.print(f"stopped; its data is in {state}" if stopped else f"nothing ran in {state}", highlight=False)
