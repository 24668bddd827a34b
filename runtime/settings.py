"""Settings of the deployed functions, read once from the environment by their composition roots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


class SettingsError(ValueError):
    """An environment variable is missing or has an unusable value."""


def load(kind: type[T], environ: Mapping[str, str]) -> T:
    """Read a settings struct from ``environ``.

    Field ``state_bucket`` is variable ``OPSRIVER_STATE_BUCKET``. Numbers are converted; an empty
    variable counts as absent. Raises SettingsError that names the variable.
    """
    found: dict[str, str] = {}
    for field in msgspec.structs.fields(kind):
        variable = "OPSRIVER_" + field.name.upper()
        value = environ.get(variable, "")
        if value:
            found[field.name] = value
        elif field.required:
            raise SettingsError(f"environment variable {variable} is not set; the template sets it on the function")
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"environment of the function: {error}") from None


def memory(environ: Mapping[str, str]) -> int | None:
    """Memory of the function in bytes, as Lambda itself tells it; None where the process is no function of Lambda."""
    megabytes = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    return int(megabytes) << 20 if megabytes else None


class ScorerSettings(msgspec.Struct, frozen=True):
    """Settings of the stream processor."""

    stream_name: str
    checkpoint_table: str
    insights_table: str
    state_bucket: str
    dead_letter_bucket: str
    detectors: str = ""
    """Location of the detector configuration, ``s3://bucket/key``; empty for the defaults."""


class MetricStoreSettings(msgspec.Struct, frozen=True):
    """Settings of the consumer that keeps the Metrics table."""

    metrics_table: str
    metrics_ttl_days: int = 90


class PublisherSettings(msgspec.Struct, frozen=True):
    """Settings of the publisher and of the sweeper that finishes what it left pending."""

    event_bus: str
    ledger_table: str


class NotifierSettings(msgspec.Struct, frozen=True):
    """Settings of the notifier; secrets are named, never held."""

    people_topic: str
    ledger_table: str
    slack_secret: str = ""
    pagerduty_secret: str = ""
    dashboard_url: str = ""
    runbook_url: str = ""


class StreamSettings(msgspec.Struct, frozen=True):
    """Settings of what only puts records on the stream."""

    stream_name: str


class ArchiverSettings(msgspec.Struct, frozen=True):
    """Settings of the archiver and of compaction."""

    archive_bucket: str
