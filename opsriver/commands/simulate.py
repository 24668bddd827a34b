"""``opsriver simulate``: a fleet with labelled faults, to files or onto a stream."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

import msgspec
import typer

from opsriver import target
from opsriver.errors import Problem
from opsriver.output import err, out, print_json
from opsriver.target import DEFAULT_STATE, RegionOption, StackOption, StateOption
from schemas.names import name_problem

if TYPE_CHECKING:
    from agents.simulator import Fleet

EARLIEST, LATEST = 100_000_000, 99_000_000_000
"""Epoch seconds whose milliseconds, as written, nobody takes for seconds or for no time at all."""
LONGEST_FILE_NAME = 255


def simulate(
    hosts: Annotated[int, typer.Option(min=1, max=100_000, help="Number of hosts.")] = 50,
    days: Annotated[float, typer.Option(min=0.01, max=1000, help="Days of samples, up to now.")] = 3.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same fleet.")] = 1,
    cadence: Annotated[int, typer.Option(min=1, max=3600, help="Seconds between samples of a host.")] = 60,
    faults: Annotated[int, typer.Option(min=0, max=100_000, help="Labelled faults in the second half.")] = 10,
    target_folder: Annotated[Path | None, typer.Option("--out", help="Write the samples, and truth.json, here.")] = None,
    kind: Annotated[
        Literal["csv", "jsonl"], typer.Option("--format", help="Files: a CSV a series, or lines as on the wire.")
    ] = "csv",
    to_stream: Annotated[bool, typer.Option("--stream", help="Put the samples on the stack's stream.")] = False,
    stream_name: Annotated[str, typer.Option(help="Put the samples on this stream on AWS.")] = "",
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", help="A metric more of every host; may be repeated.")
    ] = None,
    varied: Annotated[bool, typer.Option("--varied", help="Hosts of different kinds of work, days that differ.")] = False,
    start: Annotated[
        int | None, typer.Option(min=EARLIEST, max=LATEST, help="Epoch seconds at which the fleet begins.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0, help="Samples a second onto the stream; 0 is as fast as it goes.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
    state: StateOption = DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """Simulate a fleet with daily and weekly rhythm, noise, restarts and labelled faults."""
    from agents.simulator import DAY, METRICS, Fleet

    to_stream = to_stream or bool(stream_name)
    if (target_folder is None) == (not to_stream):
        raise Problem("choose where the samples go: --out DIR for files, or --stream or --stream-name NAME")
    for name in metrics or []:
        if problem := name_problem(name, "--metric"):
            raise Problem(problem)
        if target_folder is not None and kind == "csv" and len(_file_name(name)) > LONGEST_FILE_NAME:
            raise Problem(f"--metric {name[:40]!r}… makes too long a file name; shorten it, or write --format jsonl")
    length = int(days * DAY)
    begin = start * 1000 if start is not None else int(time.time() * 1000) - length
    try:
        fleet = Fleet(
            hosts=hosts, seed=seed, start=begin, end=begin + length, cadence=cadence * 1000, faults=faults,
            metrics=(*METRICS, *(metrics or [])), varied=varied,
        )  # fmt: skip
    except ValueError as error:
        raise Problem(f"{error}; check --metric") from None
    if len(fleet.truth) < faults:
        err.print(
            f"only {len(fleet.truth)} of {faults} faults fit in side by side; take more --hosts or --days", style="yellow"
        )
    if target_folder is not None:
        place = str(target_folder)
        truth = target_folder / "truth.json"
        try:
            target_folder.mkdir(parents=True, exist_ok=True)
            _refuse_others(target_folder, fleet, kind)
            truth.unlink(missing_ok=True)
            count = _csv(fleet, target_folder) if kind == "csv" else _lines(fleet, target_folder)
            # Last: a folder without it is left from a run that was ended, and is no fleet.
            truth.write_bytes(msgspec.json.format(msgspec.json.encode(fleet.truth_document())))
        except OSError as error:
            raise Problem(f"{target_folder} cannot be written: {error.strerror}; choose another --out") from None
    else:
        client, place = _kinesis(stream_name, state, stack, region)
        count = _stream(fleet, client, place, rate)
    summary = {"to": place, "hosts": hosts, "samples": count, "faults": len(fleet.truth), "seed": seed}
    if as_json:
        print_json(summary)
    else:
        out.print(f"{count:,} samples of {hosts} hosts, {len(fleet.truth)} faults, to {place}", highlight=False)


def _file_name(metric: str) -> str:
    return f"{quote(metric, safe='')}.csv"


def _refuse_others(folder: Path, fleet: Fleet, kind: str) -> None:
    """Raise Problem where series would stay beside the fleet's that are none of it: they would be judged with them."""
    mine = {Path(host) / _file_name(metric) for host in fleet.names for metric in fleet.metrics} if kind == "csv" else set()
    for path in sorted(folder.rglob("*.csv")):
        if path.relative_to(folder) not in mine:
            raise Problem(
                f"--out {folder} holds {path.relative_to(folder)}, which is not of this fleet; choose an empty folder"
            )


def _csv(fleet: Fleet, folder: Path) -> int:
    import numpy as np
    from rich.progress import track

    times = fleet.times(fleet.start, fleet.end)
    count = 0
    for host in track(fleet.names, description="writing", console=err, transient=True):
        (folder / host).mkdir(exist_ok=True)
        for metric in fleet.metrics:
            values = fleet.column(host, metric, times)
            there = np.flatnonzero(~np.isnan(values))
            count += len(there)
            with (folder / host / _file_name(metric)).open("w") as file:
                file.write("timestamp,value\n")
                rows = zip(times[there].tolist(), values[there].tolist(), strict=True)  # Python's own numbers print faster
                file.writelines([f"{at},{value:.6g}\n" for at, value in rows])
    return count


def _lines(fleet: Fleet, folder: Path) -> int:
    from rich.progress import Progress

    encode = msgspec.json.Encoder().encode
    count = 0
    with Progress(console=err, transient=True) as progress, (folder / "samples.jsonl").open("wb") as file:
        task = progress.add_task("writing", total=fleet.end - fleet.start)
        for sample in fleet.samples(fleet.start, fleet.end):
            file.write(encode(sample) + b"\n")
            count += 1
            if count % 5_000 == 0:
                progress.update(task, completed=sample["timestamp"] - fleet.start)
    return count


def _kinesis(stream_name: str, state: Path, stack: str, region: str) -> tuple[Any, str]:
    if not stream_name:
        where = target.find(state, stack, region)
        return where.client("kinesis"), where.output("EventStreamName")
    import boto3
    from botocore.exceptions import BotoCoreError

    from runtime import clients

    try:
        return boto3.client("kinesis", region_name=region or None, config=clients.config()), stream_name
    except (BotoCoreError, ValueError) as error:
        raise Problem(f"no client for stream {stream_name}: {error}; check --region") from None


def _stream(fleet: Fleet, client: Any, stream: str, rate: float) -> int:
    from rich.progress import Progress

    from agents.producer import NotDelivered, Producer

    producer = Producer(client, stream)
    encode = msgspec.json.Encoder().encode
    sent, began = 0, time.monotonic()
    held: list[tuple[str, bytes]] = []
    batch = max(1, min(2_000, int(rate))) if rate else 2_000
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("sending", total=fleet.end - fleet.start)
        try:
            for sample in fleet.samples(fleet.start, fleet.end):
                held.append((sample.get("hostname") or sample["resource"], encode(sample)))
                if len(held) >= batch:
                    sent += producer.send(held)
                    held.clear()
                    progress.update(task, completed=sample["timestamp"] - fleet.start)
                    if rate:
                        time.sleep(max(0.0, sent / rate - (time.monotonic() - began)))
            sent += producer.send(held)
        except NotDelivered as error:
            raise Problem(f"{error}; {sent} were sent before; check the stream, --region and your credentials") from None
    return sent
