"""Dead letters on S3: one object of JSON lines for each Kinesis record that has any.

The key follows from the record's place, and the record always gives the same letters, so writing
twice changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.dead_letters import DeadLetter

PREFIX = "dead-letters/"
_PLACE = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class DeadLetterStore:
    """Keeps dead letters in a bucket. ``s3`` is a boto3 client whose errors pass through."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters, those of one record in one object."""
        groups: dict[tuple[str, str], list[DeadLetter]] = {}
        for letter in letters:
            groups.setdefault((letter.shard_id, letter.sequence_number), []).append(letter)
        if len(groups) < 2:
            for group in groups.values():
                self._put(group)
            return
        with ThreadPoolExecutor(8) as pool:
            for _ in pool.map(self._put, groups.values()):
                pass

    def _put(self, group: list[DeadLetter]) -> None:
        lines = b"".join(msgspec.json.encode(letter) + b"\n" for letter in group)
        self._s3.put_object(Bucket=self._bucket, Key=object_key(group[0]), Body=lines, ContentType="application/x-ndjson")

    def keys(self, day: str | None = None) -> Iterator[str]:
        """Keys of all objects, oldest day first; ``day`` (YYYY-MM-DD) limits them to one day of arrival."""
        prefix = f"{PREFIX}dt={day}/" if day else PREFIX
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            yield from (item["Key"] for item in page.get("Contents", []))

    def read(self, key: str) -> list[DeadLetter]:
        """Letters of one object. Raises msgspec.DecodeError where it holds something else."""
        body: bytes = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return [msgspec.json.decode(line, type=DeadLetter) for line in body.splitlines() if line]


def object_key(letter: DeadLetter) -> str:
    """Key of the object that holds a letter: day of arrival, shard, sequence number."""
    day = datetime.fromtimestamp(letter.arrived_at / 1000, UTC).date()
    shard, sequence = (text if _PLACE.fullmatch(text) else "unnamed" for text in (letter.shard_id, letter.sequence_number))
    return f"{PREFIX}dt={day.isoformat()}/{shard}/{sequence}.jsonl"
