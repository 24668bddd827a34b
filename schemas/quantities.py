"""Quantities and spans of time as people read them."""

from __future__ import annotations

import math

SHARES = ("Percent", "%")
"""Units of shares, of which none is less than nothing."""
_UNITS = {
    "Percent": " %",
    "Seconds": " s",
    "Milliseconds": " ms",
    "Bytes": " B",
    "None": "",
    "Count": "",
    "Count/Second": " a second",
}
_COUNTS = (None, "None", "Count", "Count/Second")
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def quantity(value: float, unit: str | None) -> str:
    """A value with three significant digits, a decimal prefix where it helps, and its unit."""
    suffix = _UNITS.get(unit or "", f" {unit}" if unit else "")
    if unit in ("Bytes", "Bytes/Second") or (unit in _COUNTS and abs(value) >= 1e6):
        for size, prefix in _PREFIXES:
            if abs(value) >= size:
                base = "B" if unit == "Bytes" else "B/s" if unit == "Bytes/Second" else ""
                return f"{_digits(value / size)} {prefix}{base}".rstrip() + (" a second" if unit == "Count/Second" else "")
        suffix = " B" if unit == "Bytes" else " B/s" if unit == "Bytes/Second" else suffix
    return f"{_digits(value)}{suffix}"


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        return f"{value:.3g}"
    if size >= 1e4:  # five digits say no more than four
        return f"{float(f'{value:.4g}'):,.0f}"
    decimals = max(0, 2 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}"


def duration(milliseconds: float) -> str:
    """A span of time in the unit that reads best: ``45 s``, ``12 min``, ``5 h``, ``40 days``."""
    seconds = milliseconds / 1000
    for size, name in ((86_400 * 2, "days"), (7_200, "h"), (120, "min")):
        if seconds >= size:
            per = {"days": 86_400, "h": 3_600, "min": 60}[name]
            return f"{seconds / per:.0f} {name}"
    return f"{seconds:.0f} s"
