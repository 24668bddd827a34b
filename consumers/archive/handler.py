"""The archiver on Lambda: events from the stream, insights from their table's stream. A composition root."""

from __future__ import annotations

import os
from functools import cache
from itertools import groupby
from typing import Any

import msgspec
from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError

from consumers.archive.writer import Archive
from runtime import clients, dynamodb, logs, settings
from schemas.insights import Insight
from stream_processors.records.decode import decode
from stream_processors.records.lambda_event import parse

logger = logs.logger("archiver")
metrics = logs.metrics("archiver")


@cache
def archive() -> Archive:
    """The archive of this execution environment."""
    chosen = settings.load(settings.ArchiverSettings, os.environ)
    return Archive(clients.client("s3"), chosen.archive_bucket)


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Archive one batch; a failure brings all of it again, which writes the same files."""
    records = event["Records"]
    kinesis = records[0].get("eventSource") == "aws:kinesis"
    try:
        rows = _events(event) if kinesis else _insights(records)
    except (ClientError, BotoCoreError) as error:
        logger.warning("handed back", extra={"records": len(records), "error": str(error)[:500]})
        metrics.add_metric("BatchesHandedBack", MetricUnit.Count, 1)
        first = records[0]["kinesis"]["sequenceNumber"] if kinesis else records[0]["dynamodb"]["SequenceNumber"]
        return {"batchItemFailures": [{"itemIdentifier": first}]}
    metrics.add_metric("RowsArchived", MetricUnit.Count, rows)
    logger.info("archived", extra={"records": len(records), "rows": rows})
    return {"batchItemFailures": []}


def _events(event: dict[str, Any]) -> int:
    groups = groupby(parse(event), key=lambda record: record.shard_id)
    return sum(archive().events(decode(list(group)), shard) for shard, group in groups)


def _insights(records: list[dict[str, Any]]) -> int:
    images = [r["dynamodb"]["NewImage"] for r in records if r["dynamodb"].get("NewImage")]
    insights = [
        msgspec.convert({name: dynamodb.plain(value) for name, value in image.items()}, Insight, strict=False)
        for image in images
    ]
    numbers = [r["dynamodb"]["SequenceNumber"] for r in records]
    return archive().insights(insights, numbers[0], numbers[-1])
