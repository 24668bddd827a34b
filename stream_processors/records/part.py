"""Bytes of a part of a parsed document, for the dead letter of that part alone."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def encoded(part: Any) -> bytes:
    """The part as JSON. Integers beyond 64 bits are written out, as they came."""
    try:
        return msgspec.json.encode(part)
    except OverflowError:
        return json.dumps(part).encode()
