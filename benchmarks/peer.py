"""What the peers share: the work as a file, and an answer in CPU seconds for every line they are told.

Imported by scripts that run in the peers' own environments, so it knows nothing of OpsRiver.
"""

from __future__ import annotations

import base64
import json
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH = 10
"""Records (of 100 events) that a source hands out at once."""
_HEAD = struct.Struct("<II")


def write(path: Path, records: list[tuple[str, bytes]]) -> None:
    """Write records, (partition key, data), as length-prefixed pairs."""
    with path.open("wb") as out:
        for key, data in records:
            out.write(_HEAD.pack(len(key), len(data)) + key.encode() + data)


def read(path: Path) -> list[tuple[str, bytes]]:
    """Records as ``write`` wrote them."""
    whole, at, found = path.read_bytes(), 0, []
    while at < len(whole):
        key, data = _HEAD.unpack_from(whole, at)
        at += _HEAD.size
        found.append((whole[at : at + key].decode(), whole[at + key : at + key + data]))
        at += key + data
    return found


class Peer:
    """The work, and the models, which stay warm between runs."""

    def __init__(self, path: Path) -> None:
        from river.anomaly import GaussianScorer

        self.records = [
            {
                "eventID": f"shardId-000000000000:{10**20 + number}",
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": key,
                    "sequenceNumber": str(10**20 + number),
                    "approximateArrivalTimestamp": 1_790_000_000.0,
                    "data": base64.b64encode(data).decode(),
                },
            }
            for number, (key, data) in enumerate(read(path))
        ]
        self.plain = [data for record in self.records for data in self.deaggregate(record)]
        self.models: dict[str, Any] = defaultdict(GaussianScorer)
        self.done = self.insights = 0

    @staticmethod
    def deaggregate(record: dict[str, Any]) -> list[bytes]:
        """Payloads of a KPL record, by aws-kinesis-agg."""
        from aws_kinesis_agg.deaggregator import deaggregate_records

        return [base64.b64decode(one["kinesis"]["data"]) for one in deaggregate_records([record])]

    @staticmethod
    def parse(data: bytes) -> dict[str, Any]:
        """An event, by json."""
        event: dict[str, Any] = json.loads(data)
        return event


def serve(run: Callable[[Peer, str], None]) -> None:
    """Answer each line of standard input, a kind of work, with the CPU seconds of one run."""
    answers, sys.stdout = sys.stdout, sys.stderr
    peer = Peer(Path(sys.argv[1]))
    print(json.dumps({"ready": len(peer.plain)}), file=answers, flush=True)
    for line in sys.stdin:
        peer.done = peer.insights = 0
        began = time.process_time()
        run(peer, line.strip())
        seconds = time.process_time() - began
        print(json.dumps({"seconds": seconds, "events": peer.done}), file=answers, flush=True)
