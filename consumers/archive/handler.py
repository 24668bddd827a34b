"""The archiver on Lambda: events from the stream, insights from their table's stream. A composition root."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import msgspec
import pyarrow as pa
from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError

from consumers.archive.writer import ArchiveWriter, events_table
from runtime import clients, dynamodb, logs, settings
from schemas.insights import Insight
from stream_processors.records.batch import StreamRecord
from stream_processors.records.decode import decode
from stream_processors.records.lambda_event import parse

logger = logs.logger("archiver")
metrics = logs.metrics("archiver")

FILE_ROWS = 100_000
"""Rows after which a batch's file ends and another begins. Plain batches stay below: packed ones may hold more."""
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


@cache
def archive() -> ArchiveWriter:
    """The archive of this execution environment."""
    chosen = settings.load(settings.ArchiverSettings, os.environ)
    return ArchiveWriter(clients.client("s3"), chosen.archive_bucket)


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Archive one batch; a failure brings all of it again, which writes the same files."""
    records = event.get("Records") or []
    of_table = bool(records) and "dynamodb" in records[0]
    try:
        rows = _insights(records) if of_table else _events(event)
    except (ClientError, BotoCoreError) as error:
        logger.warning("handed back", extra={"records": len(records), "error": str(error)[:500]})
        metrics.add_metric("BatchesHandedBack", MetricUnit.Count, 1)
        first = records[0]["dynamodb"]["SequenceNumber"] if of_table else records[0]["kinesis"]["sequenceNumber"]
        return {"batchItemFailures": [{"itemIdentifier": first}]}
    metrics.add_metric("RowsArchived", MetricUnit.Count, rows)
    logger.info("archived", extra={"records": len(records), "rows": rows})
    return {"batchItemFailures": []}


def _events(event: dict[str, Any]) -> int:
    rows = 0
    for shard, group in groupby(parse(event), key=lambda record: record.shard_id):
        held: list[pa.Table] = []
        count = 0
        first = last = ""
        for part in _slices(list(group)):
            table = events_table(decode(part), shard, [record.arrival for record in part])
            first, last = first or part[0].sequence_number, part[-1].sequence_number
            if len(table):
                held.append(table)
                count += len(table)
            if count >= FILE_ROWS:
                rows += archive().events(held, shard, first, last)
                held, count, first = [], 0, ""
        rows += archive().events(held, shard, first, last)
    return rows


def _slices(records: Sequence[StreamRecord]) -> Iterator[Sequence[StreamRecord]]:
    """Records to decode together: a record that may unpack to many times its size stands alone.

    The cut follows from the records, so a batch that comes again writes the same files.
    """
    begun = 0
    for at, record in enumerate(records):
        if any(mark in record.data for mark in _PACKED):
            if begun < at:
                yield records[begun:at]
            yield records[at : at + 1]
            begun = at + 1
    if begun < len(records):
        yield records[begun:]


def _insights(records: list[dict[str, Any]]) -> int:
    insights = []
    for record in records:
        image = record["dynamodb"].get("NewImage")
        if not image:
            continue  # the item was deleted, by its age or by a person: its revisions are archived already
        try:
            insights.append(
                msgspec.convert({name: dynamodb.plain(value) for name, value in image.items()}, Insight, strict=False)
            )
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            metrics.add_metric("InsightsNotArchived", MetricUnit.Count, 1)
            key = str(image.get("insightId"))[:300]
            logger.error("no insight", extra={"insight": key, "error": str(error)[:300]})
    numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
    return archive().insights(insights, numbers[0], numbers[-1])
