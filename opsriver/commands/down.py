"""``opsriver down`` and ``opsriver status``."""

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


def status(state: StateOption = DEFAULT_STATE, as_json: JsonOption = False) -> None:
    """Tell whether the embedded AWS runs, and where."""
    from opsriver import embedded
    from opsriver.embedded.emulator import born

    stack = embedded.running(state)
    mapper = stack is not None and born(stack.mapper.pid) == stack.mapper.born
    if as_json:
        print_json(
            {"running": stack is not None, "mapper": mapper, "endpoint": stack.endpoint if stack else None,
             "stackName": stack.stack_name if stack else None}
        )  # fmt: skip
    elif stack is None:
        out.print(f"nothing runs in {state}", highlight=False)
    else:
        note = "" if mapper else "; the mapper has died: `opsriver up --detach` starts it again"
        out.print(f"stack {stack.stack_name} runs at {stack.endpoint}{note}", highlight=False)
