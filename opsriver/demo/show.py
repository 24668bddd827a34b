"""The demo's live table: what flows, what was found, and the last alerts as a person reads them."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from opsriver.demo.subscribers import Delivery


@dataclass(slots=True)
class Board:
    """What the terminal shows; filled by several threads."""

    began: float = field(default_factory=time.monotonic)
    step: str = ""
    put: int = 0
    scored_records: int = 0
    lag: float = 0.0
    series: int = 0
    severities: Counter[str] = field(default_factory=Counter)
    deliveries: list[Delivery] = field(default_factory=list)
    latest: deque[Delivery] = field(default_factory=lambda: deque(maxlen=6))
    lock: threading.Lock = field(default_factory=threading.Lock)
    _rates: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=20))

    def receive(self, delivery: Delivery) -> None:
        """Take in a notification from a subscriber."""
        with self.lock:
            known = {d.identity for d in self.latest}
            self.deliveries.append(delivery)
            if delivery.identity not in known:
                self.latest.append(delivery)

    def rate(self) -> float:
        """Events a second put lately."""
        now = time.monotonic()
        self._rates.append((now, self.put))
        (t0, n0), (t1, n1) = self._rates[0], self._rates[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 else 0.0

    def __rich__(self) -> Group:
        """The table as it is now."""
        facts = Table.grid(padding=(0, 3))
        facts.add_row(*map(Text.from_markup, (
            f"[b]{self.put:,}[/] events in", f"[b]{self.rate():,.0f}[/] a second", f"[b]{self.series:,}[/] series",
            f"lag [b]{self.lag:.1f}[/] s",
        )))  # fmt: skip
        colours = {"LOW": "white", "MEDIUM": "yellow", "HIGH": "dark_orange", "CRITICAL": "red"}
        found = Table.grid(padding=(0, 3))
        found.add_row("insights", *(Text(f"{name} {self.severities[name]}", c) for name, c in colours.items()))
        alerts = Table.grid(padding=(0, 1))
        with self.lock:
            rows = list(self.latest)
        for one in rows:
            severity = str(one.insight.get("severity"))
            what = {"Insight opened": "new", "Insight escalated": "worse", "Insight closed": "over"}[one.detail_type]
            alerts.add_row(
                Text(time.strftime("%H:%M:%S", time.localtime(one.at)), style="dim"),
                Text(f"{severity} {what}", style=colours.get(severity, "white")),
                Text(str(one.insight.get("message", ""))),
            )
        clock = f"{time.monotonic() - self.began:4.0f} s"
        return Group(
            Panel(Group(facts, found), title=f"{self.step}  ·  {clock}", title_align="left"),
            Panel(alerts if rows else Text("none yet", style="dim"), title="alerts delivered by SNS", title_align="left"),
        )


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of the values lie; 0 where there are none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def report(result: dict[str, Any]) -> Table:
    """The summary as a table."""
    table = Table.grid(padding=(0, 2))
    faults, times = result["faults"], result["latencySeconds"]
    kinds = ", ".join(f"{name} {count}" for name, count in result["insights"].items())
    load = result["ownLoad"]
    table.add_row("events in", f"{result['events']:,}, of them {result['ownEvents']:,} of this machine")
    table.add_row("series", f"{result['series']:,}")
    table.add_row("insights", kinds)
    table.add_row(
        "faults",
        f"{faults['paged']} of {faults['total']} paged, {faults['seen']} seen below paging, {faults['missed']} missed",
    )
    for name, what in (("seenOnes", "seen below paging"), ("missedOnes", "missed")):
        if faults[name]:
            table.add_row(what, ", ".join(faults[name]))
    table.add_row(
        "false alarms",
        f"{result['falseAlarms']['live']} live, {result['falseAlarms']['atRestartsAndDeploys']} at harmless restarts and "
        f"deploys, {result['falseAlarms']['whileLearning']} while the history taught the models",
    )
    busy = "paged before the demo caused any, as something else keeps this machine busy: " if load["wasBusyBefore"] else ""
    table.add_row("this machine's load", busy + load["message"] if load["found"] else "NOT FOUND")
    table.add_row(
        "notifications", f"{result['notifications']['total']}: {result['notifications']['sqs']} by SQS, "
        f"{result['notifications']['http']} by HTTP",
    )  # fmt: skip
    table.add_row("put to delivery", f"median {times['median']:.2f} s, 99 % within {times['p99']:.2f} s")
    table.add_row("took", f"{result['seconds']:.0f} s")
    return table
