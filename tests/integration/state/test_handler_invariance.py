"""The real handler: any cut of the stream into batches and any repetition lead to the same outcome."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_processors import lambda_handler
from tests.chaos.scorer import Stage, compare, labelled_stream
from tests.support.ministack import Emulator, emulator

pytestmark = pytest.mark.embedded

RECORDS = [record for batch in labelled_stream(3)[:14] for record in batch]
NAMES = (f"cut{n}" for n in itertools.count())
SAME = {"lost": 0, "doubled": 0, "differing": 0, "state": True, "letters": True, "place": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("cuts")) as running:
        yield running


def run(server: Emulator, batches: list[list[dict[str, Any]]], cold: set[int]) -> dict[str, Any]:
    """Bring batches to the handler; before those named in ``cold`` it starts anew."""
    stage = Stage(server, next(NAMES)).build()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stage.environment().items():
            if name not in ("PATH", "POWERTOOLS_METRICS_DISABLED"):
                patch.setenv(name, value)
        lambda_handler.processor.cache_clear()
        for number, records in enumerate(batches):
            if number in cold:
                lambda_handler.processor.cache_clear()
            assert lambda_handler.handler({"Records": records}, None) == {"batchItemFailures": []}
        lambda_handler.processor.cache_clear()
    return stage.outcome()


@pytest.fixture(scope="module")
def wanted(server: Emulator) -> dict[str, Any]:
    outcome = run(server, [RECORDS], set())
    assert outcome["insights"]
    assert outcome["letters"]
    return outcome


@settings(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_cuts_repeats_and_cold_starts_change_nothing(server: Emulator, wanted: dict[str, Any], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(RECORDS) - 1), max_size=12)))
    batches = []
    for begin, end in itertools.pairwise([0, *cuts, len(RECORDS)]):
        again = data.draw(st.integers(0, 40))
        batches.append(RECORDS[max(0, begin - again) : end])
    cold = data.draw(st.sets(st.integers(0, len(batches) - 1)))
    assert compare(run(server, batches, cold), wanted) == SAME
