"""A process that spools numbered batches and says which ones are acknowledged, until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

from agents.host.spool import Spool


def main(folder: Path, begin: int) -> None:
    spool = Spool(folder, segment=20_000)
    number = begin
    while True:
        spool.add(b"%d " % number + b"x" * (number * 7919 % 3_000))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
