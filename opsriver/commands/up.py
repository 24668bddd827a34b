"""``opsriver up``: the embedded AWS with the template deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opsriver.output import err, out, print_json
from opsriver.target import DEFAULT_STATE, StateOption


def up(
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running in the background.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print endpoint, region, stack name and outputs as JSON.")] = False,
    state: StateOption = DEFAULT_STATE,
    port: Annotated[int | None, typer.Option(help="Port on 127.0.0.1; 4566 or any free one without it.")] = None,
    detectors: Annotated[Path | None, typer.Option(help="Detector configuration (TOML) to deploy.")] = None,
    window: Annotated[int | None, typer.Option(min=0, max=300, help="The scorer's batch window in seconds.")] = None,
) -> None:
    """Start the embedded AWS, deploy the template, and keep it running."""
    from opsriver import embedded
    from opsriver.configuration import load

    load(detectors)  # a wrong file is refused before anything starts
    found = embedded.running(state)
    if found is not None:
        found = embedded.restart_mapper(state)
        _tell(found, as_json)
        err.print(f"it ran in {state} already; `opsriver down` stops it", highlight=False, soft_wrap=True)
        if detectors is not None:
            err.print(f"{detectors} was not deployed: stop it first", style="yellow", highlight=False, soft_wrap=True)
        return
    parameters = {} if window is None else {"BatchWindowSeconds": str(window)}
    with err.status("starting") as shown:
        stack = embedded.start(
            state, port=port, parameters=parameters, detectors=detectors, note=lambda step: shown.update(step)
        )
    _tell(stack, as_json)
    if detach:
        return
    err.print("running; Ctrl-C stops it and keeps its data", highlight=False)
    try:
        embedded.watch(stack)
    except KeyboardInterrupt:
        pass
    finally:
        with err.status("stopping"):
            embedded.stop(state)
    err.print(f"stopped; its data is in {state}", highlight=False)


def _tell(stack: object, as_json: bool) -> None:
    from rich.table import Table

    from opsriver.embedded import Stack

    if not isinstance(stack, Stack):
        raise TypeError(stack)
    if as_json:
        print_json(
            {
                "endpoint": stack.endpoint,
                "region": stack.region,
                "stackName": stack.stack_name,
                "outputs": stack.outputs,
                "state": stack.state,
                "pids": stack.pids,
            }
        )
        return
    table = Table(title=f"stack {stack.stack_name} at {stack.endpoint} ({stack.region})")
    table.add_column("output", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in sorted(stack.outputs.items()):
        table.add_row(name, value)
    out.print(table)
    out.print(f"state folder {stack.state}", highlight=False, soft_wrap=True)
