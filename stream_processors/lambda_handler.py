"""The scorer on Lambda: parse, process each shard, answer what must come again.

A composition root: settings and clients are made at the first invocation.
"""

from __future__ import annotations

import os
from functools import cache
from itertools import groupby
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError

from consumers.dead_letters.store import DeadLetterStore
from consumers.insights.store import InsightStore, StoreUnavailable
from runtime import clients, logs, settings
from stream_processors.detectors import config
from stream_processors.processor import Report, ShardProcessor, room_of
from stream_processors.records.decode import decode
from stream_processors.records.lambda_event import parse
from stream_processors.scoring import Scorer
from stream_processors.state.checkpoint import Checkpoint, StaleWriter
from stream_processors.state.stream import KinesisStream

logger = logs.logger("scorer")
metrics = logs.metrics("scorer")

HAND_BACK = (ClientError, BotoCoreError, StoreUnavailable, StaleWriter, config.ConfigurationError)
"""Errors after which the mapping shall bring the same records again. A rules file that cannot be used
is among them: the next invocation reads it anew, so that mending the file is enough."""


@cache
def processor() -> ShardProcessor:
    """The processor of this execution environment."""
    chosen = settings.load(settings.ScorerSettings, os.environ)
    s3 = clients.client("s3")
    dynamodb = clients.client("dynamodb")
    detectors = _detectors(s3, chosen.detectors)
    memory = settings.memory(os.environ)
    room = None if memory is None else room_of(memory)
    return ShardProcessor(
        checkpoint=Checkpoint(
            dynamodb, s3, table=chosen.checkpoint_table, bucket=chosen.state_bucket, stream=chosen.stream_name
        ),
        stream=KinesisStream(clients.client("kinesis"), chosen.stream_name),
        insights=InsightStore(dynamodb, chosen.insights_table),
        letters=DeadLetterStore(s3, chosen.dead_letter_bucket),
        decode=decode,
        new=lambda: Scorer(detectors, room=room),
        room=room,
    )


def _detectors(s3: Any, location: str) -> config.DetectorConfig:
    if not location:
        return config.DetectorConfig()
    bucket, _, key = location.removeprefix("s3://").partition("/")
    return config.parse(s3.get_object(Bucket=bucket, Key=key)["Body"].read(), location)


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Score one batch of Kinesis records; answers ``batchItemFailures``."""
    for shard, group in groupby(parse(event), key=lambda record: record.shard_id):
        records = list(group)
        try:
            _tell(processor().handle(records))
        except HAND_BACK as error:
            logger.warning(
                "batch handed back",
                extra={"shard": shard, "records": len(records), "error": f"{error}"[:500]},
            )
            metrics.add_metric("BatchesHandedBack", MetricUnit.Count, 1)
            return {"batchItemFailures": [{"itemIdentifier": records[0].sequence_number}]}
    return {"batchItemFailures": []}


def _tell(report: Report) -> None:
    for name, value in (
        ("EventsScored", report.scored),
        ("EventsLate", report.late),
        ("SeriesRefused", report.surplus),
        ("ShardFull", report.crowded),
        ("Insights", report.insights),
        ("DeadLetters", report.dead_letters),
        ("SnapshotDamaged", len(report.damaged)),
    ):
        if value or name == "EventsScored":
            metrics.add_metric(name, MetricUnit.Count, value)
    for text in (*report.damaged, *report.notes):
        logger.error("state needs attention", extra={"shard": report.shard, "what": text})
    logger.info(
        "batch scored",
        extra={
            "shard": report.shard,
            "records": report.records,
            "repeated": report.repeated,
            "events": report.events,
            "scored": report.scored,
            "late": report.late,
            "insights": report.insights,
            "deadLetters": report.dead_letters,
            "series": report.series,
        },
    )
