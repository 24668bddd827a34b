"""What functions are built from: pinned wheels that agree with requirements.lock, and a limit on their size."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[3]
LAMBDA = {
    **default_environment(), "python_version": "3.13", "python_full_version": "3.13.0", "platform_machine": "aarch64",
    "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}  # fmt: skip


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms (``!Ref x``) as nothing: only parameters are looked at here."""


Loader.add_multi_constructor("!", lambda *_: None)
SETS = ("archive", "light", "scorer")


def pins(path: Path) -> dict[str, str]:
    """Name and version of each entry that holds on Lambda."""
    found = {}
    for line in path.read_text().splitlines():
        if re.match(r"[a-z0-9]", line):
            requirement = Requirement(line.removesuffix("\\").strip())
            if requirement.marker is None or requirement.marker.evaluate({k: str(v) for k, v in LAMBDA.items()}):
                found[requirement.name] = str(requirement.specifier)
    return found


@pytest.mark.parametrize("name", SETS)
def test_a_functions_pins_are_those_of_the_whole_project(name: str) -> None:
    whole, own = pins(ROOT / "requirements.lock"), pins(ROOT / "requirements" / f"{name}.lock")
    assert own
    assert {package: whole.get(package) for package in own} == own


@pytest.mark.parametrize("path", [ROOT / "requirements.lock", *(ROOT / "requirements").glob("*.lock")], ids=str)
def test_every_pin_has_hashes_and_no_lock_names_an_index(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert all("--hash=sha256:" in entry for entry in entries if re.match(r"[a-z0-9]", entry))


def test_each_set_holds_only_what_its_functions_need() -> None:
    light, scorer, archive = (set(pins(ROOT / "requirements" / f"{n}.lock")) for n in ("light", "scorer", "archive"))
    assert light.isdisjoint({"numpy", "scipy", "river", "pyarrow", "boto3"})
    assert {"numpy", "river", "scipy"} <= scorer
    assert scorer.isdisjoint({"pyarrow", "pandas", "boto3"})
    assert {"numpy", "pyarrow"} <= archive
    assert archive.isdisjoint({"river", "pandas", "boto3"})


def handlers() -> list[tuple[str, str]]:
    """Each function's handler and the set that the Makefile builds it from."""
    resources = yaml.load((ROOT / "template.yaml").read_text(), Loader)["Resources"]
    sets = {}
    for names, used in re.findall(
        r"^((?:build-\w+[ \\\n]*)+):\n\t@\$\(PACKAGE\) (\w+)", (ROOT / "Makefile").read_text(), re.MULTILINE
    ):
        sets |= dict.fromkeys(re.findall(r"build-(\w+)", names), used)
    found = {
        name: one["Properties"]["Handler"] for name, one in resources.items() if one["Type"] == "AWS::Serverless::Function"
    }
    return [(handler.rpartition(".")[0], sets[name]) for name, handler in found.items()]


FORMATS = [f"stream_processors.records.{name}" for name in ("packed", "kpl", "otlp", "telegraf", "eventbridge")]
LATER = {"light": FORMATS, "archive": FORMATS, "scorer": [*FORMATS, "stream_processors.detectors.river_adapter"]}
"""What a handler imports when it is first needed."""


@pytest.mark.parametrize(("module", "used"), handlers())
def test_a_handler_imports_nothing_that_its_function_does_not_bring(module: str, used: str) -> None:
    modules = ",".join([module, *LATER[used]])
    command = [sys.executable, "-m", "tests.support.packaged", modules, *pins(ROOT / "requirements" / f"{used}.lock")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_function_above_the_limit_fails_the_build(tmp_path: Path) -> None:
    folder = tmp_path / ".aws-sam" / "build" / "HeavyFunction"
    folder.mkdir(parents=True)
    command = [sys.executable, str(ROOT / "tools" / "function_sizes.py")]
    (folder / "small").write_bytes(b"0")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    with (folder / "large").open("wb") as file:
        file.truncate(251 * 1024 * 1024)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "HeavyFunction" in done.stdout


@pytest.mark.parametrize("stage", ["local", "dev", "staging", "prod"])
def test_each_stage_sets_parameters_that_the_template_has_to_values_that_it_allows(stage: str) -> None:
    declared = yaml.load((ROOT / "template.yaml").read_text(), Loader)["Parameters"]
    chosen = tomllib.loads((ROOT / "samconfig.toml").read_text())[stage]["deploy"]["parameters"]
    pairs = dict(pair.split("=", 1) for pair in shlex.split(chosen["parameter_overrides"]))
    assert pairs["StageName"] == stage
    for name, value in pairs.items():
        assert value in map(str, declared[name].get("AllowedValues", [value])), name
