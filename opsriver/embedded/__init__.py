"""The embedded AWS: an emulator on 127.0.0.1 with the real template deployed, and our event source mapper.

``start`` brings it up in a state folder, ``running`` finds it, ``stop`` ends it so that it comes up
again with its data. Nothing is kept outside the state folder, and nothing of the user's own AWS
settings is read.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from opsriver.errors import Problem

RECORD = "stack.json"
MAPPER_RECORD = "mapper.json"
POSITIONS, SAVED_POSITIONS = "positions", "positions.saved"
MAPPER_SECONDS = 60.0
STOP_PATIENCE = 180.0


class Worker(msgspec.Struct, frozen=True):
    """A process of the embedded AWS; with its start time the id names it for good."""

    pid: int
    born: float

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        from opsriver.embedded.emulator import born

        return self.pid > 0 and born(self.pid) == self.born

    def end(self) -> bool:
        """End the process; False where it had to be killed."""
        from opsriver.embedded.emulator import end

        return end(self.pid, self.born)


NOBODY = Worker(0, 0.0)


class Stack(msgspec.Struct, frozen=True, rename="camel"):
    """A running embedded AWS and what is deployed on it."""

    endpoint: str
    region: str
    stack_name: str
    outputs: dict[str, str]
    """Empty until the template is deployed."""
    state: str
    emulator: Worker
    mapper: Worker = NOBODY
    supervisor: Worker = NOBODY

    @property
    def workers(self) -> dict[str, Worker]:
        """Processes by part."""
        return {"emulator": self.emulator, "mapper": self.mapper, "supervisor": self.supervisor}

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by part."""
        return {name: worker.pid for name, worker in self.workers.items()}

    def client(self, service: str, **config: Any) -> Any:
        """A boto3 client of the embedded AWS."""
        return make_client(self.endpoint, service, **config)

    def heartbeat(self, *, on: bool) -> None:
        """Let the deployed heartbeat tick or rest. Raises RuntimeError where none is deployed."""
        events = self.client("events")
        rules = [one["Name"] for page in events.get_paginator("list_rules").paginate() for one in page["Rules"]]
        beats = [name for name in rules if "HeartbeatFunction" in name]
        if not beats:
            raise RuntimeError(f"no schedule of the heartbeat is among the rules {', '.join(rules) or '(none)'}")
        for name in beats:
            (events.enable_rule if on else events.disable_rule)(Name=name)

    def environment(self) -> dict[str, str]:
        """Environment in which other processes find the embedded AWS."""
        from opsriver.embedded.emulator import environment

        return environment(Path(self.state), self.endpoint)


def make_client(endpoint: str, service: str, **config: Any) -> Any:
    """A boto3 client for an emulator at ``endpoint``, by localstack-client."""
    from opsriver.embedded import clients

    return clients.make_client(endpoint, service, **config)


def running(state: Path) -> Stack | None:
    """The embedded AWS that runs with this state folder; None where none does."""
    from opsriver.embedded.emulator import answers

    stack = _record(state)
    if stack is None or not stack.outputs or not stack.emulator.alive or not answers(stack.endpoint):
        return None
    return stack


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
    with _alone(state):
        left = _record(state)
        if left is not None and left.outputs and left.emulator.alive:
            raise Problem(f"an embedded AWS runs in {state} already; stop it with `opsriver down`")
        if left is not None:
            _clear(state, left)
        chosen = emulator.choose_port(port)
        endpoint = f"http://127.0.0.1:{chosen}"
        note("starting the embedded AWS")
        stack = Stack(
            endpoint=endpoint, region=emulator.REGION, stack_name=deployment.STACK, outputs={}, state=str(state),
            emulator=NOBODY,
        )  # fmt: skip
        try:
            server = emulator.launch(state, chosen)
            # Noted before it answers: whatever happens now, the next command finds it and ends it.
            stack = msgspec.structs.replace(stack, emulator=Worker(server, emulator.born(server)))
            keep(state / RECORD, stack)
            emulator.await_answer(state, chosen, server)
            note("deploying template.yaml with sam deploy")
            outputs = deployment.deploy(
                state, endpoint, lambda service: make_client(endpoint, service), parameters or {}, detectors=detectors
            )
            note("starting the event source mapper")
            stack = _supervised(msgspec.structs.replace(stack, outputs=outputs))
        except BaseException:
            left = _record(state)
            if left is not None:
                _clear(state, left)
            raise
    return stack


def restart_mapper(state: Path) -> Stack:
    """The stack with its mapper running: waits for the supervisor to start it again, or does so itself."""
    stack = running(state.absolute())
    if stack is None:
        raise Problem(f"nothing runs in {state}; start it with `opsriver up`")
    if stack.supervisor.alive and stack.mapper.alive:
        return stack
    return _supervised(stack)


def watch(stack: Stack) -> None:
    """Stay until the embedded AWS ends; Problem where it does so by itself."""
    state = Path(stack.state)
    while stack.emulator.alive:
        time.sleep(1)
        if not stack.supervisor.alive and stack.emulator.alive:
            stack = restart_mapper(state)
    with _alone(state, patience=STOP_PATIENCE):  # `opsriver down` may be at work
        if (state / RECORD).exists():
            raise Problem(f"the embedded AWS has ended by itself; its log is {state / 'emulator.log'}")


def stop(state: Path) -> bool:
    """Stop what runs with this state folder, saving its data; False where nothing ran.

    Raises Problem where the emulator had to be killed: what it held since its start is then lost.
    """
    state = state.absolute()
    if not state.is_dir():
        return False
    with _alone(state, patience=STOP_PATIENCE):
        stack = _record(state)
        if stack is None:
            return False
        ran = stack.emulator.alive
        if not _clear(state, stack) and ran:
            raise Problem(
                "the embedded AWS did not save its data in time and was killed; "
                "it comes up again as it was when it was last stopped"
            )
        return ran


def keep(file: Path, value: msgspec.Struct) -> None:
    """Write a record so that it is there whole or not at all."""
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(value)))
    partial.replace(file)


def _record(state: Path) -> Stack | None:
    try:
        stack = msgspec.json.decode((state / RECORD).read_bytes(), type=Stack)
        file = state / MAPPER_RECORD
        mapper = msgspec.json.decode(file.read_bytes(), type=Worker) if file.exists() else stack.mapper
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise Problem(f"state folder {state} is a file; name a folder with --state") from None
    except (OSError, msgspec.DecodeError):
        raise Problem(f"{state / RECORD} cannot be read; remove the folder {state} to start anew") from None
    return msgspec.structs.replace(stack, mapper=mapper)


@contextmanager
def _alone(state: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the state folder: one process at a time starts or stops an embedded AWS in it.

    Raises Problem where another holds it for more than ``patience`` seconds.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = (state / "lock").open("w")
    except OSError as error:
        raise Problem(f"state folder {state} cannot be written: {error.strerror}; choose another with --state") from None
    with lock:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise Problem(
                        f"another command starts or stops the embedded AWS in {state} now; try again in a moment"
                    ) from None
                time.sleep(0.1)
        yield


def _supervised(stack: Stack) -> Stack:
    """The stack once its supervisor has a mapper running; a supervisor is started where there is none."""
    from opsriver.embedded import emulator

    state = Path(stack.state)
    if not stack.supervisor.alive:
        stack.mapper.end()
        command = [sys.executable, "-m", "opsriver.embedded.supervisor", "--state", str(state)]
        command += ["--endpoint", stack.endpoint, "--emulator", msgspec.json.encode(stack.emulator).decode()]
        settings = emulator.environment(state, stack.endpoint)
        process = emulator.background(command, state, settings, state / "mapper.log")
        stack = msgspec.structs.replace(stack, supervisor=Worker(process.pid, emulator.born(process.pid)))
        keep(state / RECORD, stack)
    until = time.monotonic() + MAPPER_SECONDS
    while time.monotonic() < until:
        now = _record(state)
        if now is not None and now.mapper.alive:
            return now
        time.sleep(0.05)
    raise Problem(f"the event source mapper does not start; its log is {state / 'mapper.log'}")


def _clear(state: Path, stack: Stack) -> bool:
    """End what a record names. True where the emulator saved its data, together with the positions.

    Where it did not, both go back to what was saved last: positions ahead of the data would skip records.
    """
    saved = stack.emulator.alive
    stack.supervisor.end()
    stack.mapper.end()
    saved = stack.emulator.end() and saved
    positions, kept = state / POSITIONS, state / SAVED_POSITIONS
    origin, target = (positions, kept) if saved else (kept, positions)
    shutil.rmtree(target, ignore_errors=True)
    if origin.is_dir():
        partial = state / "positions.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(origin, partial)
        partial.rename(target)
    for name in (RECORD, MAPPER_RECORD):
        (state / name).unlink(missing_ok=True)
    shutil.rmtree(state / "source", ignore_errors=True)
    shutil.rmtree(state / "tmp", ignore_errors=True)
    return saved
