"""Kinesis records to columns of events, signals and dead letters. Pure.

The format of each record is told by its content: magic bytes first (KPL, gzip, zstd), then the
fields of the JSON. Native metrics and host samples are decoded straight from bytes; everything else
goes through parsed JSON. Nothing that one record holds can harm another.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from schemas.dead_letters import DeadLetter
from schemas.events import HOST_METRICS, HostSample, MetricSample, Tick
from schemas.names import MAX_SERIES_LENGTH, name_problem, series_name
from schemas.times import moment
from stream_processors.records.batch import EventBatch, PlacedSignal, StreamRecord
from stream_processors.records.formats import (
    Part,
    Refused,
    Value,
    bounded,
    dimensions_problem,
    milliseconds,
    reader,
    refusal,
)
from stream_processors.records.kpl import DamagedAggregate, deaggregate, is_aggregate

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
MAX_INFLATED = 16 * 1024 * 1024
"""Most bytes that a compressed payload may become."""
MAX_ITEMS = 50_000
"""Most elements of one array or lines of one payload."""
FUTURE_MS = 3_600_000
PAST_MS = 400 * 86_400_000
DAMAGED_ITEM = 0

_native = msgspec.json.Decoder(MetricSample).decode
_host = msgspec.json.Decoder(HostSample).decode
_any = msgspec.json.Decoder().decode


def decode(records: Sequence[StreamRecord]) -> EventBatch:
    """Decode records of one shard, in their order."""
    return _Decoding().run(records)


class _Decoding:
    """One call's state: the batch being filled, and the names checked so far."""

    def __init__(self) -> None:
        self.batch = EventBatch()
        self._names: dict[str, str | None] = {}
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], str] = {}

    def run(self, records: Sequence[StreamRecord]) -> EventBatch:
        batch = self.batch
        for number, record in enumerate(records):
            batch.sequence_numbers.append(record.sequence_number)
            if not is_aggregate(record.data):
                self._user_record(record, number, 0, record.partition_key, record.data)
                continue
            try:
                parts = deaggregate(record.data)
            except DamagedAggregate as error:
                self._letter(
                    record, 0, DAMAGED_ITEM, "damaged-aggregate", str(error), record.data, record.partition_key
                )
                continue
            for sub, (key, data) in enumerate(parts):
                self._user_record(record, number, sub, key, data)
        return batch

    # ------------------------------------------------------------------ one user record

    def _user_record(self, record: StreamRecord, number: int, sub: int, key: str, data: bytes) -> None:
        if b'"hostname"' in data:
            try:
                sample = _host(data)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                pass
            else:
                self._host_sample(record, number, sub, 0, key, data, sample)
                return
        else:
            try:
                metric = _native(data)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                pass
            else:
                self._metric(record, number, sub, 0, key, data, metric)
                return
        item = 0
        try:
            for raw, body in self._elements(data):
                item = self._element(record, number, sub, item, key, raw, body)
        except Refused as refused:
            self._letter(record, sub, item, refused.code, str(refused), data, key)

    def _elements(self, data: bytes) -> Iterator[tuple[bytes, Any]]:
        """Elements of a payload with the bytes each is refused with."""
        data = _inflate(data)
        if data.startswith(b"\xef\xbb\xbf"):
            data = data[3:]
        if not data.strip():
            raise Refused("empty", "record is empty; send a JSON event")
        try:
            body = _any(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            lines = data.split(b"\n")
            if len(lines) < 2 or not lines[0].strip():
                raise _not_json(data, error) from None
        except RecursionError:
            raise Refused("too-deep", "JSON is nested too deeply; send flat events") from None
        else:
            if isinstance(body, list):
                if len(body) > MAX_ITEMS:
                    raise Refused("too-large", f"array has {len(body)} elements; send at most {MAX_ITEMS}")
                for element in body:
                    yield msgspec.json.encode(element), element
            else:
                yield data, body
            return
        lines = [line for line in lines if line.strip()]
        if len(lines) > MAX_ITEMS:
            raise Refused("too-large", f"record has {len(lines)} lines; send at most {MAX_ITEMS}")
        for line in lines:
            try:
                yield line, _any(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                yield line, _not_json(line, error)
            except RecursionError:
                yield line, Refused("too-deep", "JSON is nested too deeply; send flat events")

    def _element(self, record: StreamRecord, number: int, sub: int, item: int, key: str, raw: bytes, body: Any) -> int:
        """Decode one element; returns the next free item number."""
        try:
            if isinstance(body, Refused):
                raise body
            if not isinstance(body, dict):
                raise Refused("unknown-kind", "event is not a JSON object; see docs/formats.md for what is understood")
            read = reader(body)
            if read is not None:
                return self._parts(record, number, sub, item, list(read(body)))
            if "hostname" in body:
                self._host_sample(record, number, sub, item, key, raw, _converted(body, HostSample))
                return item + len(HOST_METRICS)
            if "resource" in body or "metric" in body:
                self._metric(record, number, sub, item, key, raw, _converted(body, MetricSample))
                return item + 1
            fields = ", ".join(sorted(str(k)[:30] for k in body)[:8]) or "no fields"
            raise Refused("unknown-kind", f"event with {fields} is of no known kind; see docs/formats.md")
        except Refused as refused:
            self._letter(record, sub, item, refused.code, str(refused), raw, key)
            return item + 1

    # ------------------------------------------------------------------ events

    def _metric(
        self, record: StreamRecord, number: int, sub: int, item: int, key: str, raw: bytes, metric: MetricSample
    ) -> None:
        try:
            series = self._named(metric.resource, metric.metric, metric.dimensions, metric.unit)
            timestamp = self._timed(metric.timestamp, record.arrival)
            if not math.isfinite(metric.value):
                raise Refused("not-finite", f"value {metric.value} is not a finite number; leave the sample out")
        except Refused as refused:
            self._letter(record, sub, item, refused.code, str(refused), raw, key)
            return
        self._append(record, number, sub, item, metric.resource, metric.metric, series, timestamp, metric.value,
                     metric.unit, metric.dimensions)  # fmt: skip

    def _host_sample(
        self, record: StreamRecord, number: int, sub: int, item: int, key: str, raw: bytes, sample: HostSample
    ) -> None:
        try:
            self._named(sample.hostname, "cpuUsage", None, None)
            timestamp = self._timed(sample.timestamp, record.arrival)
            for metric in HOST_METRICS:
                if not math.isfinite(getattr(sample, metric)):
                    raise Refused("not-finite", f"{metric} is not a finite number; leave the sample out")
        except Refused as refused:
            self._letter(record, sub, item, refused.code, str(refused), raw, key)
            return
        for offset, (metric, unit) in enumerate(HOST_METRICS.items()):
            self._append(record, number, sub, item + offset, sample.hostname, metric, metric, timestamp,
                         getattr(sample, metric), unit, None)  # fmt: skip

    def _parts(self, record: StreamRecord, number: int, sub: int, item: int, parts: list[Part]) -> int:
        """Append what a format's reader found: all of it or, if one part is unusable, nothing."""
        ready: list[tuple[Any, ...]] = []
        for part in parts:
            if not isinstance(part, Value):
                self._timed(part.timestamp, record.arrival)
                # A tick says that time passes; it must not pass faster than records arrive.
                signal = Tick(min(part.timestamp, record.arrival)) if isinstance(part, Tick) else part
                ready.append((signal,))
                continue
            value = part.value
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise Refused("wrong-type", f"value of {str(part.metric)[:60]!r} is no number: {str(value)[:40]!r}")
            try:
                number_value = float(value)
            except OverflowError:
                raise Refused("not-finite", f"value of {str(part.metric)[:60]!r} is beyond any float") from None
            if not math.isfinite(number_value):
                raise Refused("not-finite", f"value of {str(part.metric)[:60]!r} is not a finite number")
            unit = str(part.unit) if part.unit is not None else None
            series = self._named(part.resource, part.metric, part.dimensions, unit)
            timestamp = self._timed(part.time, record.arrival)
            ready.append((part.resource, part.metric, series, timestamp, number_value, unit, part.dimensions))
        for offset, row in enumerate(ready):
            if len(row) == 1:
                self.batch.signals.append(PlacedSignal(len(self.batch), number, sub, item + offset, row[0]))
            else:
                self._append(record, number, sub, item + offset, *row)
        return item + max(1, len(ready))

    def _append(
        self, record: StreamRecord, number: int, sub: int, item: int, resource: str, metric: str, series: str,
        timestamp: int, value: float, unit: str | None, dimensions: dict[str, str] | None,
    ) -> None:  # fmt: skip
        batch = self.batch
        batch.record.append(number)
        batch.sub_sequence.append(sub)
        batch.item.append(item)
        batch.resource.append(resource)
        batch.metric.append(metric)
        batch.series.append(series)
        batch.timestamp.append(timestamp)
        batch.value.append(value)
        batch.arrival.append(record.arrival)
        batch.unit.append(unit)
        batch.dimensions.append(dimensions)

    def _letter(self, record: StreamRecord, sub: int, item: int, code: str, reason: str, raw: bytes, key: str) -> None:
        self.batch.dead_letters.append(
            DeadLetter(
                shard_id=record.shard_id,
                sequence_number=record.sequence_number,
                sub_sequence=sub,
                item=item,
                code=code,
                reason=reason[:500],
                raw=raw,
                partition_key=key,
                arrived_at=record.arrival,
            )
        )

    # ------------------------------------------------------------------ checks

    def _checked(self, name: Any, what: str) -> None:
        try:
            problem = self._names[name]
        except KeyError:
            if not isinstance(name, str):
                raise Refused("wrong-type", f"{what} is not text") from None
            problem = self._names[name] = name_problem(name, what)
        except TypeError:
            raise Refused("wrong-type", f"{what} is not text") from None
        if problem:
            raise Refused("name", problem)

    def _named(self, resource: Any, metric: Any, dimensions: dict[str, str] | None, unit: str | None) -> str:
        """Check all names of an event and return its series' name."""
        self._checked(resource, "resource")
        self._checked(metric, "metric")
        if unit:
            bounded(unit, "unit")
        key = (metric, tuple(dimensions.items()) if dimensions else ())
        series = self._series.get(key)
        if series is None:
            if dimensions:
                problem = dimensions_problem(dimensions)
                if problem:
                    raise Refused("name", problem)
            series = series_name(metric, dimensions)
            if len(series) > MAX_SERIES_LENGTH:
                raise Refused(
                    "name",
                    f"metric and dimensions make a name of {len(series)} characters, at most {MAX_SERIES_LENGTH}",
                )
            self._series[key] = series
        return series

    @staticmethod
    def _timed(value: Any, arrival: int) -> int:
        timestamp = milliseconds(value)
        if timestamp > arrival + FUTURE_MS or timestamp < arrival - PAST_MS:
            where = "ahead of" if timestamp > arrival else "behind"
            raise Refused(
                "time",
                f"timestamp {value!r} ({moment(timestamp)}) is too far {where} its arrival, {moment(arrival)}; "
                "at most 1 hour ahead and 400 days behind are taken",
            )
        return timestamp


def _converted(body: dict[str, Any], kind: type[Any]) -> Any:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise refusal(error, body) from None


def _not_json(data: bytes, error: Exception) -> Refused:
    shown = data[:40].decode(errors="replace")
    if "out of range" in str(error):
        return Refused("not-finite", f"record holds a number beyond any float; it starts with {shown!r}")
    return Refused("not-json", f"record is not JSON ({error}); it starts with {shown!r}")


def _inflate(data: bytes) -> bytes:
    """Content of a gzip or zstd payload, bounded; other data as it is."""
    if data.startswith(GZIP):
        return _gunzip(data)
    if data.startswith(ZSTD):
        import zstandard

        reader_ = zstandard.ZstdDecompressor(max_window_size=MAX_INFLATED).stream_reader(data)
        try:
            content = reader_.read(MAX_INFLATED + 1)
        except zstandard.ZstdError as error:
            raise Refused("damaged-zstd", f"zstd payload is damaged: {error}") from None
        if len(content) > MAX_INFLATED:
            raise Refused("too-large", f"zstd payload grows beyond {MAX_INFLATED} bytes")
        return content
    return data


def _gunzip(data: bytes) -> bytes:
    """All members of a gzip payload."""
    content = b""
    while data:
        inflater = zlib.decompressobj(wbits=31)
        try:
            content += inflater.decompress(data, MAX_INFLATED + 1 - len(content))
        except zlib.error as error:
            raise Refused("damaged-gzip", f"gzip payload is damaged: {error}") from None
        if len(content) > MAX_INFLATED:
            raise Refused("too-large", f"gzip payload grows beyond {MAX_INFLATED} bytes")
        if not inflater.eof:
            raise Refused("damaged-gzip", "gzip payload is cut off")
        data = inflater.unused_data
    return content
