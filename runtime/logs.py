"""Structured JSON logs and business metrics (CloudWatch embedded metric format) by Powertools."""

from __future__ import annotations

from aws_lambda_powertools import Logger, Metrics

NAMESPACE = "OpsRiver"


def logger(service: str) -> Logger:
    """JSON logger of one function; the level comes from POWERTOOLS_LOG_LEVEL."""
    return Logger(service=service)


def metrics(service: str) -> Metrics:
    """Business metrics of one function in the OpsRiver namespace."""
    return Metrics(namespace=NAMESPACE, service=service)
