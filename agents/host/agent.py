"""The agent's loop: sample, spool, deliver in order, and go on whatever the stream does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agents.host.sampler import Sampler
from agents.host.spool import Frame, Spool
from agents.producer import Event, NotDelivered, Producer

MAX_IN_MEMORY = 1_000
"""Samples kept in memory while the disk refuses; the oldest gives way."""
BATCH_FRAMES = 200


@dataclass(slots=True)
class Agent:
    """Samples a host and sends what it sees. ``tell`` is given lines for the log."""

    sampler: Sampler
    producer: Producer
    spool: Spool
    interval: float
    tell: Callable[[str], object]
    stop: threading.Event = field(default_factory=threading.Event)
    sent: int = 0
    _memory: list[bytes] = field(default_factory=list)
    _told_dropped: int = 0
    _failing: bool = False
    _disk_refused: bool = False

    def run(self) -> None:
        """Sample every interval until ``stop`` is set, then deliver what is left, once."""
        self.sampler.sample()
        due = time.monotonic() + self.interval
        while not self.stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + self.interval, time.monotonic())
            self.step()
        self.deliver()

    def step(self) -> None:
        """Take one sample, keep it, and deliver what can be delivered."""
        self.keep(self.sampler.sample())
        self.deliver()

    def keep(self, samples: list[dict[str, Any]]) -> None:
        """Spool samples; in memory, bounded, where the disk refuses."""
        if self.spool.dropped > self._told_dropped:
            lost = self.spool.dropped - self._told_dropped
            self._told_dropped = self.spool.dropped
            self.tell(f"spool is full: {lost} oldest batches were dropped; make it larger with --spool-bytes")
            samples = [*samples, self._metric("agent.spoolDropped", float(self.spool.dropped))]
        if not samples:
            return
        payload = msgspec.json.encode(samples)
        try:
            while self._memory:
                self.spool.add(self._memory[0])
                self._memory.pop(0)
            self.spool.add(payload)
            self._disk_refused = False
        except OSError as error:
            if not self._disk_refused:
                self.tell(f"spool cannot be written ({error.strerror}); samples are kept in memory for now")
            self._disk_refused = True
            self._memory = [*self._memory, payload][-MAX_IN_MEMORY:]

    def _metric(self, name: str, value: float) -> dict[str, Any]:
        return {"resource": self.sampler.hostname, "metric": name, "timestamp": self.sampler.now(), "value": value,
                "unit": "Count"}  # fmt: skip

    def deliver(self) -> None:
        """Send what is spooled, oldest first; what the stream does not take stays."""
        held: list[Frame] = []
        for frame in self.spool.pending():
            held.append(frame)
            if len(held) >= BATCH_FRAMES:
                if not self._send(held):
                    return
                held = []
        if held and not self._send(held):
            return
        if self._disk_refused and self._memory:
            self._send_memory()

    def _send(self, frames: list[Frame]) -> bool:
        if not self._put([event for frame in frames for event in events(frame.payload)]):
            return False
        try:
            self.spool.delivered(frames[-1])
        except OSError as error:
            self.tell(f"spool's cursor cannot be written ({error.strerror}); these samples may be sent again")
            return False
        return True

    def _send_memory(self) -> None:
        if self._put([event for payload in self._memory for event in events(payload)]):
            self._memory.clear()

    def _put(self, made: list[Event]) -> bool:
        try:
            self.sent += self.producer.send(made)
        except NotDelivered as error:
            if not self._failing:
                self.tell(f"the stream is out of reach, spooling: {str(error)[:200]}")
            self._failing = True
            return False
        if self._failing:
            self.tell("the stream takes records again")
        self._failing = False
        return True


def events(payload: bytes) -> list[Event]:
    """Events of a spooled batch: partition key and JSON of each."""
    return [
        (str(sample.get("hostname") or sample.get("resource")), msgspec.json.encode(sample))
        for sample in msgspec.json.decode(payload)
    ]
