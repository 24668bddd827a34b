"""Webhooks: one POST of JSON to an https address, bounded in time, never to another host."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 10.0


class WebhookFailed(RuntimeError):
    """The other side did not take the message. The text names the host, never the address: it is a secret."""


def post(url: str, body: dict[str, Any]) -> None:
    """POST ``body``. Redirects are not followed. Raises WebhookFailed."""
    place = urlsplit(url)
    if place.scheme != "https" or not place.hostname:
        raise WebhookFailed("webhook address is not https; correct the secret")
    data = json.dumps(body).encode()
    connection = http.client.HTTPSConnection(
        place.hostname, place.port or 443, timeout=TIMEOUT, context=ssl.create_default_context()
    )
    try:
        target = place.path + (f"?{place.query}" if place.query else "")
        connection.request("POST", target or "/", data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read(10_000)
    except (OSError, http.client.HTTPException) as error:
        raise WebhookFailed(f"{place.hostname} did not answer: {type(error).__name__}") from None
    finally:
        connection.close()
    if answer.status >= 300:
        raise WebhookFailed(f"{place.hostname} answered {answer.status}")
