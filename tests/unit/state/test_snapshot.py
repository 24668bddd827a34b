"""Snapshots: what is written is read again, and what is damaged is told and never used."""

from __future__ import annotations

import hashlib
import mmap
import random
import struct
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Signal
from stream_processors.scoring import Scorer
from stream_processors.state.checkpoint import HashRange
from stream_processors.state.snapshot import Body, DamagedSnapshot, apply, decode, describe, encode, mark_clean, merge
from tests.support.batches import Event, batch
from tests.support.simple_bank import SimpleBank, banks

START = 1_750_000_000_000


def fed(hosts: list[str], minutes: int = 40, seed: int = 1, spike: float = 90) -> Scorer:
    rng = random.Random(seed)
    scorer = Scorer(None, banks)
    items: list[Event | Signal] = [
        (host, metric, START + n * 60_000, rng.gauss(50, 5) + (spike if n == minutes - 3 else 0))
        for n in range(minutes)
        for host in hosts
        for metric in ("cpu", "memory")
    ]
    scorer.process(batch(items))
    return scorer


def restored(data: bytes) -> Scorer:
    scorer = Scorer(None, banks)
    apply(scorer, decode(data))
    return scorer


def test_a_base_holds_everything() -> None:
    scorer = fed(["a", "b"])
    data = encode(scorer)
    again = restored(data)
    assert encode(again) == data
    assert again.episodes == scorer.episodes
    assert scorer.episodes, "an open episode must be part of what is compared"
    assert describe(data)["series"] == 4


def test_a_base_is_put_together_in_two_and_a_half_times_its_bytes() -> None:
    """A third copy would take the room of a fifth of the series: memory is what bounds them."""
    scorer = Scorer()
    scorer.process(batch([(f"host-{number // 4}", f"m{number % 4}", START, 50.0) for number in range(2_000)]))
    encode(scorer)
    tracemalloc.start()
    try:
        size = len(encode(scorer))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 5_000_000
    assert peak < 2.6 * size


def test_a_mapped_file_is_read_as_its_bytes_are(tmp_path: Path) -> None:
    data = encode(fed(["a", "b"]))
    for content in (data, data[:-1], data[:-1] + b"?"):
        file = tmp_path / "base.snap"
        file.write_bytes(content)
        with file.open("rb") as opened:
            mapped = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        if content is data:
            again = Scorer(None, banks)
            apply(again, decode(mapped))
            assert encode(again) == data
        else:
            with pytest.raises(DamagedSnapshot):
                decode(mapped)


def test_the_bytes_do_not_depend_on_the_order_in_which_series_came_to_be() -> None:
    one, two = Scorer(None, banks), Scorer(None, banks)
    one.process(batch([("a", "m", START, 1.0), ("b", "m", START, 2.0)]))
    two.process(batch([("b", "m", START, 2.0), ("a", "m", START, 1.0)]))
    assert encode(one) == encode(two)


def test_a_delta_holds_only_what_was_touched() -> None:
    scorer = fed([f"h{n}" for n in range(50)], spike=0)
    base = encode(scorer)
    mark_clean(scorer)
    scorer.process(batch([("h7", "cpu", START + 10**7, 1.0)]))
    delta = encode(scorer, full=False)
    # The relations between a host's series are kept with all of them.
    assert [s[:2] for s in decode(delta).series] == [("h7", "cpu"), ("h7", "memory")]
    assert len(delta) < len(base) / 4
    again = restored(base)
    apply(again, decode(delta))
    assert encode(again) == encode(scorer)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_changed_or_missing_byte_is_noticed(data: st.DataObject) -> None:
    good = encode(fed(["a"], minutes=12))
    if data.draw(st.booleans()):
        bad = good[: data.draw(st.integers(0, len(good) - 1))]
    else:
        at = data.draw(st.integers(0, len(good) - 1))
        bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    with pytest.raises(DamagedSnapshot):
        decode(bad)


@settings(deadline=None, max_examples=60)
@given(content=st.binary(max_size=300))
def test_a_forged_snapshot_with_a_right_checksum_is_refused_in_words(content: bytes) -> None:
    head = struct.pack("<8sIQ32s", b"OPSRSNAP", 1, len(content), hashlib.sha256(content).digest())
    with pytest.raises(DamagedSnapshot, match="not readable"):
        decode(head + content)


@pytest.mark.parametrize(
    "change",
    [
        {"columns": b"12345"},
        {"series": [("a", "cpu", "cpu", None, None)] * 3},
        {"banks": "positions"},
        {"banks": "length"},
    ],
)
def test_a_snapshot_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    body = decode(encode(fed(["a"], minutes=12)))
    rows = body.banks[0]
    if change.get("banks") == "positions":
        change = {"banks": [msgspec.structs.replace(rows, series=struct.pack("<qq", 0, 99))]}
    elif change.get("banks") == "length":
        change = {"banks": [msgspec.structs.replace(rows, rows=rows.rows[:-1])]}
    content = msgspec.msgpack.encode(msgspec.structs.replace(body, **change))
    head = struct.pack("<8sIQ32s", b"OPSRSNAP", 1, len(content), hashlib.sha256(content).digest())
    with pytest.raises(DamagedSnapshot):
        decode(head + content)


def test_another_detector_version_restarts_its_warm_up_and_keeps_the_rest() -> None:
    class Newer(SimpleBank):
        version = 2

    scorer = fed(["a"])
    upgraded = Scorer(None, lambda: {"seasonal": Newer()})
    notes = apply(upgraded, decode(encode(scorer)))
    assert notes == ["detector 'seasonal' version 1 is not this one's; 2 series warm up again"]
    assert upgraded.watermark == scorer.watermark
    assert upgraded.episodes.keys() == scorer.episodes.keys()
    assert upgraded.core["last"][:2].tolist() == scorer.core["last"][:2].tolist()


def cut(data: Body, ranges: list[HashRange]) -> list[Scorer]:
    children = []
    for hash_range in ranges:
        child = Scorer(None, banks)
        merge(child, [([data], hash_range.holds)])
        children.append(child)
    return children


def test_children_of_a_split_share_the_parents_series_and_a_merge_brings_them_together() -> None:
    hosts = [f"host-{n}" for n in range(20)]
    parent = fed(hosts)
    middle = 2**127
    low, high = HashRange("0", str(middle - 1)), HashRange(str(middle), str(2**128 - 1))
    left, right = cut(decode(encode(parent)), [low, high])
    assert set(left.resources) | set(right.resources) == set(hosts)
    assert not set(left.resources) & set(right.resources)
    assert left.resources
    assert right.resources
    joined = Scorer(None, banks)
    merge(joined, [([decode(encode(left))], low.holds), ([decode(encode(right))], high.holds)])
    assert decode(encode(joined)).banks == decode(encode(parent)).banks
    assert joined.episodes.keys() == parent.episodes.keys()
    assert joined.watermark == parent.watermark


def test_a_hash_range_places_keys_as_kinesis_does() -> None:
    # MD5 of "a" is 0cc175b9…, of "b" 92eb5ffe…
    assert HashRange("0", str(2**127 - 1)).holds("a")
    assert not HashRange("0", str(2**127 - 1)).holds("b")
