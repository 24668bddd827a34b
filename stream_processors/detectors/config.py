"""Which detector watches which series, and how: the typed detector configuration.

Rules are tried in order and the first whose patterns match a series decides; a last rule for
everything else is implied. Pure: the file's text comes from outside.
"""

from __future__ import annotations

import fnmatch
import math
import re
import tomllib
from typing import Annotated, Literal, get_args, get_type_hints

import msgspec

from stream_processors.detectors import allowed

OWN = ("seasonal", "deep", "off")
"""Detectors other than river's: the default one, the one for series that matter, and none."""
DEFAULT_SERIES, MOST_SERIES = 250_000, 10_000_000
"""Series of a shard: where neither a configuration nor memory bounds them, and at most."""
_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) per (?:(\d{1,6}(?:\.\d{1,6})?) )?(hour|day|week|month|year)s?")
_MILLISECONDS = {"hour": 3.6e6, "day": 8.64e7, "week": 6.048e8, "month": 30 * 8.64e7, "year": 365 * 8.64e7}


class ConfigurationError(ValueError):
    """The configuration cannot be used; the text names the place, the value and the remedy."""


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A maintenance window in UTC, during which nothing is reported.

    ``start`` and ``end`` are ``HH:MM``; a window may pass midnight, and one that ends when it
    starts lasts a day. ``days`` are 0 (Monday) to 6 and name the day on which the window starts.
    """

    start: Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    end: Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    days: tuple[Annotated[int, msgspec.Meta(ge=0, le=6)], ...] = (0, 1, 2, 3, 4, 5, 6)

    def __post_init__(self) -> None:
        if not self.days:
            raise ValueError("with days = [] a window never begins; leave days out where it is to begin every day")

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


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Values that are fine by themselves; one outside is HIGH, whatever the detector says."""

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ValueError("bounds need low, high or both")
        for name, value in (("low", self.low), ("high", self.high)):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} = {value} is not a finite number; leave it out where there is no bound")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low = {self.low:g} is not below high = {self.high:g}")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How series are watched whose resource and metric match the patterns (``*``, ``?``, ``[…]``).

    ``detector`` is ``seasonal``, ``deep``, ``off`` or the import path of a river model that
    ``allowed.MODELS`` names, to which ``parameters`` go. With ``direction`` ``up`` or ``down`` only
    values above or below the expected one are reported. ``at_most`` bounds the severity, of silence too. ``bounds``
    make values outside HIGH. ``false_alarms``, such as ``1 per 30 days``, sets how often ordinary
    values of one series may page, instead of the detector's own scale. ``silence`` tells whether the
    series' falling silent is reported, ``prediction`` whether it is foretold that it reaches its limit
    (a bound of the rule, or the natural end of a share in use), ``correlation`` whether it is compared
    with the other metrics of its host. ``kind`` tells whether values are counts since some start, of which the
    rate is judged (``counter``), or levels (``gauge``); ``auto`` finds out.
    """

    resource: str = "*"
    metric: str = "*"
    detector: str = "seasonal"
    parameters: dict[str, int | float] = {}
    direction: Literal["both", "up", "down"] = "both"
    at_most: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"] = "CRITICAL"
    silence: bool = True
    maintenance: tuple[Window, ...] = ()
    bounds: Bounds | None = None
    false_alarms: str | None = None
    prediction: bool = True
    correlation: bool = True
    kind: Literal["auto", "counter", "gauge"] = "auto"

    def __post_init__(self) -> None:
        if self.detector in OWN:
            if self.parameters:
                raise ValueError(f"detector {self.detector!r} takes no parameters; remove {', '.join(self.parameters)}")
        elif self.detector.startswith("river."):
            allowed.check(self.detector, self.parameters)
        else:
            names = ", ".join((*OWN, *sorted(allowed.MODELS)))
            raise ValueError(f"detector {self.detector!r} is not known; allowed are {names}")
        if self.detector == "off" and (self.bounds or self.false_alarms):
            raise ValueError('bounds and false_alarms need a detector; with "off" nothing judges the series')
        if self.false_alarms is not None and not self.false_alarm_rate > 0:
            raise ValueError(f'false_alarms {self.false_alarms!r} is not a rate; write it as "1 per 30 days"')

    @property
    def bank(self) -> str:
        """Name of the bank that holds the series of this rule."""
        return allowed.bank_name(self.detector, self.parameters)

    @property
    def false_alarm_rate(self) -> float:
        """False alarms a millisecond that the rule allows; 0 where it leaves the detector's own scale."""
        found = _RATE.fullmatch(self.false_alarms or "")
        if not found:
            return 0.0
        count, length, unit = found.groups()
        span = float(length or 1) * _MILLISECONDS[unit]
        return float(count) / span if span > 0 else 0.0

    def matches(self, resource: str, metric: str) -> bool:
        """Whether the rule speaks of this series (case matters)."""
        return fnmatch.fnmatchcase(resource, self.resource) and fnmatch.fnmatchcase(metric, self.metric)

    def muted(self, timestamp: int) -> bool:
        """Whether ``timestamp`` (epoch ms) lies in a maintenance window."""
        return any(window.holds(timestamp) for window in self.maintenance)


class DetectorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration. Bounds protect a shard from a flood of invented series.

    Without ``max_series`` a shard takes as many as the memory holds that its scorer was told of, and
    ``DEFAULT_SERIES`` where it was told of none.
    """

    rules: tuple[Rule, ...] = ()
    max_series_per_resource: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 1_000
    max_series: Annotated[int, msgspec.Meta(ge=1, le=MOST_SERIES)] | None = None
    forget_after_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 14

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
            text = text.decode("utf-8-sig")
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{where} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except RecursionError:
        raise ConfigurationError(f"{where} is not usable TOML: it is nested too deeply; rules need three levels") from None
    except ValueError as error:  # TOMLDecodeError is one; so is what a number of too many digits raises
        raise ConfigurationError(f"{where} is not valid TOML: {error}; mend that place") from None
    try:
        return msgspec.convert(document, DetectorConfig)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {_told(str(error), document)}") from None


_PLACES = re.compile(r"\.(\w+)|\[(\d+)\]")
_KEYS: dict[str, type[msgspec.Struct]] = {"rules": Rule, "maintenance": Window, "bounds": Bounds}


def _told(error: str, document: object) -> str:
    """What was wrong, with the value that stands there and what may."""
    message, _, path = error.partition(" - at `$")
    if message.startswith(("Expected", "Invalid enum", "Object")):
        value, keys = document, ["", *(key for key, _ in _PLACES.findall(path) if key)]
        for key, index in _PLACES.findall(path):
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and index and int(index) < len(value):
                value = value[int(index)]
        if "unknown field" in message:
            known = _KEYS.get(keys[-1], DetectorConfig).__struct_fields__
            message += f"; it may have {', '.join(known)}"
        elif message.startswith("Invalid enum"):
            message += f"; it may be {', '.join(get_args(get_type_hints(Rule)[keys[-1]]))}"
        elif not isinstance(value, dict | list):
            message += f", not {str(value)[:60]!r}"
        message += "; docs/configuration.md has every key with an example"
    place = path.strip("`.")
    return f"{place}: {message}" if place else message
