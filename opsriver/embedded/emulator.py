"""The emulator as a process: started on 127.0.0.1, found again, stopped so that it saves its state."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import psutil

from opsriver.errors import Problem

DEFAULT_PORT = 4566
REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
START_SECONDS = 60
STOP_SECONDS = 120


def environment(state: Path, endpoint: str = "") -> dict[str, str]:
    """Environment of what runs for the embedded AWS: nothing of the user's own AWS settings gets in."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "SAM_", "OPSRIVER_", "LOCALSTACK_"))}
    home = state / "home"
    made = {
        **kept,
        **CREDENTIALS,
        "AWS_CONFIG_FILE": str(home / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.2",
        "__SAM_CLI_APP_DIR": str(home),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    if endpoint:
        made["AWS_ENDPOINT_URL"] = endpoint
        made["LOCALSTACK_HOST"] = endpoint.removeprefix("http://")
    return made


def port_is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def choose_port(wanted: int | None) -> int:
    """The wanted port, else 4566, else any free one."""
    if wanted is not None:
        if not 1024 <= wanted <= 65535:
            raise Problem(f"port {wanted} cannot be used; choose one from 1024 to 65535")
        if not port_is_free(wanted):
            raise Problem(f"port {wanted} of 127.0.0.1 is taken; choose another with --port, or leave it out")
        return wanted
    if port_is_free(DEFAULT_PORT):
        return DEFAULT_PORT
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(state: Path, port: int) -> int:
    """Start the emulator with its data in ``state``; returns its process id at once."""
    if find_spec("ministack") is None:
        raise Problem("the emulator ministack is not installed here; `make install` installs it")
    data = state / "aws"
    temporary = state / "tmp"
    for folder in (data / "s3", temporary, state / "home"):
        folder.mkdir(parents=True, exist_ok=True)
    settings = {
        **environment(state),
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "PERSIST_STATE": "1",
        "STATE_DIR": str(data),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(data / "s3"),
        "TMPDIR": str(temporary),
        "LOG_LEVEL": "WARNING",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",  # its port would be open to other machines
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return background([sys.executable, "-m", "ministack"], state, settings, state / "emulator.log").pid


def await_answer(state: Path, port: int, pid: int) -> None:
    """Return once the emulator answers; Problem where it ends or takes too long."""
    log = state / "emulator.log"
    began = time.monotonic()
    while time.monotonic() - began < START_SECONDS:
        if not born(pid):
            raise Problem(f"the embedded AWS ended while starting; its log is {log}")
        if answers(f"http://127.0.0.1:{port}"):
            return
        time.sleep(0.05)
    raise Problem(f"the embedded AWS did not answer on port {port} within {START_SECONDS} s; its log is {log}")


_background: list[subprocess.Popen[bytes]] = []
"""Processes that shall outlive this one; held, so that Python does not take them for forgotten."""


def background(command: list[str], folder: Path, settings: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process that goes on when this one ends, writing to ``log``."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=settings, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    _background.append(process)
    return process


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Asks this machine itself, whatever proxy is set up for others."""


def answers(endpoint: str) -> bool:
    """Whether an emulator answers at the endpoint."""
    try:
        with _direct.open(endpoint + "/_localstack/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def born(pid: int) -> float:
    """When a process started; 0 where there is none. With the id it names a process for good."""
    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return 0.0


def end(pid: int, started: float, *, patience: float = STOP_SECONDS) -> bool:
    """End a process we started, by its id; False where it had to be killed."""
    try:
        if not started or born(pid) != started:
            return True
        process = psutil.Process(pid)
        process.terminate()
        try:
            process.wait(patience)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(10)
            return False
    except psutil.NoSuchProcess:
        pass
    finally:
        # What ended is let go: Python would warn at its exit of a process that it never saw end.
        _background[:] = [one for one in _background if one.poll() is None]
    return True
