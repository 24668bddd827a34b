"""The event source mapper: what Lambda's pollers do, for an emulator whose own lose data.

Drives the mappings of Kinesis and DynamoDB streams through public APIs only: it lists the mappings,
reads the shards, invokes the functions, and honours batch size and window, ReportBatchItemFailures,
bisecting, retries, record age and the on-failure destination. Parents are read to their end before
their children. The position of a shard moves only after its records are done, is written durably,
and lies in a file of its own: a kill repeats records and skips none.

A mapping's ``State`` is not looked at: locally every one is disabled, to stop the emulator's poller.
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
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from opsriver.embedded.mapping import Condition, Mapping, Record, cut, failure_message, mapping, work_through

log = logging.getLogger("mapper")

REFRESH_SECONDS = 2.0
SHORTEST_POLL, LONGEST_POLL = 0.05, 1.0
IDLE_SHARE, IDLE_POLL = 0.05, 0.25
"""A shard on which nothing has come for a while is read after this share of that while, or these seconds, the shorter."""
READ_AT_ONCE = 2_000
"""Records asked for in one GetRecords."""
FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 10.0
END_SECONDS, DRAIN_SECONDS = 30.0, 15.0
ENVELOPE = 700
"""Bytes that surround the data of a Kinesis record in an invocation, at most."""


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
        """Keep a position durably: after a kill or a power cut it is there whole, or the one before it is."""
        file = self._file(mapping, shard)
        partial = file.with_suffix(".partial")
        with partial.open("wb") as out:
            out.write(msgspec.json.encode(position))
            out.flush()
            os.fsync(out.fileno())
        partial.replace(file)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(slots=True)
class Clients:
    """The boto3 clients that the shards' threads share."""

    kinesis: Any
    streams: Any
    functions: Any
    sqs: Any
    sns: Any


class Stopped(Exception):
    """The mapper shall end; the batch in hand stays undone and comes again."""


# ---------------------------------------------------------------------- one shard


class ShardReader(threading.Thread):
    """Reads one shard for one mapping, from its position to its end."""

    def __init__(self, rules: Mapping, shard: str, clients: Clients, positions: Positions, region: str) -> None:
        super().__init__(name=f"{rules.function.split(':function:')[-1]}/{shard[-12:]}", daemon=True)
        self.rules = rules
        self._shard, self._clients = shard, clients
        self._positions, self._region = positions, region
        self._ending = threading.Event()
        self._draining = threading.Event()
        self._wake = threading.Event()
        # A window may pass between two reads: the time of arrival says when a batch is due.
        self._poll = min(max(rules.window / 4, SHORTEST_POLL), LONGEST_POLL)
        self.unlisted = False
        """Set where the stream no longer lists the shard: it ends once it is drained."""

    def finish(self) -> None:
        """Ask the thread to end after the batch it has in hand."""
        self._ending.set()
        self._wake.set()

    def drain(self) -> None:
        """Ask the thread to end once it has brought everything that is there to the function, windows or not."""
        self._draining.set()
        self._wake.set()

    def run(self) -> None:
        """Read until the shard ends or ``finish`` is called; errors are told and tried again."""
        failures = 0
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                if self._read():
                    return
            except Stopped:
                return
            except (ClientError, BotoCoreError) as error:
                if self.unlisted and _code(error) == "ResourceNotFoundException":
                    log.warning("%s: the shard has been removed", self.name)
                    self._close()
                    return
                log.warning("%s: %s", self.name, str(error)[:300])
            except Exception:
                log.exception("%s: unexpected; going on from the position", self.name)
            failures = 1 if time.monotonic() - began > LONGEST_BACKOFF else failures + 1
            self._ending.wait(_backoff(failures))

    def _iterator(self) -> str | None:
        position = self._positions.read(self.rules.uuid, self._shard)
        if position.closed:
            return None
        if not position.sequence:
            return self._ask_iterator({"ShardIteratorType": self.rules.start})
        number = "StartingSequenceNumber" if self.rules.kinesis else "SequenceNumber"
        try:
            return self._ask_iterator({"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", number: position.sequence})
        except ClientError as error:
            if _code(error) not in ("InvalidArgumentException", "TrimmedDataAccessException"):
                raise
            log.warning("%s: position %s has expired; going on at the oldest", self.name, position.sequence)
            return self._ask_iterator({"ShardIteratorType": "TRIM_HORIZON"})

    def _ask_iterator(self, where: dict[str, str]) -> str:
        if self.rules.kinesis:
            answer = self._clients.kinesis.get_shard_iterator(StreamName=_stream(self.rules), ShardId=self._shard, **where)
        else:
            answer = self._clients.streams.get_shard_iterator(StreamArn=self.rules.source, ShardId=self._shard, **where)
        return str(answer["ShardIterator"])

    def _read(self) -> bool:
        """Read until the shard ends (True) or something has to be asked anew (False)."""
        iterator = self._iterator()
        if iterator is None:
            return True
        log.info("%s: reading", self.name)
        source = self._clients.kinesis if self.rules.kinesis else self._clients.streams
        size = self.rules.batch_size
        held: list[Record] = []
        last = time.monotonic()
        while not self._ending.is_set():
            limit = min(max(size - len(held), 1), READ_AT_ONCE)
            answer = source.get_records(ShardIterator=iterator, Limit=limit)
            found = [self._record(raw) for raw in answer["Records"]]
            iterator = answer.get("NextShardIterator")
            held += found
            if found:
                last = time.monotonic()
            more = len(found) >= limit or answer.get("MillisBehindLatest", 0) > 0
            ended = iterator is None or (self.unlisted and not found and not more)
            while held and (len(held) >= size or ended or (not more and self._due(held[0]))):
                batch = cut(held, size)
                self._work(batch)
                if self._ending.is_set():
                    return False
                held = held[len(batch) :]
            if ended:
                self._close()
                return True
            if self._draining.is_set() and not held and not more:
                return True
            if not more:
                if held:
                    pause = min(self._poll, held[0].arrival + self.rules.window - time.time())
                else:
                    pause = max(self._poll, min(IDLE_SHARE * (time.monotonic() - last), IDLE_POLL))
                self._wake.wait(max(0.005, pause))
        return False

    def _close(self) -> None:
        position = self._positions.read(self.rules.uuid, self._shard)
        self._positions.write(self.rules.uuid, self._shard, Position(position.sequence, closed=True))

    def _due(self, first: Record) -> bool:
        return self._draining.is_set() or time.time() - first.arrival >= self.rules.window

    def _record(self, raw: dict[str, Any]) -> Record:
        if self.rules.kinesis:
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
                "invokeIdentityArn": self.rules.function,
                "awsRegion": self._region,
                "eventSourceARN": self.rules.source,
            }
            return Record(raw["SequenceNumber"], arrival, body, len(data) + ENVELOPE)
        change = raw["dynamodb"]
        created = change.get("ApproximateCreationDateTime")
        arrival = created.timestamp() if created is not None else time.time()
        body = {
            **raw,
            "dynamodb": {**change, "ApproximateCreationDateTime": arrival},
            "eventSourceARN": self.rules.source,
        }
        return Record(change["SequenceNumber"], arrival, body, len(json.dumps(body, default=_text)))

    def _work(self, records: list[Record]) -> None:
        work_through(
            records, self.rules, invoke=self._invoke, done=self._done, give_up=self._give_up, wait=self._wait,
            now=time.time,
        )  # fmt: skip

    def _invoke(self, records: list[Record]) -> dict[str, Any] | None:
        payload = json.dumps({"Records": [r.body for r in records]}, default=_text).encode()
        try:
            answer = self._clients.functions.invoke(FunctionName=self.rules.function, Payload=payload)
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
        self._positions.write(self.rules.uuid, self._shard, Position(record.sequence))

    def _give_up(self, records: list[Record], condition: Condition, tries: int) -> None:
        log.error("%s: giving up %d records after %d tries: %s", self.name, len(records), tries, condition)
        if not self.rules.on_failure:
            return
        message = json.dumps(failure_message(self.rules, self._shard, records, condition, tries, time.time()))
        # An error here is raised: the position stays, and the records are tried and told once more.
        if ":sns:" in self.rules.on_failure:
            self._clients.sns.publish(TopicArn=self.rules.on_failure, Message=message)
            return
        url = self._clients.sqs.get_queue_url(QueueName=self.rules.on_failure.rsplit(":", 1)[-1])["QueueUrl"]
        self._clients.sqs.send_message(QueueUrl=url, MessageBody=message)

    def _wait(self, failures: int) -> None:
        if self._ending.wait(_backoff(failures)):
            raise Stopped


def _backoff(failures: int) -> float:
    return min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)


def _code(error: Exception) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else ""


def _stream(rules: Mapping) -> str:
    return rules.source.split(":stream/", 1)[1]


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
        self._end()

    def _end(self) -> None:
        """End the readers once what is there has been brought to the functions, as far as that takes little time.

        Kinesis comes first, so that nothing new is written to tables; it keeps what stays undone. A
        table's stream the emulator does not keep.
        """
        try:
            self.refresh()  # nobody may have read a stream that has only just come
        except (ClientError, BotoCoreError) as error:
            log.warning("the mappings cannot be listed: %s", str(error)[:300])
        readers = list(self.readers.values())
        self._drain([reader for reader in readers if reader.rules.kinesis])
        for reader in self._drain([reader for reader in readers if not reader.rules.kinesis]):
            log.error("%s: not all changes could be handed on; the emulator does not keep them", reader.name)

    def _drain(self, readers: list[ShardReader]) -> list[ShardReader]:
        """Drain and end readers; those that could not be drained in time."""
        for reader in readers:
            reader.drain()
        until = time.monotonic() + DRAIN_SECONDS
        for reader in readers:
            reader.join(max(0.0, until - time.monotonic()))
        late = [reader for reader in readers if reader.is_alive()]
        for reader in late:
            reader.finish()
        for reader in late:
            reader.join(END_SECONDS)
        return late

    def refresh(self) -> None:
        """Start readers of shards whose turn has come; end those whose mapping is gone or has changed."""
        found = {}
        for page in self.clients.functions.get_paginator("list_event_source_mappings").paginate():
            for described in page["EventSourceMappings"]:
                source = described.get("EventSourceArn") or ""
                if ":kinesis:" in source or ":dynamodb:" in source:
                    found[described["UUID"]] = mapping(described)
        for (uuid, _), reader in self.readers.items():
            if found.get(uuid) != reader.rules:
                reader.finish()
        for rules in found.values():
            try:
                self._serve(rules)
            except (ClientError, BotoCoreError) as error:
                log.warning("the shards of %s cannot be listed: %s", rules.source, str(error)[:300])

    def _shards(self, rules: Mapping) -> list[dict[str, Any]]:
        shards: list[dict[str, Any]] = []
        if rules.kinesis:
            request: dict[str, Any] = {"StreamName": _stream(rules)}
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
    parser.add_argument("--kinesis-endpoint", default="", help="where Kinesis is served by another emulator")
    parser.add_argument("--positions", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.ERROR)

    def client(service: str, endpoint: str = "") -> Any:
        return make_client(endpoint or options.endpoint, service, max_pool_connections=64, read_timeout=900)

    mapper = Mapper(
        Clients(
            kinesis=client("kinesis", options.kinesis_endpoint), streams=client("dynamodbstreams"),
            functions=client("lambda"), sqs=client("sqs"), sns=client("sns"),
        ),
        Positions(options.positions),
        REGION,
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: mapper.stop.set())
    mapper.run()


if __name__ == "__main__":
    main()
