"""The JSON Schema files say what the types and the decoder say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import generate
from schemas.dead_letters import DeadLetter
from schemas.events import HostSample, MetricSample
from tests.support.wire import ARRIVAL, FORMATS, native, one

LOADED = {name: jsonschema.Draft202012Validator(generate.schema(name)) for name in generate.TYPES}


def test_the_files_have_not_drifted_from_the_types() -> None:
    assert generate.main(["--check"]) == 0


def test_drift_is_found_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--out", str(tmp_path)]) == 0
    (tmp_path / "insight.schema.json").write_text("{}", encoding="utf-8")
    (tmp_path / "host-sample.schema.json").unlink()
    (tmp_path / "unknown.json").write_text("{}", encoding="utf-8")
    capsys.readouterr()
    assert generate.main(["--check", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "host-sample.schema.json, insight.schema.json, unknown.json; run python -m schemas.generate" in said
    assert generate.main(["--out", str(tmp_path / "unknown.json")]) == 2
    assert "choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", generate.TYPES)
def test_every_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(generate.schema(name))


json_values = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-1e9, 1e9) | st.text(max_size=5)


@settings(deadline=None, max_examples=200)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "resource": json_values,
            "metric": json_values,
            "timestamp": st.sampled_from([ARRIVAL, "2026-03-01T12:00:00Z"]),
            "value": json_values,
            "unit": json_values,
            "dimensions": st.none() | st.dictionaries(st.text(max_size=3), json_values, max_size=2) | st.just([]),
        },
    ),
    st.booleans(),
)
def test_what_the_decoder_takes_satisfies_the_schema(changed: dict[str, Any], whole: bool) -> None:
    document = native(**changed) if whole else changed
    if len(one(document)):
        LOADED["metric-sample"].validate(document)
        msgspec.json.decode(json.dumps(document), type=MetricSample)


def test_the_documents_examples_of_our_own_formats_satisfy_their_schemas() -> None:
    from stream_processors.records.describe import examples

    found: dict[str, int] = {}
    for example in examples(FORMATS.read_text(encoding="utf-8")):
        try:
            document = json.loads(example)
        except json.JSONDecodeError:
            continue
        fields = {"metric": "metric-sample", "hostname": "host-sample", "detail": "alarm-event"}
        name = next((schema for field, schema in fields.items() if field in document), "")
        if name == "alarm-event" and "alarmName" not in document["detail"]:
            continue
        if name:
            LOADED[name].validate(document)
            msgspec.json.decode(example, type=generate.TYPES[name])
            found[name] = found.get(name, 0) + 1
    assert set(found) == {"metric-sample", "host-sample", "alarm-event"}


def test_a_letter_keeps_its_bytes_through_json() -> None:
    (letter,) = one(b"\x00\xff not json").dead_letters
    sent = msgspec.json.encode(letter)
    LOADED["dead-letter"].validate(json.loads(sent))
    assert msgspec.json.decode(sent, type=DeadLetter) == letter
    assert letter.letter_id == "shardId-000000000000:1:0:0"


def test_what_agents_encode_by_the_types_is_what_the_decoder_reads() -> None:
    metric = MetricSample("web-1", "cpu", ARRIVAL, 1.5, "Percent", {"zone": "a"})
    host = HostSample("web-1", ARRIVAL, 1, 2, 3, 4)
    batch = one(b"[" + msgspec.json.encode(metric) + b"," + msgspec.json.encode(host) + b"]")
    assert batch.series == ["cpu{zone=a}", "cpuUsage", "memoryUsage", "diskIO", "networkIO"]
    assert batch.value.tolist() == [1.5, 1, 2, 3, 4]
