"""The scorer is killed at every point of the checkpoint protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.scorer import ALL_POINTS, chaos, clean

pytestmark = [pytest.mark.chaos, pytest.mark.embedded]


def test_a_kill_at_any_point_loses_doubles_and_changes_nothing(tmp_path: Path) -> None:
    report = chaos(len(ALL_POINTS) + 2, seed=7, folder=tmp_path / "emulator")
    assert clean(report), report["points"]
