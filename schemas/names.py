"""Names and their bounds: resources, metrics, dimensions and the series they make.

A *series* is one metric of one resource with one set of dimensions. Names from outside are bounded
here, before they reach a store, a path or a log.
"""

from __future__ import annotations

from collections.abc import Mapping

MAX_NAME_LENGTH = 256
"""Longest resource, metric, unit, dimension name or dimension value, in characters."""
MAX_DIMENSIONS = 30
"""Most dimensions of one metric, as CloudWatch has it."""
MAX_SERIES_LENGTH = 1024
"""Longest series name, in characters."""
RESERVED_PREFIX = "opsriver:"
"""Metrics and resources of this prefix are OpsRiver's own."""

_ESCAPES = str.maketrans({c: "\\" + c for c in "\\{},="})


def name_problem(value: str, what: str) -> str | None:
    """Why ``value`` cannot be a name, in words that name the value; None if it can."""
    if not value:
        return f"{what} is empty; give it a name"
    if len(value) > MAX_NAME_LENGTH:
        return f"{what} has {len(value)} characters, starting {value[:40]!r}; at most {MAX_NAME_LENGTH} are allowed"
    if not value.isprintable():
        return f"{what} {value[:60]!r} holds control characters; remove them"
    if value.startswith(RESERVED_PREFIX):
        return f"{what} {value[:60]!r} starts with {RESERVED_PREFIX!r}, which is reserved; choose another name"
    return None


def series_name(metric: str, dimensions: Mapping[str, str] | None) -> str:
    """Name of a series within its resource: the metric, then its dimensions in canonical order.

    Characters that build the name are escaped, so two different series never share one.
    """
    plain = metric.translate(_ESCAPES)
    if not dimensions:
        return plain
    inside = ",".join(f"{key.translate(_ESCAPES)}={value.translate(_ESCAPES)}" for key, value in sorted(dimensions.items()))
    return f"{plain}{{{inside}}}"
