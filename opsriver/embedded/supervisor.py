"""Keeps the event source mapper running: starts it again when it dies, ends it when the emulator does.

A process of its own (``python -m opsriver.embedded.supervisor``), so that ``opsriver up --detach`` heals
itself. The mapper keeps its positions on disk; a new one goes on where the old one was.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec

from opsriver.embedded import MAPPER_RECORD, Worker, keep
from opsriver.embedded.emulator import born

LOOK_SECONDS = 0.3
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
END_SECONDS = 100.0


def supervise(state: Path, endpoint: str, emulator: Worker, stop: threading.Event) -> None:
    """Run mappers one after another until ``stop`` is set or the emulator has ended."""
    command = [sys.executable, "-m", "opsriver.embedded.mapper", "--endpoint", endpoint]
    command += ["--positions", str(state / "positions")]
    pause = 0.0
    while not stop.wait(pause) and born(emulator.pid) == emulator.born:
        began = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        keep(state / MAPPER_RECORD, Worker(process.pid, born(process.pid)))
        while process.poll() is None and not stop.wait(LOOK_SECONDS):
            if born(emulator.pid) != emulator.born:
                # Nothing can be invoked any more, and what was done is on disk: there is nothing to wait for.
                process.kill()
                process.wait()
                return
        if stop.is_set():
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return
        print(f"the mapper ended with status {process.returncode}; it is started again", flush=True)
        lasted = time.monotonic() - began > LONGEST_PAUSE
        pause = SHORTEST_PAUSE if lasted or not pause else min(2 * pause, LONGEST_PAUSE)


def main() -> None:
    """Run until SIGTERM or the emulator's end."""
    parser = argparse.ArgumentParser(description="Keeps the event source mapper running.")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--emulator", required=True, help="process id and start time, as JSON")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    supervise(options.state, options.endpoint, msgspec.json.decode(options.emulator, type=Worker), stop)


if __name__ == "__main__":
    main()
