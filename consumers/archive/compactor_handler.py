"""The compactor on Lambda, hourly. A composition root."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from consumers.archive.compaction import Compactor
from consumers.archive.store import BucketStore
from runtime import clients, logs, settings

logger = logs.logger("compactor")
metrics = logs.metrics("compactor")

SPARE_MS = 300_000
"""No further hour is begun when less than this is left of the invocation."""


@cache
def compactor() -> Compactor:
    """The compactor of this execution environment."""
    bucket = settings.load(settings.ArchiverSettings, os.environ).archive_bucket
    return Compactor(BucketStore(clients.client("s3", read_timeout=60.0), bucket))


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Compact every closed hour that has small files; raises at the end if an hour failed."""
    report = compactor().run(
        int(time.time() * 1000),
        go_on=lambda: context is None or context.get_remaining_time_in_millis() > SPARE_MS,
    )
    metrics.add_metric("FilesJoined", MetricUnit.Count, sum(one.files_before for one in report.done))
    metrics.add_metric("DamagedArchiveFiles", MetricUnit.Count, len(report.damaged))
    for name in report.damaged[:100]:
        logger.error("damaged or foreign file", extra={"file": name})
    rows = sum(one.rows for one in report.done)
    logger.info("compacted", extra={"hours": len(report.done), "rows": rows, "deleted": report.deleted})
    if report.problems:
        raise RuntimeError("; ".join(report.problems[:5]))
    return {"hours": len(report.done), "deleted": report.deleted}
