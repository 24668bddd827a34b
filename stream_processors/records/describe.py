"""Keeps docs/formats.md true: ``python -m stream_processors.records.describe`` rewrites what is generated.

Generated are the tables between ``<!-- begin … -->`` and ``<!-- end … -->``, and after every JSON
example the block that shows what it becomes. ``--check`` writes nothing and fails where they differ.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from schemas import names
from schemas.events import AlarmSignal
from stream_processors.records import decode, document, kpl, packed, refused, services, sink, times
from stream_processors.records.batch import EventBatch, StreamRecord

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"
ARRIVAL = 1_772_366_405_000
"""Arrival of the examples, 2026-03-01T12:00:05Z."""

_EXAMPLE = re.compile(r"```json\n(?P<example>.*?)\n```\n\nBecomes:\n\n```text\n.*?```", re.DOTALL)


def examples(text: str) -> list[bytes]:
    """The JSON examples of the document, in order."""
    return [found["example"].encode() for found in _EXAMPLE.finditer(text)]


def decoded(example: bytes) -> EventBatch:
    """What an example becomes, as a record that arrived at ARRIVAL."""
    return decode.decode([StreamRecord("shardId-000000000000", "1", "key", ARRIVAL, example)])


def render(text: str) -> str:
    """The document with its generated parts made anew."""
    for name, table in (("bounds", _bounds()), ("codes", _codes()), ("services", _services())):
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        head, found, rest = text.partition(begin)
        if not found or end not in rest:
            raise ValueError(f"docs/formats.md has no part {name!r}; put {begin.strip()} and {end} where it belongs")
        text = head + begin + table + end + rest.partition(end)[2]
    return _EXAMPLE.sub(
        lambda found: f"```json\n{found['example']}\n```\n\nBecomes:\n\n```text\n{_becomes(found['example'].encode())}```",
        text,
    )


def _becomes(example: bytes) -> str:
    batch = decoded(example)
    lines = [
        f"{resource}  {series}  {value:.12g}{' ' + unit if unit else ''}  {times.written(timestamp)}"
        for resource, series, value, unit, timestamp in zip(
            batch.resource, batch.series, batch.value, batch.unit, batch.timestamp, strict=True
        )
    ]
    for placed in batch.signals:
        signal = placed.signal
        if isinstance(signal, AlarmSignal):
            state = {True: "begins", False: "is over", None: "is told once"}[signal.active]
            lines.append(f"{signal.severity} {signal.resource}: {signal.message} ({state})")
        else:
            lines.append(f"{signal}")
    lines += [f"refused, {letter.code}: {letter.reason}" for letter in batch.dead_letters]
    return "".join(f"{line}\n" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _bounds() -> str:
    day = 24 * 60 * 60 * 1000
    return _table(
        ["what", "at most"],
        [
            ["resource, metric, unit, name or value of a dimension", f"{names.MAX_NAME_LENGTH} characters"],
            ["dimensions of a metric", f"{names.MAX_DIMENSIONS}"],
            ["name of a series: metric and dimensions", f"{names.MAX_SERIES_LENGTH:,} characters"],
            ["time after the record's arrival", f"{times.MAX_AHEAD // 3_600_000} hour"],
            ["time before the record's arrival", f"{times.MAX_BEHIND // day} days"],
            ["nesting of a document", f"{document.MAX_DEPTH} levels"],
            ["commas and brackets of a document", f"{document.MAX_TOKENS:,}"],
            ["user records of an aggregate", f"{kpl.MAX_USER_RECORDS:,}"],
            ["events and refused parts of a Kinesis record", f"{sink.MAX_ITEMS:,}"],
            ["bytes that a Kinesis record's packed payloads unpack to", f"{packed.MAX_UNPACKED:,}"],
            [f"growth of a payload that unpacks to more than {packed.FREE:,} bytes", f"{packed.MAX_RATIO} times"],
            ["gzip members or zstd frames of a payload", f"{packed.MAX_PARTS}"],
        ],
    )


def _codes() -> str:
    return _table(["code", "meaning"], [[f"`{code}`", meaning] for code, meaning in refused.CODES.items()])


def _services() -> str:
    rows = []
    for (source, detail_type), rule in sorted(services.RULES.items()):
        levels: dict[str, list[str]] = {}
        for state, level in rule.severities.items():
            levels.setdefault(level, []).append(state)
        told = [f"{level}: {', '.join(states)}" for level, states in levels.items()]
        severity: str = "; ".join([*told, f"else {rule.default}"]) if told else rule.default
        if source == "aws.guardduty":
            severity = "by its number: 9 CRITICAL, 7 HIGH, 4 MEDIUM, else LOW"
        begins, ends = (", ".join(sorted(states)) or ("always" if states else "–") for states in (rule.begins, rule.ends))
        rows.append([f"`{source}`", detail_type, severity, begins, ends])
    return _table(["source", "detail-type", "severity", "begins at", "ends at"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check the document. Exit status 1: it has drifted; 2: it cannot be read or written."""
    parser = argparse.ArgumentParser(
        prog="python -m stream_processors.records.describe", description="Rewrite the generated parts of a document."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the document has drifted")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="the document (default: docs/formats.md)")
    chosen = parser.parse_args(arguments)
    try:
        text = chosen.document.read_text(encoding="utf-8")
        made = render(text)
        if not chosen.check:
            chosen.document.write_text(made, encoding="utf-8")
    except OSError as error:
        print(f"{chosen.document}: {error.strerror}; name the document by --document", file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if chosen.check and made != text:
        print("docs/formats.md has drifted; run python -m stream_processors.records.describe", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
