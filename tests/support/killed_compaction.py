"""A compactor that is killed at a step: ``python -m tests.support.killed_compaction BUCKET NOW STEP SCRATCH``.

Steps count what it asks of the store, before and after each: 0 is before the first, 1 after it, and
so on; -1 kills never. What it leaves behind is in the folder SCRATCH. Prints ``done`` when it ends by itself.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from consumers.archive.compaction import Compactor
from consumers.archive.store import BucketStore
from runtime import clients


class Dying(BucketStore):
    left = -1

    def _step(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in ("entries", "get", "put_file", "create", "delete"):
            return found
        return self._dying(found)

    def _dying(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            self._step()
            made = call(*(list(one) if name_is_keys(one) else one for one in arguments))
            self._step()
            return made

        return run


def name_is_keys(value: Any) -> bool:
    return not isinstance(value, (str, bytes)) and hasattr(value, "__iter__") and not hasattr(value, "open")


def main() -> None:
    bucket, now, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    store = Dying(clients.client("s3"), bucket)
    store.left = step
    report = Compactor(store, scratch=Path(sys.argv[4]), run_rows=40).run(now)
    print("done", *report.problems)


if __name__ == "__main__":
    main()
