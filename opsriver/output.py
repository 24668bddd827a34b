"""How commands speak: tables and progress on the terminal, JSON for programs."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from rich.console import Console

out = Console()
"""What was asked for: standard output."""
err = Console(stderr=True)
"""Progress, notes and problems: standard error, so that ``--json`` stays clean."""


def print_json(value: Any) -> None:
    """Write one JSON document and a newline to standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")
    sys.stdout.flush()
