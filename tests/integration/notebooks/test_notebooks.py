"""The notebooks run from top to bottom, on a simulated fleet and on the archive of a running stack, and show something."""

from __future__ import annotations

import base64
import json
import os
import re
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pyarrow.parquet as pq
import pytest
from nbclient import NotebookClient

from agents.producer import Producer
from agents.simulator import KINDS, Fleet
from consumers.archive.reader import Archive
from consumers.archive.store import BucketStore
from consumers.archive.training import build
from opsriver import analysis
from opsriver.embedded import Stack

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = {"01": 2, "02": 2, "03": 1, "04": 2, "05": 1, "06": 2}
TABLES = {"01": 3, "02": 1, "03": 3, "04": 1, "05": 3, "06": 2}


def execute(path: Path, folder: Path, **variables: str) -> Any:
    """Run a notebook in a kernel of this interpreter; everything that it writes comes into ``folder``."""
    book = nbformat.read(path, as_version=4)
    book.metadata["kernelspec"] = {"name": "opsriver-test", "display_name": "", "language": "python"}
    kernels = folder / "jupyter" / "kernels" / "opsriver-test"
    kernels.mkdir(parents=True, exist_ok=True)
    (kernels / "kernel.json").write_bytes(
        json.dumps({
            "argv": [sys.executable, "-Xfrozen_modules=off", "-W", "error::UserWarning:opsriver", "-m", "ipykernel_launcher",
                     "-f", "{connection_file}", "--log-level=ERROR"],
            "display_name": "test", "language": "python",
        }).encode()
    )  # fmt: skip
    settings = {
        "JUPYTER_PATH": str(folder / "jupyter"), "JUPYTER_DATA_DIR": str(folder / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"), "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "IPYTHONDIR": str(folder / "ipython"), "MPLCONFIGDIR": str(folder / "mpl"), "PYTHONPATH": str(ROOT),
        "OPSRIVER_NOTEBOOK_FOLDER": str(folder / "data"), "OPSRIVER_NOTEBOOK_HOSTS": "4", **variables,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        client = NotebookClient(
            book, timeout=300, startup_timeout=180, kernel_name="opsriver-test", resources={"metadata": {"path": str(ROOT)}}
        )
        began = time.monotonic()
        client.execute(env=dict(os.environ))
    print(f"{path.stem}: {time.monotonic() - began:.1f} s")
    return book


def outputs(book: Any, kind: str) -> list[Any]:
    return [
        output["data"][kind]
        for cell in book.cells
        for output in cell.get("outputs", [])
        if kind in output.get("data", {})
    ]  # fmt: skip


def streams(book: Any, name: str) -> str:
    found = (o["text"] for cell in book.cells for o in cell.get("outputs", []) if o.get("name") == name)
    return "".join(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all notebooks, so that the fleet is simulated once and verdicts reach the training set."""
    return tmp_path_factory.mktemp("notebooks")


def test_there_are_six() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == sorted(PICTURES)


@pytest.mark.slow
@pytest.mark.xdist_group("notebooks")  # they share a folder
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs_and_shows_pictures_and_tables(path: Path, folder: Path) -> None:
    book = execute(path, folder)
    number = path.stem[:2]
    pictures = [base64.b64decode(one) for one in outputs(book, "image/png")]
    assert len(pictures) == PICTURES[number]
    for one in pictures:
        assert one.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", one[16:24])
        assert width > 500
        assert height > 200
    tables = outputs(book, "text/html")
    assert len(tables) == TABLES[number]
    assert all("<td>" in one for one in tables)
    assert streams(book, "stderr") == ""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_is_kept_without_outputs_and_names_no_machine(path: Path) -> None:
    text = path.read_text()
    book = nbformat.reads(text, as_version=4)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) == (4, 5)
    assert len({cell["id"] for cell in book.cells}) == len(book.cells)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert "SOURCE = " in code[0].source
    assert book.cells[0].cell_type == "markdown"
    assert not re.search(r"/home/|/root|/tmp|/work|[A-Z]:\\\\|file://", text)


def test_the_archive_notebook_reads_a_running_stack(stack: Stack, eventually: Callable[..., Any], tmp_path: Path) -> None:
    now = int(time.time() * 1000)
    hours = 5
    fleet = Fleet(
        hosts=["notebook-1", "notebook-2"], seed=3, start=now - hours * 3_600_000, end=now, cadence=120_000, faults=1,
        kinds=KINDS[:1],
    )  # fmt: skip
    events = [(one["hostname"], json.dumps(one).encode()) for one in fleet.samples(fleet.start, fleet.end)]
    Producer(stack.client("kinesis"), stack.outputs["EventStreamName"]).send(events)
    store = BucketStore(stack.client("s3"), stack.outputs["ArchiveBucketName"])

    def archived() -> bool:
        table = Archive(store.root, store.filesystem).events(fleet.start, fleet.end, columns=["resource"])
        return sum(name in fleet.names for name in table["resource"].to_pylist()) == 4 * len(events)

    eventually(archived, what="every event in the archive", seconds=180, pause=1)
    path = next(one for one in NOTEBOOKS if one.stem.startswith("03"))
    book = execute(path, tmp_path, OPSRIVER_NOTEBOOK_SOURCE=f"local:{stack.state}")
    assert len(outputs(book, "image/png")) == PICTURES["03"]
    tables = outputs(book, "text/html")
    assert len(tables) == TABLES["03"]
    assert any("notebook-1" in one for one in tables)


def test_verdicts_sent_from_a_notebook_label_a_training_set_on_s3(
    stack: Stack, eventually: Callable[..., Any], tmp_path: Path
) -> None:
    now = int(time.time() * 1000)
    begin, host = now - 5 * 3_600_000, f"labelled-{now}"
    events = [
        (host, json.dumps({"resource": host, "metric": "cpu", "timestamp": at, "value": at % 7}).encode())
        for at in range(begin, now, 300_000)
    ]
    Producer(stack.client("kinesis"), stack.outputs["EventStreamName"]).send(events)

    def opened() -> analysis.Source | None:
        source = analysis.open_source(f"local:{stack.state}", folder=tmp_path)
        return source if len(source.series(host, "cpu", to="arrow")) == len(events) else None

    source: analysis.Source = eventually(opened, what="every event in the archive", seconds=180, pause=1)
    verdicts = [analysis.missed(host, "cpu", at) for at in (begin + 1_800_000, now - 1_800_000)]
    assert source.send(verdicts) == 2
    told = lambda: source.events(kind="feedback", resource=host, to="arrow")  # noqa: E731
    eventually(lambda: len(told()) == 2, what="both verdicts in the archive", seconds=180, pause=1)
    made = build(source.store, begin, now, 0.3, name=host)
    assert made["location"] == f"s3://{stack.outputs['ArchiveBucketName']}/training/{host}/"
    for part in ("train", "validation"):
        keys = [file["key"] for file in made[part]["files"]]
        assert keys == [f"training/{host}/{part}/part-00000.parquet"]
        table = pq.read_table(f"{source.store.root}/{keys[0]}", filesystem=source.store.filesystem)
        assert len(table) == made[part]["rows"]
        rows = [row for row in table.to_pylist() if row["resource"] == host]
        assert {row["label"] for row in rows if row["label_source"] == "feedback"} == {1}
