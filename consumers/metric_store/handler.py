"""The metric store on Lambda: decode, fold, write, answer what must come again.

A composition root: settings and clients are made at the first invocation.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from consumers.metric_store.fold import fold
from consumers.metric_store.store import MetricStore
from runtime import clients, logs, settings
from stream_processors.records.decode import decode
from stream_processors.records.lambda_event import parse

logger = logs.logger("metric-store")
metrics = logs.metrics("metric-store")

RESERVE_MS = 15_000
"""Nothing new is begun in the last so many milliseconds: a write's retries take as long at worst."""


@cache
def store() -> MetricStore:
    """The store of this execution environment."""
    chosen = settings.load(settings.MetricStoreSettings, os.environ)
    return MetricStore(clients.client("dynamodb"), chosen.metrics_table, chosen.metrics_ttl_days)


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Store the metrics of one batch of Kinesis records; answers ``batchItemFailures``.

    Records that cannot be read are the scorer's to report: it keeps the dead letters.
    """
    batch = decode(parse(event))
    minutes = fold(batch)
    outcome = store().write(minutes, time_left=lambda: context.get_remaining_time_in_millis() > RESERVE_MS)
    for name, value in (
        ("MinutesWritten", outcome.written),
        ("MinutesUnchanged", outcome.unchanged),
        ("SeriesNotStored", outcome.surplus),
        ("MinutesHandedBack", len(outcome.unfinished)),
    ):
        if value or name == "MinutesWritten":
            metrics.add_metric(name, MetricUnit.Count, value)
    told = {
        "records": len(batch.sequence_numbers),
        "events": len(batch),
        "minutes": len(minutes),
        "written": outcome.written,
        "surplus": outcome.surplus,
    }
    if not outcome.unfinished:
        logger.info("batch stored", extra=told)
        return {"batchItemFailures": []}
    first = min(minute.first_record for minute in outcome.unfinished)
    logger.warning(
        "batch handed back",
        extra={**told, "fromRecord": first, "unfinished": len(outcome.unfinished), "error": outcome.error[:500]},
    )
    return {"batchItemFailures": [{"itemIdentifier": batch.sequence_numbers[first]}]}
