"""Sending a dead letter again, at most once.

Before the record is put on the stream a marker is written on condition that there is none; after
it the marker is completed. A redrive that was killed in between is not repeated by itself, because
nobody can know whether its record is on the stream.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec
from botocore.exceptions import ClientError

from schemas.dead_letters import DeadLetter

PREFIX = "redriven/"


class Marker(msgspec.Struct, frozen=True, rename="camel"):
    """What is known of a letter's redrive."""

    letter_id: str
    state: Literal["pending", "sent"]
    sequence_number: str = ""
    shard_id: str = ""


class AlreadyRedriven(RuntimeError):
    """The letter was sent before, or its sending was cut off; ``marker`` tells which."""

    def __init__(self, marker: Marker) -> None:
        super().__init__(marker.letter_id)
        self.marker = marker


class Redriver:
    """Puts letters back on the stream. ``s3`` and ``kinesis`` are boto3 clients; their errors pass through."""

    def __init__(self, s3: Any, kinesis: Any, *, bucket: str, stream: str) -> None:
        self._s3, self._kinesis = s3, kinesis
        self._bucket, self._stream = bucket, stream

    def marker(self, letter: DeadLetter) -> Marker | None:
        """The letter's marker; None where it was never sent again."""
        try:
            body = self._s3.get_object(Bucket=self._bucket, Key=_key(letter))["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        return msgspec.json.decode(body, type=Marker)

    def send(self, letter: DeadLetter, data: bytes, *, again: bool = False) -> Marker:
        """Put ``data`` on the stream in the letter's place, with its partition key.

        Raises AlreadyRedriven where a marker exists and ``again`` is not set.
        """
        pending = Marker(letter.letter_id, "pending")
        try:
            condition = {} if again else {"IfNoneMatch": "*"}
            self._s3.put_object(Bucket=self._bucket, Key=_key(letter), Body=msgspec.json.encode(pending), **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("PreconditionFailed", "ConditionalRequestConflict", "412"):
                raise
            raise AlreadyRedriven(self.marker(letter) or pending) from None
        answer = self._kinesis.put_record(StreamName=self._stream, Data=data, PartitionKey=letter.partition_key)
        sent = Marker(letter.letter_id, "sent", answer["SequenceNumber"], answer["ShardId"])
        self._s3.put_object(Bucket=self._bucket, Key=_key(letter), Body=msgspec.json.encode(sent))
        return sent


def _key(letter: DeadLetter) -> str:
    return f"{PREFIX}{hashlib.sha256(letter.letter_id.encode()).hexdigest()}.json"
