"""gzip and zstd payloads: unpacked within bounds, refused where they are damaged."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest
import zstandard

from stream_processors.records import packed
from stream_processors.records.decode import decode
from tests.support.wire import aggregate, native, one, record, refused, rows

PLAIN = json.dumps([native(value=n) for n in range(50)]).encode()
PACKERS = {"gzip": gzip.compress, "zstd": lambda data: zstandard.ZstdCompressor().compress(data)}


@pytest.mark.parametrize("kind", PACKERS)
def test_packed_payloads_are_what_they_hold(kind: str) -> None:
    pack = PACKERS[kind]
    assert rows(one(pack(PLAIN))) == rows(one(PLAIN))
    assert rows(one(aggregate([("a", pack(PLAIN)), ("b", PLAIN)]))) == rows(one(PLAIN)) * 2
    lines = json.dumps(native()).encode() + b"\n"
    assert len(one(pack(lines) + pack(lines))) == 2


@pytest.mark.parametrize("kind", PACKERS)
def test_a_bomb_is_one_letter_and_stays_within_the_bound_of_memory(kind: str) -> None:
    bomb = PACKERS[kind](b"0" * 100_000_000)
    tracemalloc.start()
    try:
        letter = refused(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (letter.code, letter.raw) == ("too-large", bomb)
    assert peak < 4 * packed.MAX_UNPACKED


def test_many_bombs_in_one_record_share_its_bound() -> None:
    big = b" " * 1_000_000 + json.dumps(native()).encode()
    batch = one(aggregate([("a", gzip.compress(big))] * 20))
    assert len(batch) == 16
    assert {letter.code for letter in batch.dead_letters} == {"too-large"}


@pytest.mark.parametrize("kind", PACKERS)
def test_damaged_payloads_are_refused_with_their_bytes(kind: str) -> None:
    whole = PACKERS[kind](PLAIN)
    for broken in (
        whole[:-1],
        whole[: len(whole) // 2],
        whole[:6],
        whole + b"rest",
        whole[:10] + b"\xff" * 9 + whole[19:],
    ):
        letter = refused(broken)
        assert letter.raw == broken
        assert letter.code == "damaged-compression"
        assert kind in letter.reason


def test_packing_twice_is_refused() -> None:
    for outer in PACKERS.values():
        for inner in PACKERS.values():
            assert refused(outer(inner(PLAIN))).code == "too-deep"


def test_endless_members_are_refused() -> None:
    assert refused(gzip.compress(b"") * 200).code == "too-large"
    assert refused(PACKERS["zstd"](b"") * 200).code == "too-large"


def test_a_refused_part_of_a_packed_payload_is_kept_unpacked() -> None:
    parts = [native(), native(value="x")]
    (letter,) = decode([record(gzip.compress(json.dumps(parts).encode()))]).dead_letters
    assert json.loads(letter.raw) == parts[1]
