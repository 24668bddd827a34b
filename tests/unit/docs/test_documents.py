"""What the documents name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from opsriver.cli import application
from stream_processors.detectors.allowed import MODELS
from stream_processors.detectors.config import Bounds, DetectorConfig, Rule, Window, parse

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=[d.name for d in DOCUMENTS])
def test_files_and_links_of_a_document_exist(document: Path) -> None:
    text = document.read_text()
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (document.parent / link).exists(), link
    for name in re.findall(r"`((?:tests|docs|schemas|stream_processors|consumers|agents|opsriver|tools)/[\w/.-]+)`", text):
        assert (ROOT / name).exists(), name


def test_make_targets_in_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for document in DOCUMENTS:
        for target in re.findall(r"`make ([a-z]+)", document.read_text()):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), (document.name, target)


def test_every_function_of_the_template_is_told_with_its_handler() -> None:
    template = (ROOT / "template.yaml").read_text()
    functions = re.findall(
        r"^  (\w+):\n    Type: AWS::Serverless::Function(?:\n    .*)*?\n      Handler: (\S+)", template, re.MULTILINE
    )
    assert len(functions) == template.count("AWS::Serverless::Function\n")
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name, handler in functions:
        assert f"| `{name}` | `{handler}` |" in text, name


def test_every_alarm_is_explained_to_those_who_get_it() -> None:
    alarms = re.findall(r"^  (\w+):\n    Type: AWS::CloudWatch::Alarm", (ROOT / "template.yaml").read_text(), re.MULTILINE)
    told = re.findall(r"`(\w+Alarm)`", (ROOT / "docs" / "operations.md").read_text())
    assert len(alarms) > 20
    assert set(told) == set(alarms)


def test_the_example_of_the_configuration_is_valid_and_every_key_is_told() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    example = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0]
    config = parse(example, "docs/configuration.md")
    assert [rule.detector for rule in config.rules] == [
        "off",
        "seasonal",
        "seasonal",
        "seasonal",
        "river.anomaly.GaussianScorer",
    ]
    assert config.rule("shop-7", "latencyP99").false_alarm_rate * 60 * 86_400_000 == pytest.approx(1)
    assert config.rule("db-1", "disk.usedPercent").bounds == Bounds(high=95)
    for kind in (DetectorConfig, Rule, Window, Bounds):
        for key in kind.__struct_fields__:
            assert re.search(rf"^\[*{key}\b|`{key}`|\b{key} = ", text, re.MULTILINE), key
    for path, model in MODELS.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{path}`"))
        for name, bounds in model.parameters.items():
            assert f"`{name}`" in line, (path, name)
            if name not in ("seed", "lags"):
                assert f"`{name}` {bounds.least:g} to {bounds.most:.0f}" in line, (path, name)


def test_the_document_on_evaluation_names_every_option() -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text()
    command = get_command(application()).commands["evaluate"]  # type: ignore[attr-defined]
    for option in [name for parameter in command.params for name in parameter.opts if name.startswith("--")]:
        assert f"`{option}" in text, option
