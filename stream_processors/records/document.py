"""One JSON document: parsed within bounds, its kind told by its fields, read by that kind's reader."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from stream_processors.records import native
from stream_processors.records.refused import Refused, shown
from stream_processors.records.sink import Sink

MAX_DEPTH = 64
"""Deepest nesting of a document."""
MAX_TOKENS = 1_000_000
"""Most commas and opening brackets of a document: bounds what parsing may allocate."""

Reader = Callable[[Sink, dict[str, Any]], None]

_parse = msgspec.json.Decoder().decode
_parse_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_AT_BYTE = re.compile(r"(.*) \(byte (\d+)\)$")
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_NOT_FINITE = re.compile(rb"-?(NaN|Infinity|inf|nan)\b")


def parse(data: bytes) -> Any:
    """A JSON value. Raises Refused."""
    _bound(data)
    try:
        value = _parse(data)
    except native.UNREADABLE as error:
        raise refusal_of(error, data) from None
    if isinstance(value, dict | list):
        _check_depth(value)
    return value


def elements(data: bytes) -> list[msgspec.Raw]:
    """Elements of a JSON array, unread. Raises Refused."""
    _bound(data)
    try:
        return _parse_elements(data)
    except native.UNREADABLE as error:
        raise refusal_of(error, data) from None


def _bound(data: bytes) -> None:
    if len(data) > MAX_TOKENS and data.count(b",") + data.count(b"{") + data.count(b"[") > MAX_TOKENS:
        raise Refused("too-large", f"the document of {len(data)} bytes holds more than {MAX_TOKENS:,} elements")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        below = []
        for one in level:
            for child in one.values() if isinstance(one, dict) else one:
                if child.__class__ is dict or child.__class__ is list:
                    below.append(child)
        if not below:
            return
        level = below
    raise Refused("too-deep", f"the document nests deeper than {MAX_DEPTH} levels")


def refusal_of(error: Exception, data: bytes) -> Refused:
    """What msgspec could not parse, in words."""
    if isinstance(error, RecursionError):
        return Refused("too-deep", f"the document nests deeper than {MAX_DEPTH} levels")
    if isinstance(error, UnicodeDecodeError):
        return Refused("not-utf8", "a text in the document is not UTF-8; send UTF-8")
    text = str(error)
    if "out of range" in text:
        return Refused("not-finite", "a number in the document is beyond the range of a double")
    if "truncated" in text and _HALF_PAIR.search(data):
        return Refused("not-json", "a text in the document holds half of a surrogate pair, which is no character")
    if "truncated" in text:
        return Refused("not-json", f"the document of {len(data)} bytes ends before it is complete")
    found = _AT_BYTE.match(text)
    if found is None:
        return Refused("not-json", f"not JSON: {text[:120]}")
    at = int(found[2])
    # The parser points behind the sign.
    number = _NOT_FINITE.match(data, max(at - 1, 0)) or _NOT_FINITE.match(data, at)
    if number:
        return Refused("not-finite", f"{number[0].decode()} at byte {number.start()} is no number in JSON")
    what = found[1].removeprefix("JSON is malformed: ")
    return Refused("not-json", f"not JSON: {what} at byte {at}, at {shown(data[at : at + 20].decode(errors='replace'))}")


def read(sink: Sink, data: bytes) -> None:
    """Read one document into the sink. What is refused as a whole becomes a dead letter with ``data``."""
    try:
        if not native.typed_host_sample(sink, data):
            dispatch(sink, parse(data))
    except Refused as refusal:
        sink.refuse(refusal, data)


def dispatch(sink: Sink, document: Any) -> None:
    """Read a parsed document. Raises Refused where it is refused as a whole."""
    if isinstance(document, list):
        raise Refused("too-deep", "an array within an array; send one array of documents, or lines")
    if not isinstance(document, dict):
        raise Refused("unknown-kind", f"{shown(document)} is no event; send a JSON object")
    reader = kind_of(document)
    if reader is None:
        fields = ", ".join(shown(field, 30) for field in list(document)[:6])
        raise Refused("unknown-kind", f"no known format has the fields {fields or '(none)'}; see docs/formats.md")
    reader(sink, document)


def kind_of(document: dict[str, Any]) -> Reader | None:
    """The reader for a document, told by its fields; None where no format has them.

    Other formats' readers are imported when their first document comes.
    """
    if "opsriver" in document:
        from stream_processors.records import control

        return control.read
    if native.is_metric(document):
        return native.metric
    if native.is_host_sample(document):
        return native.host_sample
    if "detail-type" in document:
        from stream_processors.records import eventbridge

        return eventbridge.read
    if "resourceMetrics" in document:
        from stream_processors.records import otlp

        return otlp.read
    if "metric_name" in document or "metric_stream_name" in document:
        from stream_processors.records import metric_stream

        return metric_stream.read
    if "fields" in document:
        from stream_processors.records import telegraf

        return telegraf.read
    if "metrics" in document:
        from stream_processors.records import telegraf

        return telegraf.read_batch
    return None
