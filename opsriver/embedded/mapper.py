"""The event source mapper: what Lambda's pollers do, for an emulator whose own lose data.

Drives the mappings of Kinesis and DynamoDB streams through public APIs only: it lists the mappings,
reads the shards, invokes the functions, and honours batch size and window, ReportBatchItemFailures,
bisecting, retries, record age and the on-failure destination. Parents are read to their end before
their children. The position of a shard moves only after its records are done, is written durably,
and lies in a file of its own: a kill repeats records and skips none.
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

log = logging.getLogger("mapper")

MAX_PAYLOAD = 5_500_000
"""Bytes of records in one invocation; Lambda takes 6 MB."""
REFRESH_SECONDS = 2.0
BUSY_POLL, IDLE_POLL = 0.05, 0.4
IDLE_AFTER = 5.0
FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 10.0


class Position(msgspec.Struct, frozen=True):
    """How far a shard is done: the last record, and whether the shard has ended."""

    sequence: str = ""
    closed: bool = False


class Positions:
    """Positions on disk, one file a mapping and shard."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _file(self, mapping: str, shard: str) -> Path:
        return self._folder / f"{sha256(f'{mapping}/{shard}'.encode()).hexdigest()[:32]}.json"

    def read(self, mapping: str, shard: str) -> Position:
        """The position; the beginning where there is none."""
        try:
            return msgspec.json.decode(self._file(mapping, shard).read_bytes(), type=Position)
        except FileNotFoundError:
            return Position()

    def write(self, mapping: str, shard: str, position: Position) -> None:
        """Keep a position durably: it is there whole after a kill or a power cut, or the old one is."""
        file = self._file(mapping, shard)
        partial = file.with_suffix(".partial")
        with partial.open("wb") as out:
            out.write(msgspec.json.encode(position))
            out.flush()
            os.fsync(out.fileno())
        partial.replace(file)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of either kind of stream, as the function is given it. ``arrival`` is epoch seconds."""

    sequence: str
    arrival: float
    body: dict[str, Any]
    size: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """The part of an event source mapping that the mapper honours."""

    uuid: str
    function: str
    source: str
    batch_size: int
    window: float
    bisect: bool
    attempts: int
    """Retries after the first try; -1 for ever."""
    max_age: float
    """Seconds; -1 for ever."""
    reports: bool
    start: str
    on_failure: str

    @property
    def kinesis(self) -> bool:
        """Whether the source is a Kinesis stream (else a DynamoDB stream)."""
        return ":kinesis:" in self.source


def mapping(described: dict[str, Any]) -> Mapping:
    """A mapping from ListEventSourceMappings."""
    return Mapping(
        uuid=described["UUID"],
        function=described["FunctionArn"],
        source=described["EventSourceArn"],
        batch_size=int(described.get("BatchSize") or 100),
        window=float(described.get("MaximumBatchingWindowInSeconds") or 0),
        bisect=bool(described.get("BisectBatchOnFunctionError")),
        attempts=int(described.get("MaximumRetryAttempts", -1)),
        max_age=float(described.get("MaximumRecordAgeInSeconds", -1)),
        reports="ReportBatchItemFailures" in (described.get("FunctionResponseTypes") or []),
        start=described.get("StartingPosition") or "TRIM_HORIZON",
        on_failure=((described.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination", ""),
    )


# ---------------------------------------------------------------------- one batch, until it is done


@dataclass(slots=True)
class Piece:
    """Records that are tried together, and how often they were tried."""

    records: list[Record]
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What an invocation led to: ``done`` records from the front of the piece, or an error."""

    done: int
    error: str = ""


def understand(records: list[Record], answer: dict[str, Any] | None, *, reports: bool) -> Answer:
    """What a function's answer says of its records; None for an error of the function."""
    if answer is None:
        return Answer(0, "FunctionError")
    failures = answer.get("batchItemFailures") if reports and isinstance(answer, dict) else None
    if not failures:
        return Answer(len(records))
    try:
        named = {str(failure["itemIdentifier"]) for failure in failures}
    except (KeyError, TypeError):
        return Answer(0, "InvalidResponse")
    for place, record in enumerate(records):
        if record.sequence in named:
            return Answer(place, "BatchItemFailure")
    return Answer(0, "InvalidResponse")


def work_through(
    records: list[Record],
    rules: Mapping,
    *,
    invoke: Callable[[list[Record]], dict[str, Any] | None],
    done: Callable[[Record], None],
    give_up: Callable[[list[Record], str, int], None],
    wait: Callable[[int], None],
    now: Callable[[], float],
) -> None:
    """Bring records to the function until each is done or given up, in order.

    ``done`` is told the last record of each finished stretch, ``give_up`` the records, the
    condition and the number of tries of what is sent to the on-failure destination; ``wait`` is
    called with the number of tries before each retry.
    """
    pieces = [Piece(records)]
    while pieces:
        piece = pieces.pop(0)
        if rules.max_age >= 0:
            old = [r for r in piece.records if now() - r.arrival > rules.max_age]
            if old and piece.tries:
                give_up(old, "RecordAgeExceeded", piece.tries)
                done(old[-1])
                fresh = piece.records[len(old) :]
                if fresh:
                    pieces.insert(0, Piece(fresh, piece.tries))
                continue
        answer = understand(piece.records, invoke(piece.records), reports=rules.reports)
        if answer.done:
            done(piece.records[answer.done - 1])
        rest = piece.records[answer.done :]
        if not rest:
            continue
        tries = piece.tries + 1 if not answer.done else 1
        if 0 <= rules.attempts < tries:
            give_up(rest, "RetryAttemptsExhausted", tries)
            done(rest[-1])
            continue
        if rules.bisect and len(rest) > 1 and not answer.done:
            half = len(rest) // 2
            pieces[:0] = [Piece(rest[:half], tries), Piece(rest[half:], tries)]
        else:
            pieces.insert(0, Piece(rest, tries))
        wait(tries)


def failure_message(rules: Mapping, shard: str, records: list[Record], condition: str, tries: int) -> dict[str, Any]:
    """The message of an on-failure destination, in the shape AWS gives it."""

    def iso(seconds: float) -> str:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")

    info = {
        "shardId": shard,
        "startSequenceNumber": records[0].sequence,
        "endSequenceNumber": records[-1].sequence,
        "approximateArrivalOfFirstRecord": iso(records[0].arrival),
        "approximateArrivalOfLastRecord": iso(records[-1].arrival),
        "batchSize": len(records),
        "streamArn": rules.source,
    }
    return {
        "requestContext": {
            "requestId": sha256(f"{shard}{records[0].sequence}{tries}".encode()).hexdigest()[:32],
            "functionArn": rules.function,
            "condition": condition,
            "approximateInvokeCount": tries,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": iso(time.time()),
        "KinesisBatchInfo" if rules.kinesis else "DDBStreamBatchInfo": info,
    }


# ---------------------------------------------------------------------- one shard


@dataclass(slots=True)
class Clients:
    """The boto3 clients that a shard's thread uses."""

    kinesis: Any
    streams: Any
    functions: Any
    sqs: Any


class ShardReader(threading.Thread):
    """Reads one shard for one mapping, from its position to its end."""

    def __init__(self, rules: Mapping, shard: str, clients: Clients, positions: Positions, region: str) -> None:
        super().__init__(name=f"{rules.function.rsplit(':', 1)[-1]}/{shard[-12:]}", daemon=True)
        self._rules, self._shard, self._clients = rules, shard, clients
        self._positions, self._region = positions, region
        self._ending = threading.Event()
        self._last_active = time.monotonic()
        self.unlisted = False
        """Set where the stream no longer lists the shard: it ends once it is drained."""

    def finish(self) -> None:
        """Ask the thread to end after the batch it has in hand."""
        self._ending.set()

    def run(self) -> None:
        """Read until the shard ends or ``finish`` is called; errors are told and tried again."""
        while not self._ending.is_set():
            try:
                if self._read():
                    return
            except Stopped:
                return
            except (ClientError, BotoCoreError) as error:
                log.warning("%s: %s", self.name, str(error)[:300])
                self._ending.wait(1.0)
            except Exception:
                log.exception("%s: unexpected; going on from the position", self.name)
                self._ending.wait(1.0)

    def _iterator(self) -> str | None:
        position = self._positions.read(self._rules.uuid, self._shard)
        if position.closed:
            return None
        where = (
            {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", self._number: position.sequence}
            if position.sequence
            else {"ShardIteratorType": self._rules.start}
        )
        try:
            return self._ask_iterator(where)
        except ClientError as error:
            if position.sequence and error.response["Error"]["Code"] in (
                "InvalidArgumentException", "TrimmedDataAccessException",
            ):  # fmt: skip
                log.warning("%s: position %s has expired; going on with the oldest record", self.name, position.sequence)
                return self._ask_iterator({"ShardIteratorType": "TRIM_HORIZON"})
            raise

    @property
    def _number(self) -> str:
        return "StartingSequenceNumber" if self._rules.kinesis else "SequenceNumber"

    def _ask_iterator(self, where: dict[str, str]) -> str:
        if self._rules.kinesis:
            name = self._rules.source.split(":stream/", 1)[1]
            answer = self._clients.kinesis.get_shard_iterator(StreamName=name, ShardId=self._shard, **where)
        else:
            answer = self._clients.streams.get_shard_iterator(StreamArn=self._rules.source, ShardId=self._shard, **where)
        return str(answer["ShardIterator"])

    def _read(self) -> bool:
        """Read until the shard ends (True) or something has to be asked anew (False)."""
        iterator = self._iterator()
        if iterator is None:
            return True
        source = self._clients.kinesis if self._rules.kinesis else self._clients.streams
        held: list[Record] = []
        began = 0.0
        while not self._ending.is_set():
            answer = source.get_records(ShardIterator=iterator, Limit=min(self._rules.batch_size, 1000))
            found = [self._record(r) for r in answer["Records"]]
            iterator = answer.get("NextShardIterator")
            if found:
                self._last_active = time.monotonic()
                began = began or time.monotonic()
                held += found
            caught_up = not found and answer.get("MillisBehindLatest", 0) == 0
            ended = iterator is None or (self.unlisted and caught_up)
            while held and (len(held) >= self._rules.batch_size or ended or self._due(began)):
                batch = self._cut(held)
                self._work(batch)
                if self._ending.is_set():
                    return False
                held = held[len(batch) :]
                began = time.monotonic() if held else 0.0
            if ended:
                position = self._positions.read(self._rules.uuid, self._shard)
                self._positions.write(self._rules.uuid, self._shard, Position(position.sequence, closed=True))
                return True
            if not found or not held:
                idle = time.monotonic() - self._last_active > IDLE_AFTER
                pause = IDLE_POLL if idle else BUSY_POLL
                if held:
                    pause = min(pause, max(0.005, began + self._rules.window - time.monotonic()))
                if not found:
                    self._ending.wait(pause)
        return False

    def _due(self, began: float) -> bool:
        return time.monotonic() - began >= self._rules.window

    def _cut(self, held: list[Record]) -> list[Record]:
        size = 0
        for count, record in enumerate(held[: self._rules.batch_size]):
            size += record.size
            if size > MAX_PAYLOAD and count:
                return held[:count]
        return held[: self._rules.batch_size]

    def _record(self, raw: dict[str, Any]) -> Record:
        if self._rules.kinesis:
            data = base64.b64encode(raw["Data"]).decode()
            arrival = raw["ApproximateArrivalTimestamp"].timestamp()
            body = {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": raw["PartitionKey"],
                    "sequenceNumber": raw["SequenceNumber"],
                    "data": data,
                    "approximateArrivalTimestamp": arrival,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"{self._shard}:{raw['SequenceNumber']}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": self._rules.function,
                "awsRegion": self._region,
                "eventSourceARN": self._rules.source,
            }
            return Record(raw["SequenceNumber"], arrival, body, len(data) + 700)
        change = raw["dynamodb"]
        created = change.get("ApproximateCreationDateTime")
        arrival = created.timestamp() if created is not None else time.time()
        body = {
            **raw,
            "dynamodb": {**change, "ApproximateCreationDateTime": arrival},
            "eventSourceARN": self._rules.source,
        }
        return Record(change["SequenceNumber"], arrival, body, len(json.dumps(body, default=_text)))

    def _work(self, records: list[Record]) -> None:
        work_through(
            records, self._rules, invoke=self._invoke, done=self._done, give_up=self._give_up, wait=self._wait,
            now=time.time,
        )  # fmt: skip

    def _invoke(self, records: list[Record]) -> dict[str, Any] | None:
        self._last_active = time.monotonic()
        payload = json.dumps({"Records": [r.body for r in records]}, default=_text).encode()
        try:
            answer = self._clients.functions.invoke(FunctionName=self._rules.function, Payload=payload)
            text = answer["Payload"].read()
            if answer.get("FunctionError"):
                log.warning("%s: function error: %s", self.name, text[:500].decode(errors="replace"))
                return None
            parsed = json.loads(text or b"null")
        except (ClientError, BotoCoreError, ValueError) as error:
            log.warning("%s: invocation failed: %s", self.name, str(error)[:300])
            return None
        return parsed if isinstance(parsed, dict) else {}

    def _done(self, record: Record) -> None:
        self._positions.write(self._rules.uuid, self._shard, Position(record.sequence))

    def _give_up(self, records: list[Record], condition: str, tries: int) -> None:
        log.error("%s: giving up %d records after %d tries: %s", self.name, len(records), tries, condition)
        if not self._rules.on_failure:
            return
        message = failure_message(self._rules, self._shard, records, condition, tries)
        queue = self._rules.on_failure.rsplit(":", 1)[-1]
        for attempt in range(5):
            try:
                url = self._clients.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
                self._clients.sqs.send_message(QueueUrl=url, MessageBody=json.dumps(message))
                return
            except (ClientError, BotoCoreError):
                if attempt == 4:
                    raise
                self._ending.wait(0.5)

    def _wait(self, tries: int) -> None:
        pause = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(tries, 10))
        if self._ending.wait(pause * random.uniform(0.5, 1.0)):
            raise Stopped


class Stopped(Exception):
    """The mapper shall end; the batch in hand stays undone and comes again."""


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.timestamp()
    return str(value)


# ---------------------------------------------------------------------- all shards


@dataclass(slots=True)
class Mapper:
    """Keeps a reader for every shard that may be read."""

    clients: Clients
    positions: Positions
    region: str
    readers: dict[tuple[str, str], ShardReader] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Serve until ``stop`` is set."""
        while not self.stop.is_set():
            try:
                self.refresh()
            except (ClientError, BotoCoreError) as error:
                log.warning("the mappings cannot be listed: %s", str(error)[:300])
            self.stop.wait(REFRESH_SECONDS if self.readers else 0.2)
        for reader in self.readers.values():
            reader.finish()
        for reader in self.readers.values():
            reader.join(30)

    def refresh(self) -> None:
        """Start readers of shards whose turn has come."""
        for page in self.clients.functions.get_paginator("list_event_source_mappings").paginate():
            for described in page["EventSourceMappings"]:
                rules = mapping(described)
                if ":kinesis:" in rules.source or ":dynamodb:" in rules.source:
                    self._serve(rules)

    def _shards(self, rules: Mapping) -> list[dict[str, Any]]:
        shards: list[dict[str, Any]] = []
        if rules.kinesis:
            name = rules.source.split(":stream/", 1)[1]
            request: dict[str, Any] = {"StreamName": name}
            while True:
                answer = self.clients.kinesis.list_shards(**request)
                shards += answer["Shards"]
                if not answer.get("NextToken"):
                    return shards
                request = {"NextToken": answer["NextToken"]}
        request = {"StreamArn": rules.source}
        while True:
            described = self.clients.streams.describe_stream(**request)["StreamDescription"]
            shards += described["Shards"]
            if not described.get("LastEvaluatedShardId"):
                return shards
            request["ExclusiveStartShardId"] = described["LastEvaluatedShardId"]

    def _serve(self, rules: Mapping) -> None:
        shards = self._shards(rules)
        listed = {shard["ShardId"] for shard in shards}
        for (uuid, shard_id), reader in self.readers.items():
            if uuid == rules.uuid:
                reader.unlisted = shard_id not in listed
        for shard in shards:
            key = (rules.uuid, shard["ShardId"])
            current = self.readers.get(key)
            if (current is not None and current.is_alive()) or self.positions.read(*key).closed:
                continue
            if self._ready(rules, shard, listed):
                self.readers[key] = ShardReader(rules, shard["ShardId"], self.clients, self.positions, self.region)
                self.readers[key].start()

    def _ready(self, rules: Mapping, shard: dict[str, Any], listed: set[str]) -> bool:
        """Whether all parents that can still be read have been read to their end."""
        for name in ("ParentShardId", "AdjacentParentShardId"):
            parent = shard.get(name)
            if not parent:
                continue
            reader = self.readers.get((rules.uuid, parent))
            unread = parent in listed or (reader is not None and reader.is_alive())
            if unread and not self.positions.read(rules.uuid, parent).closed:
                return False
        return True


def main() -> None:
    """Run as a process of its own until SIGTERM."""
    from opsriver.embedded import make_client
    from opsriver.embedded.emulator import REGION

    parser = argparse.ArgumentParser(description="Drives event source mappings of an emulator on this machine.")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--kinesis-endpoint", default="")
    parser.add_argument("--positions", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.ERROR)

    def client(service: str, endpoint: str = "") -> Any:
        return make_client(endpoint or options.endpoint, service, max_pool_connections=64, read_timeout=900)

    mapper = Mapper(
        Clients(client("kinesis", options.kinesis_endpoint), client("dynamodbstreams"), client("lambda"), client("sqs")),
        Positions(options.positions),
        REGION,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: mapper.stop.set())
    mapper.run()


if __name__ == "__main__":
    main()
