"""The sampler: rates from counters, through resets and devices that come and go."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from agents.host.sampler import Sampler
from stream_processors.records.batch import StreamRecord
from stream_processors.records.decode import decode

Disk = namedtuple("Disk", "read_bytes write_bytes")
Net = namedtuple("Net", "bytes_recv bytes_sent")
NOW = 1_790_000_000_000


class Machine:
    """A machine's counters and clocks, set by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **options: Any) -> None:
        self.disks: dict[str, Disk] = {}
        self.nets: dict[str, Net] = {}
        self.at = 100.0
        self.sys = tmp_path / "sys"
        monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk: dict(self.disks) or None)
        monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: dict(self.nets))
        # The wall clock jumps an hour back each time it is looked at: no rate may come of it.
        self.looks = 0
        self.sampler = Sampler("web-1", lambda: self.at, self._wall, sys=self.sys, **options)

    def _wall(self) -> int:
        self.looks += 1
        return NOW - self.looks * 3_600_000

    def hardware(self, *paths: str) -> None:
        for path in paths:
            (self.sys / path / "device").mkdir(parents=True)

    def after(self, seconds: float) -> dict[str, float]:
        """The next sample as {metric or metric/device: value}."""
        self.at += seconds
        found: dict[str, float] = {}
        for sample in self.sampler.sample():
            if "hostname" in sample:
                found |= {k: v for k, v in sample.items() if k not in ("hostname", "timestamp")}
            else:
                (where,) = sample["dimensions"].values()
                found[f"{sample['metric']}/{where}"] = sample["value"]
        return found


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def test_rates_come_from_the_monotonic_clock(machine: Machine) -> None:
    machine.disks, machine.nets = {"sda": Disk(0, 0)}, {"eth0": Net(0, 0), "lo": Net(0, 0)}
    assert machine.after(0) == {}
    machine.disks, machine.nets = {"sda": Disk(1_000, 3_000)}, {"eth0": Net(500, 0), "lo": Net(9_999, 9_999)}
    found = machine.after(5)
    assert found["disk.readBytes/sda"] == 200
    assert found["disk.writeBytes/sda"] == 600
    assert found["diskIO"] == 800
    assert found["networkIO"] == 100


def test_partitions_volumes_and_bridges_do_not_count_their_bytes_again(machine: Machine) -> None:
    machine.hardware("block/sda", "block/cciss!c0d0", "class/net/eth0")
    names, nets = ("sda", "sda1", "dm-0", "cciss/c0d0"), ("eth0", "eth0.7", "docker0", "veth12")
    for amount in (0, 1_000):
        machine.disks = {name: Disk(amount, 0) for name in names}
        machine.nets = {name: Net(amount, 0) for name in nets}
        found = machine.after(1)
    assert found["diskIO"] == 2_000
    assert found["networkIO"] == 1_000
    devices = {n.partition("/")[2] for n in found if n.startswith(("disk.read", "network."))}
    assert devices == {"sda", "cciss/c0d0", "eth0"}


def test_a_counter_that_goes_back_and_a_device_that_comes_give_no_rate_and_no_leap(machine: Machine) -> None:
    machine.nets = {"eth0": Net(10_000, 10_000), "eth1": Net(0, 0)}
    machine.after(0)
    machine.nets = {"eth0": Net(50, 20_000), "eth1": Net(100, 0), "usb0": Net(10**12, 10**12)}
    found = machine.after(10)
    assert "network.receivedBytes/eth0" not in found
    assert not any("usb0" in name for name in found)
    assert found["networkIO"] == 1_010
    machine.nets = {"eth0": Net(1_050, 20_000), "usb0": Net(10**12 + 500, 10**12)}  # eth1 was pulled
    found = machine.after(10)
    assert found["networkIO"] == 150
    assert not any("eth1" in name for name in found)


def test_a_machine_without_such_counters_still_has_a_host_sample(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> Any:
        raise FileNotFoundError("/proc/diskstats")

    monkeypatch.setattr(psutil, "disk_io_counters", refused)
    machine.after(0)
    found = machine.after(1)
    assert found["diskIO"] == 0
    assert found["networkIO"] == 0


def test_totals_alone_are_one_host_sample(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine(monkeypatch, tmp_path, devices=False)
    machine.nets = {"eth0": Net(0, 0)}
    machine.after(0)
    assert set(machine.after(1)) == {"cpuUsage", "memoryUsage", "diskIO", "networkIO"}


def test_this_machines_own_samples_are_decoded_without_a_word() -> None:
    clock = iter((1.0, 2.0))
    sampler = Sampler("web-1", lambda: next(clock), lambda: NOW)
    assert sampler.sample() == []
    samples = sampler.sample()
    assert samples[0]["hostname"] == "web-1"
    assert any(s.get("metric") == "cpu.usedPercent" for s in samples)
    batch = decode([StreamRecord("s", "1", "web-1", NOW, msgspec.json.encode(samples))])
    assert not batch.dead_letters
    assert len(batch) == len(samples) + 3
    assert len(set(batch.series)) == len(batch)
