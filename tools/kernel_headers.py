"""Writes the C headers of the compiled kernels from their Python faces: constants, and what passes between the two."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from stream_processors.detectors.correlation_compiled import KERNEL as CORRELATION  # noqa: E402
from stream_processors.detectors.seasonal.compiled import KERNEL as SEASONAL  # noqa: E402
from stream_processors.name_table import KERNEL as NAMES  # noqa: E402
from stream_processors.records.compiled import KERNEL as TEXTS  # noqa: E402

FOLDER = ROOT / "stream_processors" / "kernels"
KERNELS = (CORRELATION, NAMES, SEASONAL, TEXTS)
HEADERS = {FOLDER / f"{kernel.name}_face.h": kernel.header for kernel in KERNELS}

if __name__ == "__main__":
    for path, header in HEADERS.items():
        path.write_text(header)
