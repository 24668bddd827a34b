"""The ``opsriver`` command."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import TYPE_CHECKING

from opsriver.errors import Problem

if TYPE_CHECKING:
    import typer

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

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def application() -> typer.Typer:
    """The command line with every command registered."""
    import typer

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
        _print_anything()
        application()()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _flush()
        sys.exit(0)
    except Exception as error:
        status = _tell(error)
        _flush()
        sys.exit(status)


def _flush() -> None:
    """Write what standard output holds; what it does not take is dropped, not tried again when the interpreter ends."""
    if sys.stdout is None:  # closed by whoever started the command
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_anything() -> None:
    """Characters that the terminal's encoding lacks are escaped; so are bytes of a file name that are no text."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _tell(error: Exception) -> int:
    """Say what went wrong on standard error; the exit status."""
    from opsriver.output import err

    known = str(error) if isinstance(error, Problem) else _of_the_system(error)
    if known is not None:
        err.print(f"opsriver: {known}", style="red", highlight=False, soft_wrap=True)
        return 2
    err.print(f"opsriver: unexpected {type(error).__name__}: {error}", style="red", soft_wrap=True)
    err.print(f"opsriver: {_keep(error)}", soft_wrap=True)
    return 1


def _of_the_system(error: Exception) -> str | None:
    """What the system refused, and the remedy; None where it is nothing that a user can mend."""
    if not isinstance(error, OSError):
        return None
    where = f"{str(error.filename)[:200]}: " if error.filename else ""
    remedies = {
        errno.ENOSPC: "free some, or write elsewhere",
        errno.EDQUOT: "free some space, or write elsewhere",
        errno.EFBIG: "raise the limit, or write less",
        **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check its permissions, or choose another path"),
        errno.ENAMETOOLONG: "choose a shorter path",
    }
    remedy = remedies.get(error.errno or 0)
    return f"{where}{error.strerror}; {remedy}" if remedy else None


def _root() -> None:
    """Watches infrastructure: from metrics on Kinesis to an alert a person understands."""


def _keep(error: Exception) -> str:
    """Keep the traceback in a file; where it is."""
    import traceback
    from tempfile import NamedTemporaryFile

    try:
        with NamedTemporaryFile("w", prefix="opsriver-", suffix=".log", delete=False, errors="backslashreplace") as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError as problem:
        return f"its details could not be kept: {problem.strerror}; set TMPDIR to a folder with room"
    return f"details are in {file.name}"


if __name__ == "__main__":
    main()
