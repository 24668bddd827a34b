"""Samples of this machine by psutil: the host sample, and metrics of each device.

Rates come from the difference of counters over a monotonic clock. A counter that went back (a reset,
a device that was replaced) gives no rate for that interval; a new device gives its first rate one
interval later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil

SKIPPED_FILESYSTEMS = frozenset({"squashfs", "tmpfs", "devtmpfs", "overlay", "proc", "sysfs", "iso9660"})


@dataclass(slots=True)
class Sampler:
    """Takes samples; ``clock`` is monotonic seconds, ``now`` epoch milliseconds."""

    hostname: str
    clock: Callable[[], float]
    now: Callable[[], int]
    devices: bool = True
    _before: dict[str, float] = field(default_factory=dict)
    _at: float | None = None

    def sample(self) -> list[dict[str, Any]]:
        """One host sample and, with ``devices``, native metrics of each device.

        The first call has no rates to tell and returns nothing; call it again an interval later.
        """
        counters = self._counters()
        at, timestamp = self.clock(), self.now()
        cpu = psutil.cpu_percent(interval=None)
        first = self._at is None
        span = at - (self._at if self._at is not None else at)
        rates = {
            name: (value - self._before[name]) / span
            for name, value in counters.items()
            if span > 0 and value >= self._before.get(name, float("inf"))
        }
        self._before, self._at = counters, at
        if first or "disk" not in rates or "network" not in rates:
            return []
        made: list[dict[str, Any]] = [
            {
                "hostname": self.hostname,
                "timestamp": timestamp,
                "cpuUsage": cpu,
                "memoryUsage": psutil.virtual_memory().percent,
                "diskIO": round(rates.pop("disk"), 1),
                "networkIO": round(rates.pop("network"), 1),
            }
        ]
        if self.devices:
            made += [self._device(name, rate, timestamp) for name, rate in rates.items()]
            made += self._filesystems(timestamp)
        return made

    def _counters(self) -> dict[str, float]:
        counters: dict[str, float] = {"disk": 0.0, "network": 0.0}
        for name, disk in (psutil.disk_io_counters(perdisk=True) or {}).items():
            if name.startswith(("loop", "ram")):
                continue
            counters[f"disk.readBytes/device/{name}"] = disk.read_bytes
            counters[f"disk.writeBytes/device/{name}"] = disk.write_bytes
        total = psutil.disk_io_counters()
        if total is not None:
            counters["disk"] = total.read_bytes + total.write_bytes
        for name, net in psutil.net_io_counters(pernic=True).items():
            if name == "lo":
                continue
            counters[f"network.receivedBytes/interface/{name}"] = net.bytes_recv
            counters[f"network.sentBytes/interface/{name}"] = net.bytes_sent
            counters["network"] += net.bytes_recv + net.bytes_sent
        return counters

    def _device(self, name: str, rate: float, timestamp: int) -> dict[str, Any]:
        metric, kind, device = name.split("/", 2)
        return {
            "resource": self.hostname,
            "metric": metric,
            "timestamp": timestamp,
            "value": round(rate, 1),
            "unit": "Bytes/Second",
            "dimensions": {kind: device},
        }

    def _filesystems(self, timestamp: int) -> list[dict[str, Any]]:
        made, seen = [], set[str]()
        for part in psutil.disk_partitions(all=False):
            if part.fstype in SKIPPED_FILESYSTEMS or part.device in seen:
                continue
            seen.add(part.device)
            try:
                used = psutil.disk_usage(part.mountpoint).percent
            except OSError:  # unmounted, or not ours to look at
                continue
            made.append(
                {
                    "resource": self.hostname,
                    "metric": "disk.usedPercent",
                    "timestamp": timestamp,
                    "value": used,
                    "unit": "Percent",
                    "dimensions": {"mount": part.mountpoint},
                }
            )
        return made
