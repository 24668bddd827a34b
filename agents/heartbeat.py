"""The heartbeat: tells every open shard that time passes, so that silence is noticed where nothing arrives."""

from __future__ import annotations

from typing import Any

import msgspec

KEY = "opsriver:tick"


def beat(kinesis: Any, stream: str, now: int) -> int:
    """Put a tick of epoch milliseconds ``now`` on every open shard; returns how many shards took it."""
    starts = []
    request: dict[str, Any] = {"StreamName": stream}
    while True:
        answer = kinesis.list_shards(**request)
        starts += [
            shard["HashKeyRange"]["StartingHashKey"]
            for shard in answer["Shards"]
            if "EndingSequenceNumber" not in shard["SequenceNumberRange"]
        ]
        if not answer.get("NextToken"):
            break
        request = {"NextToken": answer["NextToken"]}
    data = msgspec.json.encode({"opsriver": "tick", "timestamp": now})
    taken = 0
    for begin in range(0, len(starts), 500):
        entries = [{"Data": data, "PartitionKey": KEY, "ExplicitHashKey": start} for start in starts[begin : begin + 500]]
        answer = kinesis.put_records(StreamName=stream, Records=entries)
        taken += len(entries) - int(answer.get("FailedRecordCount", 0))
    return taken
