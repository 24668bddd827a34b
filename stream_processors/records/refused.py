"""Why something could not be read: stable codes for programs, sentences for people."""

from __future__ import annotations

import json
from typing import Any

CODES: dict[str, str] = {
    "empty": "There are no bytes, or only white space.",
    "not-json": "The bytes are neither JSON nor lines of JSON, nor a packed or aggregated form of them.",
    "not-utf8": "Text that is not UTF-8.",
    "not-finite": "NaN, an infinity, or a number beyond the range of a double.",
    "wrong-type": "A field is of another type than its format says: a number as text, a truth value, an object.",
    "missing-field": "A field that the format demands is absent.",
    "no-value": "The document is of a known kind and holds no number to watch.",
    "name": "A name is empty, too long, holds control characters, or is reserved; or there are too many dimensions.",
    "time": "The timestamp cannot be read, or lies too far from the record's arrival.",
    "unknown-kind": "JSON of no known format.",
    "too-deep": "Nested deeper than allowed; also an array within an array, or packed data within packed data.",
    "too-large": "More elements, or more bytes when unpacked, than one record may hold.",
    "damaged-aggregate": "The record carries the magic of a KPL aggregate and is not a whole one.",
    "damaged-compression": "The bytes begin like gzip or zstd and cannot be unpacked.",
}
"""Codes of dead letters that the decoder writes, and what each means. Codes are never renamed."""

MAX_REASON = 600
"""Longest reason, in characters; longer ones are cut."""

_TYPES: dict[type, str] = {
    str: "text",
    bool: "a truth value",
    int: "a number",
    float: "a number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


class Refused(Exception):
    """Something was refused. ``code`` is one of CODES, ``reason`` a sentence that names field and value."""

    def __init__(self, code: str, reason: str) -> None:
        # Reasons quote names from outside: no control character of theirs reaches a terminal or a log.
        if not reason.isprintable():
            reason = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in reason)
        if len(reason) > MAX_REASON:
            reason = f"{reason[: MAX_REASON - 1]}…"
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def shown(value: Any, length: int = 60) -> str:
    """A value as JSON would write it, cut to ``length`` characters, safe to print."""
    if isinstance(value, dict | list):
        return "{…}" if isinstance(value, dict) else "[…]"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**length:
        return f"a number of more than {length} digits"
    text = json.dumps(value[: length + 1] if isinstance(value, str) else value)
    return text if len(text) <= length else text[: length - 1] + "…"


def wrong_type(field: str, value: Any, wanted: str) -> Refused:
    """Refusal of a field whose value is of the wrong type; ``wanted`` reads like "a number"."""
    got = _TYPES.get(type(value), type(value).__name__)
    what = got if isinstance(value, dict | list) or value is None else f"{shown(value)}, {got}"
    return Refused("wrong-type", f"{field} is {what}; {wanted} is needed")


def missing(field: str, kind: str) -> Refused:
    """Refusal of a document of which a field is absent."""
    return Refused("missing-field", f"{kind} has no field {field!r}; add it")
