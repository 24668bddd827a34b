"""What was put is in the archive, each event once, and a replay of it gives what was sent."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agents.producer import Producer
from consumers.archive.compaction import Compactor
from consumers.archive.layout import HOUR_MS
from consumers.archive.reader import Archive
from consumers.archive.store import BucketStore
from opsriver.embedded import Stack, running
from schemas.arrow import KEYS

Wait = Callable[..., Any]
MINUTE = 60_000
ROOT = Path(__file__).resolve().parents[2]


def events(host: str, metric: str, minutes: int) -> list[tuple[str, bytes]]:
    """Samples every five minutes up to now, with a jump near the end."""
    rng = random.Random(host + metric)
    now = int(time.time() * 1000)
    return [
        (host, json.dumps({"resource": host, "metric": metric, "timestamp": now - n * 5 * MINUTE, "unit": "Percent",
                           "value": 50 + rng.gauss(0, 1) + (200 if n == 3 else 0)}).encode())
        for n in reversed(range(minutes // 5))
    ]  # fmt: skip


def bucket(stack: Stack) -> BucketStore:
    return BucketStore(stack.client("s3"), stack.outputs["ArchiveBucketName"])


def counts(stack: Stack, hosts: list[str]) -> tuple[int, int]:
    """Rows that a reader sees of some hosts, and their distinct keys."""
    store, now = bucket(stack), int(time.time() * 1000)
    table = Archive(store.root, store.filesystem).events(now - 10 * 24 * HOUR_MS, now + 24 * HOUR_MS)
    mine = [row for row in table.select(["resource", *KEYS["events"]]).to_pylist() if row["resource"] in hosts]
    return len(mine), len({tuple(row[name] for name in KEYS["events"]) for row in mine})


def test_events_put_are_rows_read_before_and_after_compaction_with_redelivery_and_a_kill_between(
    stack: Stack, eventually: Wait
) -> None:
    hosts = [f"archived-{n}-{uuid4().hex[:6]}" for n in range(3)]
    producer = Producer(stack.client("kinesis"), stack.outputs["EventStreamName"])
    put = 0
    for metric in ("cpu", "memory"):
        for host in hosts:
            made = events(host, metric, 24 * 60)
            producer.send(made)
            put += len(made)
            found = running(Path(stack.state))
            assert found is not None
            with contextlib.suppress(ProcessLookupError):  # one that the last round killed is not replaced yet
                os.kill(found.mapper.pid, signal.SIGKILL)
        eventually(lambda sent=put: counts(stack, hosts)[0] >= sent, what="every row so far", seconds=180, pause=1)
    twice = [{"PartitionKey": host, "Data": data} for host, data in events(hosts[0], "again", 8 * 60)]
    for _ in range(2):  # the same put again is an event of its own
        answer = stack.client("kinesis").put_records(StreamName=stack.outputs["EventStreamName"], Records=twice)
        put += len(twice) - answer["FailedRecordCount"]
    eventually(lambda: counts(stack, hosts)[0] >= put, what="every row", seconds=180, pause=1)
    assert counts(stack, hosts) == (put, put)
    closed = int(time.time() * 1000) + 4 * HOUR_MS
    report = Compactor(bucket(stack)).run(closed)
    assert report.done
    assert (report.problems, report.damaged) == ([], [])
    assert counts(stack, hosts) == (put, put)
    assert Compactor(bucket(stack)).run(closed + HOUR_MS).deleted
    assert counts(stack, hosts) == (put, put)


def test_a_replay_with_the_rules_of_the_time_gives_exactly_what_was_sent(
    stack: Stack, eventually: Wait, tmp_path: Path
) -> None:
    def replay() -> dict[str, Any] | None:
        done = subprocess.run(
            [sys.executable, "-m", "opsriver.cli", "replay", "--state", str(stack.state), "--json"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        last.append(found)
        # What the scorer sent a moment ago may not be archived yet, or its events not.
        return found if found["same"] and not found["differences"] else None

    last: list[dict[str, Any]] = []
    try:
        found = eventually(replay, what="a replay without a difference", seconds=150)
    except pytest.fail.Exception:
        pytest.fail(f"the replay differs: {json.dumps(last[-1])[:3000]}")
    assert found["sent"] == found["replayed"] == found["same"] > 0
    assert found["events"] > 1_000
