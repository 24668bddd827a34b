"""What reaches a user whatever the names, the terminal and the disk are like: all of it, and no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from consumers.archive.layout import HOUR_MS, partition
from consumers.archive.reader import Archive
from consumers.archive.writer import encode, sort
from consumers.dead_letters.redrive import Marker
from opsriver import cli, output, target
from opsriver.cli import application
from opsriver.commands import agent, dlq
from opsriver.errors import Problem
from schemas.dead_letters import DeadLetter
from tests.support.archive import SHARD, START, record, table

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("web[/b]", "a[red]b", "cache:key:hits")


def run(*given: object, columns: int = 200) -> str:
    with patch.object(output.out, "_width", columns):
        done = CliRunner().invoke(application(), [str(part) for part in given])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def process(*given: object, stdout: object = subprocess.PIPE, **settings: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "opsriver", *map(str, given)],
        cwd=ROOT, env=os.environ | settings, stdout=stdout, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip


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


@pytest.mark.parametrize("begin", ["2000-01-01", "0001-01-01T00:00:00+14:00"])
def test_of_a_range_of_centuries_only_the_days_that_are_there_are_listed(
    archive: Path, begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[list[str]] = []
    original = Archive._listed

    def counted(self: Archive, data_set: str, folders: list[str]) -> Any:
        listed.append(folders)
        return original(self, data_set, folders)

    monkeypatch.setattr(Archive, "_listed", counted)
    for end in ("2027-01-01", "9999-12-31T23:59:59Z"):
        assert "3 rows from 1 files" in run("archive", "events", "--folder", archive, "--from", begin, "--to", end)
    assert len(listed) == 2


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


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_file_whose_name_is_no_text_is_scored_and_named(tmp_path: Path, encoding: str) -> None:
    source = tmp_path / os.fsdecode(b"caf\xc3\xa9-\xff.csv")
    source.write_text(
        "timestamp,value\n" + "".join(f"{1_790_000_000 + 60 * n},{n % 7}\n" for n in range(900)) + "1790060000,99\n"
    )
    done = process("score", source, "--out", tmp_path, "--json", PYTHONIOENCODING=encoding)
    assert done.returncode == 2, "its own file is not overwritten"
    done = process("score", source, "--out", tmp_path / "scored", "--json", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"][0]["file"] == "café-\\xff.csv"
    assert b"-\\xff.csv" in process("score", source, "--out", tmp_path / "scored", PYTHONIOENCODING=encoding).stdout
    assert (tmp_path / "scored" / source.name).is_file()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("given", [["version"], ["version", "--json"], ["status"]])
def test_a_full_disk_below_standard_output_is_told_with_the_remedy(given: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = process(*given, stdout=full, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2
    assert done.stderr.decode().strip() == "opsriver: No space left on device; free some, or write elsewhere"


def test_a_path_that_is_too_long_is_told_with_the_remedy(tmp_path: Path) -> None:
    done = process("score", "a" * 5000, "--out", tmp_path)
    assert done.returncode == 2
    assert done.stderr.decode().strip().endswith("aaa: File name too long; choose a shorter path")


def test_details_that_cannot_be_kept_are_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(cli, "application", lambda: broken)
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "unexpected RuntimeError: odd" in told
    assert "its details could not be kept: No such file or directory; set TMPDIR" in told


def test_an_interrupt_while_commands_are_loaded_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "application", lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130


def test_scoring_overwrites_no_input_and_takes_no_result_for_one(tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a.csv").write_text("timestamp,value,other\n1790000000,1,kept\n")
    for given in ([source, "--out", source], [source / "deep" / "a.csv", "--out", source / "deep"]):
        with pytest.raises(Problem, match=r"a.csv would be overwritten by .* choose another folder"):
            run("score", *given)
    assert (source / "deep" / "a.csv").read_text().endswith("kept\n")
    for _ in range(2):
        assert "1 files written" in run("score", source, "--out", source / "scored")
    assert [path.relative_to(source).as_posix() for path in sorted(source.rglob("*.csv"))] == [
        "deep/a.csv",
        "scored/deep/a.csv",
    ]


def test_a_demo_removes_no_folder_but_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends_at_once(*_: object, **__: object) -> None:
        raise Problem("began")

    monkeypatch.setattr("opsriver.demo.run.Demo", ends_at_once)
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(Problem, match="holds files that no demo made; choose an empty folder"):
        run("demo", "--state", tmp_path, "--report", tmp_path / "demo.json")
    assert (tmp_path / "mine").read_text() == "kept"
    for _ in range(2):
        with pytest.raises(Problem, match="began"):
            run("demo", "--state", tmp_path / "new", "--report", tmp_path / "demo.json")
        (tmp_path / "new" / "left over").touch()


@pytest.mark.parametrize(("report", "problem"), [(".", "is a folder"), ("file/demo.json", "cannot be written: ")])
def test_a_demo_whose_report_cannot_be_written_does_not_begin(tmp_path: Path, report: str, problem: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Problem, match=problem):
        run("demo", "--state", tmp_path / "new", "--report", tmp_path / report)
    assert not (tmp_path / "new").exists()


def test_a_fleet_is_not_written_among_the_series_of_another(tmp_path: Path) -> None:
    given = ["simulate", "--days", 0.05, "--faults", 0, "--out", tmp_path]
    for hosts in (2, 2, 3):
        run(*given, "--hosts", hosts)
    with pytest.raises(Problem, match=r"holds host-002/cpuUsage.csv, which is not of this fleet; choose an empty folder"):
        run(*given, "--hosts", 2)
    with pytest.raises(Problem, match="is not of this fleet"):
        run(*given, "--hosts", 3, "--format", "jsonl")


def test_a_fleet_whose_writing_was_ended_is_not_taken_for_one(tmp_path: Path) -> None:
    given = ["simulate", "--hosts", 2, "--days", 0.05, "--faults", 0, "--out", tmp_path]
    run(*given)
    (tmp_path / "host-001" / "diskIO.csv").unlink()
    (tmp_path / "host-001" / "diskIO.csv").mkdir()
    with pytest.raises(Problem, match="cannot be written: Is a directory"):
        run(*given)
    assert not (tmp_path / "truth.json").exists()


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--start", 10**30, "Input should be less than or equal to 99000000000"),
        ("--start", 0, "Input should be greater than or equal to 100000000"),
        ("--metric", "é" * 100, "makes too long a file name; shorten it, or write --format jsonl"),
    ],
)
def test_a_fleet_that_could_not_be_read_back_is_refused(tmp_path: Path, option: str, value: object, problem: str) -> None:
    done = process("simulate", "--hosts", 1, "--days", 0.05, option, value, "--out", tmp_path / "new", COLUMNS="200")
    assert done.returncode == 2
    assert problem in done.stderr.decode()
    assert not (tmp_path / "new").exists()


class Refusing:
    """A client whose every call is refused."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def refuse(**_: object) -> None:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not for you"}}, name)

        return refuse


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = {"DeadLetterBucketName": "b", "EventStreamName": "s", "DeadLetterQueueUrl": "q"}
    where = target.Target("prod", "us-east-1", outputs, lambda _: Refusing())
    monkeypatch.setattr(target, "find", lambda *_: where)


@pytest.mark.parametrize("given", [["list"], ["show", "x"], ["redrive", "x"], ["redrive", "--all"]])
@pytest.mark.usefixtures("refused")
def test_dead_letters_out_of_reach_are_told_in_a_sentence(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.dead_letters.store.DeadLetterStore.keys", lambda *_: Refusing().list_objects())
    with pytest.raises(Problem, match=r"dead letters of prod cannot be reached: .*not for you.*; check stack"):
        run("dlq", *given)


def test_a_redrive_that_is_refused_midway_tells_what_was_sent_before(
    letters: list[DeadLetter], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    def send(letter: DeadLetter, *_: object, **__: object) -> Marker:
        if sent:
            Refusing().put_record()
        sent.append(letter.letter_id)
        return Marker(letter.letter_id, "sent", "1", "shard")

    monkeypatch.setattr(dlq, "_redriver", lambda _: SimpleNamespace(send=send))
    fine = json.dumps({"resource": "r", "metric": "m", "timestamp": int(time.time()), "value": 1}).encode()
    mended = [msgspec.structs.replace(letter, raw=fine) for letter in letters]
    monkeypatch.setattr(dlq, "_letters", lambda *_: iter(mended))
    done = CliRunner().invoke(application(), ["dlq", "redrive", "--all", "--json"])
    assert [one["result"] for one in json.loads(done.stdout)["letters"]] == ["sent", "unclear"]
    with pytest.raises(Problem, match=r"1 letters were not tried after this: .*not for you"):
        raise done.exception or AssertionError


def test_a_redrive_of_which_nothing_was_sent_fails_once_it_has_told_why(
    letters: list[DeadLetter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dlq, "_redriver", lambda _: None)
    monkeypatch.setattr(dlq, "_letters", lambda *_: (msgspec.structs.replace(one, raw=b"{") for one in letters))
    done = CliRunner().invoke(application(), ["dlq", "redrive", "--all", "--json"])
    assert {one["result"] for one in json.loads(done.stdout)["letters"]} == {"refused"}
    with pytest.raises(Problem, match="no letter was sent, as each would be refused again; mend the content"):
        raise done.exception or AssertionError


@pytest.mark.parametrize("day", ["2026-99-99", "20261126", "٢٠٢٦-١١-٢٦"])
@pytest.mark.usefixtures("refused")
def test_a_day_that_is_none_is_refused(day: str) -> None:
    with pytest.raises(Problem, match="is not a day; write it as YYYY-MM-DD"):
        run("dlq", "list", "--day", day)


@pytest.mark.parametrize(
    ("resource", "series", "at", "problem"),
    [
        ("r", "s", "²", "is no point in time"),
        ("r", "s", "9" * 400, "is no point in time"),
        ("r\n", "s", "", "holds control characters"),
        ("r\udcff", "s", "", "holds control characters"),
        ("r" * 500, "s", "", "at most 256 are allowed"),
        ("opsriver:tick", "s", "", "reserved"),
        ("r", "s" * 5000, "", "longer than 1024 characters"),
        ("r", "s\udcff", "", "holds control characters"),
    ],
    ids=["superscript", "digits", "control", "bytes", "long resource", "reserved", "long series", "bytes in the series"],
)
@pytest.mark.usefixtures("refused")
def test_a_verdict_that_the_stream_would_refuse_is_not_sent(resource: str, series: str, at: str, problem: str) -> None:
    with pytest.raises(Problem, match=problem):
        run("feedback", "missed", "--resource", resource, "--series", series, "--at", at)


def test_an_agent_of_a_user_without_a_home_folder_asks_for_a_spool(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(agent, "_stream", lambda *_: (None, "stream"))
    monkeypatch.setattr(agent, "_check", lambda *_: None)
    with pytest.raises(Problem, match="no home folder for the spool; name a folder with --spool"):
        run("agent", "--once")
