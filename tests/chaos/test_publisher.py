"""The publisher and the sweeper are killed around each of their calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import publisher

pytestmark = [pytest.mark.chaos, pytest.mark.embedded]


def test_no_notification_is_missing_and_none_is_doubled_but_between_its_send_and_its_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [
        ("pending written, unanswered", publisher.MAPPING),
        ("PutEvents sent, unanswered", publisher.MAPPING),
        ("before the ledger's pending write", publisher.SWEEPER),
        ("PutEvents sent, unanswered", publisher.SWEEPER),
        ("sweeper: after the sweeper's claim", publisher.SWEEPER),
        ("sweeper: PutEvents sent, unanswered", publisher.SWEEPER),
    ]
    monkeypatch.setattr(publisher, "CASES", chosen)  # integration/consumers has the others, call by call
    report = publisher.chaos(len(chosen), seed=7, folder=tmp_path / "emulator")
    assert publisher.clean(report), report["points"]
    assert sum(row["doubled"] for row in report["points"].values()) > 0, "the window of a double was never hit"
