"""The real scorer's handler while DynamoDB, S3 and Kinesis throttle, fail and time out.

Faults are injected into the handler's own boto3 clients by botocore's events; retries, the real
emulator and the mapping's part (bringing a batch again) stay as they are. What is asserted: every
batch is in the end done or handed back, and the outcome equals an undisturbed run.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from tests.chaos.scorer import Stage, compare, labelled_stream
from tests.support.ministack import Emulator, emulator

pytestmark = pytest.mark.embedded

BATCHES = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("faults")) as running:
        yield running


class RawBody:
    """The body of an injected answer, as urllib3 would stream it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._data

    def read(self, *_: Any, **__: Any) -> bytes:
        return self._data


def answer(request: Any, status: int, code: str, dynamodb: bool) -> AWSResponse:
    if dynamodb:
        body = b'{"__type":"com.amazonaws.dynamodb.v20120810#%s","message":"injected"}' % code.encode()
    else:
        body = b"<Error><Code>%s</Code><Message>injected</Message></Error>" % code.encode()
    return AWSResponse(request.url, status, {}, RawBody(body))


FAULTS: dict[str, tuple[str, Any]] = {
    "dynamodb throttles": ("dynamodb", (400, "ProvisionedThroughputExceededException")),
    "dynamodb answers 500": ("dynamodb", (500, "InternalServerError")),
    "dynamodb times out": ("dynamodb", ReadTimeoutError(endpoint_url="injected")),
    "s3 asks to slow down": ("s3", (503, "SlowDown")),
    "s3 answers 500": ("s3", (500, "InternalError")),
    "s3 cannot be reached": ("s3", EndpointConnectionError(endpoint_url="injected")),
    "s3 times out": ("s3", ConnectTimeoutError(endpoint_url="injected")),
}


class Faults:
    """Fails calls of the handler's clients: each with a probability, or all of them."""

    def __init__(self, service: str, what: Any, share: float, seed: int) -> None:
        self.service, self.what, self.share = service, what, share
        self.rng = random.Random(seed)
        self.injected = 0
        self.on = True

    def install(self, client: Any) -> None:
        if client.meta.service_model.service_name == self.service:
            client.meta.events.register("before-send", self._before_send)

    def _before_send(self, request: Any, **_: Any) -> AWSResponse | None:
        if not self.on or self.rng.random() >= self.share:
            return None
        self.injected += 1
        if isinstance(self.what, Exception):
            raise self.what
        return answer(request, *self.what, dynamodb=self.service == "dynamodb")


@pytest.fixture
def handler_with(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The real handler in this process, with faults in its clients and no pauses between retries."""
    from runtime import clients
    from stream_processors import lambda_handler

    made = clients.client

    def start(stage: Stage, faults: Faults) -> Any:
        for name, value in stage.environment().items():
            if name not in ("PATH", "POWERTOOLS_METRICS_DISABLED"):
                monkeypatch.setenv(name, value)

        def client(service: str, **options: Any) -> Any:
            one = made(service, **options)
            faults.install(one)
            return one

        monkeypatch.setattr(clients, "client", client)
        monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
        lambda_handler.processor.cache_clear()
        return lambda_handler.handler

    yield start
    lambda_handler.processor.cache_clear()


def run(handler: Any, batches: list[list[dict[str, Any]]], faults: Faults) -> int:
    """Bring each batch until it is done, as the mapping does; returns how often one was handed back."""
    handed_back = 0
    for records in batches:
        for attempt in range(60):
            faults.on = attempt < 50
            failures = handler({"Records": records}, None)["batchItemFailures"]
            if not failures:
                break
            assert failures == [{"itemIdentifier": records[0]["kinesis"]["sequenceNumber"]}]
            handed_back += 1
        else:
            pytest.fail("a batch was never done")
    return handed_back


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_of_a_service_loses_or_doubles_anything(server: Emulator, handler_with: Any, name: str) -> None:
    service, what = FAULTS[name]
    number = list(FAULTS).index(name)
    batches = labelled_stream(11)[:BATCHES]
    calm, rough = Stage(server, f"calm{number}").build(), Stage(server, f"rough{number}").build()
    none = Faults(service, what, 0.0, 1)
    assert run(handler_with(calm, none), batches, none) == 0
    # Three of four calls fail: five tries of a call are often used up, so batches come back too.
    faults = Faults(service, what, 0.75, number)
    handed_back = run(handler_with(rough, faults), batches, faults)
    assert faults.injected > BATCHES
    assert handed_back > 0
    assert compare(rough.outcome(), calm.outcome()) == {
        "lost": 0, "doubled": 0, "differing": 0, "state": True, "letters": True, "place": True,
    }  # fmt: skip


def test_a_store_that_stays_down_leaves_the_pointer_and_costs_a_bounded_number_of_calls(
    server: Emulator, handler_with: Any
) -> None:
    stage = Stage(server, "down").build()
    faults = Faults("dynamodb", (400, "ThrottlingException"), 1.0, 1)
    handler = handler_with(stage, faults)
    records = labelled_stream(11)[0]
    for tries in range(1, 4):
        assert handler({"Records": records}, None)["batchItemFailures"]
        assert faults.injected <= 5 * tries
    faults.on = False
    assert handler({"Records": records}, None) == {"batchItemFailures": []}
