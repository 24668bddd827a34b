"""What one invocation does with a shard's records: the checkpoint protocol, step by step.

Knows the order of the steps and nothing of how they are done: stores and stream come from outside.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from schemas.dead_letters import DeadLetter
from schemas.insights import Insight
from stream_processors.records.batch import EventBatch, StreamRecord
from stream_processors.scoring import Outcome, Scorer
from stream_processors.state.checkpoint import Checkpoint, Restored, Stream

WARM_SHARDS = 8
"""Shards whose state one process keeps in memory, if it holds them; the one used longest ago gives way."""
FUNCTION_BYTES = 200_000_000
"""Memory of the process itself, with the largest batch that Lambda delivers (6 MB), rounded up."""
LOADING = 2 / 3
"""Share of the room that a full shard takes while it is loaded."""


def room_of(memory: int) -> int:
    """Bytes that the states of shards may take in a process of ``memory`` bytes."""
    return max(0, memory - FUNCTION_BYTES)


class Insights(Protocol):
    """Where insights go. Writing the same revision again changes nothing."""

    def write(self, insights: Sequence[Insight]) -> int:
        """Write revisions in order; raises where the store cannot take them now."""


class Letters(Protocol):
    """Where dead letters go. Writing the same place again changes nothing."""

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters; raises where the store cannot take them now."""


@dataclass(slots=True)
class Report:
    """What happened to a batch, for logs and metrics."""

    shard: str
    records: int = 0
    repeated: int = 0
    events: int = 0
    scored: int = 0
    late: int = 0
    surplus: int = 0
    crowded: int = 0
    insights: int = 0
    dead_letters: int = 0
    series: int = 0
    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class ShardProcessor:
    """Processes batches of shards, each by the checkpoint protocol; keeps warm state between calls.

    ``room`` is the memory in bytes that the states of all shards may take together, None where nothing bounds
    it. Warm states give way to the shard at hand, which ``new`` bounds by the same room.
    """

    def __init__(
        self,
        *,
        checkpoint: Checkpoint,
        stream: Stream,
        insights: Insights,
        letters: Letters,
        decode: Callable[[Sequence[StreamRecord]], EventBatch],
        new: Callable[[], Scorer] = Scorer,
        room: int | None = None,
    ) -> None:
        self._room = math.inf if room is None else room
        self._checkpoint, self._stream = checkpoint, stream
        self._insights, self._letters = insights, letters
        self._decode, self._new = decode, new
        self._warm: OrderedDict[str, Restored] = OrderedDict()

    def handle(self, records: Sequence[StreamRecord]) -> Report:
        """Process records of one shard, in order.

        Whatever is raised, nothing is lost and nothing will be doubled when the same records come
        again: the warm state is dropped and the pointer has not moved.
        """
        shard = records[0].shard_id
        report = Report(shard=shard, records=len(records))
        held = self._warm.pop(shard, None)
        pointer = self._checkpoint.pointer(shard)
        if held is None or held.pointer != pointer:
            held = None  # its memory is free before the newer state is loaded
            self._make_way(LOADING * self._room)
            held = self._checkpoint.load(shard, pointer, self._new, self._stream)
            report.damaged, report.notes = list(held.damaged), list(held.notes)
        if held.replay:
            self._catch_up(shard, held, report)
        reached = int(pointer.sequence) if pointer else -1
        fresh = [record for record in records if int(record.sequence_number) > reached]
        report.repeated = len(records) - len(fresh)
        if fresh:
            outcome = self._score(held, fresh, report)
            self._make_way(held.scorer.needs())
            report.scored, report.late = outcome.scored, outcome.late
            report.surplus, report.crowded = outcome.surplus, outcome.crowded
            self._checkpoint.commit(shard, held, fresh[-1].sequence_number)
        report.series = held.scorer.series_count()
        self._keep(shard, held)
        return report

    def _score(self, held: Restored, records: Sequence[StreamRecord], report: Report) -> Outcome:
        batch = self._decode(records)
        outcome = held.scorer.process(batch)
        self._insights.write(outcome.insights)
        self._letters.write(batch.dead_letters)
        report.events += len(batch)
        report.insights += len(outcome.insights)
        report.dead_letters += len(batch.dead_letters)
        return outcome

    def _catch_up(self, shard: str, held: Restored, report: Report) -> None:
        """See again, from the stream, what a damaged snapshot had seen: the result is the same state."""
        after, until = held.replay or ("", "")
        try:
            for records in self._stream.records(shard, after, until):
                self._score(held, records, report)
        except LookupError as error:
            report.notes.append(f"records up to {until} have left the stream ({error}); the models go on without them")
        held.replay = None

    def _make_way(self, needed: float) -> None:
        """Drop warm states, the one used longest ago first, until ``needed`` bytes of the room are free."""
        while self._warm and sum(one.scorer.resident() for one in self._warm.values()) + needed > self._room:
            self._warm.popitem(last=False)

    def _keep(self, shard: str, held: Restored) -> None:
        self._warm[shard] = held
        while len(self._warm) > WARM_SHARDS:
            self._warm.popitem(last=False)
