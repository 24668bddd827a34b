"""AWS clients with the retry rules and time-outs that every part shares."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

ATTEMPTS = 5
"""Tries of one call, the first included: bounded, so that a batch goes back to its mapping in time."""


def config(*, attempts: int = ATTEMPTS, read_timeout: float = 10.0) -> Config:
    """Botocore configuration: bounded retries with jittered exponential back-off, short time-outs."""
    return Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=3.0,
        read_timeout=read_timeout,
        user_agent_extra="opsriver",
        tcp_keepalive=True,
    )


def client(service: str, **options: Any) -> Any:
    """A boto3 client; endpoint, region and credentials come from the standard AWS environment."""
    return boto3.client(service, config=config(**options))  # type: ignore[call-overload]
