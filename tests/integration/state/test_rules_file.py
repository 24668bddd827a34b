"""The same rules file for the scorer on Lambda and for every command; the same words where it is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsriver import cli
from stream_processors import lambda_handler
from tests.chaos.scorer import Stage, labelled_stream
from tests.support.labelled import folder
from tests.support.ministack import Emulator, emulator

WRONG = b'[[rules]]\nat_most = "high"\n'
TOLD = (
    "rules[0].at_most: Invalid enum value 'high'; it may be LOW, MEDIUM, HIGH, CRITICAL; "
    "docs/configuration.md has every key with an example"
)
BATCHES = labelled_stream(3)[:14]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("rules")) as running:
        yield running


@pytest.fixture
def stage(server: Emulator, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage(server, f"rules{abs(hash(request.node.name)) % 10**8}").build()
    for name, value in made.environment().items():
        if name not in ("PATH", "POWERTOOLS_METRICS_DISABLED"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPSRIVER_DETECTORS", f"s3://{made.name}-state/config/detectors.toml")
    lambda_handler.processor.cache_clear()
    yield made
    lambda_handler.processor.cache_clear()


def put(stage: Stage, rules: bytes) -> None:
    stage.emulator.client("s3").put_object(Bucket=f"{stage.name}-state", Key="config/detectors.toml", Body=rules)


def feed() -> list[dict[str, object]]:
    return [lambda_handler.handler({"Records": records}, None) for records in BATCHES]


@pytest.mark.embedded
def test_records_wait_while_the_file_is_missing_or_wrong_and_go_on_once_it_is_mended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(lambda_handler.logger, "warning", lambda text, extra: told.append(extra["error"]))
    first = BATCHES[0]
    waiting = {"batchItemFailures": [{"itemIdentifier": first[0]["kinesis"]["sequenceNumber"]}]}
    assert lambda_handler.handler({"Records": first}, None) == waiting
    put(stage, WRONG)
    assert lambda_handler.handler({"Records": first}, None) == waiting
    assert "NoSuchKey" in told[0]
    assert told[1] == f"s3://{stage.name}-state/config/detectors.toml: {TOLD}"
    put(stage, b'[[rules]]\nat_most = "LOW"\nsilence = false\n')
    assert feed() == [{"batchItemFailures": []}] * len(BATCHES)
    insights = stage.outcome()["insights"].values()
    assert insights
    assert {item["severity"]["S"] for item in insights} == {"LOW"}


@pytest.mark.embedded
def test_a_river_model_of_the_file_scores_on_lambda_and_survives_a_cold_start(stage: Stage) -> None:
    put(stage, b'[[rules]]\ndetector = "river.anomaly.GaussianScorer"\nbounds = { high = 80 }\n')
    for records in BATCHES:
        lambda_handler.processor.cache_clear()
        assert lambda_handler.handler({"Records": records}, None) == {"batchItemFailures": []}
    told = {item["detector"]["S"] for item in stage.outcome()["insights"].values()}
    assert "river.anomaly.GaussianScorer" in told


@pytest.mark.parametrize("command", ["score", "evaluate", "up"])
def test_every_command_refuses_a_wrong_file_with_the_same_words_before_it_does_anything(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_bytes(WRONG)
    given = {
        "score": [folder(tmp_path / "x", folders=1, rows=300) / "data", "--out", tmp_path / "out"],
        "evaluate": [tmp_path / "x"],
        "up": ["--state", tmp_path / "state"],
    }[command]
    monkeypatch.setattr(sys, "argv", ["opsriver", command, *map(str, given), "--detectors", str(rules)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip() == f"opsriver: {rules}: {TOLD}"
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "state").exists()
