"""``opsriver score``: score CSV files with the production detector."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from opsriver.errors import Problem
from opsriver.output import err, out, print_json, table


def score(
    paths: Annotated[list[Path], typer.Argument(help="CSV files (timestamp,value) or folders of them.")],
    target: Annotated[Path, typer.Option("--out", help="Folder for the scored files; layouts of folders are kept.")],
    detectors: Annotated[Path | None, typer.Option(help="Detector configuration (TOML).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Score series strictly online and write a verdict for every row."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from opsriver import labelled
    from opsriver.configuration import load

    config = load(detectors)
    files = labelled.find(paths, target)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(f"--out {target} cannot be made: {error.strerror}; choose another folder") from None
    summary = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        reading, writing = (progress.add_task(f"{what} files", total=len(files), unit="") for what in ("reading", "writing"))
        for group in labelled.groups(files, lambda done: progress.advance(reading, done)):
            task = progress.add_task(f"scoring {len(group)} series", total=sum(len(s.times) for s in group), unit="rows")
            for result in labelled.score(group, config, lambda rows, task=task: progress.advance(task, rows)):  # type: ignore[misc]
                labelled.write(result, target)
                progress.advance(writing)
                opened = [i for i in result.insights if i.transition == "opened"]
                worst = {i.insight_id: i.severity for i in result.insights}
                summary.append(
                    {
                        "file": result.series.resource,
                        "rows": len(result.series.times),
                        "unscored": result.unscored,
                        "highestScore": max(result.score, default=0.0),
                        "episodes": len(opened),
                        "severities": dict(Counter(worst.values())),
                    }
                )
            progress.remove_task(task)
    if as_json:
        print_json({"out": str(target), "files": summary})
        return
    shown = table("file", "rows", "not scored", "highest score", "episodes", "of them HIGH or CRITICAL")
    for row in summary:
        paging = sum(row["severities"].get(name, 0) for name in ("HIGH", "CRITICAL"))  # type: ignore[attr-defined]
        shown.add_row(
            str(row["file"]),
            f"{row['rows']:,}",
            f"{row['unscored']:,}",
            f"{row['highestScore']:.3f}",
            str(row["episodes"]),
            str(paging),
        )
    out.print(shown)
    out.print(f"{len(summary)} files written to {target}", highlight=False)
    for row in summary:
        if row["unscored"]:
            err.print(
                f"{row['file']}: {row['unscored']} rows have no number or are not later than the row before; "
                "their score is 0",
                style="yellow",
                highlight=False,
            )
