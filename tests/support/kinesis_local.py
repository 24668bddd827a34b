"""A Kinesis engine that closes parents properly, on 127.0.0.1; for the reshard tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ministack import CREDENTIALS, free_port

HERE = Path(__file__).parent / "kinesis-local"


def installed(folder: Path) -> Path:
    """The engine, installed into ``folder`` from its lock; skips with the reason where that cannot be."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("Node.js is missing: the Kinesis engine for resharding is an npm package")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder / name)
    done = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"npm could not install the Kinesis engine: {done.stderr.strip().splitlines()[-1:]}")
    return folder / "node_modules" / "kinesis-local"


@contextmanager
def kinesis(folder: Path) -> Iterator[str]:
    """Run the engine until the block ends; gives its endpoint."""
    engine = installed(folder)
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "KINESIS_MOCK_PLAIN_PORT": str(port),
        "KINESIS_MOCK_TLS_PORT": str(free_port()),
        "LOG_LEVEL": "ERROR",
        "SPLIT_SHARD_DURATION": "50ms",
        "MERGE_SHARDS_DURATION": "50ms",
        "CREATE_STREAM_DURATION": "50ms",
        **CREDENTIALS,
    }
    with (folder / "engine.log").open("wb") as log:
        process = subprocess.Popen(
            ["node", "--require", str(HERE / "loopback.js"), "main.js"], cwd=engine, env=environment, stdout=log, stderr=log
        )
    try:
        import socket

        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(f"the Kinesis engine ended: {(folder / 'engine.log').read_text()[-1000:]}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()  # it holds nothing that would have to be saved, and lingers when asked to end
        process.wait(20)
