"""How commands speak: tables and progress on the terminal, JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

out = Console(markup=False, emoji=False)
"""What was asked for: standard output. Square brackets in names from outside are text, no markup; `:key:` is no emoji."""
err = Console(stderr=True, markup=False, emoji=False)
"""Progress, notes and problems: standard error, so that ``--json`` stays clean."""


def table(*columns: str) -> Table:
    """A table that cuts nothing off: what is too long for its column goes on in the next line."""
    made = Table()
    for name in columns:
        made.add_column(name, overflow="fold")
    return made


def print_json(value: Any) -> None:
    """Write one JSON document and a newline to standard output; in ASCII where that cannot say it otherwise."""
    if sys.stdout is None:  # closed by whoever started the command
        return
    try:
        text = msgspec.json.format(msgspec.json.encode(value)).decode()
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), indent=2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
