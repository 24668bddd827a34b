"""``opsriver archive``: look into the archive, join its small files, and make training sets of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from opsriver import target
from opsriver.errors import Problem
from opsriver.output import err, out, print_json, table
from opsriver.target import RegionOption, StackOption, StateOption
from schemas.times import from_iso

app = typer.Typer(help="The archive of events and insights.", no_args_is_help=True)

DAY_MS = 86_400_000

FolderOption = Annotated[Path | None, typer.Option("--folder", help="A local copy of the archive, instead of a stack's.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StartOption = Annotated[str, typer.Option("--from", help="Begin, RFC 3339; the last 24 hours without it.")]
EndOption = Annotated[str, typer.Option("--to", help="End, RFC 3339; now without it.")]
SkipOption = Annotated[bool, typer.Option("--skip-damaged", help="Name files that cannot be read, and go on without them.")]


def open_store(folder: Path | None, state: Path, stack: str, region: str) -> Any:
    """The archive that the options name. Raises Problem."""
    from consumers.archive.store import BucketStore, FolderStore

    if folder is not None:
        if not folder.is_dir():
            raise Problem(f"--folder {folder} is no folder; name a local copy of the archive")
        return FolderStore(folder)
    where = target.find(state, stack, region)
    return BucketStore(where.client("s3"), where.output("ArchiveBucketName"))


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong with files, as one sentence."""
    import warnings

    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    from consumers.archive.reader import DamagedFile, DamagedFileWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedFileWarning)  # commands print the names themselves
        try:
            yield
        except DamagedFile as error:
            raise Problem(f"{error}; remove it, or leave it out with --skip-damaged") from None
        except (ClientError, BotoCoreError, Boto3Error, OSError) as error:
            raise Problem(f"the archive cannot be reached or read: {error}") from None
        except msgspec.MsgspecError as error:
            raise Problem(
                f"a row of the archive holds what this version cannot read: {error}; use the version that wrote it"
            ) from None


def moment(text: str, default: int) -> int:
    """Epoch milliseconds of RFC 3339 text. Raises Problem."""
    if not text:
        return default
    try:
        return int(from_iso(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Problem(f"{text!r} is not a time; write it as 2026-11-26T15:04:05Z") from None


def _range(start: str, end: str) -> tuple[int, int]:
    now = int(time.time() * 1000)
    begin, stop = moment(start, now - DAY_MS), moment(end, now + 3_600_000)
    if begin >= stop:
        raise Problem(f"--from {start or 'a day ago'} is not before --to {end or 'now'}; exchange them")
    return begin, stop


def name_damaged(names: list[str]) -> None:
    """Tell which files were left out."""
    for name in names:
        err.print(f"{name} is damaged or no archive file; it was left out", style="yellow", markup=False, soft_wrap=True)


@app.command("ls")
def ls(
    start: StartOption = "",
    end: EndOption = "",
    as_json: JsonOption = False,
    folder: FolderOption = None,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """List the hours that have files, and what is in them."""
    from consumers.archive.layout import COMPACTED, DATA_SETS, HOUR_MS, partition
    from consumers.archive.reader import Archive

    store = open_store(folder, state, stack, region)
    begin, stop = _range(start, end)
    rows: list[dict[str, Any]] = []
    with told():
        archive = Archive(store.root, store.filesystem, damaged="skip")
        for data_set in DATA_SETS:
            for hour in archive.hours(data_set):
                if not begin // HOUR_MS <= hour < -(-stop // HOUR_MS):
                    continue
                files = archive.files(data_set, hour)
                rows.append({
                    "dataSet": data_set, "hour": partition(hour), "files": len(files.live),
                    "compacted": sum(entry.name.startswith(COMPACTED) for entry in files.live),
                    "bytes": sum(entry.bytes for entry in files.live),
                    "waiting": len(files.replaced) + len(files.left_over), "foreign": files.foreign,
                })  # fmt: skip
    if as_json:
        print_json(rows)
        return
    shown = table("data set", "hour", "files", "of these compacted", "bytes", "to be deleted")
    for row in rows:
        numbers = (f"{row[name]:,}" for name in ("files", "compacted", "bytes", "waiting"))
        shown.add_row(row["dataSet"], row["hour"], *numbers)
    out.print(shown)
    name_damaged([f"{row['dataSet']}/{row['hour']}/{name}" for row in rows for name in row["foreign"]])


@app.command("events")
def events(
    resource: Annotated[str | None, typer.Option(help="Only this resource.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only this metric.")] = None,
    start: StartOption = "",
    end: EndOption = "",
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many rows.")] = 20,
    skip_damaged: SkipOption = False,
    as_json: JsonOption = False,
    folder: FolderOption = None,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """Show archived events."""
    from consumers.archive.reader import Archive

    begin, stop = _range(start, end)
    store = open_store(folder, state, stack, region)
    count = 0
    rows: list[dict[str, Any]] = []
    with told(), err.status("reading"):
        archive = Archive(store.root, store.filesystem, damaged="skip" if skip_damaged else "raise")
        for part in archive.tables("events", begin, stop, resource=resource, metric=metric):
            rows += part.slice(0, max(0, limit - len(rows))).to_pylist()
            count += len(part)
    name_damaged(archive.read.damaged)
    if as_json:
        for row in rows:
            row["timestamp"], row["arrival"] = row["timestamp"].isoformat(), row["arrival"].isoformat()
            row["dimensions"] = dict(row["dimensions"] or [])
        read = archive.read
        print_json({"rows": count, "filesRead": len(read.files), "bytesRead": read.bytes, "damaged": read.damaged,
                    "events": rows})  # fmt: skip
        return
    shown = table("time", "resource", "series", "value", "unit")
    for row in rows:
        value = "" if row["value"] is None else f"{row['value']:g}"
        shown.add_row(f"{row['timestamp']:%Y-%m-%d %H:%M:%S}", row["resource"], row["series"] or row["kind"], value,
                      row["unit"] or "")  # fmt: skip
    out.print(shown)
    out.print(f"{count:,} rows from {len(archive.read.files)} files", highlight=False)


@app.command("compact")
def compact(
    now: Annotated[str, typer.Option("--now", help="Take this for the present (RFC 3339).")] = "",
    as_json: JsonOption = False,
    folder: FolderOption = None,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """Join the small files of closed hours, as the scheduled function does."""
    from consumers.archive.compaction import Compactor
    from consumers.archive.layout import partition

    store = open_store(folder, state, stack, region)
    with told(), err.status("joining files") as status:
        report = Compactor(store).run(
            moment(now, int(time.time() * 1000)), progress=lambda hour: status.update(f"joining files of {hour}")
        )
    if as_json:
        print_json({
            "hours": [
                {"dataSet": one.data_set, "hour": partition(one.hour), "filesBefore": one.files_before, "files": one.files,
                 "rowsBefore": one.rows_before, "rows": one.rows, "bytesBefore": one.bytes_before, "bytes": one.bytes}
                for one in report.done
            ],
            "deleted": report.deleted, "damaged": report.damaged, "problems": report.problems,
        })  # fmt: skip
    else:
        for one in report.done:
            out.print(
                f"{one.data_set}/{partition(one.hour)}: {one.files_before} files to {one.files}, {one.rows:,} rows, "
                f"{one.bytes_before:,} to {one.bytes:,} bytes", highlight=False,
            )  # fmt: skip
        out.print(f"{len(report.done)} hours joined, {report.deleted} replaced files deleted", highlight=False)
        name_damaged(report.damaged)
    if report.problems:
        raise Problem("; ".join(report.problems))


@app.command("verify")
def verify(
    as_json: JsonOption = False,
    folder: FolderOption = None,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """Read every file whole and name what is wrong; exit status 1 if anything is."""
    from consumers.archive.verify import verify as look

    store = open_store(folder, state, stack, region)
    with told(), err.status("reading") as status:
        found = look(store.root, store.filesystem, progress=lambda hour: status.update(f"reading {hour}"))
    if as_json:
        print_json({"hours": found.hours, "files": found.files, "rows": found.rows, "repeated": found.repeated,
                    "waiting": found.waiting, "problems": found.problems})  # fmt: skip
    else:
        out.print(
            f"{found.hours:,} hours, {found.files:,} files, {found.rows:,} rows; {found.repeated:,} copies and "
            f"{found.waiting:,} files wait for the next compaction", highlight=False,
        )  # fmt: skip
        for problem in found.problems:
            out.print(problem, style="red", markup=False, soft_wrap=True)
    if found.problems:
        raise typer.Exit(1)


@app.command("training-set")
def training_set(
    start: StartOption = "",
    end: EndOption = "",
    validation: Annotated[float, typer.Option(help="Share of the time that is held back for validation.")] = 0.2,
    gap: Annotated[float, typer.Option(help="Hours left out between training and validation.")] = 2.0,
    name: Annotated[str, typer.Option(help="Name of the set; the day of its last event without it.")] = "",
    skip_damaged: SkipOption = False,
    as_json: JsonOption = False,
    folder: FolderOption = None,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """Make a labelled training set of a range and store it below training/."""
    from consumers.archive.training import PARTS, TrainingSetError, build

    begin, stop = _range(start, end)
    store = open_store(folder, state, stack, region)
    with told(), err.status("reading") as status:
        try:
            made = build(
                store, begin, stop, validation, gap, name, progress=status.update,
                damaged="skip" if skip_damaged else "raise",
            )  # fmt: skip
        except TrainingSetError as error:
            raise Problem(str(error)) from None
    if as_json:
        print_json(made)
        return
    out.print(f"stored below {made['location']}", highlight=False, soft_wrap=True)
    for part in PARTS:
        one = made[part]
        counts = f"{one['rows']:>10,} rows, {one['positive']:,} labelled anomalous"
        out.print(f"  {part:<10} {counts}, {one['from']} to {one['to']}", highlight=False, soft_wrap=True)
    name_damaged(made["damaged"])
