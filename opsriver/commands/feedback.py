"""``opsriver feedback``: say of an insight that it was a false alarm, or of a moment that something was missed."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from opsriver import target
from opsriver.errors import Problem
from opsriver.output import out, print_json
from opsriver.target import RegionOption, StackOption, StateOption

if TYPE_CHECKING:
    from schemas.events import Feedback
    from schemas.insights import Insight


class Verdict(StrEnum):
    """What a person says."""

    FALSE_POSITIVE = "false-positive"
    MISSED = "missed"


def feedback(
    verdict: Annotated[Verdict, typer.Argument(help="It was a false alarm, or it should have been reported louder.")],
    insight_id: Annotated[str, typer.Argument(help="The insight that is meant.")] = "",
    resource: Annotated[str, typer.Option(help="Without an insight: the resource that is meant.")] = "",
    series: Annotated[str, typer.Option(help="Without an insight: its metric, with dimensions as insights show them.")] = "",
    at: Annotated[str, typer.Option(help="Without an insight: the moment, RFC 3339 or epoch seconds; else now.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    state: StateOption = target.DEFAULT_STATE,
    stack: StackOption = "",
    region: RegionOption = "",
) -> None:
    """Teach the detector: the next anomaly of this shape is quieter (false-positive) or louder (missed)."""
    if bool(insight_id) == bool(resource or series):
        raise Problem("name either an insight (`opsriver insights` lists them) or --resource and --series")
    if not insight_id and not (resource and series):
        raise Problem("--resource and --series belong together; give both, or name an insight")
    if insight_id and at:
        raise Problem(f"--at {at!r} has no meaning where an insight is named; leave it out")
    where = target.find(state, stack, region)
    if insight_id:
        said = of_insight(_insight(where, insight_id), verdict)
    else:
        said = of_series(resource, series, verdict, at, int(time.time() * 1000))
    _send(where, said)
    if as_json:
        print_json({"sent": said})
        return
    change = "quieter" if verdict is Verdict.FALSE_POSITIVE else "louder"
    what = "the next anomaly of this shape is" if insight_id else "anomalies like it are"
    out.print(
        f"{verdict.value}: {what} {change} for {said.series} of {said.resource}; the contrary verdict takes it back",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def of_insight(insight: Insight, verdict: Verdict) -> Feedback:
    """The verdict on an insight. Raises Problem where its kind has no shape to learn from."""
    from schemas.events import Feedback
    from schemas.names import series_name

    if insight.kind != "anomaly":
        raise Problem(
            f"insight {insight.insight_id} is of kind {insight.kind}, from which nothing is learned; "
            "use a rule of the detector configuration (docs/configuration.md)"
        )
    series = series_name(insight.metric, insight.dimensions)
    return Feedback(insight.resource, series, verdict.value, insight.peak_at, insight.insight_id)


def of_series(resource: str, series: str, verdict: Verdict, at: str, now: int) -> Feedback:
    """The verdict on a moment of a series; ``now`` is in epoch milliseconds.

    Raises Problem where it is no moment, or where no series can have such a name.
    """
    from schemas.events import Feedback
    from schemas.names import MAX_SERIES_LENGTH, name_problem
    from stream_processors.records import times
    from stream_processors.records.refused import Refused

    if problem := name_problem(resource, "--resource"):
        raise Problem(problem)
    if len(series) > MAX_SERIES_LENGTH or not series.isprintable():
        raise Problem(
            f"--series {series[:60]!r} is longer than {MAX_SERIES_LENGTH} characters or holds control characters; "
            "`opsriver archive events` shows the names of series"
        )
    number = at.isascii() and at.replace(".", "", 1).isdigit() and len(at) < 40
    try:
        moment = times.milliseconds(float(at) if number else at, "--at") if at else now
        times.check(moment, now, at, "--at")
    except Refused as error:
        raise Problem(error.reason) from None
    return Feedback(resource, series, verdict.value, moment)


def _insight(where: target.Target, insight_id: str) -> Insight:
    from consumers.insights.store import InsightStore, StoreUnavailable

    try:
        insight = InsightStore(where.client("dynamodb"), where.output("InsightsTableName")).get(insight_id)
    except StoreUnavailable as error:
        raise Problem(f"insights cannot be read: {error}") from None
    if insight is None:
        raise Problem(f"there is no insight {insight_id!r}; `opsriver insights` lists them with their ids")
    return insight


def _send(where: target.Target, said: Feedback) -> None:
    from agents.producer import NotDelivered, Producer
    from opsriver.analysis import record

    try:
        Producer(where.client("kinesis"), where.output("EventStreamName")).send([(said.resource, record(said))])
    except NotDelivered as error:
        raise Problem(f"{error}; check that the stack runs") from None
