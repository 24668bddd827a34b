"""The peer's side of ``benchmarks.peers``: a Faust stream. Runs in an environment of its own.

Faust has no transport for Kinesis and none in memory, so the stream reads an iterable in the same
process, which is the cheapest input it has: no broker, no channel, no acknowledgements. It
deaggregates the records, parses the JSON and scores with one GaussianScorer a series.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faust

sys.path.insert(0, str(Path(__file__).parent))

from peer import Peer, serve

APP = faust.App("peer", broker="kafka://127.0.0.1:9", autodiscover=False)  # never connected to


async def _consume(peer: Peer, aggregated: bool) -> None:
    def feed() -> Iterator[Any]:
        if not aggregated:
            yield from peer.plain
            return
        for record in peer.records:
            yield from peer.deaggregate(record)

    models = peer.models
    async for data in APP.stream(feed()):
        event = peer.parse(data)
        value = event["value"]
        model = models[f"{event['resource']}/{event['metric']}"]
        score = model.score_one(None, value)
        model.learn_one(None, value)
        peer.done += 1
        peer.insights += score > 0.999999


def run(peer: Peer, kind: str) -> None:
    """One run of the stream over all of the work."""
    asyncio.run(_consume(peer, kind == "aggregated"))


if __name__ == "__main__":
    serve(run)
