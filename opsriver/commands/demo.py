"""``opsriver demo``: from real metrics to a delivered alert, on this machine."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from opsriver.errors import Problem
from opsriver.output import err, out, print_json

DEMO_STATE = Path(".opsriver/demo")
MARK = "demo"
"""A file in a state folder that a demo made, and may remove."""


def demo(
    hosts: Annotated[int, typer.Option(min=40, max=500, help="Hosts of the simulated fleet.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the fleet.")] = 1,
    report: Annotated[Path, typer.Option(help="Where the summary is written as JSON.")] = Path("build/demo.json"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the embedded AWS running.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    state: Annotated[
        Path, typer.Option("--state", help="State folder of the demo's embedded AWS; it begins anew.")
    ] = DEMO_STATE,
) -> None:
    """Run the whole pipeline: a fleet with faults, and this machine under load, to alerts delivered by SNS."""
    from rich.live import Live

    from opsriver import embedded
    from opsriver.demo import show
    from opsriver.demo.run import Demo

    if embedded.running(state) is not None:
        raise Problem(f"a demo's embedded AWS runs in {state} already; stop it with `opsriver down --state {state}`")
    _writable(report)
    _begin_anew(state)
    board = show.Board()
    try:
        with Live(board, console=err, refresh_per_second=4, transient=False):
            result = Demo(state, board, hosts=hosts, seed=seed).run()
    finally:
        if not keep:
            embedded.stop(state)
    if as_json:
        print_json(result)
    else:
        out.print()
        out.print(show.report(result))
    try:
        report.write_text(json.dumps(result, indent=1))
    except OSError as error:
        raise Problem(f"--report {report} cannot be written: {error.strerror}; choose another file") from None
    if not as_json:
        out.print(f"\nthe same as JSON: {report}", highlight=False)
        if keep:
            out.print(f"still running; stop it with: opsriver down --state {state}", highlight=False)
    if not result["ok"]:
        err.print("opsriver: no alert was delivered for " + " and ".join(result["undelivered"]), style="red")
        raise typer.Exit(1)


def _writable(report: Path) -> None:
    """Raise Problem where the report cannot be written: before the demo, not after its minutes."""
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(f"--report {report} cannot be written: {error.strerror}; choose another file") from None
    if report.is_dir():
        raise Problem(f"--report {report} is a folder; name a file")
    if not os.access(report if report.exists() else report.parent, os.W_OK):
        raise Problem(f"--report {report} cannot be written: permission denied; choose another file")


def _begin_anew(state: Path) -> None:
    """Remove what an earlier demo left. Raises Problem where the folder holds anything else."""
    mine = state == DEMO_STATE or (state / MARK).is_file()
    if state.is_dir() and any(state.iterdir()) and not mine:
        raise Problem(f"--state {state} holds files that no demo made; choose an empty folder, or remove it")
    shutil.rmtree(state, ignore_errors=True)
    try:
        state.mkdir(parents=True, exist_ok=True)
        (state / MARK).touch()
    except OSError as error:
        raise Problem(f"state folder {state} cannot be written: {error.strerror}; choose another with --state") from None
