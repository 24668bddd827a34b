"""JSON Schema files from the types: ``python -m schemas.generate`` writes them, ``--check`` compares.

The files under ``schemas/json`` are for those who produce or consume what travels without our
Python types. They are generated, never edited; a test fails where they have drifted.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from schemas.dead_letters import DeadLetter
from schemas.events import AlarmStateChange, HostSample, MetricSample
from schemas.insights import Insight

DIRECTORY = Path(__file__).parent / "json"

TYPES: dict[str, type[msgspec.Struct]] = {
    "metric-sample": MetricSample,
    "host-sample": HostSample,
    "alarm-event": AlarmStateChange,
    "insight": Insight,
    "dead-letter": DeadLetter,
}
"""File name (without ``.schema.json``) and the type it describes."""


def schema(name: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one of TYPES, as plain dictionaries."""
    (reference,), components = msgspec.json.schema_components([TYPES[name]], ref_template="#/$defs/{name}")
    own = components.pop(reference["$ref"].rpartition("/")[2])
    _clean(own)
    for component in components.values():
        _clean(component)
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:opsriver:{name}", **own}
    return {**document, "$defs": components} if components else document


def _clean(described: dict[str, Any]) -> None:
    """Take the indentation out of a docstring that became a description."""
    if "description" in described:
        described["description"] = inspect.cleandoc(described["description"])


def render(name: str) -> str:
    """The file's content."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def drifted(directory: Path) -> list[str]:
    """Names of files in ``directory`` that are missing, differ from the types, or describe none."""
    wrong = []
    for name in TYPES:
        path = directory / f"{name}.schema.json"
        if not path.is_file() or path.read_text(encoding="utf-8") != render(name):
            wrong.append(path.name)
    known = {f"{name}.schema.json" for name in TYPES}
    return wrong + sorted(path.name for path in directory.glob("*.json") if path.name not in known)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the files. Exit status 1: they have drifted; 2: they cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m schemas.generate", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs from its type")
    parser.add_argument("--out", type=Path, default=DIRECTORY, help="folder of the files (default: schemas/json)")
    chosen = parser.parse_args(arguments)
    if chosen.check:
        wrong = drifted(chosen.out)
        if wrong:
            print(f"drifted: {', '.join(wrong)}; run python -m schemas.generate", file=sys.stderr)
        return 1 if wrong else 0
    try:
        chosen.out.mkdir(parents=True, exist_ok=True)
        for name in TYPES:
            (chosen.out / f"{name}.schema.json").write_text(render(name), encoding="utf-8")
    except OSError as error:
        print(f"{error.filename} cannot be written: {error.strerror}; choose another folder by --out", file=sys.stderr)
        return 2
    print(f"{len(TYPES)} schemas written to {chosen.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
