"""The agent's loop: nothing is lost within the bounds, and every trouble is told once."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.host import agent as module
from agents.host import spool as spool_module
from agents.host.agent import Agent
from agents.host.spool import Spool
from agents.producer import Event, NotDelivered


class Numbers:
    """Samples that are numbered, so that what arrives can be told."""

    hostname = "web-1"

    def __init__(self) -> None:
        self.taken = 0

    def now(self) -> int:
        return 1_790_000_000_000 + self.taken

    def sample(self) -> list[dict[str, Any]]:
        self.taken += 1
        return [{"resource": "web-1", "metric": "n", "timestamp": self.now(), "value": self.taken}]


class Stream:
    """Takes events, or the first few of them, or none, or does not answer at all."""

    def __init__(self) -> None:
        self.room = 10**9
        self.got: list[dict[str, Any]] = []
        self.answer = threading.Event()
        self.answer.set()

    def send(self, events: list[Event]) -> int:
        self.answer.wait(120)
        taken = events[: self.room]
        self.room -= len(taken)
        self.got += [msgspec.json.decode(data) for _, data in taken]
        if len(taken) < len(events):
            raise NotDelivered("out of reach", events[len(taken) :])
        return len(events)

    def numbers(self) -> list[int]:
        return [int(s["value"]) for s in self.got if s["metric"] == "n"]


class Bench:
    """An agent with everything around it at hand."""

    def __init__(self, folder: Path, limit: int = 1 << 20) -> None:
        self.stream, self.told = Stream(), list[str]()
        self.spool = Spool(folder, limit=limit)
        self.agent = Agent(Numbers(), self.stream, self.spool, 0.01, self.told.append)  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "spool")
    yield made
    made.spool.close()


def test_what_the_stream_does_not_take_goes_first_when_it_is_back(bench: Bench) -> None:
    bench.agent.step()
    bench.stream.room = 0
    assert not any(bench.agent.step() for _ in range(5))
    bench.stream.room = 10**9
    assert bench.agent.step()
    assert bench.stream.numbers() == [1, 2, 3, 4, 5, 6, 7]
    assert bench.agent.sent == 7
    assert len(bench.told) == 2, "trouble is told once, and once that it is over"
    assert "out of reach" in bench.told[0]


def test_what_was_taken_of_a_call_is_not_sent_again(bench: Bench) -> None:
    bench.stream.room = 0
    for _ in range(6):
        bench.agent.step()
    bench.stream.room = 4
    assert not bench.agent.deliver()
    bench.stream.room = 10**9
    assert bench.agent.deliver()
    assert bench.stream.numbers() == [1, 2, 3, 4, 5, 6]


def test_a_full_spool_drops_the_oldest_and_reports_how_many(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limit=4_000)
    bench.stream.room = 0
    for _ in range(200):
        bench.agent.step()
    assert bench.spool.size() <= 4_000
    bench.stream.room = 10**9
    bench.agent.step()
    numbers = bench.stream.numbers()
    assert numbers == list(range(202 - len(numbers), 202))
    assert bench.agent.dropped == 201 - len(numbers)
    reported = [int(s["value"]) for s in bench.stream.got if s["metric"] == "agent.spoolDropped"]
    assert reported == sorted(reported)
    assert 0 < reported[-1] <= bench.agent.dropped
    assert any("--spool-bytes" in line for line in bench.told)
    bench.spool.close()


def test_while_the_disk_refuses_samples_go_on_from_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = spool_module.os.fsync
    bench.stream.room = 0
    bench.agent.step()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool_module.os, "fsync", full)
    for _ in range(3):
        bench.agent.step()
    assert sum("No space left" in line for line in bench.told) == 1
    bench.stream.room = 3
    bench.agent.deliver()
    monkeypatch.setattr(spool_module.os, "fsync", real)
    bench.stream.room = 10**9
    assert bench.agent.step()
    assert bench.stream.numbers() == [1, 2, 3, 4, 5], "in order, and nothing twice in one life"


def test_memory_is_bounded_too_and_what_it_loses_is_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_MEMORY", 10)
    monkeypatch.setattr(bench.spool, "add", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    bench.stream.room = 0
    for _ in range(25):
        bench.agent.step()
    assert bench.agent.dropped == 15
    bench.stream.room = 10**9
    assert bench.agent.deliver()
    assert bench.stream.numbers() == list(range(16, 26))


def test_a_stream_that_does_not_answer_does_not_hold_up_sampling(
    bench: Bench, eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_WORDS", 60.0)
    bench.stream.answer.clear()
    running = threading.Thread(target=bench.agent.run)
    running.start()
    sampler: Any = bench.agent.sampler
    eventually(lambda: sampler.taken > 20, what="samples during an outage")
    assert bench.stream.numbers() == []
    bench.stream.answer.set()
    bench.agent.stop.set()
    running.join(90)
    assert not running.is_alive()
    # The first sample is taken for its counters only.
    assert bench.stream.numbers() == list(range(2, sampler.taken + 1))


def test_a_spooled_batch_that_holds_no_samples_does_not_block_the_others(bench: Bench) -> None:
    bench.spool.add(b"not json")
    bench.spool.add(b'{"a": 1}')
    assert bench.agent.step()
    assert bench.stream.numbers() == [1]
    assert sum("no samples" in line for line in bench.told) == 2
