"""``python -m benchmarks.latency [--json]``: from put to delivery on the embedded AWS, at a steady rate.

500 hosts send two metrics each second, spread over the second. Every second some hosts, each once, put
a value out of the bounds that their rule sets, so that an alert must follow at once. What is measured is
wall-clock time from before the put to the alert's arrival at an HTTP subscriber and in the SQS queue:
through Kinesis, the scorer, DynamoDB and its stream, the publisher, EventBridge and SNS. The first seconds,
in which functions start, are told apart. Bounded in time: what has not come when it is over is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from agents.producer import Producer
from benchmarks.measure import tell
from opsriver import embedded
from opsriver.demo.show import percentile
from opsriver.demo.subscribers import Delivery, HttpSubscriber, QueueSubscriber

HOSTS, METRICS = 500, ("cpuUsage", "memoryUsage")
TICKS = 10
"""Puts a second; each holds a tenth of the hosts."""
FAULTS = 4
"""Hosts a second that show a fault."""
WARM_SECONDS = 10
PATIENCE = 60.0
ALLOWANCE = 0.5
"""Seconds that the 99th percentile may lie above the batch window."""
DETECTORS = """
[[rules]]
bounds = { high = 100.0 }
silence = false
"""


class Run:
    """One run upon an embedded AWS of its own."""

    def __init__(self, folder: Path) -> None:
        rules = folder / "detectors.toml"
        rules.write_text(DETECTORS)
        self.state = folder / "state"
        self.stack = embedded.start(self.state, detectors=rules)
        self.put_at: dict[str, tuple[float, int]] = {}
        self.deliveries: list[Delivery] = []
        self._lock = threading.Lock()
        self.behind = 0.0

    def receive(self, delivery: Delivery) -> None:
        with self._lock:
            self.deliveries.append(delivery)

    def window(self) -> int:
        """The scorer's batch window in seconds, as deployed."""
        mappings = self.stack.client("lambda").list_event_source_mappings()["EventSourceMappings"]
        return next(
            int(one.get("MaximumBatchingWindowInSeconds") or 0)
            for one in mappings
            if ":kinesis:" in one["EventSourceArn"] and "Scorer" in one["FunctionArn"]
        )

    def feed(self, seconds: int) -> int:
        """Put the load; the number of events put."""
        producer = Producer(self.stack.client("kinesis"), self.stack.outputs["EventStreamName"])
        began, put = time.monotonic(), 0
        for tick in range(seconds * TICKS):
            due = began + tick / TICKS
            time.sleep(max(0.0, due - time.monotonic()))
            second, part = divmod(tick, TICKS)
            faulty = {(second * FAULTS + n) % HOSTS for n in range(FAULTS)}
            stamp = int(time.time() * 1000)
            events = []
            for host in range(part, HOSTS, TICKS):
                name = f"host-{host:03d}"
                fault = f"{METRICS[0]}.{host}"  # its own: the same on several hosts would be told as one group
                for metric in (fault, METRICS[1]):
                    value = 900.0 if host in faulty and metric == fault else 50.0 + (host * 7 + second * 3) % 11
                    body = {"resource": name, "metric": metric, "timestamp": stamp, "value": value, "unit": "Percent"}
                    events.append((name, json.dumps(body).encode()))
            self.behind = max(self.behind, time.monotonic() - due)
            now = time.time()
            for host in faulty:
                if host % TICKS == part:
                    self.put_at.setdefault(f"host-{host:03d}", (now, second))
            producer.send(events)
            put += len(events)
        return put

    def wait(self) -> None:
        """Until every alert has come both ways, within bounds."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if all(len(self._opened(way)) >= len(self.put_at) for way in ("HTTP", "SQS")):
                return
            time.sleep(0.2)

    def _opened(self, way: str) -> dict[str, float]:
        """Host to the time of its first alert by this way."""
        found: dict[str, float] = {}
        with self._lock:
            for one in self.deliveries:
                host = one.insight["resource"]
                if one.by == way and host in self.put_at:
                    found[host] = min(one.at, found.get(host, one.at))
        return found

    def busy(self) -> dict[str, float]:
        """CPU seconds so far of the emulator, of the functions that run below it, and of the mapper."""
        emulator = psutil.Process(self.stack.emulator.pid)
        found = {"emulator": _cpu(emulator), "functions": sum(map(_cpu, emulator.children(recursive=True)))}
        return {**found, "mapper": _cpu(psutil.Process(self.stack.mapper.pid))}

    def result(self, seconds: int, put: int, took: float, window: int) -> dict[str, Any]:
        ways: dict[str, Any] = {}
        for way in ("HTTP", "SQS"):
            came = self._opened(way)
            warm = [came[host] - at for host, (at, second) in self.put_at.items() if host in came and second >= WARM_SECONDS]
            ways[way] = {
                "alerts": len(came),
                "missing": len(self.put_at) - len(came),
                "measured": len(warm),
                **{
                    name: round(percentile(warm, share), 3) if warm else None
                    for name, share in (("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("longest", 1.0))
                },
            }
        return {
            "seconds": seconds,
            "events": put,
            "eventsPerSecond": round(put / took),
            "series": HOSTS * len(METRICS),
            "faults": len(self.put_at),
            "batchWindowSeconds": window,
            "targetSeconds": window + ALLOWANCE,
            "longestPutDelay": round(self.behind, 3),
            "load": os.getloadavg()[0],
            "cores": os.cpu_count(),
            "ways": ways,
        }


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def run(seconds: int = 60) -> dict[str, Any]:
    """Start, load, wait, stop. At most 120 seconds, as each host shows its fault once."""
    seconds = max(WARM_SECONDS + 5, min(seconds, HOSTS // FAULTS))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        one = Run(Path(folder))
        try:
            web = HttpSubscriber(one.receive)
            queue = QueueSubscriber(one.stack.client("sqs"), one.stack.outputs["AlertQueueUrl"], one.receive)
            try:
                web.subscribe(one.stack.client("sns"), one.stack.outputs["AlertTopicArn"])
                window = one.window()
                before, began = one.busy(), time.monotonic()
                put = one.feed(seconds)
                took = time.monotonic() - began
                cores = {name: round((value - before[name]) / took, 2) for name, value in one.busy().items()}
                one.wait()
            finally:
                queue.close()
                web.close()
            return {**one.result(seconds, put, took, window), "coresUsed": cores}
        finally:
            embedded.stop(one.state)


def show(found: dict[str, Any], console: Console) -> None:
    """Print tables for people."""
    table = Table("by", "alerts", "missing", "measured", "median s", "90 % within", "99 % within", "longest")
    table.title = f"Put to delivery at {found['eventsPerSecond']:,} events a second, {found['series']:,} series"
    for way, one in found["ways"].items():
        table.add_row(
            way, *(f"{one[name]}" for name in ("alerts", "missing", "measured", "median", "p90", "p99", "longest"))
        )
    console.print(table)
    console.print(
        f"batch window {found['batchWindowSeconds']} s, target {found['targetSeconds']} s at the 99th percentile; "
        f"{found['events']:,} events in {found['seconds']} s, {found['faults']} faults; puts were late by at most "
        f"{found['longestPutDelay']} s; load of the machine {found['load']:.1f} on {found['cores']} cores, of which "
        + ", ".join(f"{name} used {value}" for name, value in found["coresUsed"].items())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the time from put to delivery on an embedded AWS.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(options.seconds)
    tell(found, show, as_json=options.json)


if __name__ == "__main__":
    main()
