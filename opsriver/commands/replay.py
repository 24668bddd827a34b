"""``opsriver replay``: archived events scored anew, against the insights that were sent."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsriver import target
from opsriver.commands.archive import FolderOption, JsonOption, SkipOption, moment, name_damaged, open_store, told
from opsriver.errors import Problem
from opsriver.output import err, out, print_json, table
from opsriver.target import RegionOption, StackOption, StateOption

if TYPE_CHECKING:
    from consumers.archive.reader import Archive
    from opsriver.replay.compare import Comparison, Difference, Episode
    from opsriver.replay.run import Lineage, Replay
    from schemas.insights import Insight
    from stream_processors.detectors.config import DetectorConfig

ONWARD_MS = 86_400_000
"""Events after the range that are scored too: a silence is noticed some time after it began."""
SHOWN = 12
"""Places and differences that are printed."""


def replay(
    start: Annotated[
        str, typer.Option("--from", help="Compare insights from here, RFC 3339; from the first without it.")
    ] = "",
    end: Annotated[str, typer.Option("--to", help="… and up to here; to the end of the archive without it.")] = "",
    learn_from: Annotated[
        str, typer.Option("--learn-from", help="Where the models begin to learn; with the archive's first event without it.")
    ] = "",
    detectors: Annotated[
        Path | None, typer.Option(help="Detector configuration (TOML); the stack's own without it.")
    ] = None,
    folder_out: Annotated[Path | None, typer.Option("--out", help="Write insights, differences and pictures here.")] = None,
    pictures: Annotated[int, typer.Option(min=0, max=200, help="Pictures of so many of the largest differences.")] = 6,
    skip_damaged: SkipOption = False,
    as_json: JsonOption = False,
    folder: FolderOption = None,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """Score archived events anew; show which insights would have been sent, against those that were."""
    from consumers.archive.reader import Archive
    from opsriver.configuration import load
    from opsriver.replay.compare import compare

    if folder_out is not None:
        _writable(folder_out)
    where = None if folder is not None else target.find(state, stack, region)
    config = load(detectors) if detectors is not None or where is None else _deployed(where)
    store = open_store(folder, state, stack, region)
    lineage = _lineage(where)
    with told():
        archive = Archive(store.root, store.filesystem, damaged="skip" if skip_damaged else "raise")
        begin, stop, learn = _bounds(archive, start, end, learn_from)
        began = time.perf_counter()
        replayed, damaged = _run(archive, config, lineage, learn, stop)
        seconds = time.perf_counter() - began
        sent = _sent(archive, begin, stop)
        damaged += archive.read.damaged
        comparison = compare(sent, replayed.insights, begin, stop)
        drawn = []
        if folder_out is not None:
            _write(folder_out, replayed, comparison, begin, stop)
            drawn = _draw(archive, config, comparison, sent, replayed.insights, learn, begin, stop, folder_out, pictures)
    summary = {
        "from": _text(begin), "to": _text(stop), "learnFrom": _text(learn), "events": replayed.events,
        "scored": replayed.scored, "late": replayed.late, "seconds": round(seconds, 3),
        "eventsPerSecond": round(replayed.events / seconds) if seconds else 0, "sent": comparison.sent,
        "replayed": comparison.replayed, "same": comparison.same,
        **{name: comparison.count(name) for name in ("missing", "new", "severity", "time", "detail")},
        "shardsWithoutParents": replayed.orphans, "damaged": damaged,
    }  # fmt: skip
    if as_json:
        print_json({**summary, "pictures": [str(one) for one in drawn],
                    "differences": [_as_json(one) for one in comparison.differences]})  # fmt: skip
        return
    _print(summary, comparison)
    name_damaged(damaged)
    for shard in replayed.orphans:
        err.print(
            f"shard {shard} began within the range and Kinesis no longer lists it: its models began anew, so what was sent "
            "of it may be missing here", style="yellow", markup=False, soft_wrap=True,
        )  # fmt: skip
    if folder_out is not None:
        out.print(f"insights.parquet, differences.json and {len(drawn)} pictures are in {folder_out}", highlight=False)


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(f"--out {folder} cannot be made: {error.strerror}; choose another folder") from None


def _deployed(where: target.Target) -> DetectorConfig:
    """The rules that the stack's scorer reads."""
    from botocore.exceptions import BotoCoreError, ClientError

    from stream_processors.detectors.config import ConfigurationError, DetectorConfig, parse

    try:
        described = where.client("cloudformation").describe_stacks(StackName=where.name)["Stacks"][0]
        given = {one["ParameterKey"]: one.get("ParameterValue", "") for one in described.get("Parameters", [])}
        key = given.get("DetectorConfigKey", "")
        if not key:
            return DetectorConfig()
        body = where.client("s3").get_object(Bucket=where.output("StateBucketName"), Key=key)["Body"].read()
    except (ClientError, BotoCoreError) as error:
        raise Problem(
            f"the detector configuration of stack {where.name} cannot be read: {error}; name a copy with --detectors"
        ) from None
    try:
        return parse(body, key)
    except ConfigurationError as error:
        raise Problem(str(error)) from None


def _lineage(where: target.Target | None) -> Lineage:
    """Shards as Kinesis lists them; each is asked for once."""
    from functools import cache

    from stream_processors.state.stream import KinesisStream

    if where is None:
        return lambda _: None
    return cache(KinesisStream(where.client("kinesis"), where.output("EventStreamName")).shard)


def _bounds(archive: Archive, start: str, end: str, learn_from: str) -> tuple[int, int, int]:
    """Begin and end of the comparison and where learning begins, in epoch milliseconds."""
    from consumers.archive.layout import HOUR_MS

    hours = archive.hours("events")
    if not hours:
        raise Problem("the archive holds no events; nothing can be replayed")
    first, last = hours[0] * HOUR_MS, (hours[-1] + 1) * HOUR_MS
    begin, stop = moment(start, first), moment(end, last)
    learn = moment(learn_from, min(first, begin))
    if begin >= stop:
        raise Problem(
            f"--from {_text(begin)} is not before --to {_text(stop)}; the archive has {_text(first)} to {_text(last)}"
        )
    if learn > begin:
        raise Problem(f"--learn-from {_text(learn)} is after --from {_text(begin)}; models must have learned before")
    return begin, stop, learn


def _run(archive: Archive, config: DetectorConfig, lineage: Lineage, learn: int, stop: int) -> tuple[Replay, list[str]]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from opsriver.replay.order import shard_by_shard
    from opsriver.replay.run import Replay

    replayed = Replay(config, lineage)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[events]:,} events"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("replaying", total=stop + ONWARD_MS - learn, events=0)
        ordered = shard_by_shard(
            archive, learn, stop + ONWARD_MS, progress=lambda reached: progress.update(task, completed=reached - learn)
        )
        for shard, rows in ordered:
            replayed.feed(shard, rows)
            progress.update(task, events=replayed.events)
        damaged = list(archive.read.damaged)
    return replayed, damaged


def _sent(archive: Archive, begin: int, stop: int) -> list[Insight]:
    import msgspec

    from schemas.insights import Insight

    decoder = msgspec.json.Decoder(Insight)
    found = []
    for part in archive.tables("insights", begin, stop, ["insight"]):
        found += [decoder.decode(text) for text in part["insight"].to_pylist() if text is not None]
    return found


def _write(folder: Path, replayed: Replay, comparison: Comparison, begin: int, stop: int) -> None:
    import msgspec

    from consumers.archive.writer import encode, insights_table, sort

    rows = [one for one in replayed.insights if begin <= one.timestamp < stop]
    try:
        (folder / "insights.parquet").write_bytes(encode(sort(insights_table(rows), "insights")))
        body = msgspec.json.encode([_as_json(one) for one in comparison.differences])
        (folder / "differences.json").write_bytes(msgspec.json.format(body) + b"\n")
    except OSError as error:
        raise Problem(f"--out {folder} cannot be written: {error.strerror}; choose another folder") from None


def _draw(
    archive: Archive, config: DetectorConfig, comparison: Comparison, sent: list[Insight], replayed: list[Insight],
    learn: int, begin: int, stop: int, folder: Path, count: int,
) -> list[Path]:  # fmt: skip
    """Pictures of the largest differences, one a series."""
    from opsriver.pictures import file_name, require
    from opsriver.replay.compare import episodes
    from opsriver.replay.picture import draw, judge

    chosen: dict[object, Difference] = {}
    for one in comparison.differences:
        if one.about.type == "anomaly" and one.about.kind != "silence" and one.kind != "detail":
            chosen.setdefault(_series(one), one)
    if not chosen or not count:
        return []
    require()
    both = {"sent": episodes(sent, begin, stop), "replayed": episodes(replayed, begin, stop)}
    drawn = []
    for number, (series, one) in enumerate(list(chosen.items())[:count], start=1):
        judged = judge(archive, config, one, learn, stop + ONWARD_MS)
        sides: dict[str, list[Episode]] = {
            name: [episode for episode in found.values() if episode.series == series] for name, found in both.items()
        }
        path = folder / "pictures" / file_name(f"{number:02d} {one.kind} {one.about.resource} {one.about.metric}"[:120])
        draw(judged, one, sides, stop, path)
        drawn.append(path)
    return drawn


def _series(one: Difference) -> object:
    found = one.sent or one.replayed
    assert found is not None
    return found.series


def _as_json(one: Difference) -> dict[str, Any]:
    return {
        "kind": one.kind, "resource": one.about.resource, "metric": one.about.metric,
        "sent": one.sent.last if one.sent else None, "replayed": one.replayed.last if one.replayed else None,
    }  # fmt: skip


def _text(milliseconds: int) -> str:
    from stream_processors.records.times import written

    return written(milliseconds)


def _print(summary: dict[str, Any], comparison: Comparison) -> None:
    from opsriver.replay.compare import KINDS

    out.print(
        f"{summary['events']:,} events from {summary['learnFrom']} replayed in {summary['seconds']:,.1f} s "
        f"({summary['eventsPerSecond']:,} a second); compared from {summary['from']} to {summary['to']}", highlight=False,
    )  # fmt: skip
    numbers = table("insights", "number")
    for name, text in (
        ("sent", "sent"), ("replayed", "replayed"), ("same", "same in every field"), ("missing", "sent, not replayed"),
        ("new", "replayed, not sent"), ("severity", "moved in severity"), ("time", "moved in time"),
        ("detail", "other detail"),
    ):  # fmt: skip
        numbers.add_row(text, f"{summary[name]:,}")
    out.print(numbers)
    if comparison.equal:
        out.print("no difference", highlight=False)
        return
    places = table("resource", "metric", *KINDS)
    for (resource, metric), counts in list(comparison.by_place().items())[:SHOWN]:
        places.add_row(resource, metric, *(str(counts[kind] or "") for kind in KINDS))
    out.print(places)
    largest = table("largest differences", "resource", "metric", "sent", "replayed")
    for one in comparison.differences[:SHOWN]:
        largest.add_row(one.kind, one.about.resource, one.about.metric, _told(one.sent), _told(one.replayed))
    out.print(largest)


def _told(one: Episode | None) -> str:
    return f"{one.last.severity} {_text(one.last.opened_at)}" if one else ""
