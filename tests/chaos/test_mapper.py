"""The event source mapper is killed while records flow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import mapper

pytestmark = [pytest.mark.chaos, pytest.mark.embedded]


def test_a_killed_mapper_skips_nothing_and_keeps_the_order_of_each_shard(tmp_path: Path) -> None:
    report = mapper.chaos(4, seed=7, folder=tmp_path)
    assert mapper.clean(report), report
