"""``python -m benchmarks.cost``: what the deployment costs a month by part, from the template and list prices.

Prices are AWS' public list prices for us-east-1 as of November 2026, without free tiers and discounts.
Check them before you rely on them. What the template decides (memory, windows, alarms) is read from it;
what it does not is an assumption of ``Traffic`` and of the constants below.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stream_processors.state.checkpoint import FAN, LONGEST

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 730 * 3600
"""Of a month, as AWS counts it: 730 hours."""
PRICES = {
    "Kinesis shard, an hour": 0.015,
    "Kinesis PUT payload unit of 25 KB, a million": 0.014,
    "Lambda arm64, a GB-second": 0.0000133334,
    "Lambda request, a million": 0.20,
    "DynamoDB write unit of 1 KB on demand, a million": 0.625,
    "DynamoDB read unit of 4 KB on demand, a million": 0.125,
    "DynamoDB storage, a GB-month": 0.25,
    "DynamoDB point-in-time recovery, a GB-month": 0.20,
    "S3 PUT or LIST, a thousand": 0.005,
    "S3 storage, a GB-month": 0.023,
    "KMS key, a month": 1.00,
    "KMS request, ten thousand": 0.03,
    "CloudWatch metric, a month": 0.30,
    "CloudWatch alarm, a month": 0.10,
    "CloudWatch Logs, a GB taken in": 0.50,
    "X-Ray trace recorded, a million": 5.00,
}
"""US dollars."""
EVENT_BYTES = 190
"""In a KPL record, overhead included."""
STATE_BYTES = 3248 + 56 + 60
"""A series in a snapshot: its model, the core's columns, its name."""
LINK_BYTES, LINKS = 200, 20
"""A snapshot in the shard's pointer; how many it names on average."""
LOG_BYTES = 1_500
"""Of an invocation: Lambda's own lines, the metrics, one line of ours."""
METRICS = 15
"""Business metrics that are published in an ordinary month."""
CALLS_SECONDS = 0.06
"""Of an invocation, waiting for its calls to AWS."""
FULL_CPU_MB = 1769
"""Memory at which a function has one whole CPU, by Lambda's documentation."""
ITEM_BYTES = 400
"""A host's minute in the Metrics table."""
ROW_BYTES = 8
"""An event in Parquet."""
MICROSECONDS = {"ScorerFunction": 5.0, "MetricStoreFunction": 300.0, "ArchiverFunction": 4.0}
"""CPU time of an event, rounded up from ``python -m benchmarks.limits``; the metric store's is 1.2 ms of boto3 for
one UpdateItem, against a local server and without TLS, of a sample of four."""


@dataclass(frozen=True)
class Traffic:
    """What comes in: each host sends one sample of ``metrics`` values every ``interval`` seconds."""

    hosts: int
    metrics: int = 4
    interval: float = 60.0
    events_a_record: int = 100

    @property
    def events(self) -> float:
        """A second."""
        return self.hosts * self.metrics / self.interval

    @property
    def series(self) -> int:
        """Series that are watched."""
        return self.hosts * self.metrics

    @property
    def samples(self) -> float:
        """Hosts' samples a second."""
        return self.hosts / self.interval


class _Loader(yaml.SafeLoader):
    """Reads a template; what its functions (``!Ref``, ``!Sub``) stand for is not needed here."""


_Loader.add_multi_constructor("!", lambda *_: None)


def template() -> dict[str, Any]:
    """The deployment as written."""
    found: dict[str, Any] = yaml.load((ROOT / "template.yaml").read_text(), _Loader)
    return found


def readers() -> int:
    """Functions that read the stream, each all of it."""
    functions = [one["Properties"] for one in template()["Resources"].values() if one["Type"] == "AWS::Serverless::Function"]
    return sum(event["Type"] == "Kinesis" for one in functions for event in one.get("Events", {}).values())


def at_once(function: dict[str, Any]) -> int:
    """Invocations that may read one shard at the same time."""
    events = function["Properties"].get("Events", {}).values()
    return max((event["Properties"].get("ParallelizationFactor", 1) for event in events), default=1)


def shards(traffic: Traffic) -> int:
    """Shards that take it, 1 MB a second each as records are aggregated, and give it to all readers, 2 MB together."""
    written = traffic.events * EVENT_BYTES
    return max(1, math.ceil(max(written / 1_000_000, written * readers() / 2_000_000)))


def invocations(traffic: Traffic, window: float) -> float:
    """A second and shard: one when a window ends in which something came."""
    return min(1.0 / max(window, 0.2), max(traffic.samples, 1.0 / 60))


def parts(traffic: Traffic, window: float | None = None) -> dict[str, dict[str, float]]:
    """Dollars a month by service and item. ``window`` is the scorer's batch window; None as in the template."""
    found = template()
    resources, p = found["Resources"], PRICES
    if window is None:
        window = float(found["Parameters"]["BatchWindowSeconds"]["Default"])
    count, seconds = shards(traffic), SECONDS
    windows = {"ScorerFunction": window, "MetricStoreFunction": 5.0, "ArchiverFunction": 60.0}
    runs = {name: count * at_once(resources[name]) * invocations(traffic, one) for name, one in windows.items()}
    runs |= {"SweeperFunction": 1 / 60, "HeartbeatFunction": 1 / 60}
    lambdas: dict[str, float] = {}
    for name, rate in runs.items():
        memory = resources[name]["Properties"].get("MemorySize", found["Globals"]["Function"]["MemorySize"])
        cpu = traffic.events * MICROSECONDS.get(name, 0.0) / 1e6 * max(1.0, FULL_CPU_MB / memory)
        busy = (rate * CALLS_SECONDS + cpu) * seconds
        lambdas[name.removesuffix("Function").lower()] = (
            busy * memory / 1024 * p["Lambda arm64, a GB-second"] + rate * seconds / 1e6 * p["Lambda request, a million"]
        )
    checkpoints = runs["ScorerFunction"] * seconds
    pointer_units = -(-LINKS * LINK_BYTES // 1024)
    traced = sum(min(rate, 1.0 + 0.05 * max(0.0, rate - 1.0)) for rate in runs.values()) * seconds
    stored = traffic.samples * 90 * 86_400 * ITEM_BYTES / 1e9
    touched = traffic.events / runs["ScorerFunction"]
    # Bases come when the deltas outweigh them; between two, a series is written again whenever deltas join.
    every = min(float(LONGEST), max(3.0, count * traffic.series / touched))
    written = touched * (1.0 + math.log(every, FAN)) + count * traffic.series / every
    state = runs["ScorerFunction"] * written * 7 * 86_400 * STATE_BYTES / 1e9
    tables = sum(one["Type"] == "AWS::DynamoDB::Table" for one in resources.values())
    keys = sum(one["Type"] == "AWS::KMS::Key" for one in resources.values())
    alarms = sum(one["Type"] == "AWS::CloudWatch::Alarm" and "Condition" not in one for one in resources.values())
    units = traffic.events * seconds * max(1.0 / traffic.events_a_record, EVENT_BYTES / 25_000)
    return {
        "Kinesis": {
            "shards": count * 730 * p["Kinesis shard, an hour"],
            "payload units": units / 1e6 * p["Kinesis PUT payload unit of 25 KB, a million"],
        },
        "Lambda": lambdas,
        "DynamoDB": {
            "checkpoint pointers": checkpoints / 1e6 * (
                p["DynamoDB read unit of 4 KB on demand, a million"] * 2
                + p["DynamoDB write unit of 1 KB on demand, a million"] * pointer_units
            ),
            "metrics, one item a host and minute": traffic.samples * seconds / 1e6
            * p["DynamoDB write unit of 1 KB on demand, a million"],
            "storage of 90 days, with recovery": stored
            * (p["DynamoDB storage, a GB-month"] + p["DynamoDB point-in-time recovery, a GB-month"]),
        },
        "S3": {
            "snapshots written": checkpoints / 1e3 * p["S3 PUT or LIST, a thousand"],
            "snapshots kept for 7 days": state * p["S3 storage, a GB-month"],
            "archive written": 3 * runs["ArchiverFunction"] * seconds / 1e3 * p["S3 PUT or LIST, a thousand"],
            "archive of a month": traffic.events * seconds * ROW_BYTES / 1e9 * p["S3 storage, a GB-month"],
        },
        "KMS": {
            "keys": keys * p["KMS key, a month"],
            "requests": (tables + count) * 4 * seconds / 300 / 1e4 * p["KMS request, ten thousand"],
        },
        "CloudWatch": {
            "alarms": alarms * p["CloudWatch alarm, a month"],
            "metrics": METRICS * p["CloudWatch metric, a month"],
            "logs": sum(runs.values()) * seconds * LOG_BYTES / 1e9 * p["CloudWatch Logs, a GB taken in"],
        },
        "X-Ray": {"traces, one a second and function": traced / 1e6 * p["X-Ray trace recorded, a million"]},
    }  # fmt: skip


BEGIN, END = "<!-- table -->", "<!-- end -->"
COLUMNS: tuple[tuple[str, Traffic, float | None], ...] = (
    ("500 hosts", Traffic(500), None),
    ("the same, window 5 s", Traffic(500), 5.0),
    ("5,000 hosts", Traffic(5_000), None),
    ("8,700 hosts, every 10 s", Traffic(8_700, interval=10.0), None),
)


def table() -> str:
    """The table of docs/cost.md."""
    costs = [parts(traffic, window) for _, traffic, window in COLUMNS]
    lines = [
        "| US dollars a month | " + " | ".join(name for name, _, _ in COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
        "| events a second | " + " | ".join(f"{traffic.events:,.0f}" for _, traffic, _ in COLUMNS) + " |",
    ]
    for service, items in costs[0].items():
        lines.append(f"| **{service}** | " + " | ".join(f"**{sum(one[service].values()):,.2f}**" for one in costs) + " |")
        lines += [f"| {item} | " + " | ".join(f"{one[service][item]:,.2f}" for one in costs) + " |" for item in items]
    whole = [sum(sum(items.values()) for items in one.values()) for one in costs]
    lines.append("| **all** | " + " | ".join(f"**{value:,.2f}**" for value in whole) + " |")
    millions = [value / (traffic.events * SECONDS / 1e6) for value, (_, traffic, _) in zip(whole, COLUMNS, strict=True)]
    lines.append("| a million events | " + " | ".join(f"{value:.3f}" for value in millions) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the deployment costs a month, by part.")
    parser.add_argument("--write", action="store_true", help="write the table into docs/cost.md")
    if parser.parse_args().write:
        document = ROOT / "docs" / "cost.md"
        head, _, rest = document.read_text().partition(BEGIN)
        document.write_text(f"{head}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}")
    print(table())


if __name__ == "__main__":
    main()
