"""The whole path of a scorer and an archiver, against what an ordinary user would write, in one run.

The work: metric events of about 180 bytes over many series, 100 to a KPL record; deaggregated with
MD5 checked, decoded and validated, scored, insights made, Parquet written to memory.
"""

from __future__ import annotations

import base64
import io
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.load import events, records
from benchmarks.measure import Timed, in_turns, ratio
from stream_processors.records.batch import StreamRecord

STAGES = ("decode", "score", "table", "encode")
"""Stages of our path: KPL and JSON into columns, scores and insights, sorted Arrow tables, Parquet bytes."""


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


def ours(
    work: list[StreamRecord], scorer: Any, stages: dict[str, float] | None = None, *, compiled: bool | None = None
) -> int:
    """The production path with every check on; ``scorer`` is warm, as in a running function.

    ``stages`` takes up the CPU seconds of each stage; ``compiled`` is the decoder's.
    """
    from consumers.archive.writer import by_hour, encode, events_table
    from stream_processors.records.decode import decode

    laps = [time.process_time()]
    batch = decode(work, compiled=compiled)
    laps.append(time.process_time())
    if batch.dead_letters:
        raise RuntimeError(batch.dead_letters[0].reason)
    scorer.process(batch)
    laps.append(time.process_time())
    parts = list(by_hour(events_table(batch, work[0].shard_id), "events"))
    laps.append(time.process_time())
    for _, part in parts:
        encode(part)
    laps.append(time.process_time())
    if stages is not None:
        for name, begun, ended in zip(STAGES, laps, laps[1:], strict=False):
            stages[name] = ended - begun
    return len(batch)


def run(series: int = 10_000, count: int = 200_000, rounds: int = 5) -> dict[str, Any]:
    """Time all in turns; every round scores the next stretch of time, so that nothing is late."""
    from stream_processors.detectors.seasonal.compiled import KERNEL

    paths = {"numpy": _scorer(compiled=False)}
    if KERNEL.available:
        paths["compiled"] = _scorer(compiled=True)
    template = events(series, count)
    span = (count // series + 1) * 60_000
    stretches = [records([(key, _later(data, move * span)) for key, data in template]) for move in range(rounds + 1)]
    laps: dict[str, list[dict[str, float]]] = {name: [] for name in paths}

    def contestant(name: str) -> Callable[[], object]:
        coming = iter(stretches)

        def one() -> None:
            stages: dict[str, float] = {}
            ours(next(coming), paths[name], stages, compiled=name == "compiled")
            laps[name].append(stages)

        return one

    timed = in_turns(
        {"baseline": lambda: baseline(stretches[0]), **{name: contestant(name) for name in paths}}, count, rounds
    )
    # The first lap of each is the warm-up.
    return result(timed, series, {name: stage_costs(each[1:], count) for name, each in laps.items()})


def _scorer(*, compiled: bool) -> Any:
    from stream_processors.scoring import Scorer, default_banks

    return Scorer(banks=lambda: default_banks(compiled=compiled))


def stage_costs(laps: list[dict[str, float]], count: int) -> dict[str, float]:
    """Median CPU microseconds an event of each stage, and of all."""
    costs = {name: statistics.median(lap[name] for lap in laps) / count * 1e6 for name in STAGES}
    costs["all"] = statistics.median(sum(lap.values()) for lap in laps) / count * 1e6
    return {name: round(cost, 3) for name, cost in costs.items()}


def _later(data: bytes, milliseconds: int) -> bytes:
    body = json.loads(data)
    body["timestamp"] += milliseconds
    return json.dumps(body).encode()


def result(timed: dict[str, Timed], series: int, stages: dict[str, dict[str, float]]) -> dict[str, Any]:
    """What was found, as ``--json`` prints it."""
    base = timed["baseline"]
    return {
        "series": series,
        "events": base.work,
        "rounds": len(base.seconds),
        "contestants": {
            name: {
                "eventsPerSecond": round(one.rate),
                "slowest": round(one.spread[0]),
                "fastest": round(one.spread[1]),
                "ratio": round(ratio(one, base), 2),
            }
            for name, one in timed.items()
        },
        "microsecondsPerEvent": stages,
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Print the ratios and where the time goes."""
    table = Table(
        "path",
        "events a CPU second",
        "slowest",
        "fastest",
        "times the baseline",
        title=f"{found['events']:,} events, {found['series']:,} series, {found['rounds']} rounds in turns",
    )
    for name, one in found["contestants"].items():
        table.add_row(
            name, f"{one['eventsPerSecond']:,}", f"{one['slowest']:,}", f"{one['fastest']:,}", f"{one['ratio']:.2f}"
        )
    console.print(table)
    stages = Table("microseconds an event", *STAGES, "all", title="where the time goes")
    for name, costs in found["microsecondsPerEvent"].items():
        stages.add_row(name, *(f"{costs[stage]:.3f}" for stage in (*STAGES, "all")))
    console.print(stages)
    if "compiled" not in found["contestants"]:
        console.print("the kernels are not built: no compiled path; `make install` builds them where there is a C compiler")
