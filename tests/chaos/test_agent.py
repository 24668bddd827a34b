"""The real agent is killed while it spools and while it delivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import agent

pytestmark = [pytest.mark.embedded, pytest.mark.chaos]


def test_a_killed_agent_loses_nothing_that_it_had_acknowledged(tmp_path: Path) -> None:
    report = agent.chaos(2, seed=7, folder=tmp_path)
    assert agent.clean(report), report["counts"]
