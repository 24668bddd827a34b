"""Two subscribers of the alert topic on this machine: an HTTP endpoint and a reader of the SQS queue."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

MAX_BODY = 1_000_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notification as it reached a subscriber. ``at`` is the wall clock in seconds."""

    at: float
    by: str
    detail_type: str
    insight: dict[str, Any]

    @property
    def identity(self) -> tuple[str, str]:
        """Insight and transition: the same for every copy of a notification."""
        return self.insight["insightId"], self.detail_type


def _delivery(text: str, by: str) -> Delivery | None:
    try:
        event = json.loads(text)
        if "detail" not in event and "Message" in event:
            event = json.loads(event["Message"])
        if "insightId" not in event["detail"]:
            return None
        return Delivery(time.time(), by, event["detail-type"], event["detail"])
    except (ValueError, KeyError, TypeError):
        return None


class HttpSubscriber:
    """An HTTP endpoint on 127.0.0.1 that confirms its subscription and keeps what it is sent."""

    def __init__(self, receive: Callable[[Delivery], None]) -> None:
        subscriber = self
        self._receive = receive
        self.confirmed = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = min(int(self.headers.get("Content-Length") or 0), MAX_BODY)
                subscriber._take(self.rfile.read(size).decode(errors="replace"))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """The terminal belongs to the demo's own display."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the topic shall send."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def _take(self, text: str) -> None:
        try:
            message = json.loads(text)
        except ValueError:
            return
        if isinstance(message, dict) and message.get("Type") == "SubscriptionConfirmation":
            self._confirm(str(message.get("SubscribeURL", "")))
            return
        delivery = _delivery(text, "HTTP")
        if delivery is not None:
            self._receive(delivery)

    def _confirm(self, url: str) -> None:
        # Only the embedded AWS may be asked; a forged confirmation must not make us call elsewhere.
        if urlsplit(url).hostname in ("127.0.0.1", "localhost"):
            with urllib.request.urlopen(url, timeout=10):  # noqa: S310 - the host was checked above
                self.confirmed.set()

    def subscribe(self, sns: Any, topic: str) -> None:
        """Subscribe to the topic and wait until that is confirmed."""
        sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=self.url, ReturnSubscriptionArn=True)
        self.confirmed.wait(15)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class QueueSubscriber:
    """Reads the alert queue and deletes what it has passed on."""

    def __init__(self, sqs: Any, queue: str, receive: Callable[[Delivery], None]) -> None:
        self._sqs, self._queue, self._receive = sqs, queue, receive
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            answer = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                delivery = _delivery(message["Body"], "SQS")
                if delivery is not None:
                    self._receive(delivery)
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join(10)
