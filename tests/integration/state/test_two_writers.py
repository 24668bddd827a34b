"""Two real processes at one shard: the one that was overtaken moves nothing and harms nothing."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.chaos.scorer import Runner, Stage, compare, discard, labelled_stream
from tests.support.forked import Forked
from tests.support.ministack import Emulator, emulator

pytestmark = [pytest.mark.embedded, pytest.mark.chaos]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("two-writers")) as running:
        yield running


def worker(stage: Stage) -> Forked:
    return Forked("tests.chaos.worker", env=stage.environment())


def ask(process: Forked, records: list[dict[str, Any]], pause: list[Any] | None = None) -> None:
    process.stdin.write(json.dumps({"event": {"Records": records}, "kill": None, "pause": pause}) + "\n")
    process.stdin.flush()


def told(process: Forked) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


POINTS = (
    "after the pointer is read",
    "after scoring",
    "before an insight write",
    "after the snapshot",
    "before the pointer moves",
)


@pytest.mark.parametrize("number", range(len(POINTS)), ids=POINTS)
def test_a_stalled_invocation_that_wakes_harms_nothing(server: Emulator, number: int) -> None:
    point = POINTS[number]
    batches = labelled_stream(5)[:20]
    calm = Stage(server, f"twocalm{number}").build()
    undisturbed = Runner(calm, fresh=True)
    for records in batches:
        undisturbed.feed(records)
    undisturbed.close()

    stage = Stage(server, f"two{number}").build()
    stalled, other = worker(stage), worker(stage)
    try:
        for records in batches[:13]:
            ask(stalled, records)
            assert told(stalled) == {"batchItemFailures": []}
        ask(stalled, [r for records in batches[13:18] for r in records], pause=[point, 1])
        until = time.monotonic() + 60
        while psutil.Process(stalled.pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < until, "the first process never reached the point"
            time.sleep(0.02)
        # The mapping has given the stalled invocation up and brings its records to another one.
        for records in batches[13:18]:
            ask(other, records)
            assert told(other) == {"batchItemFailures": []}
        stalled.send_signal(signal.SIGCONT)
        woken = told(stalled)["batchItemFailures"]
        assert [f["itemIdentifier"] for f in woken] == [batches[13][0]["kinesis"]["sequenceNumber"]]
        for records in batches[18:]:
            ask(stalled, records)
            assert told(stalled) == {"batchItemFailures": []}
    finally:
        for process in (stalled, other):
            process.send_signal(signal.SIGCONT)
            discard(process)
    assert compare(stage.outcome(), calm.outcome()) == {
        "lost": 0, "doubled": 0, "differing": 0, "state": True, "letters": True, "place": True,
    }  # fmt: skip
