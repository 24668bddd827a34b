"""The metric store on Lambda: a consumer of the stream of its own, so it never delays scoring. A composition root."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from consumers.metric_store.store import MetricStore, fold
from runtime import clients, logs, settings
from stream_processors.records.decode import decode
from stream_processors.records.lambda_event import parse

logger = logs.logger("metric-store")
metrics = logs.metrics("metric-store")


@cache
def store() -> MetricStore:
    """The store of this execution environment."""
    chosen = settings.load(settings.MetricStoreSettings, os.environ)
    return MetricStore(clients.client("dynamodb"), chosen.metrics_table, chosen.metrics_ttl_days)


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Store one batch; answers ``batchItemFailures`` from the first record that is not wholly stored."""
    batch = decode(parse(event))
    minutes = fold(batch)
    failed = store().write(minutes)
    refused = sum(minute.refused for minute in minutes)
    if refused:
        metrics.add_metric("SeriesNotStored", MetricUnit.Count, refused)
    metrics.add_metric("MinutesStored", MetricUnit.Count, len(minutes) - len(failed))
    logger.info("batch stored", extra={"events": len(batch), "minutes": len(minutes), "failed": len(failed)})
    if not failed:
        return {"batchItemFailures": []}
    logger.warning("handed back", extra={"error": str(failed[0][1])[:500]})
    first = min(min(minute.records) for minute, _ in failed)
    return {"batchItemFailures": [{"itemIdentifier": batch.sequence_numbers[first]}]}
