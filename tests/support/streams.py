"""Streams of several shards as Kinesis delivers them, and the archive that an archiver makes of them."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pyarrow as pa

from consumers.archive.layout import HOUR_MS, partition
from consumers.archive.writer import by_hour, encode, events_table, file_name, insights_table
from schemas.insights import Insight
from stream_processors.detectors.config import DetectorConfig
from stream_processors.records.batch import StreamRecord
from stream_processors.records.decode import decode
from stream_processors.records.times import written
from stream_processors.scoring import Scorer

START = 1_790_000_000_000 - 1_790_000_000_000 % HOUR_MS
MINUTE = 60_000


def stream(shard: int, hosts: list[str], seed: int, minutes: int) -> list[StreamRecord]:
    """Records of one shard: noisy hosts with spikes and pauses, late, early and repeated events, ticks, alarms, feedback."""
    rng = random.Random(f"{shard} {seed}")
    paused = {host: (begun := rng.randrange(100, minutes), begun + rng.randrange(5, 40)) for host in hosts}
    made: list[StreamRecord] = []
    number = 10 ** (19 + shard) - 40 * minutes  # the numbers grow a digit on the way

    def put(arrival: int, *bodies: object) -> None:
        nonlocal number
        number += rng.randrange(1, 30)
        data = "\n".join(json.dumps(body) for body in bodies).encode()
        made.append(StreamRecord(f"shardId-{shard:012d}", str(number), hosts[0], arrival, data))

    for minute in range(minutes):
        now = START + minute * MINUTE
        for host in hosts:
            if paused[host][0] <= minute < paused[host][1]:
                continue
            moved = rng.choice([-3 * HOUR_MS, -20 * MINUTE, 40 * MINUTE]) if rng.random() < 0.02 else 0
            samples = [
                {"resource": host, "metric": metric, "timestamp": now + moved,
                 "dimensions": {"core": "0"} if metric == "cpu" else None,
                 "value": 50 + rng.gauss(0, 1) + (60 if rng.random() < 0.01 else 0), "unit": "Percent"}
                for metric in ("cpu", "memory")
            ]  # fmt: skip
            put(now + rng.randrange(0, 5_000), *[{k: v for k, v in one.items() if v is not None} for one in samples])
            if rng.random() < 0.02:
                made.append(StreamRecord(made[-1].shard_id, str(number := number + 1), hosts[0], now + 6_000, made[-1].data))
        if rng.random() < 0.1:
            put(now + 6_000, {"opsriver": "tick", "timestamp": now + 5_000})
        if rng.random() < 0.03:
            put(now + 6_000, {"opsriver": "feedback", "resource": hosts[0], "series": "memory", "verdict": "missed",
                              "timestamp": now})  # fmt: skip
        if rng.random() < 0.03:
            put(now + 6_000, {
                "source": "aws.cloudwatch", "detail-type": "CloudWatch Alarm State Change", "id": f"e{minute}",
                "time": written(now), "resources": [],
                "detail": {"alarmName": "disk", "state": {"value": rng.choice(["ALARM", "OK"]),
                           "timestamp": written(now)}},
            })  # fmt: skip
    return made


def scored(records: list[StreamRecord], config: DetectorConfig | None = None) -> list[Insight]:
    """What the scorer sends of one shard's records."""
    return Scorer(config).process(decode(records)).insights


def archive(root: Path, records: list[StreamRecord], seed: int) -> None:
    """Archive one shard's records cut at random, some of them twice and cut otherwise."""
    rng = random.Random(seed)
    shard = records[0].shard_id
    for again in (False, True):
        edges = sorted({0, len(records), *(rng.randrange(len(records)) for _ in range(6))})
        for begin, end in itertools.pairwise(edges):
            table = events_table(decode(records[begin:end]), shard, [one.arrival for one in records[begin:end]])
            name = file_name(shard, records[begin].sequence_number, records[end - 1].sequence_number)
            _store(root, "events", table, name)
            if again and rng.random() < 0.7:
                break


def archive_insights(root: Path, insights: list[Insight]) -> None:
    """Archive revisions of insights."""
    _store(root, "insights", insights_table(insights), file_name("insights", "1", str(len(insights))))


def _store(root: Path, data_set: str, table: pa.Table, name: str) -> None:
    for hour, part in by_hour(table, data_set):
        folder = root / data_set / partition(hour)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode(part))
