"""The work that the benchmarks share: metric events in KPL records, as an agent would send them."""

from __future__ import annotations

import json
import random

from aws_kinesis_agg import aggregator

from stream_processors.records.batch import StreamRecord

START = 1_790_000_000_000
SHARD = "shardId-000000000000"


def events(series: int, count: int, seed: int = 1) -> list[tuple[str, bytes]]:
    """``count`` native metrics of about 180 bytes, spread evenly over ``series`` series; (host, JSON)."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        one, minute = number % series, number // series
        host = f"host-{one // 10:06d}.eu-west-1.example.internal"
        body = {
            "resource": host,
            "metric": f"metric.number.{one % 10}",
            "timestamp": START + minute * 60_000,
            "value": round(50 + 20 * rng.random(), 4),
            "unit": "Percent",
            "dimensions": {"zone": "a"},
        }
        made.append((host, json.dumps(body).encode()))
    return made


def records(items: list[tuple[str, bytes]], each: int = 100) -> list[StreamRecord]:
    """KPL records of ``each`` events."""
    made = []
    for begin in range(0, len(items), each):
        gathering = aggregator.RecordAggregator()
        for key, data in items[begin : begin + each]:
            gathering.add_user_record(key, data.decode())
        whole = gathering.clear_and_get()
        key, _, data = whole.get_contents()
        made.append(StreamRecord(SHARD, str(10**20 + begin), key, START + 7 * 86_400_000, bytes(data)))
    return made
