"""Kills the publisher and the sweeper at chosen points, and counts what a subscriber of the bus received.

Each round writes insights of its own, brings their stream records to the real publisher in a process of
its own and kills that with SIGKILL. Then either the mapping brings the same records again, or the
sweeper alone works (and is killed in its turn in some rounds) before the mapping comes back.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.publisher_worker import PUBLISHER_POINTS, SWEEPER_POINTS
from tests.support.alerts import Alerting
from tests.support.forked import Forked
from tests.support.insights import OPENED, closed, insight
from tests.support.ministack import emulator

MAPPING, SWEEPER = "mapping", "sweeper"
CASES = (
    *((point, MAPPING) for point in PUBLISHER_POINTS),
    *((point, SWEEPER) for point in PUBLISHER_POINTS),
    *((f"sweeper: {point}", SWEEPER) for point in SWEEPER_POINTS),
)
"""Where the kill falls, and who comes afterwards."""
AHEAD = 120_000
"""Milliseconds by which a clock is put forward for a lease of 60 s to have ended."""


@dataclass
class Process:
    """A worker process; a new one whenever the last was killed."""

    alerting: Alerting
    process: Forked | None = None
    kills: int = 0

    def ask(self, do: str, *, ahead: int = 0, records: Any = (), kill: tuple[str, int] | None = None) -> Any:
        """The handler's answer; None if the process died on the way."""
        if self.process is None:
            self.process = Forked(
                "tests.chaos.publisher_worker",
                env={
                    **self.alerting.aws.environment(),
                    "OPSRIVER_EVENT_BUS": self.alerting.bus,
                    "OPSRIVER_LEDGER_TABLE": self.alerting.table,
                    "POWERTOOLS_METRICS_DISABLED": "true",
                    "POWERTOOLS_LOG_LEVEL": "CRITICAL",
                    "PATH": os.environ["PATH"],
                },
            )
        order = {"do": do, "records": list(records), "ahead": ahead, "kill": kill}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if line.endswith("\n"):
            return json.loads(line)
        self._end()
        self.kills += 1
        return None

    def _end(self) -> None:
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(60)
            self.process.stdout.close()
        self.process = None

    close = _end

    def until_done(self, records: list[dict[str, Any]], ahead: int) -> None:
        """Bring records until none is handed back, as the mapping does."""
        for _ in range(10):
            answer = self.ask("publish", records=records, ahead=ahead)
            if answer is not None and not answer["batchItemFailures"]:
                return
        raise RuntimeError("the batch was handed back ten times")


def round_of(alerting: Alerting, process: Process, number: int, case: tuple[str, str], rng: random.Random) -> dict[str, int]:
    """One kill (two, where the sweeper is killed) and what came of it."""
    point, after = case
    a, b, c = (f"{number}-{name}" for name in "abc")
    written = [
        insight(insight_id=a), insight(insight_id=b, severity="HIGH"),
        insight(insight_id=b, revision=2, transition="escalated"),
        closed(insight_id=a), insight(insight_id=c, timestamp=OPENED + number),
    ]  # fmt: skip
    expected = {f"{a}#1#opened", f"{a}#2#closed", f"{b}#1#opened", f"{b}#2#escalated", f"{c}#1#opened"}
    records = [
        json.loads(json.dumps(record, default=lambda value: value.timestamp()))
        for record in alerting.write(written)
        if record["dynamodb"]["Keys"]["insightId"]["S"] in (a, b, c)
    ]
    got: list[dict[str, Any]] = []
    explained: Counter[str] = Counter()

    def look() -> None:
        """Receive; what has been received and is not noted as sent may come once more."""
        got.extend(event["detail"] for event in alerting.published())
        states = alerting.rows()
        received = {one["notificationId"] for one in got}
        explained.update(name for name in received if states.get(name) == "pending")

    ahead = 0
    before = process.kills
    if point.startswith("sweeper: "):
        process.ask("publish", records=records, kill=("before PutEvents", 1))  # leaves rows for the sweeper
        ahead += AHEAD
        nth = 1 if "PutEvents" in point else rng.choice((1, 2))
        process.ask("sweep", ahead=ahead, kill=(point.removeprefix("sweeper: "), nth))
    else:
        process.ask("publish", records=records, kill=(point, rng.choice((1, 2)) if "answer" not in point else 1))
    kills = process.kills - before
    look()
    unswept = 0
    if after == SWEEPER:
        known = {name for name in alerting.rows() if name in expected}
        for _ in range(10):
            ahead += AHEAD
            if process.ask("sweep", ahead=ahead)["waiting"] == 0:
                break
        got += [event["detail"] for event in alerting.published()]
        unswept = len(known - {one["notificationId"] for one in got})
    process.until_done(records, ahead + AHEAD)
    got += [event["detail"] for event in alerting.published()]
    told = [one["notificationId"] for one in got]
    first = [name for at, name in enumerate(told) if name not in told[:at]]
    doubled = Counter(told)
    doubled.subtract(set(told))
    contents = {json.dumps(one, sort_keys=True) for one in got}
    states = alerting.rows()
    return {
        "rounds": 1,
        "intended": 2 if point.startswith("sweeper: ") else 1,
        "kills": kills,
        "notifications": len(expected),
        "missing": len(expected - set(told)) + unswept,
        "foreign": len(set(told) - expected),
        "doubled": doubled.total(),
        "unexplained": (doubled - explained).total(),
        "differing": len(contents) - len(set(told)),
        "disordered": sum(
            [name for name in first if name.startswith(key + "#")] != sorted(n for n in first if n.startswith(key + "#"))
            for key in (a, b, c)
        ),
        "unnoted": sum(states.get(name) != "sent" for name in expected),
    }


def chaos(rounds: int, seed: int, folder: Path, note: Any = lambda done: None) -> dict[str, Any]:
    """Run the rounds and return the report."""
    rng = random.Random(seed)
    began = time.monotonic()
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    with emulator(folder) as server:
        alerting = Alerting(server)
        process = Process(alerting)
        try:
            for number in range(rounds):
                case = CASES[number % len(CASES)]
                rows[f"{case[0]}; then the {case[1]}"].update(round_of(alerting, process, number, case, rng))
                note(number + 1)
        finally:
            process.close()
    return {"rounds": rounds, "seed": seed, "seconds": round(time.monotonic() - began, 1),
            "points": {name: dict(row) for name, row in rows.items()}}  # fmt: skip


WRONG = ("missing", "foreign", "unexplained", "differing", "disordered", "unnoted")
"""Counts that must be 0. ``unexplained`` are doubles of what had been noted as sent, or was not yet sent, at the kill."""


def clean(report: dict[str, Any]) -> bool:
    """Whether every kill happened, nothing is missing and nothing came twice without cause."""
    return all(
        row["kills"] == row["intended"] > 0 and not any(row[name] for name in WRONG) for row in report["points"].values()
    )


def table(report: dict[str, Any]) -> Any:
    """The report, to be printed."""
    from rich.table import Table

    columns = ("rounds", "kills", "notifications", "missing", "doubled", *WRONG[1:])
    shown = Table("the kill; who comes then", *columns, title="The publisher and its sweeper, killed")
    for point, row in report["points"].items():
        shown.add_row(point, *(str(row[name]) for name in columns))
    return shown
