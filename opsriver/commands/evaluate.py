"""``opsriver evaluate``: how good detectors are on labelled series and on simulated fleets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from opsriver.errors import Problem
from opsriver.output import err, out, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from opsriver.fleets import Fleet
    from stream_processors.detectors.config import DetectorConfig

MOST_PICTURES = 40
"""Pictures of a fleet's series with faults."""


def evaluate(
    folders: Annotated[list[Path], typer.Argument(help="Folders of labelled series (data/, labels/) or simulated fleets.")],
    detector: Annotated[
        list[str] | None, typer.Option("--detector", help="seasonal, deep, or a river model's import path; may be repeated.")
    ] = None,
    detectors: Annotated[Path | None, typer.Option(help="Detector configuration (TOML), judged as a whole.")] = None,
    truth: Annotated[bool, typer.Option("--truth", help="Take folders as fleets with truth.json, labels or not.")] = False,
    splits: Annotated[int, typer.Option(min=0, max=100_000, help="Random half-splits; 0 for none.")] = 100,
    perturbed: Annotated[bool, typer.Option("--perturbed", help="Judge on ten changed copies too.")] = False,
    pictures: Annotated[Path | None, typer.Option(help="Write a picture of every series below this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Judge detectors on labelled series or on a fleet whose faults are known."""
    from opsriver import evaluation
    from opsriver import pictures as pictures_of

    configs = evaluation.named(detector or [], detectors)
    if pictures is not None:
        pictures_of.require()
        _places(folders, pictures)
    reports = []
    for folder in folders:
        if not folder.is_dir():
            raise Problem(
                f"{folder} is not a folder; name one with data/ and labels/, or one that `opsriver simulate` wrote"
            )
        fleet = (folder / "truth.json").is_file() and (truth or not (folder / evaluation.LABELS).is_file())
        if not fleet and not (folder / evaluation.LABELS).is_file():
            what = "truth.json" if truth else f"{evaluation.LABELS} or truth.json"
            raise Problem(f"{folder} has no {what}; docs/evaluation.md shows both layouts")
        if truth and not fleet:
            raise Problem(f"{folder} has no truth.json; write it with `opsriver simulate --out`, or leave --truth out")
        place = None if pictures is None else pictures / folder.resolve().name if len(folders) > 1 else pictures
        report = _fleet(folder, configs, place) if fleet else _labelled(folder, configs, splits, perturbed, place)
        reports.append({"folder": str(folder), **report})
        if not as_json:
            (_print_fleet if fleet else _print_labelled)(reports[-1])
            if place is not None:
                out.print(f"pictures are in {place}", highlight=False)
    if as_json:
        print_json(_finite(reports))


def _places(folders: Sequence[Path], pictures: Path) -> None:
    """Make the folder for pictures. Raises Problem where it cannot be, or where two folders' would be mixed."""
    names = [folder.resolve().name for folder in folders]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Problem(f"pictures of two folders would both go to {pictures / twice}; judge them one by one")
    try:
        pictures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(f"--pictures {pictures} cannot be made: {error.strerror}; choose another folder") from None


def _progress() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("events"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=err, transient=True)


def _files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*.csv") if path.is_file())


# ---------------------------------------------------------------------- labelled series


def _labelled(
    folder: Path, configs: Mapping[str, DetectorConfig], splits: int, perturbed: bool, place: Path | None
) -> dict[str, Any]:
    from opsriver import evaluation, perturbations
    from opsriver import pictures as pictures_of

    with _progress() as progress:
        task = progress.add_task("reading files", total=_files(folder / "data"))
        series = evaluation.load(folder, lambda done: progress.advance(task, done))
    copies = {name: perturbations.changed(series, name) for name in perturbations.CHANGES} if perturbed else {}
    rows = sum(len(one.series.times) for copy in (series, *copies.values()) for one in copy)
    with _progress() as progress:
        tasks = {name: progress.add_task(f"judging {name}", total=rows) for name in configs}

        def keep(name: str, run: evaluation.Run, terrains: Sequence[evaluation.Terrain]) -> None:
            if place is None:
                return
            for one, terrain, result in zip(series, terrains, run.results, strict=True):
                target = place / pictures_of.file_name(name, *one.series.name.parts)
                title = f"{one.key}   {name}"
                pictures_of.draw(result, one.windows, target, title=title, judged_from=terrain.probation)

        return evaluation.evaluate(
            series,
            configs,
            splits=splits,
            copies=copies,
            progress=lambda name, done: progress.advance(tasks[name], done),
            keep=keep,
        )


def _print_labelled(report: Mapping[str, Any]) -> None:
    from opsriver.evaluation import PROFILES

    out.print(
        f"{report['folder']}: {report['series']} series, {report['rows']:,} rows, {report['windows']} labelled windows",
        highlight=False,
    )
    judged: Mapping[str, Any] = report["detectors"]
    table = _table("Score", "at", "threshold", *PROFILES, "found", "false a week", "delay")
    for name, one in judged.items():
        for kind, label, found in (("best", "best", "atBest"), ("default", "default", "atDefault")):
            mark = one[kind]["standard"]["threshold"]
            table.add_row(
                _short(name) if kind == "best" else "",
                label,
                f"{mark:.3f}",
                *(_score(one[kind][profile]["score"]) for profile in PROFILES),
                f"{one[found]['hits']}/{one[found]['windows']}",
                f"{one[found]['falseAlarmsAWeek']:.2f}",
                _delay(one[found]["medianDelayMs"]),
            )
    out.print(table)
    table = _table("Standard profile", "half-splits", "worst half", "folder out", "events/s", "bytes a series")
    for name, one in judged.items():
        halves, folders = one["halfSplits"], one["foldersOut"]
        table.add_row(
            _short(name),
            f"{halves['mean']:.1f} ± {halves['deviation']:.1f}" if halves else "-",
            _score(halves["worst"] if halves else None),
            _score(folders["score"] if folders else None),
            f"{one['eventsASecond']:,.0f}",
            f"{one['bytesASeries']:,.0f}",
        )
    out.print(table)
    chosen = report["halfSplitsChoosingDetector"]
    if chosen:
        text = f"{chosen['mean']:.1f} ± {chosen['deviation']:.1f}"
        out.print(f"half-splits with detector and threshold chosen on the other half: {text}", highlight=False)
    _print_copies(judged)


def _print_copies(judged: Mapping[str, Any]) -> None:
    if not any(one["perturbed"] for one in judged.values()):
        return
    table = _table("Changed copies, standard profile: best threshold / default", *map(_short, judged), first="copy")
    first = next(iter(judged.values()))["perturbed"]["copies"]
    for change in first:
        cells = (one["perturbed"]["copies"][change] for one in judged.values())
        table.add_row(change, *(f"{cell['best']:.1f} / {cell['default']:.1f}" for cell in cells))
    table.add_section()
    for kind in ("mean", "worst"):
        parts = [one["perturbed"] for one in judged.values()]
        table.add_row(kind, *(f"{part['best'][kind]:.1f} / {part['default'][kind]:.1f}" for part in parts))
    out.print(table)


# ---------------------------------------------------------------------- fleets


def _fleet(folder: Path, configs: Mapping[str, DetectorConfig], place: Path | None) -> dict[str, Any]:
    from opsriver import fleets

    with _progress() as progress:
        task = progress.add_task("reading files", total=_files(folder))
        fleet = fleets.load(folder, lambda done: progress.advance(task, done))
        progress.remove_task(task)
        events = sum(len(times) for times in fleet.times)
        reports = {}
        for name, config in configs.items():
            task = progress.add_task(f"judging {name}", total=events)
            reports[name] = fleets.evaluate(fleet, config, lambda done, task=task: progress.advance(task, done))  # type: ignore[misc]
            progress.remove_task(task)
            if place is not None:
                _draw_fleet(fleet, name, config, place)
    return {
        "hosts": len(fleet.hosts),
        "series": len(fleet.names),
        "events": events,
        "faults": len(fleet.faults),
        "harmless": len(fleet.harmless),
        "detectors": reports,
    }


def _draw_fleet(fleet: Fleet, name: str, config: DetectorConfig, place: Path) -> None:
    import msgspec

    from opsriver import labelled
    from opsriver import pictures as pictures_of
    from stream_processors.detectors.config import DetectorConfig

    where = {names: number for number, names in enumerate(fleet.names)}
    wanted = [(fault.host, fault.metric) for fault in fleet.faults if fault.metric != "*"]
    for host, metric in list(dict.fromkeys(wanted))[:MOST_PICTURES]:
        times, values = fleet.times[where[host, metric]], fleet.values[where[host, metric]]
        blank = [""] * len(times)
        one = labelled.Series(Path(), Path(host) / metric, blank, blank, times.tolist(), values.tolist())
        rule = msgspec.structs.replace(config.rule(host, metric), resource="*", metric="*")
        result = labelled.score([one], DetectorConfig(rules=(rule,)))[0]
        mine = [fault for fault in fleet.faults if fault.host == host and fault.metric == metric]
        told = ", ".join(f"{fault.kind} {fault.size:+.1f} σ" for fault in mine)
        windows = [(fault.start, fault.end) for fault in mine]
        target = place / pictures_of.file_name(name, host, metric)
        pictures_of.draw(result, windows, target, title=f"{metric} of {host}: {told}   {name}")


def _print_fleet(report: Mapping[str, Any]) -> None:
    out.print(
        f"{report['folder']}: {report['hosts']} hosts, {report['series']} series, {report['events']:,} events, "
        f"{report['faults']} faults, {report['harmless']} restarts and deploys",
        highlight=False,
    )
    table = _table("Faults, median delays in samples", "fault", "number", "paged", "recall", "delay", "reported", "delay")
    for name, one in report["detectors"].items():
        for position, (kind, told) in enumerate(one["faults"].items()):
            paged, noted = (
                "-" if told[d] is None else f"{told[d]:.0f}" for d in ("medianDelaySamples", "medianDelayReported")
            )
            table.add_row(
                "" if position else _short(name),
                kind,
                str(told["faults"]),
                str(told["paged"]),
                f"{100 * told['recall']:.0f} %",
                paged,
                str(told["reportedAtAll"]),
                noted,
            )
        table.add_section()
    if report["faults"]:
        out.print(table)
    table = _table("Pages", "all", "false", "false a host-month", "first 3 days", "at restarts", "silences")
    for name, one in report["detectors"].items():
        table.add_row(
            _short(name),
            str(one["pages"]),
            str(one["falsePages"]),
            f"{one['falsePagesAHostMonth']:.2f}",
            str(one["falsePagesInTheFirstThreeDays"]),
            str(one["falsePagesAtHarmless"]),
            str(one["falsePagesByKind"]["silence"]),
        )
    out.print(table)
    for name, one in report["detectors"].items():
        text = (
            f"{_short(name)}: {one['otherInsightsAHostMonth']:.1f} LOW or MEDIUM insights a host-month at no fault, "
            f"{one['eventsASecond']:,.0f} events/s, {one['bytesASeries']:,.0f} bytes a series"
        )
        out.print(text, highlight=False)


# ---------------------------------------------------------------------- words


def _short(name: str) -> str:
    return name.removeprefix("river.anomaly.")


def _table(title: str, *columns: str, first: str = "detector") -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(first, min_width=14, overflow="fold")
    for column in columns:
        justify: Literal["left", "right"] = "left" if column in ("at", "fault") else "right"
        table.add_column(column, justify=justify, min_width=max(map(len, column.split())))
    return table


def _score(score: float | None) -> str:
    return "-" if score is None or math.isnan(score) else f"{score:.1f}"


def _delay(milliseconds: float | None) -> str:
    from schemas.quantities import duration

    return "-" if milliseconds is None else duration(milliseconds)


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not known is null."""
    clean: Callable[[Any], Any] = _finite
    if isinstance(value, dict):
        return {key: clean(part) for key, part in value.items()}
    if isinstance(value, list):
        return [clean(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
