"""docs/formats.md against the decoder, and every format against hostile bytes."""

from __future__ import annotations

import gzip
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.records import describe, document, services
from stream_processors.records.decode import decode
from tests.support.wire import ARRIVAL, FORMATS, aggregate, assert_orderly, native, one, record

TEXT = FORMATS.read_text(encoding="utf-8")
EXAMPLES = describe.examples(TEXT)

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["NaN", "Infinity", "1", "x" * 300, "opsriver:x", "\u202e", ARRIVAL, 1e308, -1e308, 10**4000]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=10,
)


def test_the_document_has_not_drifted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert describe.main(["--check"]) == 0
    copy = tmp_path / "formats.md"
    copy.write_text(TEXT.replace("118.5 Count", "118.6 Count"), encoding="utf-8")
    assert describe.main(["--check", "--document", str(copy)]) == 1
    assert describe.main(["--document", str(copy)]) == 0
    assert copy.read_text(encoding="utf-8") == TEXT
    assert describe.main(["--document", str(tmp_path)]) == 2
    copy.write_text("nothing", encoding="utf-8")
    assert describe.main(["--document", str(copy)]) == 2
    assert "has no part 'bounds'" in capsys.readouterr().err


def test_every_example_is_read_and_only_the_one_that_shows_a_refusal_refuses() -> None:
    assert TEXT.count("```json") == len(EXAMPLES) == 12
    readers, letters = set(), 0
    for example in EXAMPLES:
        batch = describe.decoded(example)
        assert len(batch) + len(batch.signals) > 0
        assert_orderly(batch, [record(example)])
        letters += len(batch.dead_letters)
        for part in (example, *example.splitlines()):
            try:
                parsed = json.loads(part)
            except json.JSONDecodeError:
                continue
            reader = document.kind_of(parsed) if isinstance(parsed, dict) else None
            readers |= {f"{reader.__module__}.{reader.__name__}"} if reader else set()
    assert letters == 1
    assert {name.removeprefix("stream_processors.records.") for name in readers} == {
        "native.metric", "native.host_sample", "eventbridge.read", "otlp.read", "metric_stream.read", "telegraf.read",
        "telegraf.read_batch", "control.read",
    }  # fmt: skip


def test_otlp_identity_refusals_and_points_without_value() -> None:
    def point(**fields: Any) -> dict[str, Any]:
        return {"timeUnixNano": str(ARRIVAL * 10**6)} | fields

    def metrics(*points: Any, **attributes: str) -> dict[str, Any]:
        given_ = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
        return {
            "resource": {"attributes": given_},
            "scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": list(points)}}]}],
        }

    good = point(asInt=1)
    bad = [point(asDouble="NaN"), point(asDouble="1"), point(asInt="1.5"), point(), {"asInt": 1}, 7, point(asInt=True)]
    batch = one(
        {
            "resourceMetrics": [
                metrics(good, *bad, point(flags=1), good, **{"host.name": "h", "service.name": "s"}),
                metrics(good),
                metrics(good, **{"service.name": "s", "k8s.pod.name": "p"}),
            ]
        }
    )
    assert batch.resource == ["h", "h", "p"]
    assert batch.dimensions == [{"service.name": "s"}] * 3
    assert [letter.code for letter in batch.dead_letters] == [
        "not-finite", "wrong-type", "wrong-type", "missing-field", "missing-field", "wrong-type", "wrong-type",
        "missing-field",
    ]  # fmt: skip
    assert [json.loads(letter.raw) for letter in batch.dead_letters[:7]] == bad
    for empty in ({"resourceMetrics": []}, {"resourceMetrics": [metrics(point(flags=1), **{"host.name": "h"})]}):
        assert one(empty).dead_letters[0].code == "no-value"


def test_telegraf_refuses_metric_by_metric() -> None:
    good = {"name": "cpu", "tags": {"host": "h"}, "fields": {"a": 1}, "timestamp": ARRIVAL}
    bad = [
        7, good | {"tags": {}}, good | {"fields": {"a": "text", "b": True}}, good | {"fields": {"a": None}},
        good | {"timestamp": 1}, good | {"name": ""},
    ]  # fmt: skip
    batch = one({"metrics": [good, *bad, good]})
    assert batch.series == ["cpu.a", "cpu.a"]
    assert [letter.code for letter in batch.dead_letters] == [
        "wrong-type", "missing-field", "no-value", "wrong-type", "time", "name",
    ]  # fmt: skip
    assert [json.loads(letter.raw) for letter in batch.dead_letters] == bad


def test_a_metric_stream_without_samples_has_no_mean_and_a_wild_one_is_refused() -> None:
    good = {
        "namespace": "AWS/EC2", "metric_name": "m", "timestamp": ARRIVAL, "unit": "None",
        "value": {"count": 0, "sum": 0}, "dimensions": {},
    }  # fmt: skip
    batch = one(good)
    assert list(zip(batch.resource, batch.metric, batch.unit, strict=True)) == [
        ("AWS/EC2", "AWS/EC2/m.sum", None), ("AWS/EC2", "AWS/EC2/m.count", "Count"),
    ]  # fmt: skip
    for value in ({"count": 1e-300, "sum": 1e300}, {"count": -1, "sum": 1}, {"count": 1}, {"count": 1, "sum": "1"}, 5):
        (letter,) = one(good | {"value": value}).dead_letters
        assert letter.code in {"not-finite", "wrong-type", "missing-field"}


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200) | st.sampled_from([b"\x1f\x8b", b"(\xb5/\xfd", b"\xf3\x89\x9a\xc2"]).flatmap(
    lambda magic: st.binary(max_size=100).map(lambda rest: magic + rest)))  # fmt: skip
def test_arbitrary_bytes_never_raise_and_always_leave_a_trace(data: bytes) -> None:
    assert_orderly(one(data), [record(data)])


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(EXAMPLES) - 1), st.randoms(use_true_random=False), st.integers(0, 3))
def test_examples_with_mutated_bytes_are_events_or_letters(which: int, rng: random.Random, packing: int) -> None:
    data = bytearray(EXAMPLES[which])
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(data)), rng.randint(1, 12)
        change = rng.randrange(5)
        if change == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            del data[at : at + length]
        elif change == 2:
            data[at:at] = bytes(data[at : at + length])
        elif change == 3:
            data[at:at] = rng.choice([b"\x00", b"\xff", b'"', b"{", b"]", b"\n", b"NaN", b"1e999", b"\\ud800", b"\\u0000"])
        else:
            other = EXAMPLES[rng.randrange(len(EXAMPLES))]
            data[at : at + length] = other[at : at + length]
        if not data:
            data = bytearray(b"{")
    body = bytes(data)
    packed = (
        body,
        gzip.compress(body),
        zstandard.ZstdCompressor().compress(body),
        aggregate([("k", body), ("l", json.dumps(native()).encode()), ("m", body)]),
    )[packing]
    records = [record(packed, 1), record(native(), 2)]
    batch = decode(records)
    assert_orderly(batch, records)
    assert batch.resource[-1] == "web-1"


@settings(deadline=None, max_examples=400)
@given(st.integers(0, len(EXAMPLES) - 1), anything, st.randoms(use_true_random=False))
def test_examples_with_any_value_anywhere_are_events_or_letters(which: int, value: Any, rng: random.Random) -> None:
    try:
        body = json.loads(EXAMPLES[which])
    except json.JSONDecodeError:
        body = [json.loads(line) for line in EXAMPLES[which].splitlines()]
    spots: list[tuple[Any, Any]] = []
    left = [body]
    while left:
        node = left.pop()
        for key, child in list(node.items() if isinstance(node, dict) else enumerate(node)):
            spots.append((node, key))
            if isinstance(child, dict | list):
                left.append(child)
    node, key = rng.choice(spots)
    if rng.random() < 0.2:
        del node[key]
    else:
        node[key] = value
    whole = record(body)
    assert_orderly(decode([whole]), [whole])


@settings(deadline=None, max_examples=200)
@given(anything)
def test_arbitrary_json_is_events_or_letters(value: Any) -> None:
    for body in (value, [value], {"metrics": [value]}, {"resourceMetrics": value}):
        assert_orderly(one(body), [record(body)])


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(services.RULES)), st.dictionaries(st.text(max_size=8), anything, max_size=4), st.data())
def test_events_of_every_service_with_any_detail_are_signals_or_letters(
    key: tuple[str, str], detail: dict[str, Any], data: st.DataObject
) -> None:
    rule = services.RULES[key]
    for path in (*rule.resource, *rule.state, *rule.why):
        if path[0] == "detail" and len(path) == 2:
            detail[path[1]] = data.draw(anything)
    body = {"source": key[0], "detail-type": key[1], "time": "2026-03-01T12:00:00Z", "detail": detail}
    assert_orderly(one(body), [record(body)])


def test_large_hostile_documents_stay_within_bounds() -> None:
    for body in (
        b"[" + b"1," * 500_000 + b"1]",
        b"[" + b"[]," * 300_000 + b"[]]",
        gzip.compress(b"[" + b"{}," * 60_000 + b"{}]"),
        gzip.compress(b"[" + b" " * 40 + b"1,2" * 4_000_000 + b"]"),
        b'{"resourceMetrics": [' + b"{}," * 200_000 + b"{}]}",
        b'{"metrics": [' + b"7," * 400_000 + b"7]}",
        b"{}\n" * 300_000,
        b'{"resource": "' + b"x" * 1_000_000 + b'"}',
    ):
        batch = one(body)
        assert 0 < len(batch.dead_letters) <= 100_001
        assert sum(len(letter.raw) + len(letter.reason) for letter in batch.dead_letters) < 32 * 1024 * 1024


def test_decoding_a_plain_record_loads_no_format_it_does_not_need() -> None:
    script = (
        "import sys; from stream_processors.records.decode import decode; "
        "from stream_processors.records.batch import StreamRecord; "
        'decode([StreamRecord("s", "1", "k", 1772366405000, '
        'b\'{"resource":"a","metric":"m","timestamp":1772366405,"value":1}\')]); '
        "print(sorted(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    heavy = "zstandard|gzip|google|aws_kinesis_agg|numpy|boto3|river|pyarrow|services|otlp|telegraf|eventbridge|describe"
    assert not re.findall(rf"'[\w.]*\b(?:{heavy})\b[\w.]*'", loaded)
