"""A picture of a judged series: value and expected band, score, label windows and episodes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from opsriver.errors import Problem
from opsriver.labelled import Scored
from schemas.insights import SEVERITY_ORDER
from stream_processors.detectors.base import SEVERITY_SCORES

# Once on a machine it warns that it makes a cache of fonts: into a notebook, or through a progress bar.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

COLOURS = {"LOW": "#9aa5b1", "MEDIUM": "#e3a008", "HIGH": "#e8590c", "CRITICAL": "#c2255c"}
"""Of episodes, by the worst severity they reached."""
_LINE, _BAND, _WINDOW, _SCORE, _GREY = "#1f2933", "#74b3e8", "#f2c94c", "#3b5b92", "#7b8794"
_SIZE, _DOTS = (13.0, 6.2), 110
_MOST = 1e300
"""Values beyond are drawn here: Matplotlib's axes overflow near the largest number there is."""


@dataclass(frozen=True, slots=True)
class Mark:
    """An episode as drawn. Times are epoch milliseconds; ``paged`` is when it first was HIGH or CRITICAL."""

    opened: int
    closed: int
    severity: str
    paged: int | None = None


def marks(result: Scored) -> list[Mark]:
    """The episodes of a series; one that is still open ends with the series."""
    last = result.series.times[-1] if result.series.times else 0
    found: dict[str, Mark] = {}
    for insight in result.insights:
        closed = insight.closed_at if insight.closed_at is not None else last
        before = found.get(insight.insight_id)
        paged = before.paged if before else None
        if paged is None and SEVERITY_ORDER[insight.severity] >= SEVERITY_ORDER["HIGH"]:
            paged = insight.peak_at
        found[insight.insight_id] = Mark(insight.opened_at, max(closed, insight.opened_at), insight.severity, paged)
    return sorted(found.values(), key=lambda one: one.opened)


def require() -> None:
    """Problem where Matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise Problem("--pictures needs Matplotlib, which is not installed; pip install 'opsriver[notebooks]'") from None


def draw(
    result: Scored,
    windows: Sequence[tuple[int, int]],
    target: Path,
    *,
    title: str,
    judged_from: int = 0,
    threshold: float | None = None,
) -> Path:
    """Write a PNG of a series.

    windows
        Labelled spans in epoch milliseconds, shaded.
    judged_from
        The row from which the series counts; the rows before are hatched.
    threshold
        A threshold to draw beside the severities' own.
    """
    made = figure(result, windows, title=title, judged_from=judged_from, threshold=threshold)
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made.savefig(partial, format="png", metadata={"Software": None})
        partial.replace(target)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise Problem(f"{target} cannot be written: {error.strerror}; choose another folder for --pictures") from None
    return target


def figure(
    result: Scored,
    windows: Sequence[tuple[int, int]],
    *,
    title: str,
    unit: str = "",
    judged_from: int = 0,
    threshold: float | None = None,
) -> Any:
    """The picture as a Matplotlib figure; ``unit`` is the value's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    times = np.array([datetime.fromtimestamp(t / 1000, UTC).replace(tzinfo=None) for t in result.series.times], object)
    values = np.clip(result.series.values, -_MOST, _MOST)
    figure = Figure(figsize=_SIZE, dpi=_DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    value, episodes, score = figure.subplots(3, 1, sharex=True, height_ratios=(6, 0.5, 2.4))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, color=_LINE)
    if len(times):
        _values(value, result, times, values)
        _episodes(episodes, value, result, times, values)
        _scores(score, result, times, threshold)
        for axes in (value, episodes, score):
            for start, end in windows:
                axes.axvspan(_date(start), _date(max(end, start + 1)), color=_WINDOW, alpha=0.33, lw=0, zorder=0)
            if 0 < judged_from < len(times):
                axes.axvspan(
                    times[0], times[judged_from], facecolor="none", edgecolor="#d5dbe1", hatch="///", lw=0, zorder=0
                )
        if times[0] < times[-1]:
            value.set_xlim(times[0], times[-1])
    if unit:
        value.set_ylabel(f"value ({unit})", fontsize=9, color=_GREY)
    score.set_xlabel("time (UTC)", fontsize=9, color=_GREY)
    locator = AutoDateLocator(minticks=6, maxticks=14)  # type: ignore[no-untyped-call]
    score.xaxis.set_major_locator(locator)
    score.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    for axes in (value, episodes, score):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_GREY, labelsize=8.5)
    _legend(figure, bool(windows), judged_from > 0, any(mark.paged is not None for mark in marks(result)))
    return figure


def _date(moment: int) -> Any:
    return datetime.fromtimestamp(moment / 1000, UTC).replace(tzinfo=None)


def _values(axes: Any, result: Scored, times: Any, values: Any) -> None:
    low, high = np.clip(result.expected_low, -_MOST, _MOST), np.clip(result.expected_high, -_MOST, _MOST)
    axes.fill_between(times, low, high, color=_BAND, alpha=0.32, lw=0, zorder=1)
    axes.plot(times, values, color=_LINE, lw=0.7, zorder=3)
    finite = values[np.isfinite(values)]
    if len(finite):
        least, most = float(finite.min()), float(finite.max())
        room = (most - least) * 0.06 or max(abs(most) * 0.05, 1.0)
        axes.set_ylim(least - room, most + room)
    axes.set_ylabel("value", fontsize=9, color=_GREY)


def _episodes(strip: Any, axes: Any, result: Scored, times: Any, values: Any) -> None:
    strip.set_ylim(0, 1)
    strip.set_yticks([])
    strip.spines["left"].set_visible(False)
    strip.set_ylabel("episodes", fontsize=9, color=_GREY, rotation=0, ha="right", va="center")
    rows = {time: row for row, time in reversed(list(enumerate(result.series.times)))}
    for mark in sorted(marks(result), key=lambda one: SEVERITY_ORDER[one.severity]):
        colour = COLOURS[mark.severity]
        strip.plot([_date(mark.opened), _date(mark.closed)], [0.5, 0.5], color=colour, lw=5, solid_capstyle="butt")
        strip.plot([_date(mark.opened)], [0.5], marker="|", color=colour, ms=10, mew=1.8)
        row = rows.get(mark.paged) if mark.paged is not None else None
        if row is not None:
            axes.plot([times[row]], [values[row]], marker="o", ms=6, mfc="none", mec=colour, mew=1.6, zorder=4)


def _scores(axes: Any, result: Scored, times: Any, threshold: float | None) -> None:
    axes.fill_between(times, 0, result.score, color=_SCORE, alpha=0.25, lw=0)
    axes.plot(times, result.score, color=_SCORE, lw=0.8)
    for name, least in zip(SEVERITY_ORDER, SEVERITY_SCORES, strict=True):
        axes.axhline(least, color=COLOURS[name], lw=0.9, ls=(0, (4, 3)), zorder=0)
    if threshold is not None and 0 <= threshold <= 1:
        axes.axhline(threshold, color=_LINE, lw=0.8, ls=":")
    axes.set_ylim(0, 1.03)
    axes.set_yticks([0, *SEVERITY_SCORES, 1])
    axes.set_ylabel("score", fontsize=9, color=_GREY)


def _legend(figure: Any, labelled: bool, probation: bool, pages: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Line2D([], [], color=_LINE, lw=1, label="value"), Patch(color=_BAND, alpha=0.4, label="expected")]
    if labelled:
        handles.append(Patch(color=_WINDOW, alpha=0.4, label="labelled"))
    if probation:
        handles.append(Patch(facecolor="none", edgecolor="#c3cbd3", hatch="////", label="not judged"))
    paged = Line2D([], [], marker="o", ls="", ms=6, mfc="none", mec=COLOURS["HIGH"], mew=1.6, label="pages")
    handles += [paged] if pages else []
    handles += [Line2D([], [], color=colour, lw=4, label=name) for name, colour in COLOURS.items()]
    figure.legend(
        handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=8.5, handlelength=1.4
    )


def file_name(*parts: str) -> Path:
    """A path of folders and a PNG that is safe whatever the names are."""
    *folders, last = (quote(part, safe=" ()=,").replace("..", "%2E%2E") for part in parts)
    return Path(*folders, f"{last.removesuffix('.csv')}.png")
