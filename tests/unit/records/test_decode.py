"""Records into columns: values, places, letters, and that the fast way and the slow way agree."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.records import native as native_reader
from stream_processors.records import sink
from stream_processors.records.decode import decode
from tests.support.wire import ARRIVAL, aggregate, assert_orderly, native, one, record, refused, rows

HOST = {"hostname": "web-1", "timestamp": ARRIVAL, "cpuUsage": 41.5, "memoryUsage": 63, "diskIO": 1, "networkIO": 2}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=6), children, max_size=3),
    max_leaves=6,
)
words = st.sampled_from(["cpu", "web-1", "a{b=c}", "", "x" * 256, "x" * 257, "opsriver:x", "tab\t", "ß", "a\\"])
natives = st.fixed_dictionaries(
    {},
    optional={
        "resource": words | anything,
        "metric": words | anything,
        "timestamp": st.sampled_from([ARRIVAL, ARRIVAL // 1000, ARRIVAL / 1000, "2026-03-01T12:00:00Z", 5]) | anything,
        "value": st.floats(allow_nan=False, allow_infinity=False) | st.integers() | anything,
        "unit": st.sampled_from(["Percent", "", "x" * 300, None, [], {}]) | anything,
        "dimensions": st.dictionaries(words, words, max_size=4) | anything,
    },
)


def test_a_native_metric_fills_every_column() -> None:
    batch = one(native(unit="Percent", dimensions={"zone": "a", "disk": "C:\\"}))
    assert rows(batch) == [
        ("web-1", "cpu", "cpu{disk=C:\\\\,zone=a}", ARRIVAL, 1.5, "Percent", {"zone": "a", "disk": "C:\\"})
    ]
    assert (batch.sequence_numbers, *zip(batch.record, batch.sub_sequence, batch.item, strict=True)) == (["1"], (0, 0, 0))
    assert batch.arrival.tolist() == [ARRIVAL]


def test_a_host_sample_is_four_events_with_their_units() -> None:
    batch = one(HOST)
    assert [(*row[1:3], *row[4:6]) for row in rows(batch)] == [
        ("cpuUsage", "cpuUsage", 41.5, "Percent"),
        ("memoryUsage", "memoryUsage", 63.0, "Percent"),
        ("diskIO", "diskIO", 1.0, "Bytes/Second"),
        ("networkIO", "networkIO", 2.0, "Bytes/Second"),
    ]
    assert batch.item.tolist() == [0, 1, 2, 3]


def test_items_count_events_and_refused_parts_together() -> None:
    batch = one([HOST, {"x": 1}, native(), {"opsriver": "tick", "timestamp": ARRIVAL}, native(value=None), native()])
    assert batch.item.tolist() == [0, 1, 2, 3, 5, 8]
    assert [(placed.item, placed.before) for placed in batch.signals] == [(6, 5)]
    assert [(letter.item, letter.code) for letter in batch.dead_letters] == [(4, "unknown-kind"), (7, "wrong-type")]


def test_lines_are_read_one_by_one_and_a_broken_one_is_refused_alone() -> None:
    good = json.dumps(native()).encode()
    batch = one(good + b"\r\n\n{broken}\n" + json.dumps(HOST).encode() + b"\nrest of a line")
    assert batch.item.tolist() == [0, 2, 3, 4, 5]
    assert [(letter.item, letter.code, letter.raw) for letter in batch.dead_letters] == [
        (1, "not-json", b"{broken}"),
        (6, "not-json", b"rest of a line"),
    ]


def test_a_document_over_several_lines_is_one_document() -> None:
    assert len(one(json.dumps(native(dimensions={"a": "b"}), indent=2).encode())) == 1
    broken = json.dumps(native(dimensions={"a": "b"}), indent=2).encode()[:-3]
    assert refused(broken).raw == broken


REFUSALS: list[Any] = [
    (b"", "empty", "nothing"),
    (b" \r\n\t", "empty", "nothing"),
    (b"[]", "empty", "array"),
    (b"\x00\x01\x02", "not-json", "byte 0"),
    (b"hello", "not-json", "byte 0"),
    (b'{"resource": "a"', "not-json", "16 bytes ends"),
    (b'{"resource": "\\ud800"}', "not-json", "surrogate"),
    (b'{"resource": "\xff"}', "not-utf8", "UTF-8"),
    ('{"resource": "a"}'.encode("utf-16"), "not-json", "byte 0"),
    (b'{"a": NaN}', "not-finite", "NaN"),
    (b'{"a": -Infinity}', "not-finite", "-Infinity"),
    (b'{"a": 1e999}', "not-finite", "range of a double"),
    (b"{}{}", "not-json", "trailing"),
    (b"7", "unknown-kind", "7 is no event"),
    (b"null", "unknown-kind", "null is no event"),
    (b"{}", "unknown-kind", "(none)"),
    (b'{"a": 1, "b": 2}', "unknown-kind", '"a", "b"'),
    (b"[" * 100_000, "too-deep", "64 levels"),
    (b'{"a":' * 70 + b"1" + b"}" * 70, "too-deep", "64 levels"),
    (native(value="12"), "wrong-type", 'value is "12", text'),
    (native(value=True), "wrong-type", "value is true, a truth value"),
    (native(value=None), "wrong-type", "value is null"),
    (native(value=[1]), "wrong-type", "value is an array"),
    (native(value=10**400), "not-finite", "value"),
    (native(metric=5), "wrong-type", "metric is 5, a number"),
    (native(metric=""), "name", "metric is empty"),
    (native(resource="x" * 300), "name", "resource has 300 characters"),
    (native(resource="a\nb"), "name", "control characters"),
    (native(resource="opsriver:x"), "name", "reserved"),
    (native(unit=5), "wrong-type", "unit is 5"),
    (native(unit="u" * 257), "name", "unit"),
    (native(dimensions=[1]), "wrong-type", "dimensions is an array"),
    (native(dimensions={"a": 1}), "wrong-type", 'dimensions["a"] is 1'),
    (native(dimensions={"": "x"}), "name", "empty"),
    (native(dimensions={str(n): "x" for n in range(31)}), "name", "31 entries"),
    (native(dimensions={str(n): "x" * 200 for n in range(6)}), "name", "at most 1024"),
    (native(timestamp=None), "wrong-type", "timestamp is null"),
    ({"metric": "cpu", "value": 1, "timestamp": 1}, "missing-field", "'resource'"),
    ({"resource": "a", "value": 1, "timestamp": 1}, "missing-field", "'metric'"),
    (HOST | {"diskIO": "1"}, "wrong-type", 'diskIO is "1"'),
    (HOST | {"hostname": None}, "wrong-type", "hostname is null"),
    ({"hostname": "a", "timestamp": 1}, "missing-field", "'cpuUsage'"),
    ({"opsriver": "tock"}, "unknown-kind", '"tock"'),
    ({"opsriver": "tick"}, "missing-field", "'timestamp'"),
    ({"opsriver": "feedback", "resource": "a", "series": "b", "verdict": "?"}, "wrong-type", "verdict"),
]


def test_what_cannot_be_read_is_a_letter_with_its_bytes_and_a_reason_in_words() -> None:
    for data, code, said in REFUSALS:
        letter = refused(data)
        assert letter.code == code
        assert said in letter.reason
        assert letter.raw == record(data).data
        assert (letter.partition_key, letter.arrived_at) == ("key", ARRIVAL)


def test_a_poison_record_in_the_middle_leaves_all_others_alone() -> None:
    good = [record(native(resource=f"host-{n}"), n) for n in range(9)]
    poison = [record(data, 9 + n) for n, data in enumerate([b"\xff", b"[" * 10_000, native(value="x"), b"{}"])]
    mixed = good[:4] + poison + good[4:]
    batch = decode(mixed)
    assert_orderly(batch, mixed)
    assert batch.resource == [f"host-{n}" for n in range(9)]
    assert len(batch.dead_letters) == len(poison)


def test_a_byte_order_mark_repeated_keys_and_further_fields_are_passed_over() -> None:
    body = json.dumps(native()).encode()
    assert rows(one(b"\xef\xbb\xbf" + body)) == rows(one(body))
    assert one(body[:-1] + b', "value": 2, "further": [{}]}').value.tolist() == [2.0]


def test_minus_zero_is_zero() -> None:
    assert str(one(native(value=-0.0)).value) == str(one(native(value=-0.0, further=1)).value) == "array('d', [0.0])"


def test_a_tick_never_passes_its_arrival() -> None:
    signals = one([{"opsriver": "tick", "timestamp": ARRIVAL + ahead} for ahead in (-5, 5)]).signals
    assert [placed.signal.timestamp for placed in signals] == [ARRIVAL - 5, ARRIVAL]


def test_a_record_that_holds_too_much_keeps_what_was_read_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "MAX_ITEMS", 10)
    monkeypatch.setattr("stream_processors.records.decode.MAX_ITEMS", 10)
    users = [("k", json.dumps(body).encode()) for body in (HOST, native(), [native()] * 3, [native()] * 3, native())]
    records = [record(aggregate(users), 1), record(native(), 2)]
    batch = decode(records)
    assert_orderly(batch, records)
    assert len(batch) == 4 + 1 + 3 + 1
    (letter,) = batch.dead_letters
    assert (letter.code, letter.raw) == ("too-large", records[0].data)
    assert "first 8 were taken" in letter.reason


hosts = st.fixed_dictionaries(
    {},
    optional={
        "hostname": words | anything,
        "timestamp": st.sampled_from([ARRIVAL, ARRIVAL / 1000, "2026-03-01T12:00:00Z", 5]) | anything,
        "cpuUsage": st.sampled_from([1, -0.0, 1e308]) | anything,
        "diskIO": st.floats(allow_nan=False, allow_infinity=False) | anything,
    },
).map(lambda changed: HOST | changed)


@settings(deadline=None, max_examples=400)
@given(st.lists(natives | hosts, min_size=1, max_size=5))
def test_fast_and_slow_ways_agree_on_every_metric_and_every_refusal(documents: list[dict[str, Any]]) -> None:
    fast = decode([record(one_, n) for n, one_ in enumerate(documents)])
    # A further field leads past the typed decoder.
    slow = decode([record(one_ | {"further": 0}, n) for n, one_ in enumerate(documents)])
    assert rows(fast) == rows(slow)
    assert [letter.code for letter in fast.dead_letters] == [letter.code for letter in slow.dead_letters]
    assert [e.reason.split(", ")[0] for e in fast.dead_letters if e.code != "unknown-kind"] == [
        e.reason.split(", ")[0] for e in slow.dead_letters if e.code != "unknown-kind"
    ]


@settings(deadline=None, max_examples=150)
@given(st.lists(natives | hosts, min_size=2, max_size=8))
def test_plain_records_an_aggregate_an_array_and_lines_hold_the_same_events(
    documents: list[dict[str, Any]],
) -> None:
    bodies = [json.dumps(document).encode() for document in documents]
    plain = decode([record(body, n) for n, body in enumerate(bodies)])
    for data in (aggregate([("k", body) for body in bodies]), b"[" + b",".join(bodies) + b"]", b"\n".join(bodies)):
        other = decode([record(data)])
        assert rows(other) == rows(plain)
        assert [(e.code, e.reason, e.raw) for e in other.dead_letters] == [
            (e.code, e.reason, e.raw) for e in plain.dead_letters
        ]


@settings(deadline=None, max_examples=100)
@given(st.lists(natives | hosts | st.lists(natives, max_size=4), min_size=1, max_size=8), st.data())
def test_records_are_read_each_by_itself_however_they_are_cut(documents: list[Any], data: st.DataObject) -> None:
    records = [record(document, n) for n, document in enumerate(documents)]
    whole = decode(records)
    assert_orderly(whole, records)
    cut = data.draw(st.integers(0, len(records)))
    first, second = decode(records[:cut]), decode(records[cut:])
    assert rows(first) + rows(second) == rows(whole)
    assert first.item + second.item == whole.item
    assert first.dead_letters + second.dead_letters == whole.dead_letters


def test_caches_are_bounded_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "_CACHED", 50)
    monkeypatch.setattr(native_reader, "_CACHED", 50)
    bodies = [native(resource=f"r{n}", metric=f"m{n}", dimensions={"d": f"v{n}"}) for n in range(300)]
    expected = rows(one(bodies))
    for _ in range(3):
        assert [row for body in bodies for row in rows(one(body))] == expected
        assert len(sink.checked) <= 60
        assert len(native_reader._series) <= 60
