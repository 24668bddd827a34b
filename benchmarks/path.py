"""Our path over records, whole and in part, and stretches of work that follow one another in time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.load import events, records
from stream_processors.records.batch import StreamRecord


class Stretches:
    """Endless stretches of records over the same series, each later than the one before, so that nothing is late."""

    def __init__(self, series: int, count: int) -> None:
        self._template = [(key, json.loads(data)) for key, data in events(series, count)]
        self._span = (count // series + 1) * 60_000

    def __iter__(self) -> Iterator[list[StreamRecord]]:
        move = 0
        while True:
            yield records(
                [(key, json.dumps({**body, "timestamp": body["timestamp"] + move}).encode()) for key, body in self._template]
            )
            move += self._span


def same_work(work: list[StreamRecord], scorer: Any) -> int:
    """Deaggregate, check, validate and score; insights are made."""
    from stream_processors.records.decode import decode

    batch = decode(work)
    if batch.dead_letters:
        raise RuntimeError(batch.dead_letters[0].reason)
    scorer.process(batch)
    return len(batch)


def whole_path(work: list[StreamRecord], scorer: Any) -> int:
    """The same, and Parquet files by the hour, in memory."""
    from benchmarks.pipeline import ours

    return ours(work, scorer)
