"""One emulator for the tests of stores and alerts, and faults put between a client and it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from tests.support.ministack import CREDENTIALS, REGION, Emulator, emulator

Fault = Callable[[str, int], tuple[int, str, dict[str, Any]] | None]


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("consumers")) as running:
        yield running


class _Raw:
    """The body of an answer that no server sent."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._body


class Faults:
    """Answers in the service's place where ``answer(operation, n)`` gives (status, error code, body);
    n counts the calls of that operation, tries included."""

    def __init__(self, client: Any, answer: Fault) -> None:
        self.calls: dict[str, int] = {}
        self._answer = answer
        client.meta.events.register("before-send.*", self._send)

    def _send(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        operation = event_name.rpartition(".")[2]
        self.calls[operation] = self.calls.get(operation, 0) + 1
        found = self._answer(operation, self.calls[operation])
        if found is None:
            return None
        status, code, extra = found
        body = json.dumps({"__type": f"x#{code}", "message": "injected", **extra} if code else extra).encode()
        headers = {"content-type": "application/x-amz-json-1.0", "content-length": str(len(body))}
        return AWSResponse(request.url, status, headers, _Raw(body))


@pytest.fixture
def faults() -> Callable[[Any, Fault], Faults]:
    return Faults


@pytest.fixture
def impatient(aws: Emulator) -> Callable[[str], Any]:
    """Makes clients that try twice, so that a service which stays away is soon given up."""

    def client(service: str) -> Any:
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=aws.endpoint,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"mode": "standard", "total_max_attempts": 2}),
        )

    return client
