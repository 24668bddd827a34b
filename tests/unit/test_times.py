"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from opsriver import labelled
from opsriver.commands.archive import moment
from opsriver.errors import Problem
from opsriver.evaluation import moment as of_label
from schemas.times import from_iso

EPOCHS = [1_790_040_300_000 + 300_000 * step for step in range(2000)]


@pytest.mark.parametrize("text", ["2026-11-26T15:04:05Z", "2026-11-26 15:04:05", "20261126T150405Z"])
def test_a_time_is_read_in_utc(text: str) -> None:
    assert from_iso(text) == datetime(2026, 11, 26, 15, 4, 5, tzinfo=UTC)
    assert of_label(text, "x") == labelled._time(text, Path("x"), 1) == moment(text, 0) == 1_795_705_445_000


def test_a_date_alone_is_its_midnight() -> None:
    assert from_iso("20261126") == from_iso("2026-11-26") == datetime(2026, 11, 26, tzinfo=UTC)


def test_an_epoch_is_never_taken_for_a_date_without_dashes() -> None:
    for epoch in EPOCHS:
        with pytest.raises(ValueError, match="is a number"):
            from_iso(str(epoch))
        assert labelled._time(str(epoch), Path("x"), 1) == of_label(str(epoch), "x") == epoch
        assert labelled._time(str(epoch // 1000), Path("x"), 1) == epoch
    with pytest.raises(Problem, match="'1790040300000' is not a time; write it as"):
        moment(str(EPOCHS[0]), 0)
