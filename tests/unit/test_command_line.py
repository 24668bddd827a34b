"""How the command line prints names from outside, on narrow terminals too."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers.archive.layout import HOUR_MS, partition
from consumers.archive.writer import encode, sort
from opsriver import target
from opsriver.cli import application
from opsriver.commands import dlq
from schemas.dead_letters import DeadLetter
from tests.support.archive import SHARD, START, record, table

NAMES = ("web[/b]", "a[red]b", "cache:key:hits")


def run(*given: object, columns: int = 200) -> str:
    done = CliRunner().invoke(application(), [str(part) for part in given], env={"COLUMNS": str(columns)})
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of one hour with a metric of each of the names."""
    rows = [
        record(n, {"resource": name, "metric": f"m{name}", "timestamp": START, "value": n}) for n, name in enumerate(NAMES)
    ]
    folder = tmp_path / "archive" / "events" / partition(START // HOUR_MS)
    folder.mkdir(parents=True)
    (folder / "s-000-003.parquet").write_bytes(encode(sort(table(rows), "events")))
    return tmp_path / "archive"


def test_names_are_printed_as_they_are_whatever_brackets_and_colons_they_hold(archive: Path) -> None:
    shown = run("archive", "events", "--folder", archive, "--from", "2026-01-01", "--to", "2027-01-01")
    for name in NAMES:
        assert f" {name} " in shown
        assert f" m{name} " in shown


def test_files_and_folders_are_printed_as_they_are(tmp_path: Path) -> None:
    source, scored = tmp_path / "in", tmp_path / "out[/x]"
    source.mkdir()
    for name in NAMES:
        path = source / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("timestamp,value\n1790000000,1\n")
    shown = run("score", source, "--out", scored)
    for name in NAMES:
        assert f" {name}.csv " in shown
    assert f"3 files written to {scored}" in shown


def test_no_table_cuts_a_name_off_however_narrow_the_terminal_is(archive: Path) -> None:
    shown = run("archive", "ls", "--folder", archive, "--from", "2026-01-01", "--to", "2027-01-01", columns=40)
    assert "…" not in shown
    assert "".join(line.split("│")[2].strip() for line in shown.splitlines() if "│" in line).endswith(
        partition(START // HOUR_MS)
    )


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> list[DeadLetter]:
    found = [
        DeadLetter(
            shard_id=SHARD, sequence_number="4966" * 14, sub_sequence=0, item=n, code="not-json",
            reason=f"not JSON: at {name!r}", partition_key=name, arrived_at=START, stage="decode", raw=b"{",
        )
        for n, name in enumerate(NAMES)
    ]  # fmt: skip
    monkeypatch.setattr(target, "find", lambda *_: None)
    monkeypatch.setattr(dlq, "_letters", lambda *_: iter(found))
    monkeypatch.setattr(dlq, "_given_up", lambda _: [])
    return found


def test_a_dead_letter_is_listed_with_its_key_and_reason_as_they_are_and_its_whole_id(letters: list[DeadLetter]) -> None:
    shown = run("dlq", "list", columns=40).splitlines()
    for letter in letters:
        assert f"  {letter.letter_id}" in shown
        assert f"  {letter.reason}" in shown
        assert any(line.endswith(f"  {letter.partition_key}") for line in shown)
