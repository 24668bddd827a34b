"""Joins the small files of closed hours: sorted, each row once.

The joined file is written first, then its sources are deleted. Whoever is killed in between leaves
some rows in two files; readers take each row once by its key, and the next run finishes the work.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from consumers.archive.reader import ArchiveReader, once
from consumers.archive.writer import HOUR_MS, encode, partition, sort

CLOSED_AFTER_MS = 2 * HOUR_MS
"""An hour is closed this long after it began plus one hour; events that come later make new small files."""
FEW = 1
LARGEST_INPUT = 256 * 1024 * 1024
"""Compressed bytes joined in one go; what is beyond stays for the next run."""


@dataclass(slots=True)
class Compacted:
    """What became of one hour."""

    data_set: str
    hour: int
    files_before: int
    rows_before: int
    rows: int
    bytes_before: int
    bytes: int


class Compactor:
    """Compacts the archive of one bucket. ``s3`` is a boto3 client, ``reader`` reads the same bucket."""

    def __init__(self, s3: Any, bucket: str, reader: ArchiveReader) -> None:
        self._s3, self._bucket, self._reader = s3, bucket, reader

    def run(self, now: int, data_sets: tuple[str, ...] = ("events", "insights")) -> list[Compacted]:
        """Compact every hour that was closed at ``now`` (epoch milliseconds)."""
        done = []
        for data_set in data_sets:
            for hour in self._reader.hours(data_set):
                if (hour + 1) * HOUR_MS + CLOSED_AFTER_MS <= now:
                    made = self.hour(data_set, hour)
                    if made is not None:
                        done.append(made)
        return done

    def hour(self, data_set: str, hour: int) -> Compacted | None:
        """Compact one hour; None where there is nothing to join."""
        prefix = f"{data_set}/{partition(hour)}/"
        chosen: list[str] = []
        size = 0
        for item in self._listing(prefix):
            if size + item["Size"] > LARGEST_INPUT and chosen:
                break
            chosen.append(item["Key"])
            size += item["Size"]
        if len(chosen) <= FEW:
            return None
        everything = self._reader.read_files(data_set, [f"{self._bucket}/{key}" for key in chosen], None)
        table = sort(once(everything, data_set), data_set)
        body = encode(table, data_set)
        name = f"{prefix}joined-{hashlib.sha256(body).hexdigest()[:20]}.parquet"
        self._s3.put_object(Bucket=self._bucket, Key=name, Body=body)
        old = [key for key in chosen if key != name]
        for begin in range(0, len(old), 1000):
            objects = [{"Key": key} for key in old[begin : begin + 1000]]
            self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
        return Compacted(data_set, hour, len(chosen), len(everything), len(table), size, len(body))

    def _listing(self, prefix: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            found += [item for item in page.get("Contents", []) if item["Key"].endswith(".parquet")]
        return sorted(found, key=lambda item: (item["Size"], item["Key"]))
