"""A bare emulator for tests of single stores: one process on a free port of 127.0.0.1, nothing deployed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}


@dataclass(frozen=True)
class Emulator:
    endpoint: str
    pid: int

    def client(self, service: str, **options: Any) -> Any:
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"mode": "standard", "total_max_attempts": 4}, **options),
        )

    def environment(self) -> dict[str, str]:
        """Variables with which a process of its own finds the emulator."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.endpoint}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def emulator(folder: Path) -> Iterator[Emulator]:
    """Run an emulator whose files and log are in ``folder`` until the block ends."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",  # its port would be open to other machines
        "LOG_LEVEL": "WARNING",
        **CREDENTIALS,
    }
    with (folder / "emulator.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ministack"], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        endpoint = f"http://127.0.0.1:{port}"
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(f"the emulator ended: {(folder / 'emulator.log').read_text()[-2000:]}")
            try:
                with urllib.request.urlopen(endpoint + "/_localstack/health", timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        else:
            raise RuntimeError("the emulator did not answer within a minute")
        yield Emulator(endpoint, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
