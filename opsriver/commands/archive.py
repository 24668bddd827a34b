"""``opsriver archive``: look into the archive, and join its small files."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from opsriver import target
from opsriver.errors import Problem
from opsriver.output import err, out, print_json
from opsriver.target import RegionOption, StackOption, StateOption

app = typer.Typer(help="The archive of events and insights.", no_args_is_help=True)

FolderOption = Annotated[Path | None, typer.Option("--folder", help="A local copy of the archive, instead of a stack's.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StartOption = Annotated[str, typer.Option("--from", help="Begin, RFC 3339; the last 24 hours without it.")]
EndOption = Annotated[str, typer.Option("--to", help="End, RFC 3339; now without it.")]


def _reader(folder: Path | None, state: Path, stack: str, region: str) -> Any:
    from consumers.archive.reader import ArchiveReader, s3

    if folder is not None:
        if not folder.is_dir():
            raise Problem(f"--folder {folder} is no folder; name a local copy of the archive")
        return ArchiveReader(str(folder), skip_damaged=True)
    where = target.find(state, stack, region)
    return ArchiveReader(where.output("ArchiveBucketName"), s3(where.client("s3")), skip_damaged=True)


def _moment(text: str, default: int) -> int:
    if not text:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Problem(f"{text!r} is not a time; write it as 2026-11-26T15:04:05Z") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


@app.command("events")
def events(
    resource: Annotated[str | None, typer.Option(help="Only this resource.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only this metric.")] = None,
    start: StartOption = "",
    end: EndOption = "",
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many rows.")] = 20,
    as_json: JsonOption = False,
    folder: FolderOption = None,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """Show archived events."""
    from rich.table import Table

    now = int(time.time() * 1000)
    reader = _reader(folder, state, stack, region)
    table = reader.events(_moment(start, now - 86_400_000), _moment(end, now + 3_600_000), resource=resource, metric=metric)
    rows = table.slice(0, limit).to_pylist()
    for name in reader.read.damaged:
        err.print(f"{name} is damaged or no archive file; it was left out", style="yellow", markup=False)
    if as_json:
        for row in rows:
            row["timestamp"], row["arrival"] = row["timestamp"].isoformat(), row["arrival"].isoformat()
            row["dimensions"] = dict(row["dimensions"] or [])
        print_json({"rows": len(table), "filesRead": len(reader.read.files), "events": rows})
        return
    shown = Table("time", "resource", "series", "value", "unit")
    for row in rows:
        value = "" if row["value"] is None else f"{row['value']:g}"
        shown.add_row(f"{row['timestamp']:%Y-%m-%d %H:%M:%S}", row["resource"], row["series"] or row["kind"], value,
                      row["unit"] or "")  # fmt: skip
    out.print(shown)
    out.print(f"{len(table):,} rows from {len(reader.read.files)} files", highlight=False)


@app.command("compact")
def compact(
    now: Annotated[str, typer.Option("--now", help="Take this for the present (RFC 3339).")] = "",
    as_json: JsonOption = False,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """Join the small files of closed hours, as the scheduled function does."""
    from consumers.archive.compaction import Compactor
    from consumers.archive.reader import ArchiveReader, s3
    from consumers.archive.writer import partition

    where = target.find(state, stack, region)
    client, bucket = where.client("s3"), where.output("ArchiveBucketName")
    with err.status("joining files"):
        done = Compactor(client, bucket, ArchiveReader(bucket, s3(client))).run(_moment(now, int(time.time() * 1000)))
    if as_json:
        print_json([
            {"dataSet": one.data_set, "hour": partition(one.hour), "files": one.files_before, "rowsBefore": one.rows_before,
             "rows": one.rows, "bytesBefore": one.bytes_before, "bytes": one.bytes}
            for one in done
        ])  # fmt: skip
        return
    for one in done:
        out.print(
            f"{one.data_set}/{partition(one.hour)}: {one.files_before} files to 1, {one.rows:,} rows, "
            f"{one.bytes_before:,} to {one.bytes:,} bytes", highlight=False,
        )  # fmt: skip
    out.print(f"{len(done)} hours joined", highlight=False)
