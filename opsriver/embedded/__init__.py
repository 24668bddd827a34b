"""The embedded AWS: an emulator on 127.0.0.1 with the real template deployed, and our event source mapper.

``start`` brings it up in a state folder, ``running`` finds it, ``stop`` ends it so that it comes up
again with its data.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from opsriver.errors import Problem

RECORD = "stack.json"


class Worker(msgspec.Struct, frozen=True):
    """A process of the embedded AWS; with its start time the id names it for good."""

    pid: int
    born: float


class Stack(msgspec.Struct, frozen=True, rename="camel"):
    """A running embedded AWS and what is deployed on it."""

    endpoint: str
    region: str
    stack_name: str
    outputs: dict[str, str]
    state: str
    emulator: Worker
    mapper: Worker

    def client(self, service: str, **config: Any) -> Any:
        """A boto3 client of the embedded AWS."""
        return make_client(self.endpoint, service, **config)

    def environment(self) -> dict[str, str]:
        """Environment in which other processes find the embedded AWS."""
        from opsriver.embedded.emulator import environment

        return environment(Path(self.state), self.endpoint)


def make_client(endpoint: str, service: str, **config: Any) -> Any:
    """A boto3 client for an emulator at ``endpoint``, as localstack-client makes it."""
    from urllib.parse import urlsplit

    from botocore.config import Config
    from localstack_client.session import Session

    from opsriver.embedded.emulator import REGION

    place = urlsplit(endpoint)
    session = Session(
        aws_access_key_id="test", aws_secret_access_key="test",  # noqa: S106 - the emulator asks for some
        region_name=REGION, localstack_host=f"{place.hostname}:{place.port}",
    )  # fmt: skip
    options = {"retries": {"mode": "standard", "total_max_attempts": 5}, "connect_timeout": 5, "read_timeout": 60}
    return session.client(service, endpoint_url=endpoint, config=Config(**{**options, **config}))


def running(state: Path) -> Stack | None:
    """The embedded AWS that runs with this state folder; None where none does."""
    from opsriver.embedded.emulator import answers, born

    stack = _record(state)
    if stack is None or born(stack.emulator.pid) != stack.emulator.born or not answers(stack.endpoint):
        return None
    return stack


def _record(state: Path) -> Stack | None:
    try:
        return msgspec.json.decode((state / RECORD).read_bytes(), type=Stack)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError):
        raise Problem(f"{state / RECORD} cannot be read; remove the folder {state} to start anew") from None


def start(
    state: Path,
    *,
    port: int | None = None,
    parameters: Mapping[str, str] | None = None,
    detectors: Path | None = None,
    note: Callable[[str], object] = len,
) -> Stack:
    """Start the embedded AWS, deploy the template and start the mapper.

    ``note`` is told each step before it begins. Raises Problem where something is in the way; what
    was started is then ended again.
    """
    from opsriver.embedded import deployment, emulator

    state = state.absolute()
    try:
        state.mkdir(parents=True, exist_ok=True)
        probe = state / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Problem(f"state folder {state} cannot be written: {error.strerror}; choose another with --state") from None
    if running(state) is not None:
        raise Problem(f"an embedded AWS runs in {state} already; stop it with `opsriver down`")
    chosen = emulator.choose_port(port)
    endpoint = f"http://127.0.0.1:{chosen}"
    note("starting the embedded AWS")
    server = emulator.launch(state, chosen)
    mapper: Worker | None = None
    try:
        note("deploying template.yaml with sam deploy")
        outputs = deployment.deploy(
            state, endpoint, lambda s: make_client(endpoint, s), parameters or {}, detectors=detectors
        )
        note("starting the event source mapper")
        mapper = start_mapper(state, endpoint)
        stack = Stack(
            endpoint=endpoint, region=emulator.REGION, stack_name=deployment.STACK, outputs=outputs, state=str(state),
            emulator=Worker(server, emulator.born(server)), mapper=mapper,
        )  # fmt: skip
        _write(state, stack)
    except BaseException:
        if mapper is not None:
            emulator.end(mapper.pid, mapper.born)
        emulator.end(server, emulator.born(server))
        raise
    return stack


def start_mapper(state: Path, endpoint: str) -> Worker:
    """Start the event source mapper as a process of its own."""
    import sys

    from opsriver.embedded import emulator

    command = [sys.executable, "-m", "opsriver.embedded.mapper", "--endpoint", endpoint]
    command += ["--positions", str(state / "positions")]
    process = emulator.background(command, state, emulator.environment(state, endpoint), state / "mapper.log")
    return Worker(process.pid, emulator.born(process.pid))


def restart_mapper(state: Path) -> Stack:
    """Start the mapper again where it has died; the stack as it is now."""
    from opsriver.embedded import emulator

    stack = running(state.absolute())
    if stack is None:
        raise Problem(f"nothing runs in {state}; start it with `opsriver up`")
    if emulator.born(stack.mapper.pid) == stack.mapper.born:
        return stack
    again = msgspec.structs.replace(stack, mapper=start_mapper(Path(stack.state), stack.endpoint))
    _write(Path(stack.state), again)
    return again


def watch(stack: Stack) -> None:
    """Stay until the embedded AWS ends; Problem where it does so by itself."""
    import time

    from opsriver.embedded import emulator

    while emulator.born(stack.emulator.pid) == stack.emulator.born:
        time.sleep(1)
        if emulator.born(stack.mapper.pid) != stack.mapper.born:
            stack = restart_mapper(Path(stack.state))
    raise Problem(f"the embedded AWS has ended by itself; its log is {Path(stack.state) / 'emulator.log'}")


def _write(state: Path, stack: Stack) -> None:
    partial = state / (RECORD + ".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(stack)))
    partial.replace(state / RECORD)


def stop(state: Path) -> bool:
    """Stop what runs with this state folder, saving its data; False where nothing ran."""
    from opsriver.embedded import emulator

    stack = _record(state)
    if stack is None:
        return False
    ran = emulator.born(stack.emulator.pid) == stack.emulator.born
    emulator.end(stack.mapper.pid, stack.mapper.born)
    emulator.end(stack.emulator.pid, stack.emulator.born)
    (state / RECORD).unlink(missing_ok=True)
    shutil.rmtree(state / "source", ignore_errors=True)
    return ran
