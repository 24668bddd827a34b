"""Processes that start in milliseconds: forked from one that has imported what they need and has done nothing else.

A test that kills a process at each of many points spends most of its time on imports otherwise. What is forked is
as fresh as a new interpreter but for one thing: all share the server's hash seed, so that what they are compared
with should come from an interpreter of its own.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    [
        "consumers.alerts.publisher_handler",
        "consumers.alerts.sweeper_handler",
        "stream_processors.lambda_handler",
        "tests.chaos.publisher_worker",
        "tests.chaos.worker",
        "tests.support.killed_compaction",
        "tests.support.killed_publisher",
    ]
)


class Forked:
    """``main()`` of a module in a process of its own, with as much of ``subprocess.Popen`` as tests use."""

    def __init__(
        self, module: str, arguments: Sequence[str] = (), *, env: Mapping[str, str], stderr: Path = Path(os.devnull)
    ) -> None:
        theirs, mine = _processes.Pipe(duplex=False)
        told, out = _processes.Pipe(duplex=False)
        with theirs, mine, told, out:
            self._process = _processes.Process(
                target=_run, args=(module, list(arguments), dict(env), str(stderr), theirs, out), daemon=True
            )
            self._process.start()
            self.stdin = os.fdopen(os.dup(mine.fileno()), "w")
            self.stdout = os.fdopen(os.dup(told.fileno()))
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """The status; negative is the signal that ended it, None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The status, None while it runs."""
        return self.returncode

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self._process.kill()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        """The status at its end. Raises TimeoutError."""
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(f"the process {self.pid} has not ended within {timeout} s")
        return self.returncode


def _run(
    module: str, arguments: list[str], environment: dict[str, str], stderr: str, inlet: Connection, outlet: Connection
) -> None:
    errors = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, file in enumerate((inlet.fileno(), outlet.fileno(), errors)):
        os.dup2(file, number)
    os.close(errors)
    inlet.close()
    outlet.close()
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()
