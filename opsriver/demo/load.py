"""A short, bounded load on this machine, for the agent to see: a busy process a core, and some memory."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType

import psutil

SHARE = 0.2
"""Share of the machine's memory that is taken, all at once, as a runaway process would."""
LARGEST = 4 * 1024**3
_CODE = """
import sys, time
size, seconds = int(sys.argv[1]), float(sys.argv[2])
sys.stdin.readline()
block = b"\\1" * size
end = time.monotonic() + seconds
while time.monotonic() < end:
    sum(n * n for n in range(10_000))
"""


class Load:
    """Keeps the load up for at most ``seconds`` from ``begin`` on, or until the block ends."""

    def __init__(self, seconds: float) -> None:
        memory = psutil.virtual_memory()
        self.bytes = int(min(LARGEST, memory.total * SHARE, memory.available / 3))
        self._seconds = seconds
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Load:
        cores = psutil.cpu_count() or 2
        command = [sys.executable, "-c", _CODE, str(self.bytes // cores), str(self._seconds)]
        self._processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(cores)]
        return self

    def begin(self) -> None:
        """Let the processes, which have been ready since the block began, go to work."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.write(b"\n")
                process.stdin.close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(10)
