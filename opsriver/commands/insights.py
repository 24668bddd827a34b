"""``opsriver insights``: what was found, newest first, or one insight with all that is known of it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opsriver import target
from opsriver.errors import Problem
from opsriver.output import out, print_json
from opsriver.target import RegionOption, StackOption, StateOption

if TYPE_CHECKING:
    from consumers.insights.store import InsightStore
    from schemas.insights import Insight

SPANS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
STYLES = {"CRITICAL": "bold red", "HIGH": "red", "MEDIUM": "yellow", "LOW": "cyan"}


def since_ms(text: str, now: float) -> int | None:
    """Epoch milliseconds of ``2h`` before ``now`` (epoch seconds); None for no text. Raises Problem."""
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if not found:
        raise Problem(f"--since {text!r} is no span of time; write a number and s, m, h, d or w, e.g. 2h or 7d")
    return int((now - int(found[1]) * SPANS[found[2]]) * 1000)


def insights(
    insight_id: Annotated[str, typer.Argument(help="Show this insight with all its evidence.")] = "",
    severity: Annotated[str, typer.Option(help="Only LOW, MEDIUM, HIGH or CRITICAL.")] = "",
    resource: Annotated[str, typer.Option(help="Only insights of this resource.")] = "",
    since: Annotated[str, typer.Option(help="Only what opened within this span, e.g. 30m, 2h, 7d.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Show at most so many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """List insights, newest first, or show one by its id."""
    from consumers.insights.store import StoreUnavailable
    from schemas.insights import SEVERITY_ORDER

    level = severity.upper()
    if level and level not in SEVERITY_ORDER:
        raise Problem(f"--severity {severity!r} is unknown; choose one of {', '.join(SEVERITY_ORDER)}")
    begin = since_ms(since, time.time())
    store = _store(state, stack, region)
    try:
        if insight_id:
            _show(store, insight_id, as_json)
            return
        found = store.recent(severity=level or None, resource=resource or None, since=begin, limit=limit)
    except StoreUnavailable as error:
        raise Problem(f"insights cannot be read: {error}") from None
    if as_json:
        print_json({"insights": found})
    else:
        _print(found, limit)


def _store(state: Path, stack: str, region: str) -> InsightStore:
    from consumers.insights.store import InsightStore

    where = target.find(state, stack, region)
    return InsightStore(where.client("dynamodb"), where.output("InsightsTableName"))


def _print(found: list[Insight], limit: int) -> None:
    from rich.table import Table
    from rich.text import Text

    from consumers.alerts.format import one_line
    from schemas.times import moment

    if not found:
        out.print("no insights yet; `opsriver simulate` and `opsriver agent` feed the stream", highlight=False)
        return
    table = Table("since (UTC)", "severity", "state", "what, and its id", box=None, pad_edge=False)
    for one in found:
        what = Text(one_line(one.message, 300))
        what.append(f"\n{one_line(one.insight_id, 100)}", "dim")
        table.add_row(moment(one.opened_at).removesuffix(" UTC"), Text(one.severity, STYLES[one.severity]), one.state, what)
    out.print(table)
    count = f"{len(found)} insight" + ("s" if len(found) > 1 else "")
    out.print(count + (f" (limit {limit})" if len(found) == limit else ""), highlight=False)


def _show(store: InsightStore, insight_id: str, as_json: bool) -> None:
    from consumers.alerts.format import facts, one_line
    from schemas.times import moment

    insight = store.get(insight_id)
    if insight is None:
        raise Problem(f"there is no insight {insight_id!r}; `opsriver insights` lists them with their ids")
    if as_json:
        print_json(insight)
        return
    rows = [
        ("Severity", f"{insight.severity} (score {insight.score:.3f})"),
        ("State", insight.state),
        *facts(insight),
        ("Worst at", moment(insight.peak_at)),
        ("Type", f"{insight.type} ({insight.kind})"),
        ("Detector", f"{insight.detector} {insight.detector_version}"),
        ("Revision", f"{insight.revision} ({insight.transition})"),
        ("Related", ", ".join(insight.related)),
        ("Id", insight.insight_id),
    ]
    out.print(one_line(insight.message, 2000), style=STYLES[insight.severity], markup=False, soft_wrap=True)
    for label, value in rows:
        if value:
            out.print(f"  {label:<10} {one_line(value, 1000)}", markup=False, highlight=False, soft_wrap=True)
    for family, share in sorted(insight.evidence.items(), key=lambda pair: -pair[1]):
        bar = "█" * round(share * 30)
        out.print(f"    {one_line(family, 24):<24} {share:>4.0%} {bar}", markup=False, highlight=False, soft_wrap=True)
