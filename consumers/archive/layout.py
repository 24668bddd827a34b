"""Where files of the archive lie, and which of an hour's files count.

An hour's folder is ``<data set>/dt=YYYY-MM-DD/hr=HH/``. Its manifests ``_manifest-<number>.json`` are
each written once and never changed; the one with the greatest number says which compacted files hold
the rows of which small files. A small file that it does not name counts by itself; a compacted file
that it does not name is left from a run that was killed, and does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

HOUR_MS = 3_600_000
COMPACTED = "compacted-"
DATA_SETS = ("events", "insights")

_MANIFEST = re.compile(r"_manifest-(\d{8})\.json")
_DAY = re.compile(r"dt=(\d{4}-\d{2}-\d{2})")
_HOUR = re.compile(r"hr=([01]\d|2[0-3])")


class Kept(msgspec.Struct, frozen=True):
    """A compacted file."""

    name: str
    bytes: int
    rows: int


class Replaced(msgspec.Struct, frozen=True):
    """A file whose rows a compacted file holds, and since when (epoch ms)."""

    name: str
    bytes: int
    since: int


class Manifest(msgspec.Struct, frozen=True):
    """What an hour consists of beside the small files that came since."""

    number: int = 0
    files: list[Kept] = []
    replaced: list[Replaced] = []


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an hour's folder. ``modified`` is epoch milliseconds."""

    name: str
    bytes: int
    modified: int = 0


@dataclass(slots=True)
class Hour:
    """Files of one hour by what they are; ``live`` holds every row, all else holds none or copies."""

    live: list[Entry] = field(default_factory=list)
    replaced: list[Entry] = field(default_factory=list)
    left_over: list[Entry] = field(default_factory=list)
    manifests: list[Entry] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def partition(hour: int) -> str:
    """Folder of an hour of event time, counted from the epoch: ``dt=YYYY-MM-DD/hr=HH``."""
    moment = datetime.fromtimestamp(hour * 3600, UTC)
    return f"dt={moment:%Y-%m-%d}/hr={moment:%H}"


def hour_of(day: str, hour: str) -> int | None:
    """The hour (since the epoch) of a pair of folder names; None where they name none."""
    days, hours = _DAY.fullmatch(day), _HOUR.fullmatch(hour)
    if days is None or hours is None:
        return None
    try:
        return int(datetime.fromisoformat(f"{days[1]}T{hours[1]}:00:00+00:00").timestamp()) // 3600
    except ValueError:
        return None


def manifest_name(number: int) -> str:
    """File name of a manifest; hidden from plain readers by its underscore, as Hive has it."""
    return f"_manifest-{number:08d}.json"


def newest(names: Iterable[str]) -> str | None:
    """The manifest that counts, of the names in an hour's folder."""
    return max((name for name in names if _MANIFEST.fullmatch(name)), default=None)


def parse_manifest(content: bytes) -> Manifest:
    """A manifest from its JSON. Raises ValueError saying what is wrong."""
    try:
        return msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ValueError(f"it is no manifest of the archive: {error}") from None


def render_manifest(manifest: Manifest) -> bytes:
    """A manifest as JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def sort_out(entries: Iterable[Entry], manifest: Manifest | None) -> Hour:
    """Tell the files of one listing of an hour apart.

    ``manifest`` is the newest of the same listing, or None where there is none. A small file of a
    replaced one's name but another size is not the file that was replaced: it counts.
    """
    known = manifest or Manifest()
    kept = {file.name: file for file in known.files}
    gone = {(file.name, file.bytes) for file in known.replaced}
    found = Hour()
    for entry in sorted(entries, key=lambda one: one.name):
        name = entry.name
        if _MANIFEST.fullmatch(name):
            found.manifests.append(entry)
        elif name in kept:
            found.live.append(entry)
        elif (name, entry.bytes) in gone:
            found.replaced.append(entry)
        elif not name.endswith(".parquet") or name.startswith(("_", ".")):
            found.foreign.append(name)
        elif name.startswith(COMPACTED):
            found.left_over.append(entry)
        else:
            found.live.append(entry)
    there = {entry.name: entry.bytes for entry in found.live}
    found.missing = sorted(name for name, file in kept.items() if there.get(name) != file.bytes)
    return found
