"""``opsriver agent``: send this machine's metrics."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from opsriver import target
from opsriver.errors import Problem
from opsriver.output import err, out, print_json, table
from opsriver.target import DEFAULT_STATE, StateOption
from schemas.names import name_problem


def agent(
    stream_name: Annotated[str, typer.Option(help="Stream on AWS; without it the embedded one is used.")] = "",
    region: Annotated[str, typer.Option(help="Region of the stream on AWS.")] = "",
    endpoint: Annotated[str, typer.Option(help="Endpoint other than AWS's own.")] = "",
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between samples.")] = 10.0,
    hostname: Annotated[str, typer.Option(help="Name of this host; its own without it.")] = "",
    spool: Annotated[Path | None, typer.Option(help="Folder for what cannot be sent yet.")] = None,
    spool_bytes: Annotated[int, typer.Option(min=100_000, help="Most bytes that the spool may hold.")] = 64 * 1024 * 1024,
    once: Annotated[bool, typer.Option("--once", help="Take one sample, send it, and end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Take one sample and print it; send nothing.")] = False,
    devices: Annotated[bool, typer.Option("--per-device/--totals", help="Also metrics of each device.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON at the end.")] = False,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Sample this machine and push it to the stream; spools to disk while the stream is out of reach."""
    from agents.host.agent import Agent
    from agents.host.sampler import Sampler
    from agents.host.spool import Spool, SpoolInUse
    from agents.producer import Producer

    name = hostname or socket.gethostname()
    if problem := name_problem(name, "the name of this host"):
        raise Problem(f"{problem} (--hostname)")
    sampler = Sampler(name, time.monotonic, lambda: int(time.time() * 1000), devices)
    if dry_run:
        sampler.sample()
        time.sleep(min(interval, 1.0))
        _show(sampler.sample(), as_json)
        return
    client, stream = _stream(stream_name, region, endpoint, state)
    _check(client, stream)
    place = spool or _usual_spool()
    try:
        kept = Spool(place, spool_bytes)
    except SpoolInUse as error:
        raise Problem(f"{error}; stop it, or give this one another --spool") from None
    except OSError as error:
        raise Problem(f"spool {place} cannot be used: {error.strerror}; choose another with --spool") from None
    running = Agent(
        sampler, Producer(client, stream, tries=3), kept, interval,
        lambda line: err.print(f"{time.strftime('%H:%M:%S')} {line}", markup=False, highlight=False, soft_wrap=True),
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.stop.set())
    taken = True
    try:
        if once:
            sampler.sample()
            time.sleep(min(interval, 1.0))
            taken = running.step()
        else:
            err.print(f"sampling {sampler.hostname} every {interval:g} s to stream {stream}", highlight=False)
            running.run()
    finally:
        kept.close()
    summary = {"hostname": sampler.hostname, "stream": stream, "sent": running.sent, "dropped": running.dropped,
               "damaged": kept.damaged}  # fmt: skip
    if as_json:
        print_json(summary)
    else:
        err.print(f"{running.sent} events sent, {running.dropped} batches dropped", highlight=False)
    if once and not taken:
        raise Problem(f"stream {stream} did not take the sample; it is kept in {place} and goes with the next")


def _usual_spool() -> Path:
    try:
        return Path.home() / ".local" / "state" / "opsriver" / "spool"
    except RuntimeError:
        raise Problem("this user has no home folder for the spool; name a folder with --spool") from None


def _stream(stream_name: str, region: str, endpoint: str, state: Path) -> tuple[Any, str]:
    if not stream_name:
        try:
            where = target.find(state)
        except Problem:
            raise Problem(
                f"nothing runs in {state}; start it with `opsriver up --detach`, or name a stream on AWS with --stream-name"
            ) from None
        return where.client("kinesis"), where.output("EventStreamName")
    import boto3
    from botocore.exceptions import BotoCoreError

    from runtime import clients

    try:
        client = boto3.client(
            "kinesis", region_name=region or None, endpoint_url=endpoint or None, config=clients.config(attempts=2)
        )
    except (BotoCoreError, ValueError) as error:
        raise Problem(f"no client for stream {stream_name}: {error}; check --region and --endpoint") from None
    return client, stream_name


def _check(client: Any, stream: str) -> None:
    """A stream that is not there is a mistake to tell at once; one that is out of reach may come back."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client.list_shards(StreamName=stream, MaxResults=1)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "ResourceNotFoundException":
            where = client.meta.region_name
            raise Problem(f"there is no stream {stream} in {where}; check --stream-name and --region") from None
    except BotoCoreError:
        pass  # the agent tells it, and spools


def _show(samples: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(samples)
        return
    shown = table("metric", "value", "unit", "dimensions")
    for sample in samples:
        if "hostname" in sample:
            for name in ("cpuUsage", "memoryUsage", "diskIO", "networkIO"):
                shown.add_row(name, f"{sample[name]:,.1f}", "", "")
        else:
            dimensions = ", ".join(f"{k}={v}" for k, v in sample.get("dimensions", {}).items())
            shown.add_row(sample["metric"], f"{sample['value']:,.1f}", sample.get("unit", ""), dimensions)
    out.print(shown)
