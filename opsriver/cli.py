"""The ``opsriver`` command."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from tempfile import NamedTemporaryFile

import typer

from opsriver.errors import Problem
from opsriver.output import err

COMMANDS: dict[str, str] = {
    "up": "opsriver.commands.up:up",
    "down": "opsriver.commands.down:down",
    "status": "opsriver.commands.status:status",
    "demo": "opsriver.commands.demo:demo",
    "agent": "opsriver.commands.agent:agent",
    "simulate": "opsriver.commands.simulate:simulate",
    "score": "opsriver.commands.score:score",
    "evaluate": "opsriver.commands.evaluate:evaluate",
    "replay": "opsriver.commands.replay:replay",
    "insights": "opsriver.commands.insights:insights",
    "feedback": "opsriver.commands.feedback:feedback",
    "alerts": "opsriver.commands.alerts:alerts",
    "version": "opsriver.commands.version:version",
}
"""Command names and where their functions are, ``module:function``."""

GROUPS: dict[str, str] = {
    "archive": "opsriver.commands.archive:app",
    "dlq": "opsriver.commands.dlq:app",
}
"""Groups of commands and where their Typer applications are."""


def application() -> typer.Typer:
    """The command line with every command registered."""
    app = typer.Typer(
        name="opsriver",
        help="Watches infrastructure: from metrics on Kinesis to an alert a person understands.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback()(_root)
    for name, place in COMMANDS.items():
        module, function = place.split(":")
        app.command(name)(getattr(importlib.import_module(module), function))
    for name, place in GROUPS.items():
        module, attribute = place.split(":")
        app.add_typer(getattr(importlib.import_module(module), attribute), name=name)
    return app


def main() -> None:
    """Run the command line; no traceback reaches the user."""
    try:
        application()()
    except Problem as problem:
        err.print(f"opsriver: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        err.print(f"opsriver: unexpected {type(error).__name__}: {error}", style="red", markup=False, soft_wrap=True)
        err.print(f"opsriver: details are in {_keep(traceback.format_exc())}", markup=False, soft_wrap=True)
        sys.exit(1)


def _root() -> None:
    """Watches infrastructure: from metrics on Kinesis to an alert a person understands."""


def _keep(text: str) -> Path:
    with NamedTemporaryFile("w", prefix="opsriver-", suffix=".log", delete=False) as file:
        file.write(text)
    return Path(file.name)


if __name__ == "__main__":
    main()
