"""Firehose's transformation for CloudWatch metric streams. A composition root.

Each line of a metric stream goes onto the Kinesis stream with its resource as the key, so that all
metrics of a resource share a shard. Firehose then drops what was taken and keeps what was not.
"""

from __future__ import annotations

import base64
import os
import random
import time
from functools import cache
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError

from runtime import clients, logs, settings
from stream_processors.records.batch import StreamRecord
from stream_processors.records.decode import decode

logger = logs.logger("metric-stream")
metrics = logs.metrics("metric-stream")
TRIES = 5
ENTRIES = 400


@cache
def _stream() -> str:
    return settings.load(settings.StreamSettings, os.environ).stream_name


@cache
def _kinesis() -> Any:
    return clients.client("kinesis")


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Put one buffer of Firehose on the stream; answers which of its records were taken."""
    lines: list[tuple[str, bytes]] = []
    for record in event["records"]:
        data = base64.b64decode(record["data"])
        lines += [(_key(line), line) for line in data.splitlines() if line.strip()]
    taken = _put(lines)
    logger.info("metrics put", extra={"records": len(event["records"]), "lines": len(lines), "taken": taken})
    metrics.add_metric("LinesPut", MetricUnit.Count, len(lines) if taken else 0)
    if not taken:
        metrics.add_metric("BuffersNotPut", MetricUnit.Count, 1)
    result = "Dropped" if taken else "ProcessingFailed"
    return {"records": [{"recordId": r["recordId"], "result": result, "data": r["data"]} for r in event["records"]]}


def _key(line: bytes) -> str:
    """The resource a line speaks of; what cannot be read keeps a key of its own and becomes a dead letter."""
    batch = decode([StreamRecord("firehose", "0", "metric-stream", int(time.time() * 1000), line)])
    return batch.resource[0] if batch.resource else "metric-stream"


def _put(lines: list[tuple[str, bytes]]) -> bool:
    """Put all lines, refused ones again after a pause; False where some were not taken in the end."""
    left = [{"PartitionKey": key, "Data": line} for key, line in lines]
    for attempt in range(TRIES):
        refused: list[dict[str, Any]] = []
        for begin in range(0, len(left), ENTRIES):
            part = left[begin : begin + ENTRIES]
            try:
                answer = _kinesis().put_records(StreamName=_stream(), Records=part)
            except (ClientError, BotoCoreError) as error:
                logger.warning("put failed", extra={"error": str(error)[:300]})
                refused += part
                continue
            refused += [p for p, r in zip(part, answer["Records"], strict=True) if r.get("ErrorCode")]
        if not refused:
            return True
        left = refused
        time.sleep(min(5.0, 0.2 * 2**attempt) * random.uniform(0.5, 1.0))
    return False
