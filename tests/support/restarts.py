"""A scorer that stops in the middle of its events, and goes on from a base and a delta."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.events import Signal
from schemas.insights import Insight
from stream_processors.scoring import Scorer
from stream_processors.state.snapshot import apply, decode, encode, mark_clean
from tests.support.batches import Event, batch
from tests.support.simple_bank import banks


def restarted(items: Sequence[Event | Signal], cut: int, again: int) -> tuple[list[Insight], bytes]:
    """Insights and state where a base is written after ``cut`` events, a delta ``again`` later, and both are restored."""
    first = Scorer(None, banks)
    insights = first.process(batch(items[:cut])).insights
    base = encode(first)
    mark_clean(first)
    insights += first.process(batch(items[cut : cut + again])).insights
    second = Scorer(None, banks)
    for data in (base, encode(first, full=False)):
        assert apply(second, decode(data)) == []
    assert encode(second) == encode(first)
    insights += second.process(batch(items[cut + again :])).insights
    return insights, encode(second)
