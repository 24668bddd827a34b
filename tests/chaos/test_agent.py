"""The real agent is killed while it spools; every sample that it had acknowledged arrives, in order."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.host.spool import Spool
from stream_processors.records.decode import decode
from stream_processors.state.stream import _record
from tests.support.ministack import CREDENTIALS, Emulator, emulator, free_port

pytestmark = [pytest.mark.embedded, pytest.mark.chaos]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("agent")) as running:
        yield running


def agent(endpoint: str, stream: str, spool: Path, *more: str) -> subprocess.Popen[bytes]:
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith("AWS_")}, **CREDENTIALS}
    where = ["--stream-name", stream, "--region", "us-east-1", "--endpoint", endpoint, "--spool", str(spool)]
    how = ["--interval", "0.2", "--hostname", "h", "--totals", *more]
    command = [sys.executable, "-m", "opsriver.cli", "agent", *where, *how]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)  # fmt: skip


def spooled(folder: Path) -> list[int]:
    """Times of the samples that are acknowledged on disk."""
    spool = Spool(folder)
    try:
        return [json.loads(frame.payload)[0]["timestamp"] for frame in spool.pending()]
    finally:
        spool.close()


def test_a_kill_while_spooling_loses_nothing_that_was_acknowledged(server: Emulator, tmp_path: Path) -> None:
    stream = "agent-kills"
    server.client("kinesis").create_stream(StreamName=stream, ShardCount=1)
    away, rng = f"http://127.0.0.1:{free_port()}", random.Random(1)
    acknowledged: list[int] = []
    for _ in range(4):
        process = agent(away, stream, tmp_path)
        until = time.monotonic() + 60
        before = len(acknowledged)
        while len(list(tmp_path.glob("*.spool"))) == 0 or time.monotonic() < until - 57:
            assert time.monotonic() < until, "the agent never spooled"
            time.sleep(0.05)
        time.sleep(rng.uniform(0.3, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        acknowledged = spooled(tmp_path)
        assert len(acknowledged) >= before
    assert len(acknowledged) > 4
    assert acknowledged == sorted(acknowledged)

    back = agent(server.endpoint, stream, tmp_path, "--once")
    assert back.wait(60) == 0
    kinesis = server.client("kinesis")
    shard = kinesis.list_shards(StreamName=stream)["Shards"][0]["ShardId"]
    iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")[
        "ShardIterator"
    ]
    records = [_record(shard, r) for r in kinesis.get_records(ShardIterator=iterator)["Records"]]
    batch = decode(records)
    assert not batch.dead_letters
    arrived = [t for t, m in zip(batch.timestamp, batch.metric, strict=True) if m == "cpuUsage"]
    assert arrived[: len(acknowledged)] == acknowledged
    assert arrived == sorted(set(arrived))
    assert spooled(tmp_path) == []
