"""A long run at steady load with faults sprinkled in; fails if anything is lost, doubled, or grows.

``python -m tests.soak --minutes 30 --rate 400 --json build/soak.json``. Runs an embedded AWS of its
own on 127.0.0.1. At the end every record is read back from the stream and scored once more by a core
that nobody disturbed; insights, dead letters and notifications must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import psutil

from agents.producer import Producer
from agents.simulator import Fleet
from consumers.dead_letters.store import DeadLetterStore
from consumers.insights.store import from_item
from opsriver import embedded
from opsriver.demo.subscribers import Delivery, QueueSubscriber
from schemas.insights import DETAIL_TYPES, PAGING_SEVERITIES, Insight
from stream_processors.records.batch import StreamRecord
from stream_processors.records.decode import decode
from stream_processors.scoring import Scorer
from stream_processors.state.checkpoint import Checkpoint
from stream_processors.state.stream import _record

GROWTH_MB = 60.0
"""Most by which a process may grow from the second quarter of the run to its last."""
GROWTH_LAG = 15.0
"""Most seconds by which the lag may grow likewise, faults included."""
CADENCE = 1000
"""Milliseconds between the samples of a host."""
FAULTS = ("mapper killed", "worker killed", "malformed", "duplicates", "pause")


class Soak:
    """One run."""

    def __init__(self, folder: Path, minutes: float, rate: float, seed: int) -> None:
        self.seconds, self.rate, self.rng = minutes * 60, rate, random.Random(seed)
        self.state = folder / "state"
        self.stack = embedded.start(self.state)
        out = self.stack.outputs
        self.kinesis = self.stack.client("kinesis")
        self.stream = out["EventStreamName"]
        self.producer = Producer(self.kinesis, self.stream)
        self.checkpoint = Checkpoint(
            self.stack.client("dynamodb"), self.stack.client("s3"), table=out["CheckpointTableName"],
            bucket=out["StateBucketName"], stream=self.stream,
        )  # fmt: skip
        self.counts: Counter[str] = Counter()
        self.lags: list[float] = []
        self.memory: dict[str, list[float]] = {"emulator": [], "mapper": [], "functions": []}
        self.deliveries: list[Delivery] = []
        self.queue = QueueSubscriber(self.stack.client("sqs"), out["AlertQueueUrl"], self.deliveries.append)
        self.bad = 0

    # ------------------------------------------------------------------ load and faults

    def run(self, note: Any) -> dict[str, Any]:
        """Load, faults, drain, comparison."""
        hosts = max(4, round(self.rate / 4))
        # A sample each second, in real time: the heartbeat's ticks then fall where they belong, and hosts that
        # go silent are noticed. The faults lie where the models have learned something.
        begin = int(time.time() * 1000)
        learned = min(100 * CADENCE, int(self.seconds * 500))
        fleet = Fleet(
            hosts=hosts, seed=self.rng.randrange(10**6), start=begin, end=begin + int(self.seconds * 1000), cadence=CADENCE,
            faults=max(10, round(self.seconds / 15)), fault_start=begin + learned, size=12.0, restarts=300.0, deploys=300.0,
        )  # fmt: skip
        began, step, next_fault, next_look = time.monotonic(), 0, 10.0, 5.0
        while (now := time.monotonic() - began) < self.seconds:
            at = fleet.start + step * CADENCE
            events = [(str(s["hostname"]), msgspec.json.encode(s)) for s in fleet.samples(at, at + CADENCE)]
            self.producer.send(events)
            self.counts["events put"] += 4 * len(events)
            if now > next_fault:
                self.fault(self.rng.choice(FAULTS), events)
                next_fault = now + self.rng.uniform(8, 16)
            if now > next_look:
                self.look()
                next_look = now + 5
                note(min(now, self.seconds), f"{self.counts['events put']:,} events, lag {self.lags[-1]:.1f} s")
            step += 1
            time.sleep(max(0.0, began + step * CADENCE / 1000 - time.monotonic()))
        note(self.seconds, "draining")
        self.still()
        self.drain()
        return self.report(time.monotonic() - began)

    def fault(self, kind: str, events: list[tuple[str, bytes]]) -> None:
        self.counts[kind] += 1
        if kind == "mapper killed":
            stack = embedded.running(self.state)
            if stack is not None and stack.mapper.alive:
                os.kill(stack.mapper.pid, signal.SIGKILL)
        elif kind == "worker killed":
            workers = psutil.Process(self.stack.emulator.pid).children(recursive=True)
            if workers:
                self.rng.choice(workers).kill()
        elif kind == "malformed":
            for host, data in self.rng.sample(events, min(3, len(events))):
                self.kinesis.put_record(StreamName=self.stream, PartitionKey=host, Data=data[: len(data) // 2])
                self.bad += 1
        elif kind == "duplicates":
            self.producer.send(events)
            self.counts["events put twice"] += 4 * len(events)
        else:
            time.sleep(3)

    def look(self) -> None:
        """Memory of the processes, and the age of the oldest record that is not scored."""
        self.lags.append(self.lag())
        stack = embedded.running(self.state)
        if stack is None:
            raise RuntimeError("the embedded AWS has ended")
        try:
            emulator = psutil.Process(stack.emulator.pid)
            self.memory["emulator"].append(emulator.memory_info().rss / 1e6)
            self.memory["functions"].append(
                max((c.memory_info().rss / 1e6 for c in emulator.children(recursive=True)), default=0.0)
            )
            self.memory["mapper"].append(psutil.Process(stack.mapper.pid).memory_info().rss / 1e6)
        except psutil.NoSuchProcess:  # it was killed a moment ago
            return

    def lag(self) -> float:
        oldest = 0.0
        for shard in self.kinesis.list_shards(StreamName=self.stream)["Shards"]:
            pointer = self.checkpoint.pointer(shard["ShardId"])
            where = (
                {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": pointer.sequence}
                if pointer else {"ShardIteratorType": "TRIM_HORIZON"}
            )  # fmt: skip
            iterator = self.kinesis.get_shard_iterator(StreamName=self.stream, ShardId=shard["ShardId"], **where)
            waiting = self.kinesis.get_records(ShardIterator=iterator["ShardIterator"], Limit=1)["Records"]
            if waiting:
                oldest = max(oldest, time.time() - waiting[0]["ApproximateArrivalTimestamp"].timestamp(), 0.001)
        return oldest

    def still(self) -> None:
        """Stop the heartbeat: from here on nothing is put, so that what is compared does not change any more."""
        self.stack.heartbeat(on=False)

    def drain(self) -> None:
        until = time.monotonic() + 300
        calm = 0  # a tick may have been on its way when the heartbeat was stopped
        while calm < 6:
            calm = calm + 1 if self.lag() == 0 else 0
            if time.monotonic() > until:
                raise RuntimeError("the stream was not drained within 5 minutes")
            time.sleep(0.5)
        count, quiet = -1, 0
        while quiet < 10:
            quiet = quiet + 1 if len(self.deliveries) == count else 0
            count = len(self.deliveries)
            time.sleep(0.5)

    # ------------------------------------------------------------------ comparison

    def undisturbed(self) -> tuple[dict[str, Insight], int, list[Insight]]:
        """Insights and letters of a core that nobody disturbed, over the very records of the stream."""
        last: dict[str, Insight] = {}
        letters = 0
        revisions: list[Insight] = []
        for shard in self.kinesis.list_shards(StreamName=self.stream)["Shards"]:
            scorer = Scorer()
            for records in self.read(shard["ShardId"]):
                batch = decode(records)
                letters += len(batch.dead_letters)
                for insight in scorer.process(batch).insights:
                    last[insight.insight_id] = insight
                    revisions.append(insight)
        return last, letters, revisions

    def read(self, shard: str) -> Any:
        pointer = self.checkpoint.pointer(shard)
        if pointer is None:
            return
        iterator = self.kinesis.get_shard_iterator(StreamName=self.stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")[
            "ShardIterator"
        ]
        while True:
            answer = self.kinesis.get_records(ShardIterator=iterator, Limit=1000)
            found: list[StreamRecord] = [_record(shard, r) for r in answer["Records"]]
            # Drained means that there is nothing after the pointer; if there were, nobody has scored it.
            mine = [r for r in found if int(r.sequence_number) <= int(pointer.sequence)]
            if mine:
                yield mine
            if len(mine) < len(found) or not found:
                return
            iterator = answer["NextShardIterator"]

    def report(self, seconds: float) -> dict[str, Any]:
        wanted, letters, revisions = self.undisturbed()
        pages = (
            self.stack.client("dynamodb").get_paginator("scan").paginate(TableName=self.stack.outputs["InsightsTableName"])
        )
        got = {i.insight_id: i for page in pages for i in map(from_item, page["Items"])}
        both = wanted.keys() & got.keys()
        store = DeadLetterStore(self.stack.client("s3"), self.stack.outputs["DeadLetterBucketName"])
        kept = sum(len(store.read(key)) for key in list(store.keys()))
        due = {
            (i.insight_id, DETAIL_TYPES[i.transition])
            for i in revisions
            if i.severity in PAGING_SEVERITIES and i.transition in DETAIL_TYPES
        }  # fmt: skip
        sent = Counter(d.insight["notificationId"] for d in self.deliveries)
        seen = {d.identity for d in self.deliveries}
        return {
            "seconds": round(seconds, 1),
            "counts": dict(self.counts),
            "insights": {
                "wanted": len(wanted),
                "lost": len(wanted.keys() - got.keys()),
                "doubled": len(got.keys() - wanted.keys()),
                "differing": sum(wanted[k] != got[k] for k in both),
                "types": dict(Counter(f"{i.type} {i.severity}" for i in wanted.values())),
            },
            "letters": {"malformed": self.bad, "kept": kept, "wanted": letters},
            "notifications": {
                "wanted": len(due), "missing": len(due - seen), "twice": sum(n - 1 for n in sent.values()),
            },
            "lagSeconds": trend(self.lags),
            "memoryMb": {name: trend(values) for name, values in self.memory.items()},
        }  # fmt: skip


def trend(values: list[float]) -> dict[str, float]:
    """Median, largest, and by how much the last quarter's median lies above the second quarter's."""
    if len(values) < 8:
        return {
            "median": round(statistics.median(values or [0.0]), 2),
            "largest": round(max(values, default=0.0), 2),
            "growth": 0.0,
        }
    quarter = len(values) // 4
    growth = statistics.median(values[-quarter:]) - statistics.median(values[quarter : 2 * quarter])
    return {"median": round(statistics.median(values), 2), "largest": round(max(values), 2), "growth": round(growth, 2)}


def problems(report: dict[str, Any]) -> list[str]:
    """What the run must not show, in words."""
    told = [
        f"insights {name}: {report['insights'][name]}"
        for name in ("lost", "doubled", "differing")
        if report["insights"][name]
    ]
    if (
        report["letters"]["kept"] != report["letters"]["wanted"]
        or report["letters"]["kept"] != report["letters"]["malformed"]
    ):
        told.append(f"dead letters: {report['letters']}")
    if report["notifications"]["missing"]:
        told.append(f"notifications missing: {report['notifications']['missing']}")
    if not report["insights"]["wanted"] or not report["notifications"]["wanted"]:
        told.append("the load led to no notification; there is nothing to compare")
    if report["lagSeconds"]["growth"] > GROWTH_LAG:
        told.append(f"lag grew by {report['lagSeconds']['growth']} s")
    # The emulator keeps the whole stream and all tables in memory: its growth is the data's.
    told += [
        f"{name} grew by {one['growth']} MB" for name, one in report["memoryMb"].items()
        if name != "emulator" and one["growth"] > GROWTH_MB
    ]  # fmt: skip
    return told


def table(report: dict[str, Any]) -> Any:
    """The report, to be printed."""
    from rich.table import Table

    shown = Table("what", "figures", title=f"Soak of {report['seconds'] / 60:.1f} minutes")
    for name in ("counts", "insights", "letters", "notifications"):
        shown.add_row(name, ", ".join(f"{what} {value}" for what, value in report[name].items() if what != "types"))
    shown.add_row("insights by type", ", ".join(f"{n} {what}" for what, n in sorted(report["insights"]["types"].items())))
    grown = {"lag, s": report["lagSeconds"], **{f"memory of {n}, MB": one for n, one in report["memoryMb"].items()}}
    for name, one in grown.items():
        most = {"lag, s": f"; at most {GROWTH_LAG:g}", "memory of emulator, MB": "; holds the data, not judged"}
        limit = most.get(name, f"; at most {GROWTH_MB:g}")
        shown.add_row(name, f"median {one['median']}, largest {one['largest']}, growth {one['growth']}{limit}")
    return shown


def soak(minutes: float, rate: float, seed: int, note: Any = lambda done, text: None) -> dict[str, Any]:
    """Run and return the report."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = Soak(Path(folder), minutes, rate, seed)
        try:
            return run.run(note)
        finally:
            run.queue.close()
            embedded.stop(run.state)


def main() -> int:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=400, help="events a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the report to this file")
    options = parser.parse_args()
    console = Console(stderr=True)
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("starting", total=options.minutes * 60)
        report = soak(options.minutes, options.rate, options.seed,
                      lambda done, text: progress.update(task, completed=done, description=text))  # fmt: skip
    wrong = problems(report)
    printed = Console(width=max(130, Console().width))
    printed.print(table(report))
    printed.print("; ".join(wrong) if wrong else "nothing lost, doubled or differing, nothing grew")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**report, "problems": wrong}, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    threading.current_thread().name = "soak"
    sys.exit(main())
