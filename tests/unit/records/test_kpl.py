"""KPL aggregates: read as the library writes them, and refused as a whole where they are damaged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.records import kpl
from stream_processors.records.decode import decode
from stream_processors.records.refused import Refused
from tests.support.wire import aggregate, native, one, record, refused, sealed

WHOLE = aggregate([(f"host-{n}", json.dumps(native(resource=f"host-{n}")).encode()) for n in range(5)])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=40), st.binary(max_size=200)), min_size=1, max_size=30))
def test_what_the_public_library_aggregates_comes_out_in_order_with_its_keys(users: list[tuple[str, bytes]]) -> None:
    from aws_kinesis_agg.aggregator import RecordAggregator

    gathering = RecordAggregator()
    for key, data in users:
        gathering.add_user_record(key, data)
    data = gathering.clear_and_get().get_contents()[2]
    keys, contents = kpl.deaggregate(bytes(data))
    assert list(zip(keys, contents, strict=True)) == users


@settings(deadline=None, max_examples=300)
@given(st.integers(4 * 8, len(WHOLE) * 8 - 1))
def test_a_flipped_bit_refuses_the_aggregate_as_a_whole(bit: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[bit // 8] ^= 1 << bit % 8
    letter = refused(bytes(damaged))
    assert (letter.code, letter.raw) == ("damaged-aggregate", bytes(damaged))


def test_a_truncated_aggregate_is_never_read_as_a_plain_record() -> None:
    for length in range(4, len(WHOLE)):
        letter = refused(WHOLE[:length])
        assert (letter.code, letter.raw) == ("damaged-aggregate", WHOLE[:length])


NONSENSE: list[Any] = [
    (b"\xff\xff\xff", "protobuf"),
    (b"", "no user records"),
    (b"\x0a\x01k", "no user records"),
    (b"\x0a\x01k\x1a\x05\x08\x07\x1a\x01x", "beyond its table of 1"),
    (b"\x0a\x01k\x1a\x0e\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x1a\x01x", "beyond its table of 1"),
    (b"\x0a\x01\xff\x1a\x05\x08\x00\x1a\x01x", "not UTF-8"),
    (b"\x0a\x01k\x1a\x02\x08\x00", "lacks its data"),
]


def message(tag: int, *parts: bytes) -> bytes:
    whole = b"".join(parts)
    return bytes([tag, *([len(whole)] if len(whole) < 128 else [len(whole) & 127 | 128, len(whole) >> 7])]) + whole


INDEX = st.sampled_from(
    [b"\x08\x00", b"\x08\x01", b"\x08\x02", b"\x08\x82\x00", b"\x08\x85\x01", b"\x88\x00\x01", b"\x09\x00"]
)
DATA = (
    st.binary(max_size=4)
    .flatmap(lambda text: st.sampled_from([text, text * 40, text * 300]))
    .map(lambda d: message(0x1A, d))
)
FIELD = st.one_of(INDEX, DATA, st.just(b"\x10\x00"), st.just(message(0x22, b"\x0a\x01t")), st.binary(max_size=3))
WELL = st.tuples(st.sampled_from([b"\x08\x00", b"\x08\x80\x00"]), DATA)
RECORD = st.one_of(WELL, WELL, WELL, st.tuples(INDEX, DATA), st.lists(FIELD, max_size=4)).map(lambda r: message(0x1A, *r))
KEYS = [b"k", "ü".encode(), b"k" * 127, b"", b"\xff", b"k" * 200]
KEY = st.sampled_from([*KEYS[:3] * 3, *KEYS]).map(lambda key: message(0x0A, key))
ELSE = st.one_of(KEY, st.just(b"\x12\x01h"), st.binary(max_size=3))
CONTENT = st.tuples(
    st.lists(KEY, min_size=1, max_size=3),
    st.lists(RECORD, max_size=4),
    st.lists(st.one_of(RECORD, ELSE), max_size=2),
    st.sampled_from([0, 0, 0, 1, 2]),
).map(lambda parts: b"".join([*parts[0], *parts[1], *parts[2]])[: -parts[3] or None])


@settings(deadline=None, max_examples=1500)
@given(CONTENT)
def test_the_short_way_through_an_aggregate_reads_what_protobuf_does(content: bytes) -> None:
    def outcome() -> Any:
        try:
            keys, users = kpl.deaggregate(sealed(content))
        except Refused as refusal:
            return refusal.code, refusal.reason
        return [keys[place] for place in range(len(users))], users

    found = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kpl, "_walk", lambda data: None)
        assert outcome() == found


def test_the_short_way_is_taken_by_aggregates_as_producers_write_them() -> None:
    assert kpl._walk(WHOLE) is not None
    assert kpl._walk(sealed(NONSENSE[3][0])) is None


def test_content_that_matches_its_checksum_and_makes_no_sense_is_refused() -> None:
    for content, why in NONSENSE:
        letter = refused(sealed(content))
        assert letter.code == "damaged-aggregate"
        assert why in letter.reason


def test_an_absurd_number_of_user_records_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kpl, "MAX_USER_RECORDS", 4)
    with pytest.raises(Refused, match="5 user records"):
        kpl.deaggregate(WHOLE)


def test_each_user_record_keeps_its_sub_sequence_and_its_letter_its_own_key() -> None:
    users = [
        ("a", json.dumps(native(resource="a")).encode()),
        ("b", b"not json"),
        ("c", json.dumps(native(resource="c", value="12")).encode()),
        ("d", json.dumps([native(resource="d"), native(resource="e")]).encode()),
        ("f", json.dumps(native(resource="f", timestamp=1)).encode()),
        ("g", json.dumps(native(resource="g")).encode()),
    ]
    batch = one(aggregate(users))
    assert list(zip(batch.resource, batch.sub_sequence, batch.item, strict=True)) == [
        ("a", 0, 0), ("d", 3, 0), ("e", 3, 1), ("g", 5, 0),
    ]  # fmt: skip
    assert [(e.partition_key, e.sub_sequence, e.code, e.raw) for e in batch.dead_letters] == [
        ("b", 1, "not-json", users[1][1]), ("c", 2, "wrong-type", users[2][1]), ("f", 4, "time", users[4][1]),
    ]  # fmt: skip


def test_a_damaged_aggregate_leaves_its_neighbours_alone() -> None:
    batch = decode([record(native(), 1), record(WHOLE[:-1], 2), record(WHOLE, 3)])
    assert batch.record.tolist() == [0, 2, 2, 2, 2, 2]
    assert [letter.sequence_number for letter in batch.dead_letters] == ["2"]


def test_an_aggregate_within_an_aggregate_is_refused_alone() -> None:
    batch = one(aggregate([("a", WHOLE), ("b", json.dumps(native()).encode())]))
    assert batch.sub_sequence.tolist() == [1]
    assert [(letter.sub_sequence, letter.code) for letter in batch.dead_letters] == [(0, "not-json")]
