"""``opsriver simulate``: a fleet with labelled faults, to files or onto a stream."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsriver import target
from opsriver.errors import Problem
from opsriver.output import err, out, print_json
from opsriver.target import DEFAULT_STATE, RegionOption, StackOption, StateOption

if TYPE_CHECKING:
    from agents.simulator import Fleet


def simulate(
    hosts: Annotated[int, typer.Option(min=1, max=100_000, help="Number of hosts.")] = 50,
    days: Annotated[float, typer.Option(min=0.01, max=1000, help="Days of samples, up to now.")] = 3.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same fleet.")] = 1,
    cadence: Annotated[int, typer.Option(min=1, max=3600, help="Seconds between samples of a host.")] = 60,
    faults: Annotated[int, typer.Option(min=0, max=100_000, help="Labelled faults in the second half.")] = 10,
    target_folder: Annotated[Path | None, typer.Option("--out", help="Write a CSV a series, and truth.json, here.")] = None,
    to_stream: Annotated[bool, typer.Option("--stream", help="Put the samples on the stream.")] = False,
    start: Annotated[int | None, typer.Option(help="Epoch seconds at which the fleet begins.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Samples a second onto the stream; 0 is as fast as it goes.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
    state: StateOption = DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """Simulate a fleet with daily and weekly rhythm, noise, restarts and labelled faults."""
    from agents.simulator import DAY, Fleet

    if (target_folder is None) == (not to_stream):
        raise Problem("choose where the samples go: --out DIR for files, or --stream")
    length = int(days * DAY)
    begin = start * 1000 if start is not None else int(time.time() * 1000) - length
    fleet = Fleet(hosts=hosts, seed=seed, start=begin, end=begin + length, cadence=cadence * 1000, faults=faults)
    if target_folder is not None:
        count = _files(fleet, target_folder)
        place = str(target_folder)
    else:
        where = target.find(state, stack, region)
        place = where.output("EventStreamName")
        count = _stream(fleet, where, place, rate)
    summary = {"to": place, "hosts": hosts, "samples": count, "faults": len(fleet.truth), "seed": seed}
    if as_json:
        print_json(summary)
    else:
        out.print(f"{count:,} samples of {hosts} hosts, {len(fleet.truth)} faults, to {place}", highlight=False)


def _files(fleet: Fleet, folder: Path) -> int:
    import msgspec
    import numpy as np
    from rich.progress import track

    from agents.simulator import METRICS

    times = fleet.times(fleet.start, fleet.end)
    count = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "truth.json").write_bytes(msgspec.json.format(msgspec.json.encode(fleet.truth_document())))
        for host in track(fleet.names, description="writing", console=err, transient=True):
            (folder / host).mkdir(exist_ok=True)
            for metric in METRICS:
                values = fleet.column(host, metric, times)
                there = np.flatnonzero(~np.isnan(values))
                count += len(there)
                with (folder / host / f"{metric}.csv").open("w") as file:
                    file.write("timestamp,value\n")
                    file.writelines(f"{times[n]},{values[n]:.6g}\n" for n in there)
    except OSError as error:
        raise Problem(f"{folder} cannot be written: {error.strerror}; choose another --out") from None
    return count


def _stream(fleet: Fleet, where: Any, stream: str, rate: float) -> int:
    import msgspec
    from rich.progress import Progress

    from agents.producer import NotDelivered, Producer

    producer = Producer(where.client("kinesis"), stream)
    encode = msgspec.json.Encoder().encode
    sent, began = 0, time.monotonic()
    held: list[tuple[str, bytes]] = []
    expected = len(fleet.names) * len(fleet.times(fleet.start, fleet.end))
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("sending", total=expected)
        try:
            for sample in fleet.samples(fleet.start, fleet.end):
                held.append((str(sample["hostname"]), encode(sample)))
                if len(held) >= 2_000:
                    sent += producer.send(held)
                    held.clear()
                    progress.update(task, completed=sent)
                    if rate:
                        time.sleep(max(0.0, sent / rate - (time.monotonic() - began)))
            sent += producer.send(held)
        except NotDelivered as error:
            raise Problem(f"{error}; {sent} were sent before") from None
    return sent
