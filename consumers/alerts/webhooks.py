"""Posting JSON to a webhook: over TLS only, with a short time-out, never redirected."""

from __future__ import annotations

import random
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import msgspec

TIMEOUT_S = 5.0
TRIES = 3
_ANSWER = 300


class NotTaken(RuntimeError):
    """A webhook did not take a message. The text names the host only: the rest of a URL is secret."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """A webhook's address is what was configured, not what an answer says."""
        return


class Webhooks:
    """Posts to webhooks. ``context`` is the TLS context; None for the system's certificates."""

    def __init__(self, context: ssl.SSLContext | None = None, pause: Callable[[float], None] = time.sleep) -> None:
        self._opener = urllib.request.build_opener(
            _NoRedirect(), urllib.request.HTTPSHandler(context=context or ssl.create_default_context())
        )
        self._pause = pause

    def post(self, url: str, body: dict[str, Any]) -> None:
        """Post once, and up to twice more where the other side is busy or away. Raises NotTaken."""
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise NotTaken("the webhook's address in its secret is no https:// address; mend the secret")
        data = msgspec.json.encode(body)
        for attempt in range(1, TRIES + 1):
            problem, again = self._once(url, data)
            if not problem:
                return
            if not again or attempt == TRIES:
                raise NotTaken(f"{parts.hostname} did not take the message: {problem}")
            self._pause(random.uniform(0.5, 1.0) * 0.5 * 2**attempt)

    def _once(self, url: str, data: bytes) -> tuple[str, bool]:
        """What went wrong, empty if nothing did, and whether another try may help."""
        request = urllib.request.Request(  # noqa: S310  (post lets https only pass)
            url, data=data, headers={"Content-Type": "application/json", "User-Agent": "opsriver"}
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                answer.read(_ANSWER)
            return "", False
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(_ANSWER).decode(errors="replace")
            return f"status {error.code} {text}".strip(), error.code == 429 or error.code >= 500
        except (OSError, HTTPException) as error:
            # The exception's text may carry the address; its kind and reason do not.
            return f"{type(error).__name__} {getattr(error, 'reason', '')}".strip(), True
