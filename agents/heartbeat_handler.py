"""The heartbeat on Lambda, every minute. A composition root."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

from agents.heartbeat import beat
from runtime import clients, logs, settings

logger = logs.logger("heartbeat")


@cache
def _chosen() -> settings.StreamSettings:
    return settings.load(settings.StreamSettings, os.environ)


@cache
def _kinesis() -> Any:
    return clients.client("kinesis")


def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Tick every shard. A missed tick is made good by the next."""
    shards = beat(_kinesis(), _chosen().stream_name, int(time.time() * 1000))
    logger.info("ticked", extra={"shards": shards})
    return {"shards": shards}
