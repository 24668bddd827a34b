"""The spool: what was acknowledged comes out, in order, once; whatever breaks, and within its bound."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.host import spool as module
from agents.host.spool import Spool, SpoolInUse


def all_of(spool: Spool) -> list[bytes]:
    return [frame.payload for frame in spool.pending()]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    payloads=st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=12),
    delivered=st.integers(0, 12),
    cut=st.integers(1, 400),
    segment=st.integers(50, 1_000),
)
def test_a_cut_at_any_byte_of_the_last_write_loses_only_what_was_not_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], delivered: int, cut: int, segment: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, limit=10_000_000, segment=segment)
    for payload in payloads:
        spool.add(payload)
    frames = list(spool.pending())[:delivered]
    if frames:
        spool.delivered(frames[-1])
    left = payloads[len(frames) :]
    # The process dies in the middle of one more write: part of a frame is on the disk.
    spool.add(b"x" * 300)
    spool.close()
    newest = max(folder.glob("*.spool"))
    size = newest.stat().st_size
    with newest.open("r+b") as file:
        file.truncate(size - min(cut, 308))
    again = Spool(folder, limit=10_000_000, segment=segment)
    found = all_of(again)
    assert found[: len(left)] == left
    assert found[len(left) :] in ([], [b"x" * 300])
    again.add(b"after")
    assert all_of(again)[: len(left)] == left
    assert all_of(again)[-1] == b"after"
    again.close()


def test_what_was_delivered_is_not_seen_again_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment=100)
    for n in range(20):
        spool.add(b"%03d" % n * 10)
    spool.delivered(list(spool.pending())[11])
    spool.close()
    again = Spool(tmp_path, segment=100)
    assert all_of(again) == [b"%03d" % n * 10 for n in range(12, 20)]
    again.delivered(list(again.pending())[-1])
    assert all_of(again) == []
    again.close()


def test_only_when_it_is_full_the_oldest_is_dropped_and_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=4_000, segment=1_000)
    for n in range(100):
        spool.add(b"%02d" % n + b"x" * 98)
        assert spool.size() <= 4_000
    kept = all_of(spool)
    assert kept == [b"%02d" % n + b"x" * 98 for n in range(100 - len(kept), 100)]
    assert spool.dropped == 100 - len(kept)
    assert len(kept) > 20
    spool.close()


def test_a_broken_frame_is_passed_over_and_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for payload in (b"one", b"two", b"three"):
        spool.add(payload)
    file = next(tmp_path.glob("*.spool"))
    data = bytearray(file.read_bytes())
    data[8 + 3 + 8] ^= 1
    file.write_bytes(data)
    assert all_of(spool) == [b"one", b"three"]
    assert spool.damaged == 1
    spool.close()


def test_two_agents_cannot_use_one_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(SpoolInUse, match="another agent"):
        Spool(tmp_path)
    spool.close()
    Spool(tmp_path).close()


def test_a_full_disk_leaves_no_torn_frame_before_later_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    spool.add(b"one")
    real = module.os.fsync

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        spool.add(b"two")
    monkeypatch.setattr(module.os, "fsync", real)
    spool.add(b"three")
    assert all_of(spool) == [b"one", b"three"]
    spool.close()
