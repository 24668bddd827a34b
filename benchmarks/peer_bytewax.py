"""The peer's side of ``benchmarks.peers``: a Bytewax data flow. Runs in an environment of its own.

Its input are whole Kinesis records. The flow deaggregates them, parses the JSON, keys the events by
series and scores them in a stateful map with one GaussianScorer a series.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

sys.path.insert(0, str(Path(__file__).parent))

from peer import BATCH, Peer, serve


class Feed(StatelessSourcePartition[Any]):
    """Hands out batches of items until there are none."""

    def __init__(self, items: list[Any], size: int) -> None:
        self._batches = iter([items[begin : begin + size] for begin in range(0, len(items), size)])

    def next_batch(self) -> list[Any]:
        """The next batch; StopIteration ends the flow."""
        return next(self._batches)


class Source(DynamicSource[Any]):
    def __init__(self, items: list[Any], size: int) -> None:
        self._items, self._size = items, size

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Feed:  # noqa: ARG002
        return Feed(self._items, self._size)


class Count(StatelessSinkPartition[Any]):
    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def write_batch(self, items: list[Any]) -> None:
        self._peer.done += len(items)
        self._peer.insights += sum(score > 0.999999 for _, score in items)


class Sink(DynamicSink[Any]):
    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Count:  # noqa: ARG002
        return Count(self._peer)


SIZES = {"aggregated": BATCH, "plain": 100 * BATCH, "one by one": 1}
"""Items that the source hands out at once; one is the default of Bytewax's own sources for tests."""


def run(peer: Peer, kind: str) -> None:
    """One run of the flow over all of the work."""
    aggregated = kind == "aggregated"

    def keyed(event: dict[str, Any]) -> tuple[str, tuple[str, float]]:
        key = f"{event['resource']}/{event['metric']}"
        return key, (key, event["value"])

    def score(model: Any, item: tuple[str, float]) -> tuple[Any, float]:
        key, value = item
        if model is None:
            model = peer.models[key]  # warm, as in a process that has run for a while
        found = model.score_one(None, value)
        model.learn_one(None, value)
        return model, found

    flow = Dataflow("score")
    source = Source(peer.records if aggregated else peer.plain, SIZES[kind])
    stream = op.input("in", flow, source)
    if aggregated:
        stream = op.flat_map("deaggregate", stream, peer.deaggregate)
    events = op.map("parse", stream, peer.parse)
    scored = op.stateful_map("score", op.map("key", events, keyed), score)
    op.output("out", scored, Sink(peer))
    run_main(flow)


if __name__ == "__main__":
    serve(run)
