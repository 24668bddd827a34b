"""A month of backlog drains in order, in bounded memory and with a bounded number of objects."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator

import pytest

from stream_processors.detectors.config import DetectorConfig
from stream_processors.records.batch import StreamRecord
from stream_processors.records.decode import decode
from stream_processors.scoring import Scorer
from tests.integration.state.test_checkpoint import Bench, ShardProcessor, feed
from tests.support.ministack import Emulator, emulator

pytestmark = pytest.mark.embedded

STEP = 60 * 60_000
SAMPLES = 30 * 24
CONFIG = DetectorConfig(max_series_per_resource=200)
START = 1_790_000_000_000 - SAMPLES * STEP


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("backlog")) as running:
        yield running


def month() -> list[StreamRecord]:
    """Thirty days of three hosts, all of it arriving now; one of them invents a new metric every time."""
    made = []
    for n in range(SAMPLES):
        for place, (host, metric) in enumerate((("a", "cpu"), ("b", "cpu"), ("wild", f"request-{n}"))):
            body = {"resource": host, "metric": metric, "timestamp": START + n * STEP, "value": float(n % 24)}
            made.append(
                StreamRecord("s0", str(10_000 + 3 * n + place), host, START + SAMPLES * STEP, json.dumps(body).encode())
            )
    return made


def test_a_month_of_backlog_drains_in_order_and_in_bounded_memory(server: Emulator) -> None:
    bench = Bench(server)
    processor = ShardProcessor(
        checkpoint=bench.checkpoint, stream=bench.stream, insights=bench.kept, letters=bench.kept,  # type: ignore[arg-type]
        decode=decode, new=lambda: Scorer(CONFIG),
    )  # fmt: skip
    rows = month()
    feed(processor, rows[: len(rows) // 3], size=200)
    tracemalloc.start()
    try:
        feed(processor, rows[len(rows) // 3 :], size=200)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    pointer = bench.checkpoint.pointer("s0")
    assert pointer is not None
    assert pointer.sequence == rows[-1].sequence_number
    assert peak < 80_000_000
    assert held < 40_000_000
    assert len(bench.keys()) <= 40
    loaded = bench.checkpoint.load("s0", pointer, lambda: Scorer(CONFIG), bench.stream).scorer
    assert len(loaded.resources["wild"]) <= CONFIG.max_series_per_resource
    limited = [r for r in bench.kept.insights.values() if any(i.kind == "series-limit" for i in r.values())]
    assert len(limited) == 1, "the flood of series is reported once"
    assert bench.kept.conflicts == 0
