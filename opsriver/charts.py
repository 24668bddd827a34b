"""Pictures of notebooks. Each shows itself where it is the last line of a cell; times are UTC."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opsriver import pictures
from opsriver.analysis import Source
from opsriver.errors import Problem
from opsriver.labelled import Scored
from opsriver.pictures import COLOURS
from schemas.insights import SEVERITY_ORDER

_INK, _GREY, _WINDOW, _BLUE = "#1f2933", "#7b8794", "#f2c94c", "#3b5b92"
_SERIES = ("#3b5b92", "#e8590c", "#2b8a3e", "#862e9c", "#7b8794")
_HOUR = 3_600_000


@dataclass(frozen=True, slots=True)
class Picture:
    """A Matplotlib figure that Jupyter shows as a PNG."""

    figure: Any

    def _repr_png_(self) -> bytes:
        held = io.BytesIO()
        self.figure.savefig(held, format="png", metadata={"Software": None})
        return held.getvalue()

    def save(self, path: Path) -> Path:
        """Write the PNG."""
        path.write_bytes(self._repr_png_())
        return path


def _figure(width: float, height: float, rows: int = 1, columns: int = 1, **layout: Any) -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise Problem("pictures need Matplotlib, which is not installed; pip install 'opsriver[notebooks]'") from None
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, **layout)
    for one in np.atleast_1d(axes).flat:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(colors=_GREY, labelsize=8.5)
    return figure, axes


def _date(moment: int) -> Any:
    return datetime.fromtimestamp(moment / 1000, UTC).replace(tzinfo=None)


def _time_axis(axes: Any) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=5, maxticks=12)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_xlabel("time (UTC)", fontsize=9, color=_GREY)


def _titled(figure: Any, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, color=_INK)


# ---------------------------------------------------------------------- a fleet


def fleet(source: Source, metric: str, most: int = 40) -> Picture:
    """A metric of every host by the hour, each against its own usual level, and the insights about it."""
    table = source.events(metric=metric, columns=["resource", "timestamp", "value"], to="arrow")
    if not len(table):
        raise Problem(f"the archive has no events of {metric}; `source.events()` shows what there is")
    hour = pc.divide(table["timestamp"].cast(pa.int64()), _HOUR)
    grouped = pa.table({"host": table["resource"].cast(pa.string()), "hour": hour, "value": table["value"]})
    means = grouped.group_by(["host", "hour"]).aggregate([("value", "mean")])
    hosts = sorted(pc.unique(means["host"]).to_pylist())[:most]
    first, last = pc.min(means["hour"]).as_py(), pc.max(means["hour"]).as_py()
    grid = np.full((len(hosts), last - first + 1), np.nan)
    place = {host: row for row, host in enumerate(hosts)}
    for one in means.to_pylist():
        if one["host"] in place:
            grid[place[one["host"]], one["hour"] - first] = one["value_mean"]
    for row in grid:
        usual = np.nanmedian(row)
        spread = 1.4826 * np.nanmedian(np.abs(row - usual))
        row[:] = (row - usual) / (spread if spread > 0 else 1.0)
    figure, axes = _figure(13, 1.8 + 0.24 * len(hosts))
    edges = [_date((first + n) * _HOUR) for n in range(grid.shape[1] + 1)]
    mesh = axes.pcolormesh(edges, np.arange(len(hosts) + 1) - 0.5, grid, cmap="RdBu_r", vmin=-6, vmax=6)
    bar = figure.colorbar(mesh, ax=axes, pad=0.01, fraction=0.03, extend="both")
    bar.set_label("distance from the host's median\n(robust standard deviations)", fontsize=8.5, color=_GREY)
    shown: set[str] = set()
    for insight in source.found():
        if insight.resource in place and insight.metric in (metric, "*"):
            label = insight.severity if insight.severity not in shown else None
            shown.add(insight.severity)
            axes.plot(
                _date(insight.opened_at), place[insight.resource], marker="o", ms=6.5, mfc=COLOURS[insight.severity],
                mec="white", mew=0.9, ls="", label=label, zorder=3 + SEVERITY_ORDER[insight.severity],
            )  # fmt: skip
    for fault in source.truth.faults if source.truth else []:
        if fault.host in place and fault.metric in (metric, "*"):
            _box(axes, fault.start, fault.end, place[fault.host], "" if "fault" in shown else "fault (truth)")
            shown.add("fault")
    axes.set_yticks(range(len(hosts)), hosts, fontsize=7.5)
    axes.invert_yaxis()
    axes.set_xlim(edges[0], edges[-1])
    _time_axis(axes)
    if shown:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=6, frameon=False, fontsize=8.5)
    _titled(figure, f"{metric} of {len(hosts)} hosts by the hour, and when insights opened")
    return Picture(figure)


def _box(axes: Any, start: int, end: int, row: int, label: str) -> None:
    from matplotlib.dates import date2num
    from matplotlib.patches import Rectangle

    left, right = (float(date2num(_date(one))) for one in (start, max(end, start + _HOUR)))  # type: ignore[no-untyped-call]
    axes.add_patch(
        Rectangle((left, row - 0.46), right - left, 0.92, fill=False, ec=_INK, lw=1.3, zorder=3, label=label or None)
    )


def by_day(source: Source) -> Picture:
    """Insights a day, by the worst severity that they reached."""
    days = sorted({one.opened_at // (24 * _HOUR) for one in source.found()})
    figure, axes = _figure(9, 3.4)
    if days:
        whole = list(range(days[0], days[-1] + 1))
        base = np.zeros(len(whole))
        for severity in SEVERITY_ORDER:
            counts = np.array([
                sum(one.severity == severity and one.opened_at // (24 * _HOUR) == day for one in source.found())
                for day in whole
            ])  # fmt: skip
            axes.bar(range(len(whole)), counts, bottom=base, color=COLOURS[severity], label=severity, width=0.7)
            base += counts
        axes.set_xticks(range(len(whole)), [f"{_date(day * 24 * _HOUR):%a %d %b}" for day in whole])
        axes.set_ylim(0, max(base.max() * 1.08, 1))
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, fontsize=8.5)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("insights opened", fontsize=9, color=_GREY)
    axes.set_xlabel("day (UTC)", fontsize=9, color=_GREY)
    _titled(figure, "Insights a day")
    return Picture(figure)


# ---------------------------------------------------------------------- one series


def cut(result: Scored, start: int, end: int) -> Scored:
    """The part of a judged series from ``start`` up to ``end`` (epoch ms)."""
    s = result.series
    rows = [row for row, time in enumerate(s.times) if start <= time <= end]
    low, high = (rows[0], rows[-1] + 1) if rows else (0, 0)
    within = replace(
        s, stamps=s.stamps[low:high], texts=s.texts[low:high], times=s.times[low:high], values=s.values[low:high]
    )
    names = ("score", "expected_low", "expected", "expected_high", "severity", "episode")
    columns = {name: getattr(result, name)[low:high] for name in names}
    last = {one.insight_id: one.closed_at for one in result.insights}  # of an insight's revisions only the last has its end
    told = [one for one in result.insights if one.opened_at <= end and (last[one.insight_id] or end) >= start]
    return replace(result, series=within, insights=told, **columns)


def series(
    result: Scored, windows: Sequence[tuple[int, int]] = (), *, title: str, unit: str = "", start: int = 0,
    end: int = 2**62,
) -> Picture:  # fmt: skip
    """Value with the expected band, episodes, and score with the severities' thresholds."""
    part = cut(result, start, end)
    if not part.series.times:
        raise Problem(f"{title}: there is nothing to show from {start} to {end}")
    seen = [(max(a, part.series.times[0]), min(b, part.series.times[-1])) for a, b in windows]
    return Picture(pictures.figure(part, [one for one in seen if one[0] <= one[1]], title=title, unit=unit))


def scores(results: Mapping[str, Scored], windows: Sequence[tuple[int, int]], *, title: str, unit: str = "") -> Picture:
    """One series, and below it the score that each detector gives its events."""
    figure, axes = _figure(
        13, 2.6 + 1.3 * len(results), 1 + len(results), sharex=True, height_ratios=[2, *[1] * len(results)]
    )
    first = next(iter(results.values()))
    times = [_date(one) for one in first.series.times]
    axes[0].plot(times, first.series.values, color=_INK, lw=0.7)
    axes[0].set_ylabel(f"value ({unit})" if unit else "value", fontsize=9, color=_GREY)
    for one, (name, result) in zip(axes[1:], results.items(), strict=True):
        one.plot(times, result.score, color=_BLUE, lw=0.7)
        one.axhline(0.5, color=COLOURS["HIGH"], lw=0.9, ls=(0, (4, 3)), label="0.5: pages")
        one.set_ylim(0, 1.03)
        one.set_ylabel("score", fontsize=9, color=_GREY)
        one.set_title(name, fontsize=9, loc="left", color=_INK, pad=3)
    for number, (start, end) in enumerate(windows):
        for one in axes:
            one.axvspan(
                _date(start), _date(end), color=_WINDOW, alpha=0.4, lw=0, zorder=0,
                label="fault (truth)" if not number and one is axes[0] else None,
            )  # fmt: skip
    if windows:
        axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8.5)
    axes[1].legend(loc="lower right", bbox_to_anchor=(1.0, 0.97), frameon=False, fontsize=8.5)
    axes[0].set_xlim(times[0], times[-1])
    _time_axis(axes[-1])
    _titled(figure, title)
    return Picture(figure)


def lines(times: Sequence[Any], columns: Mapping[str, Sequence[float]], *, title: str, ylabel: str) -> Picture:
    """Lines over time."""
    figure, axes = _figure(12, 3.6)
    for number, (name, values) in enumerate(columns.items()):
        axes.plot(list(times), list(values), lw=1.2, color=_SERIES[number % len(_SERIES)], label=name)
    axes.set_ylabel(ylabel, fontsize=9, color=_GREY)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(columns), frameon=False, fontsize=8.5)
    axes.margins(x=0)
    _time_axis(axes)
    _titled(figure, title)
    return Picture(figure)


# ---------------------------------------------------------------------- detectors, training sets


def groups(values: Mapping[str, Mapping[str, float]], *, title: str, ylabel: str) -> Picture:
    """Bars in groups: of each outer name one for each inner name, with their numbers."""
    figure, axes = _figure(10, 4)
    inner = list(next(iter(values.values())))
    width = 0.8 / max(len(values), 1)
    for number, (name, told) in enumerate(values.items()):
        places = np.arange(len(inner)) + (number - (len(values) - 1) / 2) * width
        heights = [told[one] for one in inner]
        bars = axes.bar(places, heights, width=width * 0.92, color=_SERIES[number % len(_SERIES)], label=name)
        axes.bar_label(bars, fmt="{:.0f}", fontsize=8.5, color=_GREY, padding=2)
    axes.axhline(0, color=_GREY, lw=0.8)
    axes.set_xticks(range(len(inner)), inner)
    axes.margins(y=0.12)
    axes.set_ylabel(ylabel, fontsize=9, color=_GREY)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(values), frameon=False, fontsize=8.5)
    _titled(figure, title)
    return Picture(figure)


def split(parts: Mapping[str, pa.Table], *, title: str) -> Picture:
    """Rows an hour of each part of a training set, and the anomalous ones among them."""
    figure, (above, below) = _figure(12, 4.6, 2, sharex=True)
    for number, (name, table) in enumerate(parts.items()):
        hours = pc.divide(table["timestamp"].cast(pa.int64()), _HOUR)
        counts = (
            pa.table({"hour": hours, "label": table["label"]})
            .group_by("hour")
            .aggregate([("label", "sum"), ("label", "count")])
        )
        at = [_date(one * _HOUR) for one in counts["hour"].to_pylist()]
        above.bar(at, counts["label_count"].to_pylist(), width=1 / 24, align="edge", color=_SERIES[number], label=name)
        below.bar(at, counts["label_sum"].to_pylist(), width=1 / 24, align="edge", color=_SERIES[number])
    above.margins(x=0)
    above.set_ylabel("rows an hour", fontsize=9, color=_GREY)
    below.set_ylabel("anomalous an hour", fontsize=9, color=_GREY)
    above.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(parts), frameon=False, fontsize=8.5)
    _time_axis(below)
    _titled(figure, title)
    return Picture(figure)


def distributions(table: pa.Table, names: Mapping[str, str], *, title: str) -> Picture:
    """How features are distributed over ordinary and anomalous rows; ``names`` has an axis title for each."""
    figure, axes = _figure(4.2 * len(names), 3.6, 1, len(names), squeeze=False)
    label = table["label"].to_numpy()
    for one, (name, text) in zip(axes[0], names.items(), strict=True):
        values = table[name].to_numpy()
        values = np.clip(values, *np.nanpercentile(values, [0.2, 99.8]))
        edges = np.linspace(np.nanmin(values), np.nanmax(values), 41)
        for number, (told, colour) in enumerate((("ordinary", _BLUE), ("anomalous", COLOURS["HIGH"]))):
            mine = values[(label == number) & np.isfinite(values)]
            if len(mine):
                share = np.full(len(mine), 100 / len(mine))
                one.hist(mine, bins=edges, weights=share, color=colour, alpha=0.55, label=told)
        one.set_xlabel(text, fontsize=9, color=_GREY)
    axes[0][0].set_ylabel("share of rows (%)", fontsize=9, color=_GREY)
    axes[0][-1].legend(loc="upper right", frameon=False, fontsize=8.5)
    _titled(figure, title)
    return Picture(figure)
