"""``opsriver status``: what runs here, and where."""

from __future__ import annotations

from typing import Annotated

import typer

from opsriver.output import out, print_json
from opsriver.target import DEFAULT_STATE, StateOption


def status(
    state: StateOption = DEFAULT_STATE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell whether the embedded AWS runs, and where."""
    from opsriver import embedded

    stack = embedded.running(state)
    if as_json:
        print_json(
            {
                "running": stack is not None,
                "endpoint": stack.endpoint if stack else None,
                "stackName": stack.stack_name if stack else None,
                "state": str(state),
                "alive": {name: worker.alive for name, worker in stack.workers.items()} if stack else {},
                "pids": stack.pids if stack else {},
            }
        )
        return
    if stack is None:
        out.print(f"nothing runs in {state}; `opsriver up` starts it", highlight=False, soft_wrap=True)
        return
    out.print(f"stack {stack.stack_name} runs at {stack.endpoint}", highlight=False, soft_wrap=True)
    for name, worker in stack.workers.items():
        note = f"process {worker.pid}" if worker.alive else "has ended; `opsriver up --detach` starts it again"
        out.print(f"  {name:<11}{note}", highlight=False, soft_wrap=True)
