"""The whole path of a scorer and an archiver, against what an ordinary user would write, in one run.

The work: metric events of about 180 bytes over many series, 100 to a KPL record; deaggregated with
MD5 checked, decoded and validated, scored, insights made, Parquet written to memory.
"""

from __future__ import annotations

import base64
import io
import json
from collections import defaultdict
from typing import Any

from benchmarks.load import events, records
from benchmarks.measure import Timed, in_turns, ratio
from stream_processors.records.batch import StreamRecord


def baseline(work: list[StreamRecord]) -> int:
    """aws-kinesis-agg, json, pydantic, one GaussianScorer a series in a dict, a table from dicts."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from aws_kinesis_agg.deaggregator import deaggregate_records
    from pydantic import BaseModel
    from river.anomaly import GaussianScorer

    class Metric(BaseModel):
        resource: str
        metric: str
        timestamp: int
        value: float
        unit: str | None = None
        dimensions: dict[str, str] | None = None

    raw = [
        {"kinesis": {"data": base64.b64encode(r.data).decode(), "partitionKey": r.partition_key,
                     "sequenceNumber": r.sequence_number, "approximateArrivalTimestamp": r.arrival / 1000,
                     "kinesisSchemaVersion": "1.0"}, "eventID": f"{r.shard_id}:{r.sequence_number}"}
        for r in work
    ]  # fmt: skip
    models: dict[tuple[str, str], Any] = defaultdict(GaussianScorer)
    rows, insights = [], []
    for record in deaggregate_records(raw):
        event = Metric.model_validate(json.loads(base64.b64decode(record["kinesis"]["data"])))
        model = models[event.resource, event.metric]
        score = model.score_one(None, event.value)
        model.learn_one(None, event.value)
        if score > 0.999999:
            insights.append({"resource": event.resource, "metric": event.metric, "score": score})
        rows.append(event.model_dump())
    pq.write_table(pa.Table.from_pylist(rows), io.BytesIO(), compression="zstd")
    return len(rows)


def ours(work: list[StreamRecord], scorer: Any) -> int:
    """The production path with every check on; ``scorer`` is warm, as in a running function."""
    from consumers.archive.writer import by_hour, encode, events_table
    from stream_processors.records.decode import decode

    batch = decode(work)
    if batch.dead_letters:
        raise RuntimeError(batch.dead_letters[0].reason)
    scorer.process(batch)
    for _, part in by_hour(events_table(batch, work[0].shard_id), "events"):
        encode(part)
    return len(batch)


def run(series: int = 10_000, count: int = 200_000, rounds: int = 5) -> dict[str, Any]:
    """Time both in turns; every round scores the next stretch of time, so that nothing is late."""
    from stream_processors.scoring import Scorer

    scorer = Scorer()
    shifted = iter(range(10_000))
    template = events(series, count)
    span = (count // series + 1) * 60_000

    def next_stretch() -> list[StreamRecord]:
        move = next(shifted) * span
        return records([(key, _later(data, move)) for key, data in template])

    stretches = [next_stretch() for _ in range(rounds + 1)]
    mine = iter(stretches)
    timed = in_turns(
        {"baseline": lambda: baseline(stretches[0]), "opsriver": lambda: ours(next(mine), scorer)}, count, rounds
    )
    return result(timed, series)


def _later(data: bytes, milliseconds: int) -> bytes:
    body = json.loads(data)
    body["timestamp"] += milliseconds
    return json.dumps(body).encode()


def result(timed: dict[str, Timed], series: int) -> dict[str, Any]:
    base, own = timed["baseline"], timed["opsriver"]
    return {
        "series": series,
        "events": own.work,
        "rounds": len(own.seconds),
        "contestants": {
            name: {"eventsPerSecond": round(one.rate), "slowest": round(one.spread[0]), "fastest": round(one.spread[1])}
            for name, one in timed.items()
        },
        "ratio": round(ratio(own, base), 2),
    }
