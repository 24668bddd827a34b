"""Deploys the real template, with the real ``sam deploy``, to the embedded AWS."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from opsriver.configuration import load
from opsriver.embedded.emulator import environment
from opsriver.errors import Problem

STACK = "opsriver"
BUCKET = "opsriver-artifacts"
PACKAGES = ("agents", "consumers", "runtime", "schemas", "stream_processors")
DETECTORS_KEY = "config/detectors.toml"
CONFIG = "local"
"""Section of samconfig.toml."""
_OWN_URL = re.compile(r"^http://(?:127\.0\.0\.1|localhost):\d+/")
TTL_TABLES = ("MetricsTableName", "InsightsTableName", "LedgerTableName")


def project() -> Path:
    """The folder that holds template.yaml and the packages."""
    here = Path(__file__).resolve().parents[2]
    if not (here / "template.yaml").is_file():
        raise Problem(f"template.yaml is not in {here}; run OpsRiver from a checkout installed with `make install`")
    return here


def stage(state: Path) -> Path:
    """Copy what is deployed to a folder of its own: code only, dependencies come from this environment."""
    source = state / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    root = project()
    for package in PACKAGES:
        shutil.copytree(root / package, source / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for name in ("template.yaml", "samconfig.toml"):
        shutil.copy2(root / name, source / name)
    return source


def deploy(
    state: Path, endpoint: str, client: Any, parameters: Mapping[str, str], *, detectors: Path | None = None
) -> dict[str, str]:
    """Deploy and return the stack's outputs. ``client`` makes boto3 clients by service."""
    sam = Path(sys.executable).with_name("sam")
    if not sam.is_file():
        raise Problem(f"{sam} is missing; install aws-sam-cli with `make install`")
    if detectors is not None:
        parameters = {**parameters, "DetectorConfigKey": DETECTORS_KEY}
    source = stage(state)
    _bucket(client("s3"))
    log = state / "deploy.log"
    command = [str(sam), "deploy", "--config-env", CONFIG, "--template-file", "template.yaml"]
    if parameters:
        wanted = {**_overrides(source / "samconfig.toml"), **parameters}
        command += ["--parameter-overrides", *(f"{name}={value}" for name, value in wanted.items())]
    _asked_for_updates(state)
    with log.open("wb") as out:
        done = subprocess.run(
            command, cwd=source, env=environment(state, endpoint), stdin=subprocess.DEVNULL,
            stdout=out, stderr=subprocess.STDOUT, timeout=600, check=False,
        )  # fmt: skip
    if done.returncode:
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        raise Problem(f"the template could not be deployed: {' '.join(last)[:300]} (all of it in {log})")
    described = client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]
    # Queue URLs keep the port of the first deployment; the emulator may listen on another one now.
    outputs = {o["OutputKey"]: _OWN_URL.sub(endpoint + "/", o["OutputValue"]) for o in described["Outputs"]}
    complete(client, outputs)
    if detectors is not None:
        load(detectors)
        client("s3").put_object(Bucket=outputs["StateBucketName"], Key=DETECTORS_KEY, Body=detectors.read_bytes())
    return outputs


def _overrides(samconfig: Path) -> dict[str, str]:
    """The parameters that samconfig.toml sets for the embedded AWS: ours on the command line replace all of them."""
    settings = tomllib.loads(samconfig.read_text())[CONFIG]["deploy"]["parameters"]
    return dict(pair.split("=", 1) for pair in shlex.split(settings["parameter_overrides"]))


def _asked_for_updates(state: Path) -> None:
    """Tell SAM that it has looked for a newer version of itself: nothing here calls out of this machine."""
    (state / "home" / "metadata.json").write_text(json.dumps({"lastVersionCheck": time.time()}))


def _bucket(s3: Any) -> None:
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=BUCKET)


def complete(client: Any, outputs: Mapping[str, str]) -> None:
    """Set what the emulator leaves out of a template: TTL, and its own pollers' being switched off."""
    dynamodb, functions = client("dynamodb"), client("lambda")
    for output in TTL_TABLES:
        table = outputs[output]
        state = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]["TimeToLiveStatus"]
        if state in ("DISABLED", "DISABLING"):
            dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"})
    for page in functions.get_paginator("list_event_source_mappings").paginate():
        for mapping in page["EventSourceMappings"]:
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
