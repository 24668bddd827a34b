"""The compactor on Lambda, hourly. A composition root."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from consumers.archive.compaction import Compactor
from consumers.archive.reader import ArchiveReader, s3
from runtime import clients, logs, settings

logger = logs.logger("compactor")
metrics = logs.metrics("compactor")


@cache
def compactor() -> Compactor:
    """The compactor of this execution environment."""
    bucket = settings.load(settings.ArchiverSettings, os.environ).archive_bucket
    client = clients.client("s3")
    return Compactor(client, bucket, ArchiveReader(bucket, s3(client)))


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Compact every closed hour that has more than one file."""
    done = compactor().run(int(time.time() * 1000))
    metrics.add_metric("FilesJoined", MetricUnit.Count, sum(one.files_before for one in done))
    logger.info("compacted", extra={"hours": len(done), "rows": sum(one.rows for one in done)})
    return {"hours": len(done)}
