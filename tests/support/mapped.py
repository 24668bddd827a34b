"""A function behind an event source mapping on a bare emulator, and the mapper as a process that can be killed."""

from __future__ import annotations

import base64
import io
import itertools
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ministack import Emulator

ROOT = Path(__file__).parents[2]
_count = itertools.count()

CODE = """
import base64, json, os, time

def text(record):
    if "kinesis" in record:
        return base64.b64decode(record["kinesis"]["data"]).decode()
    return record["eventName"] + ":" + record["dynamodb"]["Keys"]["id"]["S"]

def handler(event, context):
    folder = os.environ["FOLDER"]
    records = event["Records"]
    with open(folder + "/seen.jsonl", "a") as out:
        out.write(json.dumps([text(r) for r in records]) + "\\n")
    time.sleep(float(os.environ.get("SLOW", "0")))
    if os.path.exists(folder + "/broken"):
        raise RuntimeError("broken for now")
    for record in records:
        if "poison" in text(record):
            if os.environ["REPORTS"] == "yes":
                number = record["kinesis"]["sequenceNumber"] if "kinesis" in record else record["dynamodb"]["SequenceNumber"]
                return {"batchItemFailures": [{"itemIdentifier": number}]}
            raise RuntimeError("poison")
        with open(folder + "/done.txt", "a") as out:
            out.write(text(record) + "\\n")
    with open(folder + "/last.json", "w") as out:
        json.dump(event, out)
    return {"batchItemFailures": []}
"""
"""Notes what it is given and what it has done; fails on poison, by report or by raising, and while ``broken`` exists."""


@dataclass(frozen=True)
class Mapped:
    """A deployed function with its mapping, and the folder in which it keeps its notes."""

    aws: Emulator
    folder: Path
    source: str
    uuid: str

    def seen(self) -> list[list[str]]:
        """The records of each invocation."""
        file = self.folder / "seen.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def done(self) -> list[str]:
        """Records that were done, in order, as often as that happened."""
        file = self.folder / "done.txt"
        return file.read_text().split() if file.exists() else []

    def last(self) -> dict[str, Any]:
        """The event of the last invocation that succeeded."""
        return json.loads((self.folder / "last.json").read_text())  # type: ignore[no-any-return]

    @property
    def broken(self) -> Path:
        """While this file exists, the function fails."""
        return self.folder / "broken"

    @contextmanager
    def mapper(self) -> Iterator[subprocess.Popen[bytes]]:
        """The mapper as a process of its own; a second one goes on where the first was."""
        with (self.folder / "mapper.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "opsriver.embedded.mapper", "--endpoint", self.aws.endpoint,
                 "--positions", str(self.folder / "positions")],
                cwd=ROOT, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    def told(self) -> str:
        """What the mapper logged."""
        return (self.folder / "mapper.log").read_text()


@contextmanager
def mapped(
    aws: Emulator, folder: Path, source: str, *, reports: bool = True, slow: float = 0.0, **options: Any
) -> Iterator[Mapped]:
    """Deploy the function and map ``source`` (an ARN) to it until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"mapped-{next(_count)}"
    functions = aws.client("lambda")
    functions.create_function(
        FunctionName=name, Runtime="python3.13", Handler="f.handler", Timeout=30,
        Role="arn:aws:iam::000000000000:role/any", Code={"ZipFile": _zip()},
        Environment={
            "Variables": {"FOLDER": str(folder), "REPORTS": "yes" if reports else "no", "SLOW": str(slow)}
        },
    )  # fmt: skip
    made = functions.create_event_source_mapping(
        FunctionName=name, EventSourceArn=source, StartingPosition="TRIM_HORIZON", Enabled=False,
        FunctionResponseTypes=["ReportBatchItemFailures"] if reports else [], **options,
    )  # fmt: skip
    functions.update_event_source_mapping(UUID=made["UUID"], Enabled=False)
    try:
        yield Mapped(aws, folder, source, made["UUID"])
    finally:
        functions.delete_event_source_mapping(UUID=made["UUID"])
        functions.delete_function(FunctionName=name)


def _zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("f.py", CODE)
    return packed.getvalue()


def stream(aws: Emulator, shards: int = 1) -> tuple[str, str]:
    """Make a Kinesis stream; its name and ARN."""
    name = f"stream-{next(_count)}"
    kinesis = aws.client("kinesis")
    kinesis.create_stream(StreamName=name, ShardCount=shards)
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    return name, kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]


def table(aws: Emulator) -> tuple[str, str]:
    """Make a table with a stream of both images; its name and the stream's ARN."""
    name = f"table-{next(_count)}"
    dynamodb = aws.client("dynamodb")
    dynamodb.create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )  # fmt: skip
    return name, dynamodb.describe_table(TableName=name)["Table"]["LatestStreamArn"]


def put(aws: Emulator, name: str, texts: list[str], keys: int = 1) -> None:
    """Put texts in order; with several ``keys`` they go round them."""
    for begin in range(0, len(texts), 500):
        aws.client("kinesis").put_records(
            StreamName=name,
            Records=[
                {"Data": text.encode(), "PartitionKey": f"key-{n % keys}"}
                for n, text in enumerate(texts[begin : begin + 500], start=begin)
            ],
        )


def queue(aws: Emulator) -> tuple[str, str]:
    """Make a queue; its URL and ARN."""
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName=f"queue-{next(_count)}")["QueueUrl"]
    return url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def data(record: dict[str, Any]) -> str:
    """The text of a Kinesis record as a function is given it."""
    return base64.b64decode(record["kinesis"]["data"]).decode()
