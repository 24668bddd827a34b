"""Values as DynamoDB attributes and back, exactly, within what DynamoDB can hold."""

from __future__ import annotations

import math
from typing import Any

LARGEST, SMALLEST = 9.9e125, 1e-130
"""DynamoDB's numbers end where these do; floats go further."""

Attribute = dict[str, Any]
"""An attribute value of the low-level client, e.g. ``{"S": "web-01"}``."""
Item = dict[str, Attribute]
"""An item, a key or a stream image."""


def storable(value: float) -> float:
    """The nearest number that DynamoDB holds: the value itself, or what lies at the end of its range.

    Raises ValueError for NaN, which it cannot hold at all.
    """
    if math.isnan(value):
        raise ValueError("NaN cannot be stored")
    if abs(value) > LARGEST:
        return math.copysign(LARGEST, value)
    return value if abs(value) >= SMALLEST else 0.0


def attribute(value: Any) -> Attribute:
    """Text, a truth value, a number, None, a list or a mapping as an attribute.

    A float keeps every digit (its shortest exact form has at most 17, DynamoDB keeps 38). Raises
    ValueError for NaN.
    """
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, float):
        return {"N": repr(storable(value))}
    if value is None:
        return {"NULL": True}
    if isinstance(value, dict):
        return {"M": {name: attribute(one) for name, one in value.items()}}
    return {"L": [attribute(one) for one in value]}


def plain(value: Attribute) -> Any:
    """The value of an attribute. Whole numbers that fit 64 bits become int, others float."""
    ((kind, content),) = value.items()
    if kind == "N":
        return number(content)
    if kind == "M":
        return {name: plain(one) for name, one in content.items()}
    if kind == "L":
        return [plain(one) for one in content]
    return None if kind == "NULL" else content


def number(text: str) -> int | float:
    """A number as DynamoDB writes it, in whatever form it chose (``1E+3``, ``1000``)."""
    if len(text) < 19 and text.removeprefix("-").isdecimal():
        return int(text)
    return float(text)
