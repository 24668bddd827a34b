"""Snapshots as earlier versions wrote them are still read.

``python -m tests.unit.state.test_golden_snapshots`` writes the present version's file.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from schemas.events import AlarmSignal, Signal
from stream_processors.scoring import Scorer, default_banks
from stream_processors.state.snapshot import FORMAT, apply, decode, encode
from tests.support.batches import Event, batch

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "snapshots"
START = 1_790_000_000_000


def fed() -> Scorer:
    """A small shard: two hosts, an open anomaly, an open alarm."""
    rng = random.Random(1)
    items: list[Event | Signal] = [
        (host, "cpu", START + n * 60_000, round(50 + rng.gauss(0, 1) + (300 if n == 398 and host == "web-1" else 0), 3))
        for n in range(400)
        for host in ("web-1", "web-2")
    ]
    items.append(AlarmSignal("db-1", "disk", START + 10**7, "HIGH", "disk is full", True, "aws.cloudwatch", "alarm"))
    scorer = Scorer()
    scorer.process(batch(items))
    return scorer


def name() -> str:
    version = next(iter(default_banks().values())).version
    return f"format{FORMAT}-seasonal{version}.snap"


FILES = sorted(GOLDEN.glob("*.snap"))


def test_a_file_of_the_present_version_is_kept() -> None:
    assert name() in {file.name for file in FILES}, "run: python -m tests.unit.state.test_golden_snapshots"


@pytest.mark.parametrize("file", FILES, ids=[f.name for f in FILES])
def test_what_an_earlier_version_wrote_is_read(file: Path) -> None:
    body = decode(file.read_bytes())
    scorer = Scorer()
    notes = apply(scorer, body)
    assert {(s.resource, s.series) for s in scorer.info if s} == {("web-1", "cpu"), ("web-2", "cpu")}
    assert ("alarm", "db-1", "disk") in scorer.episodes
    assert ("anomaly", "web-1", "cpu") in scorer.episodes
    if file.name == name():
        assert notes == []
        assert encode(scorer) == file.read_bytes()
    else:
        assert [n for n in notes if "2 series warm up again" in n]
    after = scorer.process(batch([("web-1", "cpu", START + 401 * 60_000 + n * 60_000, 50.0) for n in range(70)]))
    assert next(i.transition for i in after.insights if i.resource == "web-1") == "closed"


if __name__ == "__main__":
    (GOLDEN / name()).write_bytes(encode(fed()))
    print(GOLDEN / name())
