"""Scores archived events as the scorer did: a model a shard, fed in the order of its stream."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.events import Signal
from schemas.insights import Insight
from stream_processors.detectors.config import DetectorConfig
from stream_processors.records.batch import EventBatch, PlacedSignal, Shared
from stream_processors.scoring import Outcome, Scorer
from stream_processors.state import snapshot
from stream_processors.state.checkpoint import Shard, both

Lineage = Callable[[str], Shard | None]
"""What the stream knows of a shard: its range and its parents; None where it is not listed any more."""


@dataclass(slots=True)
class Replay:
    """Scorers of the shards of one replay, and what they said.

    ``orphans`` are shards that began after others had ended, of which nobody knows any more whose
    models they had taken over: their models began anew.
    """

    config: DetectorConfig
    lineage: Lineage = lambda _: None
    scorers: dict[str, Scorer] = field(default_factory=dict)
    insights: list[Insight] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    events: int = 0
    scored: int = 0
    late: int = 0

    def feed(self, shard: str, rows: pa.Table) -> Outcome:
        """Score the next rows of a shard."""
        scorer = self.scorers.get(shard)
        if scorer is None:
            scorer = self.scorers[shard] = self._begin(shard)
        batch = to_batch(rows)
        outcome = scorer.process(batch)
        self.insights += outcome.insights
        self.events += len(rows)
        self.scored += outcome.scored
        self.late += outcome.late
        return outcome

    def _begin(self, shard: str) -> Scorer:
        scorer = Scorer(self.config)
        found = self.lineage(shard)
        if found is None:
            if self.scorers:
                self.orphans.append(shard)
            return scorer
        parents: list[tuple[list[snapshot.Body], Callable[[str], bool]]] = []
        for name in found.parents:
            held, parent = self.lineage(name), self.scorers.get(name)
            if parent is not None and held is not None:
                body = snapshot.decode(snapshot.encode(parent, full=True))
                parents.append(([body], both(found.range, held.range)))
        snapshot.merge(scorer, parents)
        return scorer


def to_batch(rows: pa.Table) -> EventBatch:
    """Archived rows, in their order, as the decoder had handed them on."""
    kinds = rows["kind"].cast(pa.string())
    is_metric = pc.equal(kinds, "metric").to_numpy(zero_copy_only=False) if len(rows) else np.zeros(0, bool)
    metrics = rows if is_metric.all() else rows.filter(pa.array(is_metric))
    batch = EventBatch()
    batch.timestamp = _moments(metrics["timestamp"])
    batch.arrival = _moments(metrics["arrival"])
    batch.value = array("d", metrics["value"].to_numpy().tobytes())
    batch.resource, batch.shared = _texts(metrics["resource"]), _shared(metrics)
    batch.record, batch.sub_sequence, batch.item = (array("i", (0,)) * len(metrics) for _ in range(3))
    if len(metrics) < len(rows):
        before = np.cumsum(is_metric)
        details = rows["detail"]
        for at in np.flatnonzero(~is_metric).tolist():
            signal = msgspec.json.decode(details[at].as_py(), type=Signal)
            batch.signals.append(PlacedSignal(int(before[at]), 0, 0, 0, signal))
    return batch


def _moments(column: pa.ChunkedArray) -> array[int]:
    return array("q", column.cast(pa.int64()).to_numpy().tobytes())


def _texts(column: pa.ChunkedArray) -> list[Any]:
    """Text of every row; equal texts are one object."""
    distinct, codes = _coded(column)
    texts: list[Any] = distinct[codes].tolist()
    return texts


def _coded(column: pa.ChunkedArray) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """The distinct texts of a column and None, and each row's number among them."""
    whole = column.combine_chunks()
    if not pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_encode()
    distinct = np.array([*whole.dictionary.to_pylist(), None], object)
    return distinct, whole.indices.fill_null(len(distinct) - 1).to_numpy(zero_copy_only=False).astype(np.int64)


def _shared(metrics: pa.Table) -> list[Shared]:
    """What the events of a series share, one object for all of one unit; a series' name tells metric and dimensions."""
    (_, series), (units, unit) = _coded(metrics["series"]), _coded(metrics["unit"])
    _, firsts, codes = np.unique(series * len(units) + unit, return_index=True, return_inverse=True)
    columns = (metrics[name].take(pa.array(firsts)).to_pylist() for name in ("series", "metric", "unit", "dimensions"))
    distinct = np.empty(len(firsts), object)
    distinct[:] = [
        Shared(name, metric, unit, dict(pairs) if pairs else None)
        for name, metric, unit, pairs in zip(*columns, strict=True)
    ]
    found: list[Shared] = distinct[codes].tolist()
    return found


def run(replay: Replay, ordered: Iterable[tuple[str, pa.Table]], progress: Callable[[int], None] = lambda _: None) -> None:
    """Feed everything; ``progress`` is told the number of rows each time."""
    for shard, rows in ordered:
        replay.feed(shard, rows)
        progress(len(rows))
