"""Snapshots of a shard's state: a versioned, checksummed binary layout that is safe to load.

Layout, little-endian (also in docs/snapshots.md)::

    magic    8 bytes   b"OPSRSNAP"
    version  uint32    FORMAT
    length   uint64    bytes of the body
    digest   32 bytes  SHA-256 of the body
    body               MessagePack of ``Body``

The body names the series in order of (resource, series) and holds, in that order, the core's own
columns and each bank's rows as raw bytes. A *base* holds every series, a *delta* those touched
since the snapshot before it, and the keys of those forgotten. What is small and changes
everywhere (open episodes, the clocks) is whole in both. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Collection, Iterable
from sys import intern
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_processors import counters, patterns
from stream_processors.counters import is_level
from stream_processors.detectors import correlation, trend
from stream_processors.detectors.base import IntArray
from stream_processors.detectors.config import Rule
from stream_processors.episodes import Episode, GroupEpisode, PredictionEpisode
from stream_processors.feedback import SeriesMemory
from stream_processors.predictions import limit_of
from stream_processors.scoring import MINUTE, NEVER, SERIES_FIELDS, UNSEEN, Scorer, SeriesInfo

MAGIC = b"OPSRSNAP"
FORMAT = 1
_HEAD = struct.Struct("<8sIQ32s")
MAX_SERIES = 20_000_000
TOGETHER = 256
"""From so many series on, a snapshot's new series are made together instead of one by one."""


class DamagedSnapshot(ValueError):
    """The bytes are not a snapshot that can be used; the text says why."""


class BankRows(msgspec.Struct, frozen=True):
    """Rows of one bank; ``series`` are positions in the body's list of series.

    ``rows`` of a snapshot that was decoded are its own bytes, which are so in memory once.
    """

    name: str
    version: int
    row_bytes: int
    series: bytes
    rows: memoryview


class Body(msgspec.Struct, frozen=True):
    """What a snapshot holds; see the module."""

    kind: str
    watermark: int
    active: int
    series: list[tuple[str, str, str, str | None, dict[str, str] | None]]
    columns: bytes
    banks: list[BankRows]
    episodes: list[Episode]
    limited: list[str]
    alarms: list[tuple[str, str, int]]
    removed: list[tuple[str, str]] = []
    heard: bool = False


class BodyWithPredictions(Body, frozen=True):
    """A body with open predictions, broken correlations, groups of hosts, and the insights that verdicts may name.

    They stand apart from the other episodes, so that versions that do not know them read the rest. ``memory``
    holds, as ``columns`` do, the series of this body only.
    """

    predictions: list[PredictionEpisode] = []
    correlations: list[Episode] = []
    memory: list[SeriesMemory] = []
    groups: list[GroupEpisode] = []
    streams: list[patterns.Stream] = []


def encode(
    scorer: Scorer,
    *,
    full: bool = True,
    slots: IntArray | None = None,
    removed: Collection[tuple[str, str]] | None = None,
) -> bytes:
    """A base (``full``) or a delta of the series touched since the last ``mark_clean``.

    With ``slots`` and ``removed`` a delta holds these series and forgets those, whatever was touched.
    The bytes depend on the state only, not on the order in which series came to be.
    """
    used = len(scorer.info)
    # A delta must not cost more where more series exist that it does not hold: their slots are not looked at in Python.
    touched = np.flatnonzero(scorer.dirty[:used]) if slots is None else slots
    places = [slot for slot in (range(used) if full else touched.tolist()) if scorer.info[slot] is not None]
    places.sort(key=lambda slot: (scorer.info[slot].resource, scorer.info[slot].series))  # type: ignore[union-attr]
    chosen = np.array(places, np.int64)
    columns = np.zeros(len(places), SERIES_FIELDS)
    for name, column in scorer.core.items():
        columns[name] = column[chosen]
    banks = []
    for number, name in enumerate(scorer.bank_names):
        mine = np.flatnonzero(scorer.bank[chosen] == number)
        bank = scorer.banks[name]
        data = bank.dump(scorer.row[chosen[mine]].astype(np.int64))
        banks.append(_rows(name, bank.version, bank.row_bytes, mine, data))
    watched = np.flatnonzero(scorer.predictions.row[chosen] >= 0)
    if len(watched):
        rows = scorer.predictions.row[chosen[watched]].astype(np.int64)
        banks.append(_rows(trend.NAME, trend.VERSION, trend.ROW_BYTES, watched, scorer.predictions.bank.dump(rows)))
    related = scorer.correlations.related(chosen)
    if len(related):
        data = scorer.correlations.dump(chosen[related])
        banks.append(_rows(correlation.NAME, correlation.VERSION, correlation.ROW_BYTES, related, data))
    # Always there: a series that it leaves out is a level, while a snapshot without it tells nothing of counters.
    banks.append(_rows(counters.NAME, counters.VERSION, counters.ROW.itemsize, *scorer.counters.dump(chosen)))
    recurring = scorer.patterns.known(chosen)
    if len(recurring):
        data = scorer.patterns.dump(chosen[recurring])
        banks.append(_rows(patterns.NAME, patterns.VERSION, patterns.ROW_BYTES, recurring, data))
    episodes = [scorer.episodes[key] for key in sorted(scorer.episodes)]
    body = Body(
        kind="base" if full else "delta",
        watermark=scorer.watermark,
        active=scorer.active,
        series=[
            (info.resource, info.series, info.metric, info.unit, info.dimensions)
            for slot in places
            if (info := scorer.info[slot]) is not None
        ],
        columns=columns.tobytes(),
        banks=banks,
        episodes=[episode for episode in episodes if episode.kind not in ("prediction", "correlation")],
        limited=sorted(scorer.limited),
        alarms=sorted((resource, name, last) for (resource, name), last in scorer.alarm_times.items()),
        removed=[] if full else sorted(scorer.removed if removed is None else removed),
        heard=scorer.heard,
    )
    predictions = [episode for episode in episodes if isinstance(episode, PredictionEpisode)]
    correlations = [episode for episode in episodes if episode.kind == "correlation"]
    held = np.zeros(used, np.bool_)
    held[list(scorer.memory.of)] = True
    memory = [SeriesMemory(at, scorer.memory.of[places[at]]) for at in np.flatnonzero(held[chosen]).tolist()]
    groups = [scorer.patterns.groups[key] for key in sorted(scorer.patterns.groups)]
    streams = [scorer.patterns.streams[key] for key in sorted(scorer.patterns.streams)]
    if predictions or correlations or memory or groups or streams:
        body = BodyWithPredictions(
            **{name: getattr(body, name) for name in Body.__struct_fields__},
            predictions=predictions,
            correlations=correlations,
            memory=memory,
            groups=groups,
            streams=streams,
        )
    content = _ENCODER.encode(body)
    del body, banks, columns, data  # at their size: a base is put together while only its bytes are there
    return _HEAD.pack(MAGIC, FORMAT, len(content), hashlib.sha256(content).digest()) + content


def _rows(name: str, version: int, row_bytes: int, places: IntArray, rows: bytes) -> BankRows:
    return BankRows(
        name=name, version=version, row_bytes=row_bytes, series=places.astype("<i8").tobytes(), rows=memoryview(rows)
    )


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")


def mark_clean(scorer: Scorer) -> None:
    """Forget which series were touched: what is encoded next as a delta starts here."""
    scorer.dirty[:] = False
    scorer.removed.clear()


def decode(data: bytes | memoryview) -> BodyWithPredictions:
    """Check and parse a snapshot, whose bytes may also be those of a mapped file that nothing changes.

    Raises DamagedSnapshot where the bytes are cut, altered, of another format, or inconsistent.
    """
    if len(data) < _HEAD.size:
        raise DamagedSnapshot(f"snapshot has {len(data)} bytes, fewer than its header of {_HEAD.size}")
    magic, version, length, digest = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise DamagedSnapshot("snapshot does not start with OPSRSNAP; it is something else")
    if version != FORMAT:
        raise DamagedSnapshot(f"snapshot has format {version}; this version reads {FORMAT}")
    content = memoryview(data)[_HEAD.size :]
    if len(content) != length:
        raise DamagedSnapshot(f"snapshot has {len(content)} bytes after its header, {length} were written")
    if hashlib.sha256(content).digest() != digest:
        raise DamagedSnapshot("snapshot's checksum does not match its content")
    try:
        body: BodyWithPredictions = msgspec.msgpack.decode(content, type=BodyWithPredictions)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DamagedSnapshot(f"snapshot's content is not readable: {error}") from None
    _check(body)
    return body


def _check(body: Body) -> None:
    count = len(body.series)
    if count > MAX_SERIES:
        raise DamagedSnapshot(f"snapshot names {count} series, more than {MAX_SERIES}")
    if len(body.columns) != count * SERIES_FIELDS.itemsize:
        raise DamagedSnapshot("snapshot's columns do not fit its series")
    for rows in body.banks:
        if len(rows.series) % 8 or len(rows.rows) != len(rows.series) // 8 * rows.row_bytes:
            raise DamagedSnapshot(f"snapshot's rows of detector {rows.name!r} do not fit its series")
        positions = np.frombuffer(rows.series, "<i8")
        if len(positions) and (positions.min() < 0 or positions.max() >= count):
            raise DamagedSnapshot(f"snapshot's rows of detector {rows.name!r} name series that are not there")
    if isinstance(body, BodyWithPredictions) and any(one.series >= count for one in body.memory):
        raise DamagedSnapshot("snapshot's remembered insights name series that are not there")


def apply(scorer: Scorer, body: Body, *, keep: Callable[[str], bool] = bool) -> list[str]:
    """Bring a base or a delta into a scorer.

    ``keep`` tells which resources belong to the shard (others are left out); as it stands, all. Returns notes for
    people: which detectors restart their warm-up because the snapshot holds another version, and how many series are
    beyond the scorer's bounds.
    """
    notes: list[str] = []
    for resource, series in body.removed:
        if keep(resource) and scorer.resources.find(resource, series) >= 0:
            scorer.forget(resource, series)
    slots = _places(scorer, body, keep)
    kept = np.flatnonzero(slots >= 0)
    if left := sum(keep(body.series[at][0]) for at in np.flatnonzero(slots < 0).tolist()):
        notes.append(
            f"{left} series of a snapshot are beyond max_series, max_series_per_resource or the memory, "
            "and are no longer watched; docs/configuration.md tells how to watch more"
        )
    columns = np.frombuffer(body.columns, SERIES_FIELDS)
    for name, column in scorer.core.items():
        # Deadlines that do not come were written as larger numbers once.
        read = np.minimum(columns[name], NEVER) if name.startswith("due") else columns[name]
        column[slots[kept]] = read[kept]
    for rows in body.banks:
        restore = _RESTORE.get((rows.name, rows.version, rows.row_bytes))
        if restore:
            restore(scorer, rows, slots)
            continue
        bank = scorer.banks.get(rows.name)
        if bank is None or rows.version != bank.version or rows.row_bytes != bank.row_bytes:
            if rows.series:
                notes.append(
                    f"detector {rows.name!r} version {rows.version} is not this one's; "
                    f"{len(rows.series) // 8} series warm up again"
                )
            continue
        number = scorer.bank_names.index(rows.name)
        mine = (slots >= 0) & (scorer.bank[slots] == number)
        bank.restore(*_belonging(rows, np.where(mine, scorer.row[slots], -1)))
    _remembered(scorer, body, slots)
    _small(scorer, body, keep)
    return notes


def _places(scorer: Scorer, body: Body, keep: Callable[[str], bool]) -> IntArray:
    """Slots of a body's series, -1 for those left out; new ones are made together, which is many times faster."""
    slots = np.full(len(body.series), -1, np.int64)
    if scorer._free or len(body.series) < TOGETHER:
        for index, entry in enumerate(body.series):
            if keep(entry[0]):
                slots[index] = scorer.ensure(*entry)
        return slots
    config, used = scorer.config, len(scorer.info)
    made, resources = scorer.info, scorer.resources
    found = resources.find_all([entry[0] for entry in body.series], (entry[1] for entry in body.series)).tolist()
    new: dict[str, dict[str, int]] = {}
    kinds: dict[tuple[str, str | None, int], _Kind] = {}
    latest: dict[str, _Kind] = {}
    fresh: list[int] = []
    shared: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    most, total, host, kept, before = config.max_series_per_resource, scorer.most_series, None, False, 0
    known: dict[str, int] = {}
    weights: list[int] = []
    needs, room = scorer.needs(), scorer.room
    for index, (resource, series, metric, unit, dimensions) in enumerate(body.series):
        slot = found[index]
        if resource != host:  # a host's series follow one another
            host, kept, before, known = resource, keep(resource), resources.count(resource), new.setdefault(resource, {})
        if not kept:
            slot = -1
        elif slot < 0:
            slot = known.get(series, -1)
            if slot < 0 and before + len(known) < most and len(made) < total and needs < room:
                slot = len(made)
                rule = config.rule(host, metric)
                kind = latest.get(metric)
                if kind is None or kind[3] is not rule or kind[2] != unit:
                    kind = (len(kinds), intern(metric), unit if unit is None else intern(unit), rule)
                    kind = latest[metric] = kinds.setdefault((metric, unit, id(rule)), kind)
                number, metric, unit, _ = kind
                if number == len(weights):
                    weights.append(scorer.weight(rule.bank))
                needs += weights[number]
                fresh.append(number)
                # Every series of a host shares its name, and every host the names of metrics and what stands in dimensions.
                name = intern(series)
                known[name] = slot
                if dimensions is not None:
                    dimensions = shared.setdefault(tuple(dimensions.items()), dimensions)
                made.append(SeriesInfo(host, name, metric, unit, dimensions))
        found[index] = slot
    slots[:] = found
    if fresh:
        _equip(scorer, used, list(kinds.values()), np.array(fresh, np.int64))
    return slots


_Kind = tuple[int, str, str | None, Rule]
"""Its number, a metric, unit and rule. Many series share these, so what follows from them is found once."""


def _equip(scorer: Scorer, start: int, kinds: list[_Kind], fresh: IntArray) -> None:
    """Give the series from slot ``start`` on, by their kinds, what ``Scorer.ensure`` gives them one by one."""
    end = start + len(fresh)
    new = slice(start, end)
    scorer._grow(end)
    # The configuration holds every rule once.
    identity = np.array([id(rule) for *_, rule in kinds], np.uint64)[fresh]
    levels = np.array([is_level(unit) for *_, unit, _ in kinds], np.bool_)[fresh]
    scorer.bank[new] = -1
    for rule in {id(rule): rule for *_, rule in kinds}.values():
        mine = np.flatnonzero(identity == id(rule))
        scorer.obey(start + mine, rule)
        scorer.counters.watch(start + mine, levels[mine], rule)
        if rule.bank in scorer.banks:
            bank = scorer.banks[rule.bank]
            bank.append(len(mine))
            scorer.bank[start + mine] = scorer.bank_names.index(rule.bank)
            scorer.row[start + mine] = np.arange(len(bank) - len(mine), len(bank))
    for name, column in scorer.core.items():
        column[new] = UNSEEN if name == "last" else NEVER if name.startswith("due") else 0
    infos = [info for info in scorer.info[new] if info is not None]
    scorer.resources.add_all([info.resource for info in infos], [info.series for info in infos], start)
    scorer.predictions.unwatch(start, end)
    limited = np.array([limit_of(*kind[1:]) is not None for kind in kinds], np.bool_)
    for at in np.flatnonzero(limited[fresh]).tolist():
        info, rule = infos[at], kinds[fresh[at]][3]
        scorer.predictions.watch(start + at, info.resource, info.series, info.metric, info.unit, info.dimensions, rule)
    taking = np.array([rule.detector != "off" and rule.correlation for *_, rule in kinds], np.bool_)
    scorer.correlations.watch_together(start, [info.resource for info in infos], taking[fresh], scorer.rule)
    scorer.open[new], scorer.dirty[new] = False, True
    if scorer.removed:
        scorer.removed.difference_update((info.resource, info.series) for info in infos)


def _belonging(rows: BankRows, places: IntArray) -> tuple[IntArray, bytes | memoryview]:
    """Places of the rows by their series, and their bytes, without those whose place is below zero."""
    at = places[np.frombuffer(rows.series, "<i8")].astype(np.int64)
    mine = np.flatnonzero(at >= 0)
    if len(mine) == len(at):  # the bytes are used as they came, not copied
        return at, rows.rows
    return at[mine], np.frombuffer(rows.rows, np.uint8).reshape(len(at), rows.row_bytes)[mine].tobytes()


def _trends(scorer: Scorer, rows: BankRows, slots: IntArray) -> None:
    scorer.predictions.bank.restore(*_belonging(rows, np.where(slots >= 0, scorer.predictions.row[slots], -1)))


def _lanes(scorer: Scorer, rows: BankRows, slots: IntArray) -> None:
    scorer.correlations.restore(*_belonging(rows, slots))


def _recurrences(scorer: Scorer, rows: BankRows, slots: IntArray) -> None:
    scorer.patterns.restore(*_belonging(rows, slots))


def _counts(scorer: Scorer, rows: BankRows, slots: IntArray) -> None:
    mine = np.flatnonzero(slots >= 0)
    place = np.full(len(slots), -1, np.int64)
    place[mine] = np.arange(len(mine))
    scorer._begin_anew(scorer.counters.restore(slots[mine], *_belonging(rows, place)))


_RESTORE: dict[tuple[str, int, int], Callable[[Scorer, BankRows, IntArray], None]] = {
    (trend.NAME, trend.VERSION, trend.ROW_BYTES): _trends,
    (correlation.NAME, correlation.VERSION, correlation.ROW_BYTES): _lanes,
    (counters.NAME, counters.VERSION, counters.ROW.itemsize): _counts,
    (patterns.NAME, patterns.VERSION, patterns.ROW_BYTES): _recurrences,
}
"""How rows are restored that belong to no bank of detectors."""


def _remembered(scorer: Scorer, body: Body, slots: NDArray[np.int64]) -> None:
    if scorer.memory.of:
        for slot in np.intersect1d(list(scorer.memory.of), slots).tolist():
            scorer.memory.forget(slot)
    for one in body.memory if isinstance(body, BodyWithPredictions) else ():
        if slots[one.series] >= 0:
            scorer.memory.restore(int(slots[one.series]), one.insights)


def _small(scorer: Scorer, body: Body, keep: Callable[[str], bool]) -> None:
    # An alarm's records are keyed by its own name, not by its resource: every child keeps what it may yet hear of.
    for key in [key for key in scorer.episodes if key[0] == "alarm" or keep(key[1])]:
        del scorer.episodes[key]
    predictions = body.predictions if isinstance(body, BodyWithPredictions) else []
    correlations = body.correlations if isinstance(body, BodyWithPredictions) else []
    for episode in [*body.episodes, *predictions, *correlations]:
        if episode.kind == "alarm" or keep(episode.resource):
            scorer.episodes[episode.kind, episode.resource, episode.series] = episode
    for resource in {episode.resource for episode in predictions if keep(episode.resource)}:
        scorer.predictions.adopt(scorer.episodes, resource, scorer.resources.get(resource, {}))
    groups = body.groups if isinstance(body, BodyWithPredictions) else []
    streams = body.streams if isinstance(body, BodyWithPredictions) else []
    scorer.patterns.adopt(scorer.episodes, [one for one in groups if keep(one.resource)], streams, keep)
    scorer.open[:] = False
    for kind, resource, series in scorer.episodes:
        if kind == "anomaly" and (slot := scorer.resources.find(resource, series)) >= 0:
            scorer.open[slot] = True
    scorer.limited = {r for r in scorer.limited if not keep(r)} | {r for r in body.limited if keep(r)}
    scorer.alarm_times = {(resource, name): last for resource, name, last in body.alarms}
    _clocks(scorer, body)


def _clocks(scorer: Scorer, body: Body) -> None:
    scorer.watermark, scorer.active, scorer.heard = body.watermark, body.active, body.heard
    scorer._next_due = 0 if scorer.info else NEVER


def merge(scorer: Scorer, parents: Iterable[tuple[Iterable[Body], Callable[[str], bool]]]) -> list[str]:
    """State of a child shard from the chains of its parents, each with what tells its resources.

    A parent's ``keep`` must hold only for resources that were the parent's and are the child's.
    Deadlines of silence are kept in minutes of each parent's active clock, so they are carried over
    as the time that was still left. The child's watermark is the earliest of its parents'.
    """
    notes: list[str] = []
    watermarks, deadlines = [], []
    alarms: dict[tuple[str, str], tuple[int, Episode | None]] = {}
    for bodies, keep in parents:
        known = False
        for body in bodies:
            notes += apply(scorer, body, keep=keep)
            known = True
            del body  # bodies may be read one by one
        for key, last in scorer.alarm_times.items():
            if last > alarms.get(key, (-1, None))[0]:
                alarms[key] = (last, scorer.episodes.get(("alarm", *key)))
        if known:
            watermarks.append(scorer.watermark)
            deadlines.append((scorer.active, keep))
    if not watermarks:
        return notes
    scorer.alarm_times = {key: last for key, (last, _) in alarms.items()}
    scorer.episodes = {key: episode for key, episode in scorer.episodes.items() if key[0] != "alarm"}
    scorer.episodes |= {("alarm", *key): episode for key, (_, episode) in alarms.items() if episode is not None}
    for active, keep in deadlines:
        mine = [slot for resource in scorer.resources if keep(resource) for slot in scorer.resources.slots_of(resource)]
        for name in ("due", "due_alone"):
            column = scorer.core[name]
            waiting = [slot for slot in mine if column[slot] < NEVER]
            column[waiting] -= active
    scorer.watermark, scorer.active = min(watermarks), 0
    scorer._next_due = 0 if scorer.info else NEVER
    return notes


def describe(data: bytes) -> dict[str, Any]:
    """What a snapshot holds, for people and tools."""
    body = decode(data)
    return {
        "format": FORMAT,
        "kind": body.kind,
        "series": len(body.series),
        "bytes": len(data),
        "watermarkMinute": body.watermark // MINUTE,
        "openEpisodes": len(body.episodes)
        + len(body.predictions)
        + len(body.correlations)
        + sum(not one.over for one in body.groups),
        "detectors": {rows.name: rows.version for rows in body.banks},
    }
