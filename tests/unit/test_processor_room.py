"""A process of bounded memory that serves several shards, and what Lambda says of its memory."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import settings
from stream_processors.processor import ShardProcessor, room_of
from stream_processors.records.batch import EventBatch, StreamRecord
from stream_processors.scoring import Scorer
from stream_processors.state.checkpoint import HashRange, Pointer, Restored
from tests.support.batches import batch
from tests.support.simple_bank import banks

START = 1_750_000_000_000
WEIGHT = Scorer(banks=banks).weight("seasonal")


class Stores:
    """Everything that a processor writes to; ``loads`` are the shards whose state was loaded, in order."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.pointers: dict[str, Pointer] = {}

    def pointer(self, shard: str) -> Pointer | None:
        return self.pointers.get(shard)

    def load(self, shard: str, pointer: Pointer | None, new: Any, stream: object) -> Restored:
        self.loads.append(shard)
        return Restored(new(), pointer, HashRange(), [], [], None, [])

    def commit(self, shard: str, held: Restored, sequence: str) -> None:
        held.pointer = self.pointers[shard] = Pointer(shard, 1, sequence, (), ())

    def write(self, told: list[Any]) -> None:
        assert not told


def events(records: Any) -> EventBatch:
    """Four series a batch, of a host that is called as its shard."""
    return batch([(records[0].shard_id, f"m{n}", START + n, 1.0) for n in range(4)])


def serve(room: int | None, shards: str) -> tuple[list[str], list[str]]:
    stores = Stores()
    processor = ShardProcessor(
        checkpoint=stores, stream=stores, insights=stores, letters=stores, decode=events,  # type: ignore[arg-type]
        new=lambda: Scorer(banks=banks, room=room), room=room,
    )  # fmt: skip
    for number, shard in enumerate(shards):
        processor.handle([StreamRecord(shard, str(number), "p", START, b"")])
    return stores.loads, list(processor._warm)


def test_without_a_bound_states_stay_until_there_are_too_many() -> None:
    assert serve(None, "abcabc") == (["a", "b", "c"], ["a", "b", "c"])


def test_states_that_do_not_fit_beside_the_shard_at_hand_give_way() -> None:
    loads, warm = serve(4 * WEIGHT, "abab")
    assert loads == ["a", "b", "a", "b"]
    assert warm == ["b"]


def test_states_that_fit_stay() -> None:
    loads, warm = serve(100 * WEIGHT, "abab")
    assert loads == ["a", "b"]
    assert warm == ["a", "b"]


def test_the_default_function_holds_sixty_thousand_series() -> None:
    """As docs/configuration.md and docs/operations.md say."""
    room = room_of(1024 << 20)
    assert 60_000 <= room // Scorer().weight("seasonal") < 62_000


@pytest.mark.parametrize(("environment", "memory"), [({}, None), ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512"}, 512 << 20)])
def test_memory_is_what_lambda_says(environment: dict[str, str], memory: int | None) -> None:
    assert settings.memory(environment) == memory
