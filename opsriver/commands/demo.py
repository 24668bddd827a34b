"""``opsriver demo``: from real metrics to a delivered alert, on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from opsriver.errors import Problem
from opsriver.output import err, out, print_json


def demo(
    hosts: Annotated[int, typer.Option(min=40, max=500, help="Hosts of the simulated fleet.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the fleet.")] = 1,
    report: Annotated[Path, typer.Option(help="Where the summary is written as JSON.")] = Path("build/demo.json"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the embedded AWS running.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    state: Annotated[Path, typer.Option("--state", help="State folder of the demo's embedded AWS.")] = Path(
        ".opsriver/demo"
    ),
) -> None:
    """Run the whole pipeline: a fleet with faults, and this machine under load, to alerts delivered by SNS."""
    from rich.live import Live

    from opsriver import embedded
    from opsriver.demo import show
    from opsriver.demo.run import Demo

    if embedded.running(state) is not None:
        raise Problem(f"a demo's embedded AWS runs in {state} already; stop it with `opsriver down --state {state}`")
    shutil.rmtree(state, ignore_errors=True)
    board = show.Board()
    try:
        with Live(board, console=err, refresh_per_second=4, transient=False):
            result = Demo(state, board, hosts=hosts, seed=seed).run()
    finally:
        if not keep:
            embedded.stop(state)
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        import json

        report.write_text(json.dumps(result, indent=1))
    except OSError as error:
        raise Problem(f"--report {report} cannot be written: {error.strerror}; choose another file") from None
    if as_json:
        print_json(result)
    else:
        out.print()
        out.print(show.report(result))
        out.print(f"\nthe same as JSON: {report}", highlight=False)
        if keep:
            out.print(f"still running; stop it with: opsriver down --state {state}", highlight=False)
    if not result["ok"]:
        err.print("opsriver: no alert was delivered for " + " and ".join(result["undelivered"]), style="red")
        raise typer.Exit(1)
