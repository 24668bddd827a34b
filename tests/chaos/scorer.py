"""Kills the scorer at chosen points and compares with a run that was left alone.

``python -m tests.chaos.scorer --rounds 200 --seed 1`` runs the real handler in processes of its
own against an emulator on 127.0.0.1. Each round feeds one labelled stream in batches; at a chosen
batch and point the process gets SIGKILL, and the batch comes again, as the mapping would bring it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consumers.dead_letters.store import DeadLetterStore
from stream_processors.scoring import Scorer
from stream_processors.state.checkpoint import Checkpoint, Shard
from stream_processors.state.snapshot import encode
from tests.chaos.worker import POINTS
from tests.support.forked import Forked
from tests.support.ministack import Emulator, emulator

Worker = subprocess.Popen[str] | Forked

START = 1_790_000_000_000
SHARD = "shardId-000000000000"
OUTSIDE = "any moment, from outside"
ALL_POINTS = (*POINTS, OUTSIDE)
BATCHES = 26
"""Batches a round: enough for a second base, so that old snapshots are pruned too."""


class NoStream:
    """The handler's batches come from the test; nothing is ever asked of the stream itself."""

    def shard(self, shard_id: str) -> Shard | None:
        return None

    def records(self, shard_id: str, after: str, until: str) -> Any:
        raise LookupError("no stream")


def labelled_stream(seed: int) -> list[list[dict[str, Any]]]:
    """Batches of Kinesis records with spikes, silence, late events, alarms and records nobody can read."""
    rng = random.Random(seed)
    batches, sequence = [], 10**20
    for number in range(BATCHES):
        records = []
        for minute in range(number * 8, number * 8 + 8):
            now = START + minute * 60_000
            for host in ("web-1", "web-2", "db-1"):
                if host == "db-1" and 120 <= minute < 150:
                    continue
                value = 40 + rng.gauss(0, 1) + (55 if rng.random() < 0.03 and minute > 60 else 0)
                records.append((host, {"resource": host, "metric": "cpu", "timestamp": now, "value": value}))
            if rng.random() < 0.15:
                records.append(("web-1", {"resource": "web-1", "metric": "cpu", "timestamp": "yesterday", "value": 1}))
        rows = []
        for host, body in records:
            sequence += rng.randrange(1, 10**6)
            rows.append(
                {
                    "eventID": f"{SHARD}:{sequence}",
                    "eventSource": "aws:kinesis",
                    "kinesis": {
                        "partitionKey": host,
                        "sequenceNumber": str(sequence),
                        "approximateArrivalTimestamp": (START + (number * 8 + 8) * 60_000) / 1000,
                        "data": base64.b64encode(json.dumps(body).encode()).decode(),
                    },
                }
            )
        batches.append(rows)
    return batches


@dataclass
class Stage:
    """Tables and buckets of one run, so that runs do not meet."""

    emulator: Emulator
    name: str

    def build(self) -> Stage:
        dynamodb, s3 = self.emulator.client("dynamodb"), self.emulator.client("s3")
        for table, keys in (("checkpoint", [("shardId", "S")]), ("insights", [("insightId", "S"), ("timestamp", "N")])):
            dynamodb.create_table(
                TableName=f"{self.name}-{table}",
                KeySchema=[
                    {"AttributeName": n, "KeyType": kind} for (n, _), kind in zip(keys, ("HASH", "RANGE"), strict=False)
                ],
                AttributeDefinitions=[{"AttributeName": n, "AttributeType": t} for n, t in keys],
                BillingMode="PAY_PER_REQUEST",
            )
        self.emulator.client("kinesis").create_stream(StreamName=self.name, ShardCount=1)
        for bucket in ("state", "letters"):
            s3.create_bucket(Bucket=f"{self.name}-{bucket}")
        return self

    def environment(self) -> dict[str, str]:
        return {
            **self.emulator.environment(),
            "OPSRIVER_STREAM_NAME": self.name,
            "OPSRIVER_CHECKPOINT_TABLE": f"{self.name}-checkpoint",
            "OPSRIVER_INSIGHTS_TABLE": f"{self.name}-insights",
            "OPSRIVER_STATE_BUCKET": f"{self.name}-state",
            "OPSRIVER_DEAD_LETTER_BUCKET": f"{self.name}-letters",
            "POWERTOOLS_METRICS_DISABLED": "true",
            "POWERTOOLS_LOG_LEVEL": "ERROR",
            "PATH": "/usr/bin:/bin",
        }

    def outcome(self) -> dict[str, Any]:
        """Everything the run left behind, in a form that can be compared."""
        dynamodb, s3 = self.emulator.client("dynamodb"), self.emulator.client("s3")
        items: dict[str, Any] = {}
        for page in dynamodb.get_paginator("scan").paginate(TableName=f"{self.name}-insights"):
            for item in page["Items"]:
                items[item["insightId"]["S"]] = item
        letters = DeadLetterStore(s3, f"{self.name}-letters")
        checkpoint = Checkpoint(dynamodb, s3, table=f"{self.name}-checkpoint", bucket=f"{self.name}-state", stream=self.name)
        pointer = checkpoint.pointer(SHARD)
        restored = checkpoint.load(SHARD, pointer, Scorer, NoStream())
        return {
            "insights": items,
            "letters": {letter.letter_id: letter for key in letters.keys() for letter in letters.read(key)},  # noqa: SIM118
            "state": hashlib.sha256(encode(restored.scorer)).hexdigest(),
            "place": pointer.sequence if pointer else "",
        }


@dataclass
class Runner:
    """Feeds batches to worker processes and starts a new one whenever one was killed."""

    stage: Stage
    fresh: bool = False
    """Start an interpreter for each process: slower, and with a hash seed of its own."""
    process: Worker | None = None
    kills: int = 0
    timers: list[threading.Timer] = field(default_factory=list)

    def _start(self) -> Worker:
        if not self.fresh:
            return Forked("tests.chaos.worker", env=self.stage.environment())
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=self.stage.environment(),
        )  # fmt: skip

    def feed(self, records: list[dict[str, Any]], kill: tuple[str, int] | None = None, delay: float = 0.0) -> bool:
        """Bring one batch until it is answered without failures; True if a kill happened."""
        killed = False
        for _ in range(20):
            if self.process is not None and self.process.poll() is not None:
                discard(self.process)
                self.process = None
            if self.process is None:
                self.process = self._start()
            order = {"event": {"Records": records}, "kill": kill if not killed else None}
            if delay and not killed:
                timer = threading.Timer(delay, self.process.kill)
                timer.start()
                self.timers.append(timer)
            answer = self._ask(self.process, order)
            if answer is None:
                discard(self.process)
                killed, self.kills = True, self.kills + 1
                continue
            if not answer["batchItemFailures"]:
                for timer in self.timers:
                    timer.cancel()
                self.timers.clear()
                return killed
        raise RuntimeError("the batch was not answered in 20 tries")

    @staticmethod
    def _ask(process: Worker, order: dict[str, Any]) -> dict[str, Any] | None:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return None
        line = process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def close(self) -> None:
        for timer in self.timers:
            timer.cancel()
        if self.process is not None:
            discard(self.process)
            self.process = None


def discard(process: Worker) -> None:
    """Let a worker end, or take note that it was killed, and close its pipes."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    process.wait(30)


def disturbed(stage: Stage, batches: list[list[dict[str, Any]]], point: str, rng: random.Random) -> int:
    """One round: a kill or two at the point, a repeated batch now and then. Returns the number of kills."""
    runner = Runner(stage)
    eligible = range(1, BATCHES)
    chosen = sorted(rng.sample(eligible, 2))
    if "old snapshots" in point:  # the first base that replaces another comes after MAX_DELTAS deltas
        chosen = list(range(14, 20))
    try:
        done = False
        for number, records in enumerate(batches):
            kill, delay = None, 0.0
            if not done and number >= chosen[0]:
                if point == OUTSIDE:
                    delay = rng.uniform(0.002, 0.06)
                elif "loaded" in point:
                    runner.close()  # a fresh process has to load
                    kill = (point, 1)
                else:
                    kill = (point, rng.choice((1, 1, 2)) if "scoring" in point or "write" in point else 1)
            done = runner.feed(records, kill, delay) or done
            if rng.random() < 0.1:
                runner.feed(records)  # the whole batch again
    finally:
        runner.close()
    return runner.kills


def compare(got: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    mine, theirs = got["insights"], wanted["insights"]
    return {
        "lost": len(theirs.keys() - mine.keys()),
        "doubled": len(mine.keys() - theirs.keys()),
        "differing": sum(mine[k] != theirs[k] for k in mine.keys() & theirs.keys()),
        "state": got["state"] == wanted["state"],
        "letters": got["letters"] == wanted["letters"],
        "place": got["place"] == wanted["place"],
    }


def chaos(rounds: int, seed: int, folder: Path, note: Any = lambda done: None) -> dict[str, Any]:
    """Run the rounds and return the report."""
    rng = random.Random(seed)
    began = time.monotonic()
    rows: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"rounds": 0, "kills": 0, "lost": 0, "doubled": 0, "differing": 0, "state": True, "letters": True,
                 "place": True}
    )  # fmt: skip
    with emulator(folder) as server:
        streams = {}
        for variant in range(4):
            batches = labelled_stream(seed * 100 + variant)
            stage = Stage(server, f"calm{variant}").build()
            runner = Runner(stage, fresh=True)
            try:
                for records in batches:
                    runner.feed(records)
            finally:
                runner.close()
            streams[variant] = (batches, stage.outcome())
            if not streams[variant][1]["insights"] or not streams[variant][1]["letters"]:
                raise RuntimeError("the undisturbed run found nothing; there is nothing to compare")
        for number in range(rounds):
            point = ALL_POINTS[number % len(ALL_POINTS)]
            batches, wanted = streams[number % len(streams)]
            stage = Stage(server, f"round{number}").build()
            kills = disturbed(stage, batches, point, rng)
            row, result = rows[point], compare(stage.outcome(), wanted)
            row["rounds"] += 1
            row["kills"] += kills
            for name in ("lost", "doubled", "differing"):
                row[name] += result[name]
            for name in ("state", "letters", "place"):
                row[name] = row[name] and result[name]
            note(number + 1)
    insights = {v: len(w["insights"]) for v, (_, w) in streams.items()}
    return {"rounds": rounds, "seed": seed, "seconds": round(time.monotonic() - began, 1), "points": dict(rows),
            "insightsPerStream": insights}  # fmt: skip


def clean(report: dict[str, Any]) -> bool:
    """Whether every point was reached, and nothing was lost, doubled or different at any of them."""
    return all(
        row["kills"] >= row["rounds"] > 0
        and not (row["lost"] or row["doubled"] or row["differing"])
        and row["state"]
        and row["letters"]
        and row["place"]
        for row in report["points"].values()
    )


def table(report: dict[str, Any]) -> Any:
    from rich.table import Table

    shown = Table("point", "rounds", "kills", "lost", "doubled", "differing", "state", "letters", "place",
                  title="The scorer, killed and tried again by the mapping")  # fmt: skip
    same = {True: "equal", False: "DIFFERENT"}
    for point, row in report["points"].items():
        shown.add_row(
            point, *(str(row[n]) for n in ("rounds", "kills", "lost", "doubled", "differing")),
            *(same[row[n]] for n in ("state", "letters", "place")),
        )  # fmt: skip
    return shown


def main() -> int:
    from rich.console import Console
    from rich.progress import Progress

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the report to this file")
    options = parser.parse_args()
    console = Console(width=max(110, Console().width))
    with tempfile.TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("rounds", total=options.rounds)
        report = chaos(options.rounds, options.seed, Path(folder), lambda done: progress.update(task, completed=done))
    console.print(table(report))
    kills = sum(row["kills"] for row in report["points"].values())
    ok = clean(report)
    console.print(f"{kills} kills in {options.rounds} rounds, {report['seconds']} s: "
                  + ("no difference" if ok else "DIFFERENCES, see above"))  # fmt: skip
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
