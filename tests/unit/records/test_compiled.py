"""Aggregates read by compiled loops: the same batch as the common way gives, whatever the texts hold."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.records import compiled, kpl
from stream_processors.records import decode as decoding
from stream_processors.records.batch import EventBatch, StreamRecord
from stream_processors.records.decode import decode
from stream_processors.records.sink import Sink
from tests.support.wire import ARRIVAL, aggregate, native, record, sealed

pytestmark = pytest.mark.skipif(not compiled.KERNEL.available, reason="the compiled kernels are not built")

NUMBERS = (
    *(
        "0",
        "-0",
        "1",
        "1.5",
        "-0.0",
        "100000",
        "52.6873",
        "0.1",
        "123456789012345",
        "1234567890123456",
        "0.30000000000000004",
    ),
    *("12.345678901234567", "1e5", "1E+5", "-2.5e-3", "9007199254740993.0", "4.9e-324", "1e308", "1.7976931348623157e308"),
    *("18446744073709551616", "0.0000000000000000000001", "0.00000000000000000000001", "123456789012345678901234567890.5"),
)
NO_NUMBERS = (
    *("", "-", "01", "1.", ".5", "+1", "1e", "1e+", "--1", "1.5.5", "1-1", "1e5.5", "0x10", "NaN", "1e999", "-1e999"),
    *("Infinity", "null", "true", '"1"', "[1]", '{"a": 1}'),
)
MOMENTS = (
    *(str(ARRIVAL), str(ARRIVAL + 3_600_000), str(ARRIVAL - 1), str(ARRIVAL // 1000), f"{ARRIVAL / 1000}", f"{ARRIVAL}.0"),
    *(f'"{"2026-03-01T12:00:00Z"}"', f"{ARRIVAL}0", f"0{ARRIVAL}", f"-{ARRIVAL}", "1", "", f"{ARRIVAL}e0"),
    *(str(ARRIVAL + 3_600_001), str(ARRIVAL - 400 * 86_400_000), str(ARRIVAL - 400 * 86_400_000 - 1)),
)
LAYOUTS = (
    '{{"resource": "web-{n}", "metric": "cpu", "timestamp": {t}, "value": {v}}}',
    '{{"value":{v},"metric":"cpu","timestamp":{t},"resource":"web-{n}"}}',
    '  {{"timestamp" :\t{t} , "unit": "Percent", "value": {v} , "resource": "web-{n}", "metric": "cpu"}}\n',
    '{{"resource": "web-{n}", "metric": "a\\"b{{[", "timestamp": {t}, "value": {v}, "dimensions": {{"z\\\\": "1, 2"}}}}',
    '{{"resource": "web-{n}", "metric": "cpu", "dimensions": {{"timestamp": "7"}}, "timestamp": {t}, "value": {v}}}',
    '{{"resource": "w\\u00fcb-{n}", "metric": "größe", "timestamp": {t}, "value": {v}, "dimensions": null, "unit": null}}',
    '{{"resource": "web-{n}", "metric": "cpu", "timestamp": 1, "timestamp": {t}, "value": {v}}}',
    '{{"resource": "web-{n}", "metric": "cpu", "timestamp": {t}, "value": {v}, "value": 2}}',
    '{{"resource": "web-{n}", "metric": "cpu", "timestamp": {t}, "value": {v}, "more": 3}}',
    '{{"resource": "web-{n}", "metric": "cpu", "timestamp": {t}, "val": {v}}}',
    '{{"resource": "", "metric": "cpu", "timestamp": {t}, "value": {v}}}',
    '{{"hostname": "web-{n}", "timestamp": {t}, "cpuUsage": {v}, "memoryUsage": 1, "diskIO": 2, "networkIO": 3}}',
    '[{{"resource": "web-{n}", "metric": "cpu", "timestamp": {t}, "value": {v}}}]',
    "{t}{v}",
)
ORDINARY = LAYOUTS[0].format(n=0, t=ARRIVAL, v="1.5")


class Watched(compiled.Reader):
    """A reader that counts the texts without a template and the records that were left to the common way."""

    def __init__(self, *, opened: bool = False) -> None:
        super().__init__(opened=opened)
        self.left = 0
        self.alone = 0

    def texts(self) -> int:
        return self.alone + (self._stand_in.alone if self._stand_in else 0)

    def read(self, records: list[StreamRecord], batch: EventBatch) -> Iterator[int]:
        for index in super().read(records, batch):
            self.left += 1
            yield index

    def _one(self, *text: Any) -> Any:
        self.alone += 1
        return super()._one(*text)


def both(*batches: list[StreamRecord]) -> list[tuple[int, int]]:
    """Decode batches one after the other both ways, and compare; of each, how many records were left to the common way,
    and how many texts to its parser. Once more, the reader's stand-in reads them, which leaves names open."""
    opened(*batches)
    return compared(Watched(), *batches)


def opened(*batches: list[StreamRecord]) -> list[tuple[int, int]]:
    """As ``both``, of the stand-in."""
    reader = Watched()
    reader._resting = 10**9
    return compared(reader, *batches)


def compared(reader: Watched, *batches: list[StreamRecord]) -> list[tuple[int, int]]:
    left = []
    with patch.object(compiled, "_reader", [reader]):
        for records in batches:
            before = reader.left, reader.texts()
            assert bits(decode(records, compiled=True)) == bits(decode(records, compiled=False))
            left.append((reader.left - before[0], reader.texts() - before[1]))
    return left


def bits(batch: EventBatch) -> str:
    """All of a batch, in which -0.0 is not 0.0 and 1 is not 1.0."""
    return repr(batch)


def metrics(*texts: str) -> bytes:
    return aggregate([(f"key-{n}", text.encode()) for n, text in enumerate(texts)])


def test_what_repeats_is_read_compiled_and_is_the_same() -> None:
    texts = [
        [LAYOUTS[n % 6].format(n=n, t=ARRIVAL - 60_000 * minute, v=round(50 + n / 7 + minute, 4)) for n in range(40)]
        for minute in range(5)
    ]
    batches = [[record(metrics(*one)), record(metrics(*reversed(one)), 2)] for one in texts]
    assert both(*batches) == [(0, 80), (0, 0), (0, 0), (0, 0), (0, 0)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_number_in_every_layout(layout: str) -> None:
    learned = [record(metrics(layout.format(n=0, t=ARRIVAL, v="1.5")))]
    numbers = [record(metrics(layout.format(n=0, t=ARRIVAL, v=v)), n) for n, v in enumerate(NUMBERS + NO_NUMBERS)]
    moments = [record(metrics(layout.format(n=0, t=t, v="2.5")), n) for n, t in enumerate(MOMENTS)]
    both(learned, numbers, moments, numbers, moments)


def test_numbers_with_more_digits_than_a_double_is_sure_of_are_read_compiled_too() -> None:
    rng = random.Random(1)
    values = [repr(rng.uniform(-1e6, 1e6) * 10.0 ** rng.randint(-30, 30)) for _ in range(500)]
    texts = [LAYOUTS[0].format(n=n % 50, t=ARRIVAL, v=v) for n, v in enumerate(values)]
    assert both([record(metrics(*texts[:50]))], [record(metrics(*texts))]) == [(0, 50), (0, 0)]


def test_one_value_out_of_range_leaves_its_record_alone_to_the_common_way() -> None:
    good = record(metrics(*(LAYOUTS[0].format(n=n, t=ARRIVAL, v="1e2") for n in range(9))))
    bad = record(metrics(*(LAYOUTS[0].format(n=n, t=ARRIVAL, v="1e999" if n == 4 else "1e3") for n in range(9))), 2)
    assert both([good], [good, bad, good, bad, bad, good]) == [(0, 9), (3, 0)]


def test_between_others_the_order_stays() -> None:
    fast = record(metrics(*(LAYOUTS[0].format(n=n, t=ARRIVAL, v=n) for n in range(5))))
    plain, lines = record(native(metric="plain"), 2), record((ORDINARY + "\n" + ORDINARY).encode(), 3)
    poison, alien = record(metrics("{", ORDINARY), 4), record(b"\x00", 5)
    both([fast], [plain, fast, lines, fast, fast, poison, alien, fast], [poison], [fast, plain])


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_mixture_of_texts(data: st.DataObject) -> None:
    number = st.one_of(st.sampled_from(NUMBERS), st.floats(allow_nan=False).map(repr), st.sampled_from(NO_NUMBERS))
    usual = st.sampled_from(NUMBERS[:14])
    text = st.builds(
        lambda layout, n, t, v: layout.format(n=n, t=t, v=v),
        *(st.sampled_from(LAYOUTS[:6] * 4 + LAYOUTS), st.integers(0, 4)),
        *(st.sampled_from(MOMENTS[:3] * 8 + MOMENTS), st.one_of(usual, usual, usual, number)),
    )
    draw = st.lists(st.lists(st.lists(text, min_size=1, max_size=6).map(lambda t: metrics(*t)), max_size=5), max_size=4)
    batches = data.draw(draw)
    both(*([record(one, n) for n, one in enumerate(batch)] for batch in batches))


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(ORDINARY) - 1), st.integers(0, 255), st.booleans())
def test_a_changed_byte_of_a_known_text(at: int, byte: int, insert: bool) -> None:
    known = ORDINARY.encode()
    changed = known[:at] + bytes([byte]) + known[at + (not insert) :]
    both([record(aggregate([("k", known)]))], [record(aggregate([("k", changed), ("k", known)]))])


MESSAGE = metrics(ORDINARY, ORDINARY)[len(kpl.MAGIC) : -kpl.DIGEST_SIZE]


@settings(deadline=None, max_examples=400)
@given(st.integers(0, len(MESSAGE) - 1), st.integers(0, 255), st.sampled_from(["set", "insert", "cut", "end"]))
def test_a_changed_byte_of_the_message_with_its_checksum_made_anew(at: int, byte: int, how: str) -> None:
    rest = {"set": at + 1, "insert": at, "cut": at + 1, "end": len(MESSAGE)}[how]
    changed = MESSAGE[:at] + (bytes([byte]) if how in {"set", "insert"} else b"") + MESSAGE[rest:]
    both([record(sealed(MESSAGE))], [record(sealed(changed))])


def user(data: bytes, before: bytes = b"\x08\x00", after: bytes = b"") -> bytes:
    size = len(data)
    body = before + b"\x1a" + bytes([size & 127 | 128, size >> 7]) + data + after
    return b"\x1a" + bytes([len(body) & 127 | 128, len(body) >> 7]) + body


def test_seldom_used_fields_of_the_message() -> None:
    data = ORDINARY.encode()
    kept = b"\x0a\x01k" + user(data)
    cases = [
        b"\x0a\x01k\x12\x01\x39" + user(data, b"\x08\x00\x10\x00"),  # an explicit hash key
        user(data) + b"\x0a\x01k",  # the table of keys at the end
        b"\x0a\x01k" + user(data, b"\x08\x01"),  # beyond the table
        b"\x0a\x01k" + user(data, b""),  # no key
        b"\x0a\x02\xc3\xbc" + user(data),  # a key that is not ASCII
        b"\x0a\x01\xff" + user(data),  # a key that is not UTF-8
        b"\x0a\x01k" + user(data, after=b"\x22\x03\x0a\x01t"),  # a tag
        b"\x0a\x01k" + user(data, b"\x08\x80\x80\x80\x80\x80\x80\x00"),  # a long way to say 0
        b"\x0a\x01k" + user(data) + b"\x2a\x00",  # an unknown field
        b"\x0a\x01k" + user(data)[:-1],
        b"\x0a\x01k",
        b"",
    ]
    both([record(sealed(kept))], [record(sealed(case), n) for n, case in enumerate(cases)])


def test_a_wrong_checksum_is_refused() -> None:
    whole = metrics(ORDINARY)
    both([record(whole)], [record(whole[:-1] + bytes([whole[-1] ^ 1])), record(whole[:20]), record(kpl.MAGIC)])


def test_full_it_begins_anew_once_that_is_worth_its_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_TEMPLATES", 8)
    first, second = ([record(metrics(*(LAYOUTS[0].format(n=n + 10 * k, t=ARRIVAL, v=n) for n in range(8))))] for k in (0, 1))
    more = compiled._WORTH - 2
    # The first eight stay until 16 times eight events have passed; then the others are learned.
    full, known = (0, 8), (0, 0)
    assert both(first, first, *[second] * more, second, second, first) == [full, known, *[full] * more, full, known, full]


def test_of_no_use_it_rests_and_another_stands_in_that_leaves_names_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_TEMPLATES", 8)
    monkeypatch.setattr(compiled, "_MANY", 8)
    first, second = ([record(metrics(*(LAYOUTS[0].format(n=n + 10 * k, t=ARRIVAL, v=n) for n in range(8))))] for k in (0, 1))
    rests = compiled._REST - 1
    # The stand-in learns one template of all eight, which then is enough for any.
    expected = [(0, 8), (0, 8), (0, 8), *[(0, 0)] * (rests - 1), (0, 0), (0, 8)]
    assert both(first, second, *[first, *[second] * (rests - 1)], first, second) == expected


def test_of_no_use_either_the_stand_in_rests_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_MANY", 8)
    others = [[record(metrics(*(LAYOUTS[1].format(n=n + 10 * k, t=ARRIVAL, v=n) for n in range(8))))] for k in range(3)]
    assert opened(*others) == [(0, 8), (1, 0), (1, 0)]


def test_a_name_that_is_left_open_is_any_plain_name() -> None:
    first = ORDINARY.replace("web-0", "a")
    names = ("b", "a", "web-1", "ops", "opsriver", "w b", "~!#$%&'()*+,-./:;<=>?@[]^_`{|}", "n" * 256, "0", "null")
    known = [record(metrics(*(ORDINARY.replace("web-0", name) for name in names)))]
    assert opened([record(metrics(first))], known, known) == [(0, 1), (0, 0), (0, 0)]
    odd = (
        "opsriver:x",
        "opsriver:",
        "",
        "n" * 257,
        "n" * 2000,
        "\\u0061",
        "\\\\",
        '\\"',
        "ü",
        "\x01",
        "\x7f",
        "a\tb",
        " ",
        "*",
        "a\\",
    )
    for name in odd:
        text = ORDINARY.replace("web-0", name)
        opened([record(metrics(first))], [record(metrics(text))], [record(metrics(first, text, first))])


@pytest.mark.parametrize(
    "text",
    [
        '{{"metric": "{n}", "resource": "{n}", "timestamp": {t}, "value": {v}}}',
        '{{"resource": "{n}", "metric": "{n}", "timestamp": {t}, "value": {v}}}',
        '{{"resource": "{n}", "metric": "cpu", "timestamp": {t}, "value": {v}, "resource": "{n}"}}',
        '{{"resource": "{n}", "metric": "cpu", "timestamp": {t}, "value": {v}, "dimensions": {{"{n}": "{n}"}}}}',
        '{{"dimensions": {{"host": "{n}"}}, "resource": "{n}", "metric": "cpu", "timestamp": {t}, "value": {v}}}',
        '{{"{n}": 1, "resource": "{n}", "metric": "cpu", "timestamp": {t}, "value": {v}}}',
        '{{"timestamp": {t}, "resource": "{n}", "metric": "cpu", "value": {v}}}',
        '{{"resource": {n}, "metric": "cpu", "timestamp": {t}, "value": {v}}}',
        '{{"resource": "{n}"}}',
        '{{"resource": "{n}", "metric": "cpu", "timestamp": {t}, "value": {v}}} ',
    ],
)
def test_a_name_is_open_only_where_it_is_the_resource_s_and_nothing_else(text: str) -> None:
    batches = [
        [record(metrics(*(text.format(n=name, t=ARRIVAL + minute, v=minute) for name in ("a", "b", "resource", "1"))))]
        for minute in range(4)
    ]
    opened([record(metrics(ORDINARY))], *batches)
    opened(*batches, [record(metrics(ORDINARY))], *batches)


def test_a_sender_whose_names_cannot_be_left_open_keeps_no_other_from_it() -> None:
    time_first = '{{"timestamp": {t}, "resource": "web-{n}", "metric": "cpu", "value": {v}}}'
    batches = [[record(metrics(text.format(n=2, t=ARRIVAL, v=3)))] for text in (time_first, LAYOUTS[0], LAYOUTS[0])]
    assert opened(*batches) == [(0, 1), (0, 1), (0, 0)]


def test_a_long_text_is_left_to_the_common_way() -> None:
    long = LAYOUTS[0].format(n="9" * 100, t=ARRIVAL, v="1").replace("cpu", "c" * 200)
    longer = long[:-1] + " " * 1024 + "}"
    assert len(longer) > compiled._LONGEST > len(long)
    assert both([record(metrics(long))], [record(metrics(long))]) == [(0, 1), (0, 0)]
    assert both([record(metrics(longer))], [record(metrics(longer))]) == [(0, 1), (0, 1)]


def test_a_text_that_only_looks_like_a_metric_is_no_template() -> None:
    """The trial with other numbers must change time and value and nothing else."""
    for text, left in zip(
        (LAYOUTS[n].format(n=0, t=ARRIVAL, v=2) for n in (6, 7, 8, 9, 10, 12)), (0, 0, *[1] * 4), strict=True
    ):
        assert both([record(metrics(text))], [record(metrics(text))]) == [(left, 1), (left, 1)]


def test_a_sink_is_left_as_the_common_way_leaves_it() -> None:
    batch = EventBatch(sequence_numbers=["1"])
    assert Sink(batch, 0, record(b"")).count() == 0
    batch = decode([record(metrics(ORDINARY, ORDINARY))], compiled=True)
    assert [*zip(batch.record, batch.sub_sequence, batch.item, strict=True)] == [(0, 0, 0), (0, 1, 0)]


@pytest.mark.parametrize("text", [ORDINARY, LAYOUTS[2].format(n=0, t=ARRIVAL, v=1), LAYOUTS[3].format(n=0, t=ARRIVAL, v=1)])
def test_a_text_that_ends_anywhere(text: str) -> None:
    known, whole = [record(metrics(text))], text.encode()
    both(known, *[[record(aggregate([("k", whole[:end])]))] for end in range(1, len(whole))])


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.one_of(st.sampled_from([b"\x0a", b"\x12", b"\x1a", b"\x08", b"\x10", b"\xff"]), st.binary()), max_size=20)
)
def test_any_bytes_as_a_message(parts: list[bytes]) -> None:
    both([record(sealed(b"".join(parts)))])


def test_by_default_it_takes_over_once_that_is_worth_its_while(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Watched()
    monkeypatch.setattr(compiled, "_reader", [reader])
    monkeypatch.setattr(decoding, "_decoded", [0])
    monkeypatch.setattr(decoding, "_WORTH_COMPILING", 3)
    seen = []
    for _ in range(3):
        decode([record(metrics(ORDINARY, ORDINARY))])
        seen.append(reader.alone)
    assert seen == [0, 0, 2]


def test_without_numpy_nothing_compiled_is_even_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "stream_processors.records.compiled", None)
    monkeypatch.delattr("stream_processors.records.compiled")
    assert not decoding._kernel_is_here.__wrapped__()
    with pytest.raises(ImportError):
        decode([], compiled=True)


def test_where_it_was_not_built_it_can_be_asked_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(compiled.KERNEL), "_functions", None)
    monkeypatch.setattr(compiled, "_reader", [])
    assert not decoding._kernel_is_here.__wrapped__()
    with pytest.raises(ImportError, match="make install"):
        decode([record(metrics(ORDINARY))], compiled=True)
