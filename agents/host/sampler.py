"""Samples of this machine by psutil: the host sample, and metrics of each device.

Rates come from the difference of counters over a monotonic clock. A counter that went back (a reset, a
device that was replaced) gives no rate for that interval; a new device gives its first rate one
interval later. Totals are of the devices that gave a rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

SKIPPED_FILESYSTEMS = frozenset({"squashfs", "tmpfs", "devtmpfs", "overlay", "proc", "sysfs", "iso9660"})
VIRTUAL = {
    "block": ("loop", "ram", "zram", "dm-", "md", "sr"),
    "net": ("lo", "veth", "ifb", "docker", "br-", "virbr", "cali", "lxc", "tun", "tap"),
}
"""Beginnings of names of devices whose traffic is that of others beneath them, or none."""
_ABSENT = (OSError, RuntimeError, psutil.Error)
"""What psutil raises where a machine has no such counters, or does not show them."""


@dataclass(slots=True)
class Sampler:
    """Takes samples; ``clock`` is monotonic seconds, ``now`` epoch milliseconds."""

    hostname: str
    clock: Callable[[], float]
    now: Callable[[], int]
    devices: bool = True
    sys: Path = Path("/sys")
    _before: dict[tuple[str, str, str], float] = field(default_factory=dict)
    _at: float | None = None

    def sample(self) -> list[dict[str, Any]]:
        """One host sample and, with ``devices``, native metrics of each device.

        The first call has no rates to tell and returns nothing; call it again an interval later.
        """
        counters = self._counters()
        at, timestamp = self.clock(), self.now()
        cpu, cpus = psutil.cpu_percent(interval=None), psutil.cpu_percent(interval=None, percpu=True)
        span = 0.0 if self._at is None else at - self._at
        rates = {
            name: (value - self._before[name]) / span
            for name, value in counters.items()
            if span > 0 and value >= self._before.get(name, float("inf"))
        }
        self._before, self._at = counters, at
        if span <= 0:
            return []
        made: list[dict[str, Any]] = [
            {
                "hostname": self.hostname,
                "timestamp": timestamp,
                "cpuUsage": cpu,
                "memoryUsage": psutil.virtual_memory().percent,
                "diskIO": round(sum(rate for (_, kind, _), rate in rates.items() if kind == "device"), 1),
                "networkIO": round(sum(rate for (_, kind, _), rate in rates.items() if kind == "interface"), 1),
            }
        ]
        if self.devices:
            for (metric, kind, device), rate in rates.items():
                made.append(self._metric(metric, timestamp, round(rate, 1), "Bytes/Second", {kind: device}))
            for number, used in enumerate(cpus):
                made.append(self._metric("cpu.usedPercent", timestamp, used, "Percent", {"cpu": str(number)}))
            made += self._filesystems(timestamp)
        return made

    def _metric(self, metric: str, timestamp: int, value: float, unit: str, where: dict[str, str]) -> dict[str, Any]:
        return {
            "resource": self.hostname,
            "metric": metric,
            "timestamp": timestamp,
            "value": value,
            "unit": unit,
            "dimensions": where,
        }

    def _counters(self) -> dict[tuple[str, str, str], float]:
        """Bytes so far by metric, kind of device and device."""
        counters: dict[tuple[str, str, str], float] = {}
        try:
            disks = psutil.disk_io_counters(perdisk=True) or {}
        except _ABSENT:
            disks = {}
        for name in self._own("block", disks):
            counters["disk.readBytes", "device", name] = disks[name].read_bytes
            counters["disk.writeBytes", "device", name] = disks[name].write_bytes
        try:
            interfaces = psutil.net_io_counters(pernic=True)
        except _ABSENT:
            interfaces = {}
        for name in self._own("net", interfaces):
            counters["network.receivedBytes", "interface", name] = interfaces[name].bytes_recv
            counters["network.sentBytes", "interface", name] = interfaces[name].bytes_sent
        return counters

    def _own(self, kind: str, names: Iterable[str]) -> list[str]:
        """The devices that are hardware, where the system tells; else all that are not plainly something else.

        Partitions, volumes, bridges and the like carry the same bytes once more.
        """
        plain = [name for name in names if not name.startswith(VIRTUAL[kind])]
        folder = self.sys / ("block" if kind == "block" else "class/net")
        hardware = [name for name in plain if (folder / name.replace("/", "!") / "device").exists()]
        return hardware or plain

    def _filesystems(self, timestamp: int) -> list[dict[str, Any]]:
        made, seen = [], set[str]()
        try:
            parts = psutil.disk_partitions(all=False)
        except _ABSENT:
            return []
        for part in parts:
            if part.fstype in SKIPPED_FILESYSTEMS or part.device in seen:
                continue
            seen.add(part.device)
            try:
                used = psutil.disk_usage(part.mountpoint).percent
            except OSError:  # unmounted, or not ours to look at
                continue
            made.append(self._metric("disk.usedPercent", timestamp, used, "Percent", {"mount": part.mountpoint}))
        return made
