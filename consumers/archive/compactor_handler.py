"""The compactor on Lambda, hourly. A composition root."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from consumers.archive.compaction import Compactor
from consumers.archive.layout import HOUR_MS
from consumers.archive.store import BucketStore
from runtime import clients, logs, settings

logger = logs.logger("compactor")
metrics = logs.metrics("compactor")

SPARE_MS = 300_000
"""No further hour is begun when less than this is left of the invocation."""
DAY_MS = 24 * HOUR_MS
RECENT_MS = 2 * DAY_MS
"""How far back a run looks, but for the first two of a day: each hour that is looked at costs a call of S3 or two."""
LONGEST_MS = 390 * DAY_MS
"""How far back the first two runs of a day look. What is older is left to the bucket's lifecycle, which lets the files
of an hour go one by one: a manifest may outlive the files that it names."""


@cache
def compactor() -> Compactor:
    """The compactor of this execution environment."""
    bucket = settings.load(settings.ArchiverSettings, os.environ).archive_bucket
    return Compactor(BucketStore(clients.client("s3", read_timeout=60.0), bucket))


@metrics.log_metrics(raise_on_empty_metrics=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Compact closed hours that have small files; raises at the end if an hour failed.

    The first run of a day (UTC) looks at all hours, for files of late events, the second too, to delete what the
    first has replaced; the others look at recent hours.
    """
    now = int(time.time() * 1000)
    report = compactor().run(
        now,
        since=now - (LONGEST_MS if now % DAY_MS < 2 * HOUR_MS else RECENT_MS),
        go_on=lambda: context is None or context.get_remaining_time_in_millis() > SPARE_MS,
    )
    metrics.add_metric("FilesJoined", MetricUnit.Count, sum(one.files_before for one in report.done))
    metrics.add_metric("DamagedArchiveFiles", MetricUnit.Count, len(report.damaged))
    if report.unfinished:
        metrics.add_metric("CompactionUnfinished", MetricUnit.Count, 1)
        logger.warning("not all hours were looked at; the next run begins with the latest again")
    for name in report.damaged[:100]:
        logger.error("damaged or foreign file", extra={"file": name})
    rows = sum(one.rows for one in report.done)
    logger.info("compacted", extra={"hours": len(report.done), "rows": rows, "deleted": report.deleted})
    if report.problems:
        raise RuntimeError("; ".join(report.problems[:5]))
    return {"hours": len(report.done), "deleted": report.deleted}
