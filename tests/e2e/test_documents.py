"""Commands in the documents are run as they stand there, against the deployed stack."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from opsriver.embedded import Stack

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_HERE = {
    "up": "would start another stack beside the one under test; tests/integration/embedded has it",
    "down": "would stop the stack under test; tests/integration/embedded has it",
    "demo": "takes minutes; `make demo` is its own test",
    "alerts": "follows until it is interrupted",
    "feedback false-positive": "names an insight that is not there; its own tests name real ones",
    "feedback missed": "the same",
    "evaluate": "reads the labelled series of a checkout",
    "archive training-set": "needs weeks of labelled events; tests/integration/notebooks makes one of a running stack",
}


def commands() -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        for line in document.read_text().replace("\\\n", " ").splitlines():
            match = re.match(r"^(?: {4}|\$ )(?:\.venv/bin/)?opsriver (.+)$", line)
            if match:
                text = re.sub(r"\s+#.*$", "", match[1]).strip()
                if (document.name, text) not in found:
                    found.append((document.name, text))
    return found


COMMANDS = commands()


def test_the_documents_show_commands() -> None:
    assert len(COMMANDS) > 8


def opsriver(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "opsriver.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def workplace(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the running stack is the default one."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / ".opsriver").symlink_to(stack.state)
    return folder


@pytest.mark.parametrize(("document", "command"), COMMANDS, ids=[f"{d}: {c[:50]}" for d, c in COMMANDS])
def test_a_documented_command_works(workplace: Path, document: str, command: str) -> None:
    words = shlex.split(command)
    if "…" in command or "<" in command:
        words = [words[0], *(w for w in words[1:2] if not w.startswith("-")), "--help"]
        if words[1:2] and ":" in words[1]:
            words = [words[0], "--help"]
    elif words[0] in NOT_HERE:
        words = [words[0], "--help"]
    elif " ".join(words[:2]) in NOT_HERE:
        words = [*words[:2], "--help"]
    done = opsriver(words, workplace)
    assert done.returncode == 0, f"{document}: opsriver {command}\n{done.stdout[-500:]}{done.stderr[-1000:]}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["score", "no-such-folder", "--out", "x"], "no-such-folder does not exist"),
        (["simulate"], "choose where the samples go"),
        (["dlq", "list", "--day", "yesterday"], "is not a day"),
        (["dlq", "show", "nothing"], "there is no dead letter nothing"),
        (["dlq", "redrive"], "nothing is chosen"),
        (["insights", "--state", "elsewhere"], "nothing runs in elsewhere"),
        (["archive", "events", "--from", "noon"], "'noon' is not a time"),
        (["agent", "--interval", "0"], "0.2"),
        (["nonsense"], "No such command"),
        (["score", "--detectors", "missing.toml", ".", "--out", "x"], "missing.toml cannot be read"),
    ],
)
def test_a_wrong_use_is_told_in_a_sentence_with_status_2(workplace: Path, words: list[str], told: str) -> None:
    done = opsriver(words, workplace)
    assert done.returncode == 2, done.stderr
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_letter_is_listed_shown_mended_and_redriven_once(stack: Stack, workplace: Path) -> None:
    import json
    import time

    host = f"mended-{time.time_ns()}"
    bad = json.dumps({"resource": host, "metric": "cpu", "timestamp": int(time.time()), "value": "12"})
    stack.client("kinesis").put_record(StreamName=stack.outputs["EventStreamName"], PartitionKey=host, Data=bad.encode())
    letters = []
    for _ in range(300):
        done = opsriver(["dlq", "list", "--partition-key", host, "--json"], workplace)
        letters = json.loads(done.stdout)["letters"]
        if letters:
            break
        time.sleep(0.2)
    identity = letters[0]["id"]
    assert opsriver(["dlq", "show", identity, "--raw", "letter.bin"], workplace).returncode == 0
    assert (workplace / "letter.bin").read_text() == bad
    refused = opsriver(["dlq", "redrive", identity, "--json"], workplace)
    assert json.loads(refused.stdout)["letters"][0]["result"] == "refused"
    assert (refused.returncode, "no letter was sent" in refused.stderr) == (2, True)
    (workplace / "mended.json").write_text(bad.replace('"12"', "12"))
    mend = ["dlq", "redrive", identity, "--with", "mended.json", "--json"]
    assert json.loads(opsriver([*mend, "--dry-run"], workplace).stdout)["letters"][0]["result"] == "would-send"
    assert json.loads(opsriver(mend, workplace).stdout)["letters"][0]["result"] == "sent"
    assert json.loads(opsriver(mend, workplace).stdout)["letters"][0]["result"] == "already-sent"
    minute = int(time.time()) // 60 * 60_000
    table = stack.outputs["MetricsTableName"]
    for _ in range(300):
        items = stack.client("dynamodb").query(
            TableName=table, KeyConditionExpression="hostname = :h", ExpressionAttributeValues={":h": {"S": host}}
        )["Items"]
        if items:
            break
        time.sleep(0.2)
    assert abs(int(items[0]["timestamp"]["N"]) - minute) <= 120_000
