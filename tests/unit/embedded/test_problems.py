"""What is missing or in the way is told in one sentence with the remedy."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from opsriver import embedded
from opsriver.embedded import deployment, emulator
from opsriver.errors import Problem


def test_a_missing_sam_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(Problem, match="install aws-sam-cli with `make install`"):
        deployment.deploy(tmp_path, "http://127.0.0.1:1", lambda _: None, {})


def test_a_missing_emulator_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "find_spec", lambda _: None)
    with pytest.raises(Problem, match="`make install` installs it"):
        embedded.start(tmp_path)
    assert embedded.running(tmp_path) is None


@pytest.mark.parametrize("port", [0, 80, 65536])
def test_a_port_that_cannot_be_is_named(port: int) -> None:
    with pytest.raises(Problem, match=f"port {port} cannot be used"):
        emulator.choose_port(port)


def test_any_free_port_will_do_where_the_usual_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(emulator, "DEFAULT_PORT", taken.getsockname()[1])
        chosen = emulator.choose_port(None)
        assert chosen != taken.getsockname()[1]
    assert 1024 <= chosen <= 65535


def test_a_record_that_is_damaged_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / embedded.RECORD).write_text("{")
    with pytest.raises(Problem, match="remove the folder"):
        embedded.running(tmp_path)


def test_a_file_in_place_of_the_state_folder_is_not_to_be_removed(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").touch()
    with pytest.raises(Problem, match=r"mine.csv is a file; name a folder with --state"):
        embedded.running(tmp_path / "mine.csv")


def test_a_record_of_a_process_that_is_gone_counts_as_nothing_running(tmp_path: Path) -> None:
    stack = embedded.Stack(
        endpoint="http://127.0.0.1:1", region="us-east-1", stack_name="opsriver", outputs={"A": "b"},
        state=str(tmp_path), emulator=embedded.Worker(2**22 + 1, 1.0),
    )  # fmt: skip
    embedded.keep(tmp_path / embedded.RECORD, stack)
    assert embedded.running(tmp_path) is None
    assert embedded.stop(tmp_path) is False


def test_positions_go_back_to_the_last_clean_stop_where_the_emulator_was_killed(tmp_path: Path) -> None:
    (tmp_path / embedded.POSITIONS).mkdir()
    (tmp_path / embedded.POSITIONS / "a.json").write_text("ahead")
    (tmp_path / embedded.SAVED_POSITIONS).mkdir()
    (tmp_path / embedded.SAVED_POSITIONS / "a.json").write_text("saved")
    test_a_record_of_a_process_that_is_gone_counts_as_nothing_running(tmp_path)
    assert (tmp_path / embedded.POSITIONS / "a.json").read_text() == "saved"
