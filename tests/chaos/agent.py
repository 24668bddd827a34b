"""Kills the real ``opsriver agent`` while it spools, brings the stream back, and reads what arrived.

Each round the agent runs some times with a stream that is out of reach and gets SIGKILL at a random moment
once it has spooled something new. Then it runs with the stream back, until its spool is empty; in every
second round it is killed in the middle of that too, which may repeat samples and must not lose any.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from agents.host.agent import events
from agents.host.spool import Spool
from stream_processors.records.decode import decode
from stream_processors.state.stream import _record
from tests.support.ministack import CREDENTIALS, Emulator, emulator, free_port

HOST = "chaos-host"
SECONDS = 90.0
"""Patience with a loaded machine."""


def agent(endpoint: str, stream: str, spool: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start the agent as a user does."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "OPSRIVER_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "opsriver.cli", "agent", "--stream-name", stream, "--region", "us-east-1",
         "--endpoint", endpoint, "--spool", str(spool), "--interval", "0.2", "--hostname", HOST, "--totals", *more],
        env={**kept, **CREDENTIALS}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, and wait for the end."""
    process.kill()
    process.wait()


def spooled(folder: Path) -> tuple[list[bytes], int]:
    """Samples that are acknowledged on disk and not yet noted as delivered, and the number of broken frames."""
    spool = Spool(folder)
    try:
        payloads = [data for frame in spool.pending() for _, data in events(frame.payload)]
        return payloads, spool.damaged
    finally:
        spool.close()


def size(folder: Path) -> int:
    """Bytes of the spool, while an agent may use it."""
    return sum(file.stat().st_size for file in folder.glob("*.spool"))


def awaited(process: subprocess.Popen[bytes], look: Any, what: str) -> None:
    """Poll until ``look`` gives something true."""
    until = time.monotonic() + SECONDS
    while not look():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the agent {what}; status {process.poll()}")
        time.sleep(0.01)


def arrived(server: Emulator, stream: str) -> tuple[list[tuple[int, dict[str, float]]], int]:
    """Samples on the stream in their order, as (time, values by metric), and the number of unreadable records."""
    kinesis = server.client("kinesis")
    (shard,) = (one["ShardId"] for one in kinesis.list_shards(StreamName=stream)["Shards"])
    iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")[
        "ShardIterator"
    ]
    records = []
    while True:
        answer = kinesis.get_records(ShardIterator=iterator)
        records += [_record(shard, record) for record in answer["Records"]]
        if not answer["Records"]:
            break
        iterator = answer["NextShardIterator"]
    batch = decode(records)
    samples: list[tuple[int, dict[str, float]]] = []
    place: Any = None
    columns = (batch.record, batch.sub_sequence, batch.timestamp, batch.metric, batch.value)
    for record, sub, at, metric, value in zip(*columns, strict=True):
        if (record, sub) != place:
            samples.append((at, {}))
            place = (record, sub)
        samples[-1][1][metric] = value
    return samples, len(batch.dead_letters)


def round_of(server: Emulator, folder: Path, number: int, rng: random.Random) -> Counter[str]:
    """Some kills while spooling, and what came of it."""
    stream, spool = f"agent-{number}", folder / f"spool-{number}"
    server.client("kinesis").create_stream(StreamName=stream, ShardCount=1)
    away = f"http://127.0.0.1:{free_port()}"
    count: Counter[str] = Counter(rounds=1)
    acknowledged: list[bytes] = []
    for _ in range(rng.choice((1, 2, 3))):
        before = size(spool)
        process = agent(away, stream, spool)
        awaited(process, lambda: size(spool) > before, "never spooled")  # noqa: B023
        time.sleep(rng.uniform(0.0, 2.5))
        kill(process)
        count["kills while spooling"] += 1
        now, damaged = spooled(spool)
        count["damaged"] += damaged
        count["forgotten"] += now[: len(acknowledged)] != acknowledged
        acknowledged = now
    if number % 2:
        process = agent(server.endpoint, stream, spool)
        awaited(process, lambda: arrived(server, stream)[0], "never delivered")
        time.sleep(rng.uniform(0.0, 0.4))
        kill(process)
        count["kills while delivering"] += 1
        rest, damaged = spooled(spool)
        count["damaged"] += damaged
        acknowledged += [one for one in rest if one not in set(acknowledged)]
    process = agent(server.endpoint, stream, spool, "--once")
    count["failed"] += process.wait(SECONDS) != 0
    count["left"] += len(spooled(spool)[0])
    samples, unreadable = arrived(server, stream)
    wanted = []
    for data in acknowledged:
        sample = msgspec.json.decode(data)
        wanted.append((sample["timestamp"], {k: float(v) for k, v in sample.items() if k not in ("hostname", "timestamp")}))
    first = [one for at, one in enumerate(samples) if one not in samples[:at]]
    count["samples"] += len(wanted)
    count["missing"] += sum(one not in first for one in wanted)
    count["disordered"] += [one for one in first if one in wanted] != wanted or first != sorted(first, key=lambda s: s[0])
    count["damaged"] += unreadable
    count["repeated"] += len(samples) - len(first)
    # Without a kill between the put and the cursor nothing has a reason to come twice.
    count["unexplained"] += 0 if number % 2 else len(samples) - len(first)
    return count


def chaos(rounds: int, seed: int, folder: Path, note: Any = lambda done: None) -> dict[str, Any]:
    """Run the rounds and return the report."""
    rng = random.Random(seed)
    began = time.monotonic()
    total: Counter[str] = Counter()
    with emulator(folder / "emulator") as server:
        for number in range(rounds):
            total.update(round_of(server, folder, number, rng))
            note(number + 1)
    return {"rounds": rounds, "seed": seed, "seconds": round(time.monotonic() - began, 1),
            "kills": total["kills while spooling"] + total["kills while delivering"],
            "counts": {name: total[name] for name in COLUMNS}}  # fmt: skip


WRONG = ("missing", "forgotten", "disordered", "damaged", "unexplained", "left", "failed")
"""Counts that must be 0."""
COLUMNS = ("rounds", "kills while spooling", "kills while delivering", "samples", "repeated", *WRONG)


def clean(report: dict[str, Any]) -> bool:
    """Whether everything that was acknowledged arrived, whole and in order."""
    counts = report["counts"]
    return counts["kills while spooling"] >= counts["rounds"] > 0 < counts["samples"] and not any(counts[n] for n in WRONG)


def table(report: dict[str, Any]) -> Any:
    """The report, to be printed."""
    from rich.table import Table

    shown = Table(*COLUMNS, title="The host agent, killed while it spools and while it delivers")
    shown.add_row(*(str(report["counts"][name]) for name in COLUMNS))
    return shown
