"""Where a command works: the embedded AWS that runs here, or a stack deployed on AWS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from opsriver.errors import Problem

DEFAULT_STATE = Path(".opsriver")
"""Folder in which the embedded AWS keeps its state unless told otherwise."""

StateOption = Annotated[Path, typer.Option("--state", help="State folder of the embedded AWS.")]
StackOption = Annotated[str, typer.Option("--stack", help="Name of a stack on AWS, instead of the embedded one.")]
RegionOption = Annotated[str, typer.Option("--region", help="Region of the stack on AWS.")]


@dataclass(frozen=True, slots=True)
class Target:
    """A deployed stack: its outputs by name and a maker of boto3 clients."""

    name: str
    region: str
    outputs: dict[str, str]
    client: Callable[[str], Any]

    def output(self, name: str) -> str:
        """An output of the stack; Problem where an older template lacks it."""
        if name not in self.outputs:
            raise Problem(f"stack {self.name} has no output {name}; deploy the current template")
        return self.outputs[name]


def find(state: Path = DEFAULT_STATE, stack: str = "", region: str = "") -> Target:
    """The stack named by the options: on AWS where ``stack`` is given, else the embedded one."""
    if stack:
        return _on_aws(stack, region)
    from opsriver.embedded import running

    found = running(state)
    if found is None:
        raise Problem(f"nothing runs in {state}; start it with `opsriver up --detach`, or name a stack with --stack")
    return Target(found.stack_name, found.region, dict(found.outputs), found.client)


def _on_aws(stack: str, region: str) -> Target:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    from runtime import clients

    try:
        session = boto3.Session(region_name=region or None)
        cloudformation = session.client("cloudformation", config=clients.config())
        described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except (ClientError, BotoCoreError) as error:
        raise Problem(f"stack {stack} cannot be read: {error}; check --stack, --region and your credentials") from None
    outputs = {o["OutputKey"]: o["OutputValue"] for o in described.get("Outputs", [])}
    return Target(
        stack,
        session.region_name,
        outputs,
        lambda service: session.client(service, config=clients.config()),  # type: ignore[call-overload]
    )
