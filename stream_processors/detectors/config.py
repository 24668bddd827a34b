"""Which detector watches which series, and how: the typed detector configuration.

Rules are tried in order and the first whose patterns match a series decides; a last rule for
everything else is implied. Pure: the file's text comes from outside.
"""

from __future__ import annotations

import fnmatch
import tomllib
from typing import Annotated, Literal

import msgspec


class ConfigurationError(ValueError):
    """The configuration cannot be used; the text names the place, the value and the remedy."""


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A maintenance window in UTC, during which nothing is reported.

    ``start`` and ``end`` are ``HH:MM``; a window may pass midnight. ``days`` are 0 (Monday) to 6
    and name the day on which the window starts.
    """

    start: Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    end: Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    days: tuple[Annotated[int, msgspec.Meta(ge=0, le=6)], ...] = (0, 1, 2, 3, 4, 5, 6)

    def holds(self, timestamp: int) -> bool:
        """Whether epoch milliseconds ``timestamp`` lies in the window (the end is outside)."""
        minutes = timestamp // 60_000
        minute, day = minutes % 1440, (minutes // 1440 + 3) % 7
        start, end = _minute(self.start), _minute(self.end)
        if start < end:
            return day in self.days and start <= minute < end
        return (day in self.days and minute >= start) or ((day - 1) % 7 in self.days and minute < end)


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How series are watched whose resource and metric match the patterns (``*``, ``?``, ``[…]``).

    ``detector`` is ``seasonal`` or ``off``. With ``direction`` ``up`` or ``down`` only values
    above or below the expected one are reported. ``at_most`` bounds the severity. ``silence``
    tells whether the series' falling silent is reported.
    """

    resource: str = "*"
    metric: str = "*"
    detector: Literal["seasonal", "off"] = "seasonal"
    direction: Literal["both", "up", "down"] = "both"
    at_most: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"] = "CRITICAL"
    silence: bool = True
    maintenance: tuple[Window, ...] = ()

    def matches(self, resource: str, metric: str) -> bool:
        """Whether the rule speaks of this series (case matters)."""
        return fnmatch.fnmatchcase(resource, self.resource) and fnmatch.fnmatchcase(metric, self.metric)

    def muted(self, timestamp: int) -> bool:
        """Whether ``timestamp`` (epoch ms) lies in a maintenance window."""
        return any(window.holds(timestamp) for window in self.maintenance)


class DetectorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration. Bounds protect a shard from a flood of invented series."""

    rules: tuple[Rule, ...] = ()
    max_series_per_resource: Annotated[int, msgspec.Meta(ge=1)] = 1_000
    max_series: Annotated[int, msgspec.Meta(ge=1)] = 250_000
    forget_after_days: Annotated[int, msgspec.Meta(ge=1)] = 14

    def rule(self, resource: str, metric: str) -> Rule:
        """The rule that decides about a series."""
        for rule in self.rules:
            if rule.matches(resource, metric):
                return rule
        return _EVERYTHING


_EVERYTHING = Rule()


def parse(text: str | bytes, where: str = "detector configuration") -> DetectorConfig:
    """Read a configuration from TOML.

    Raises ConfigurationError that says where and what is wrong.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        return msgspec.convert(tomllib.loads(text), DetectorConfig)
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{where} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{where} is not valid TOML: {error}; mend that place") from None
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {error}; see docs/detectors.md for what may stand there") from None
