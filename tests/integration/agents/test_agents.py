"""The agent and the simulator against a real Kinesis, and the agent killed for real."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agents.heartbeat import beat
from agents.host.spool import Spool
from agents.producer import Producer
from stream_processors.records.batch import EventBatch, StreamRecord
from stream_processors.records.decode import decode
from tests.support.ministack import CREDENTIALS, Emulator, emulator, free_port

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("emulator")) as running:
        yield running


@pytest.fixture
def stream(aws: Emulator) -> Callable[..., str]:
    def make(shards: int = 1, name: str = "") -> str:
        name = name or f"agents-{uuid4().hex[:8]}"
        aws.client("kinesis").create_stream(StreamName=name, ShardCount=shards)
        aws.client("kinesis").get_waiter("stream_exists").wait(StreamName=name)
        return name

    return make


def records(aws: Emulator, stream: str) -> dict[str, list[StreamRecord]]:
    """Everything on the stream, by shard."""
    kinesis = aws.client("kinesis")
    found: dict[str, list[StreamRecord]] = {}
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        name = shard["ShardId"]
        where = {"StreamName": stream, "ShardId": name, "ShardIteratorType": "TRIM_HORIZON"}
        iterator = kinesis.get_shard_iterator(**where)["ShardIterator"]
        found[name] = []
        while True:
            answer = kinesis.get_records(ShardIterator=iterator, Limit=10_000)
            if not answer["Records"]:
                break
            for r in answer["Records"]:
                arrival = int(r["ApproximateArrivalTimestamp"].timestamp() * 1000)
                found[name].append(StreamRecord(name, r["SequenceNumber"], r["PartitionKey"], arrival, r["Data"]))
            iterator = answer["NextShardIterator"]
    return found


def events(aws: Emulator, stream: str) -> list[EventBatch]:
    batches = [decode(mine) for mine in records(aws, stream).values()]
    assert not any(batch.dead_letters for batch in batches)
    return batches


def agent(*options: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "opsriver.cli", "agent", *options]
    return subprocess.Popen(
        command, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def opsriver(*options: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "opsriver.cli", *options], env={"PATH": os.environ["PATH"], **environment},
        text=True, capture_output=True, check=False, timeout=300,
    )  # fmt: skip


def test_the_producers_aggregates_land_on_the_shards_of_their_hosts(aws: Emulator, stream: Callable[..., str]) -> None:
    name = stream(3)
    made = []
    for n in range(3_000):
        body = {"resource": f"h{n % 50}", "metric": "m", "timestamp": 1_790_000_000 + n, "value": n}
        made.append((f"h{n % 50}", json.dumps(body).encode()))
    assert Producer(aws.client("kinesis"), name).send(made) == 3_000
    where: dict[str, int] = {}
    got: dict[str, list[float]] = {}
    for shard, batch in enumerate(events(aws, name)):
        for resource, value in zip(batch.resource, batch.value, strict=True):
            assert where.setdefault(resource, shard) == shard
            got.setdefault(resource, []).append(value)
    assert len(got) == 50
    assert len(set(where.values())) == 3
    assert all(values == sorted(values) and len(values) == 60 for values in got.values())


def test_the_heartbeat_reaches_every_shard(aws: Emulator, stream: Callable[..., str]) -> None:
    name = stream(4)
    assert beat(aws.client("kinesis"), name, 1_790_000_000_000) == 4
    for batch in events(aws, name):
        assert [placed.signal.timestamp for placed in batch.signals] == [1_790_000_000_000]


def test_one_sample_goes_on_the_stream_and_a_program_can_read_what_was_done(
    aws: Emulator, stream: Callable[..., str], tmp_path: Path
) -> None:
    name = stream()
    options = ("--stream-name", name, "--once", "--interval", "0.2", "--hostname", "web-1", "--spool", str(tmp_path))
    done = opsriver("agent", *options, "--json", environment=aws.environment())
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    (batch,) = events(aws, name)
    assert set(batch.resource) == {"web-1"}
    assert {"cpuUsage", "memoryUsage", "diskIO", "networkIO", "cpu.usedPercent"} <= set(batch.metric)
    assert summary["sent"] == len(batch) - 3
    assert summary["dropped"] == summary["damaged"] == 0


def test_a_stream_that_does_not_exist_is_told_in_one_sentence(aws: Emulator, tmp_path: Path) -> None:
    done = opsriver("agent", "--stream-name", "nowhere", "--spool", str(tmp_path), environment=aws.environment())
    assert done.returncode == 2
    assert "there is no stream nowhere in us-east-1" in done.stderr
    assert "Traceback" not in done.stderr
    done = opsriver("simulate", "--stream-name", "nowhere", "--hosts", "1", "--days", "0.1", environment=aws.environment())
    assert done.returncode == 2
    assert "ResourceNotFoundException" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_simulated_fleet_goes_on_a_stream_whole(aws: Emulator, stream: Callable[..., str]) -> None:
    name = stream(2)
    options = ("--hosts", "5", "--days", "0.2", "--metric", "requestRate", "--start", "1790000000", "--json")
    done = opsriver("simulate", "--stream-name", name, *options, environment=aws.environment())
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    batches = events(aws, name)
    resources = [resource for batch in batches for resource in batch.resource]
    assert set(resources) == {f"host-{n:03d}" for n in range(5)}
    metrics = [metric for batch in batches for metric in batch.metric]
    assert metrics.count("requestRate") + metrics.count("cpuUsage") == summary["samples"]


def test_a_simulated_fleet_in_files_is_scored_as_it_lies(tmp_path: Path) -> None:
    folder, scored = tmp_path / "fleet", tmp_path / "scored"
    done = opsriver("simulate", "--hosts", "2", "--days", "0.5", "--faults", "3", "--out", str(folder), environment={})
    assert done.returncode == 0, done.stderr
    truth = json.loads((folder / "truth.json").read_text())
    assert {key for fault in truth["faults"] for key in fault} == {"host", "metric", "kind", "start", "end", "size"}
    done = opsriver("score", str(folder), "--out", str(scored), "--json", environment={})
    assert done.returncode == 0, done.stderr
    files = {row["file"]: row for row in json.loads(done.stdout)["files"]}
    assert set(files) == {f"host-00{n}/{m}.csv" for n in (0, 1) for m in ("cpuUsage", "memoryUsage", "diskIO", "networkIO")}
    assert all(row["unscored"] == 0 for row in files.values())


def test_kills_during_writes_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(7)
    acknowledged: list[int] = []
    found: list[int] = []
    begin = 0
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.spooling", str(tmp_path), str(begin)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        mine = [int(process.stdout.readline())]
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        mine += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        process.wait()
        process.stdout.close()
        acknowledged += mine
        spool = Spool(tmp_path)
        found = [int(frame.payload.split(b" ", 1)[0]) for frame in spool.pending()]
        assert spool.damaged == 0
        spool.close()
        begin = found[-1] + 1
    assert set(acknowledged) <= set(found)
    assert len(acknowledged) >= 6
    assert found == list(range(len(found))), "in order, each once, and nothing between them missing"
    assert len(found) - len(acknowledged) <= 6, "at most the batch that was being written is unspoken of"


def test_an_agent_killed_while_the_stream_is_away_sends_all_it_spooled_when_both_are_back(
    tmp_path: Path, eventually: Callable[..., Any], aws: Emulator, stream: Callable[..., str]
) -> None:
    name, folder = stream(), tmp_path / "spool"
    away = {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    options = ("--stream-name", name, "--interval", "0.2", "--hostname", "web-1", "--spool", str(folder), "--totals")

    def size() -> int:
        return sum(file.stat().st_size for file in folder.glob("*.spool"))

    for _ in range(2):
        before, process = size(), agent(*options, environment=away)
        eventually(lambda before=before: size() > before + 400, what="spooled samples")
        refused = opsriver("agent", *options, environment=away)
        assert refused.returncode == 2
        assert "another agent uses the spool" in refused.stderr
        process.kill()
        process.communicate(timeout=60)
    kept = Spool(folder)
    spooled = [sample["timestamp"] for frame in kept.pending() for sample in json.loads(frame.payload)]
    assert len(spooled) >= 4
    kept.close()

    process = agent(*options, "--json", environment=aws.environment())
    eventually(lambda: sum(map(len, events(aws, name))) >= 4 * (len(spooled) + 1), what="what was spooled")
    process.send_signal(signal.SIGTERM)
    out, told = process.communicate(timeout=90)
    assert process.returncode == 0, told
    (batch,) = events(aws, name)
    times = [time for time, metric in zip(batch.timestamp, batch.metric, strict=True) if metric == "cpuUsage"]
    assert times[: len(spooled)] == spooled
    assert times == sorted(set(times)), "in order, and nothing twice"
    assert json.loads(out)["sent"] == len(times)
    rest = Spool(folder)
    assert list(rest.pending()) == []
    rest.close()
