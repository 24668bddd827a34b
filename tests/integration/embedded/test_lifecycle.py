"""``opsriver up``, ``down`` and ``status``: data comes back, parts that die are replaced, problems are one sentence."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opsriver import embedded
from opsriver.embedded import Stack, emulator

pytestmark = pytest.mark.embedded

Eventually = Callable[..., Any]
CONTRACT = {
    "EventStreamName", "MetricsTableName", "InsightsTableName", "CheckpointTableName", "StateBucketName",
    "DeadLetterBucketName", "EventBusName", "AlertTopicArn", "AlertQueueUrl", "ArchiveBucketName",
}  # fmt: skip


def opsriver(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "opsriver.cli", *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "AWS_PROFILE": "not-there", "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "COLUMNS": "200"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("lifecycle")
    try:
        yield made
    finally:
        embedded.stop(made / ".opsriver")


def sequence(stack: Stack) -> str:
    """The last sequence number that the scorer's checkpoint holds."""
    items = stack.client("dynamodb").scan(TableName=stack.outputs["CheckpointTableName"])["Items"]
    return max((next(v["S"] for k, v in item.items() if k.startswith("sequence")) for item in items), default="")


def put(stack: Stack, value: float) -> str:
    """Put one metric; its sequence number."""
    event = {"resource": "web-01", "metric": "cpuUsage", "timestamp": 1_800_000_000 + value, "value": value}
    answer = stack.client("kinesis").put_record(
        StreamName=stack.outputs["EventStreamName"], PartitionKey="web-01", Data=json.dumps(event).encode()
    )
    return str(answer["SequenceNumber"])


def records(stack: Stack) -> int:
    kinesis, name = stack.client("kinesis"), stack.outputs["EventStreamName"]
    (shard,) = kinesis.list_shards(StreamName=name)["Shards"]
    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")[
        "ShardIterator"
    ]
    found = kinesis.get_records(ShardIterator=iterator)["Records"]
    return sum(b"cpuUsage" in record["Data"] for record in found)


def up(folder: Path, *options: str) -> Stack:
    done = opsriver("up", "--detach", "--json", *options, folder=folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["region"] == "us-east-1"
    assert told["stackName"] == "opsriver"
    assert set(told["outputs"]) >= CONTRACT
    assert set(told["pids"]) == {"emulator", "mapper", "supervisor"}
    stack = embedded.running(folder / ".opsriver")
    assert stack is not None
    assert stack.endpoint == told["endpoint"]
    return stack


def test_it_comes_up_heals_itself_and_comes_up_again_with_its_data(folder: Path, eventually: Eventually) -> None:
    state = folder / ".opsriver"
    stack = up(folder)
    first = put(stack, 1)
    eventually(lambda: sequence(stack) >= first, what="the first record's checkpoint")
    stack.client("s3").put_object(Bucket=stack.outputs["DeadLetterBucketName"], Key="kept", Body=b"kept")

    os.kill(stack.mapper.pid, signal.SIGKILL)
    second = put(stack, 2)
    eventually(lambda: sequence(stack) >= second, what="a record put while the mapper was dead")
    assert up(folder).mapper.pid != stack.mapper.pid

    assert opsriver("down", folder=folder).returncode == 0
    assert embedded.running(state) is None
    assert not any(worker.alive for worker in stack.workers.values())
    again = opsriver("down", folder=folder)
    assert again.returncode == 0
    assert "nothing ran" in again.stdout

    with socket.socket() as taken:  # another port than before, so that nothing may remember it
        taken.bind(("127.0.0.1", 0))
        free = int(taken.getsockname()[1])
    stack = up(folder, "--port", str(free))
    assert stack.endpoint == f"http://127.0.0.1:{free}"
    assert stack.outputs["AlertQueueUrl"].startswith(stack.endpoint + "/")
    assert records(stack) == 2
    assert stack.client("s3").get_object(Bucket=stack.outputs["DeadLetterBucketName"], Key="kept")["Body"].read()
    assert sequence(stack) >= second
    third = put(stack, 3)
    eventually(lambda: sequence(stack) >= third, what="a record put after the restart")

    os.kill(stack.emulator.pid, signal.SIGKILL)
    eventually(lambda: not any(worker.alive for worker in stack.workers.values()), what="the end of the other parts")
    told = opsriver("status", "--json", folder=folder)
    assert json.loads(told.stdout)["running"] is False
    stack = up(folder)
    assert records(stack) == 2, "it is as it was when it was last stopped"
    fourth = put(stack, 4)
    eventually(lambda: sequence(stack) >= fourth, what="a record put after the hard kill")


def test_a_taken_port_is_one_sentence_and_status_two(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = opsriver("up", "--detach", "--port", str(port), "--state", str(folder / "other"), folder=folder)
    assert done.returncode == 2
    assert f"port {port} of 127.0.0.1 is taken" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_folder_that_cannot_be_written_is_one_sentence_and_status_two(folder: Path) -> None:
    file = folder / "file"
    file.write_text("not a folder")
    for command in ("up", "status"):
        done = opsriver(command, "--state", str(file), folder=folder)
        assert (done.returncode, done.stdout) in ((2, ""), (0, f"nothing runs in {file}; `opsriver up` starts it\n"))
        assert "Traceback" not in done.stderr
        if command == "up":
            assert done.returncode == 2
            assert str(file) in done.stderr


def test_two_commands_do_not_start_in_one_folder_at_once(tmp_path: Path) -> None:
    with embedded._alone(tmp_path), pytest.raises(embedded.Problem, match="try again"):
        embedded.start(tmp_path)


def test_nothing_of_the_users_aws_settings_reaches_the_embedded_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    settings = emulator.environment(tmp_path, "http://127.0.0.1:1")
    assert "AWS_PROFILE" not in settings
    assert settings["AWS_SECRET_ACCESS_KEY"] == "test"
    assert settings["AWS_SHARED_CREDENTIALS_FILE"].startswith(str(tmp_path))
