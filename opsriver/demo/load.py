"""A short, bounded load on this machine, for the agent to see: one busy core and some memory."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType

import psutil

SHARE = 0.1
"""Share of the machine's memory that is taken."""
LARGEST = 3 * 1024**3
_CODE = """
import sys, time
size, seconds = int(sys.argv[1]), float(sys.argv[2])
block = b"\\1" * size  # taken at once, as a runaway process takes it
end = time.monotonic() + seconds
while time.monotonic() < end:
    sum(n * n for n in range(10_000))
"""


class Load:
    """Keeps the load up for at most ``seconds``, or until the block ends."""

    def __init__(self, seconds: float) -> None:
        memory = psutil.virtual_memory()
        self.bytes = int(min(LARGEST, memory.total * SHARE, memory.available / 3))
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(self.bytes), str(self._seconds)], stdin=subprocess.DEVNULL
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
