"""A picture of one series whose insights differ: value and band, both sides' episodes, score."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from consumers.archive.reader import Archive
from opsriver.errors import Problem
from opsriver.pictures import COLOURS
from opsriver.replay.compare import Difference, Episode
from opsriver.replay.run import to_batch
from schemas.insights import SEVERITY_ORDER
from schemas.names import series_name
from stream_processors.detectors.base import SEVERITY_SCORES
from stream_processors.detectors.config import DetectorConfig
from stream_processors.scoring import EventVerdicts, Scorer

_LINE, _BAND, _GREY = "#1f2933", "#74b3e8", "#7b8794"
_AROUND_MS = 36 * 3_600_000
"""How much of the series is shown before and after the difference."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A series with the replay's verdicts, a row each; ``times`` are epoch milliseconds."""

    times: np.ndarray
    values: np.ndarray
    verdicts: EventVerdicts


def judge(archive: Archive, config: DetectorConfig, difference: Difference, learn_from: int, end: int) -> Judged:
    """Score the series of a difference by itself, from where the replay began to learn."""
    about = difference.about
    series = series_name(about.metric, about.dimensions)
    rows = archive.events(learn_from, end, about.resource, series=series, kind="metric")
    scorer = Scorer(config, watch_silence=False)
    verdicts = scorer.process(to_batch(rows), collect=True).verdicts
    assert verdicts is not None
    return Judged(rows["timestamp"].cast(pa.int64()).to_numpy(), rows["value"].to_numpy(), verdicts)


def draw(judged: Judged, difference: Difference, sides: dict[str, list[Episode]], end: int, target: Path) -> None:
    """Write a PNG of the stretch around a difference.

    ``sides`` are the episodes of this series, by the name of their side. Problem where the file cannot
    be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    about = difference.about
    spans = [one.span(end) for one in (difference.sent, difference.replayed) if one is not None]
    first, last = min(a for a, _ in spans) - _AROUND_MS, max(b for _, b in spans) + _AROUND_MS
    here = (judged.times >= first) & (judged.times <= last)
    times = [_date(int(one)) for one in judged.times[here]]
    figure = Figure(figsize=(12, 6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    value, strips, score = figure.subplots(3, 1, sharex=True, height_ratios=(6, 1, 2.2))
    figure.suptitle(f"{difference.kind}: {about.metric} of {about.resource}", x=0.01, ha="left", fontsize=11.5)
    low, high = judged.verdicts.expected_low[here], judged.verdicts.expected_high[here]
    value.fill_between(times, low, high, color=_BAND, alpha=0.32, lw=0, label="expected")
    value.plot(times, judged.values[here], color=_LINE, lw=0.8, label="value")
    value.set_ylabel(f"value ({about.unit})" if about.unit else "value", fontsize=9, color=_GREY)
    value.legend(loc="upper left", frameon=False, fontsize=8.5, ncols=2)
    for row, episodes in enumerate(sides.values()):
        for one in sorted(episodes, key=lambda one: SEVERITY_ORDER[one.last.severity]):
            begun, over = one.span(end)
            if over < first or begun > last:
                continue
            colour = COLOURS[one.last.severity]
            strips.plot([_date(begun), _date(max(over, begun + 1))], [row, row], color=colour, lw=7, solid_capstyle="butt")
            strips.plot([_date(begun)], [row], marker="|", color=colour, ms=12, mew=1.8)
            strips.annotate(
                one.last.severity, (_date(begun), row), xytext=(4, 0), textcoords="offset points", fontsize=7,
                va="center", color="white" if over - begun > (last - first) / 15 else colour, clip_on=True,
            )  # fmt: skip
    strips.set_yticks(range(len(sides)), list(sides))
    strips.set_ylim(len(sides) - 0.5, -0.5)
    score.fill_between(times, 0, judged.verdicts.score[here], color="#3b5b92", alpha=0.3, lw=0)
    for name, least in zip(SEVERITY_ORDER, SEVERITY_SCORES, strict=True):
        score.axhline(least, color=COLOURS[name], lw=0.9, ls=(0, (4, 3)), zorder=0)
        score.annotate(name, (1.0, least), xycoords=("axes fraction", "data"), fontsize=6.5, color=COLOURS[name], ha="left")
    score.set_ylim(0, 1.03)
    score.set_ylabel("score replayed", fontsize=9, color=_GREY)
    locator = AutoDateLocator(minticks=5, maxticks=12)  # type: ignore[no-untyped-call]
    score.xaxis.set_major_locator(locator)
    score.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    score.set_xlabel("time (UTC)", fontsize=9, color=_GREY)
    for axes in (value, strips, score):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_GREY, labelsize=8.5)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, format="png", metadata={"Software": None})
    except OSError as error:
        raise Problem(f"{target} cannot be written: {error.strerror}; choose another folder for --out") from None


def _date(moment: int) -> Any:
    return datetime.fromtimestamp(moment / 1000, UTC).replace(tzinfo=None)
