"""The agent's loop: sample, spool, deliver in order, and go on whatever the stream or the disk does.

Sampling and delivery run in threads of their own, so that a network that swallows packets does not
stretch the interval. Every batch is spooled before it is sent; delivery is at least once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
import psutil

from agents.host.sampler import Sampler
from agents.host.spool import Frame, Spool
from agents.producer import Event, NotDelivered, Producer

MAX_IN_MEMORY = 1_000
"""Batches kept in memory while the disk refuses; the oldest gives way."""
BATCH_FRAMES = 200
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds between tries while the stream is out of reach."""
LAST_WORDS = 12.0
"""Seconds that the last delivery may take when the agent is told to end; what is not delivered stays spooled."""


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
    code: str = ""
    """AWS' error code of the latest failed delivery; empty after one that succeeded."""
    _memory: deque[tuple[int, bytes]] = field(default_factory=deque)
    _number: int = 0
    _lost: int = 0
    _told_dropped: int = 0
    _told_damaged: int = 0
    _complaints: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Guards spool and memory; never held while the network is waited for."""
    _fresh: threading.Event = field(default_factory=threading.Event)
    _ended: bool = False

    @property
    def dropped(self) -> int:
        """Batches that were lost because spool or memory was full."""
        return self.spool.dropped + self._lost

    def run(self) -> None:
        """Sample every interval until ``stop`` is set, then deliver what is left, once."""
        sender = threading.Thread(target=self._keep_delivering, name="opsriver-sender", daemon=True)
        sender.start()
        self._sample()
        due = time.monotonic() + self.interval
        while not self.stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + self.interval, time.monotonic())
            self.keep(self._sample())
            self._fresh.set()
        self._fresh.set()
        sender.join(LAST_WORDS)
        with self._lock:
            self._ended = True  # from here on the folder may be another agent's

    def step(self) -> bool:
        """Take one sample, keep it, and deliver what can be delivered; False where something is left."""
        self.keep(self._sample())
        return self.deliver()

    def _sample(self) -> list[dict[str, Any]]:
        try:
            samples = self.sampler.sample()
        except (OSError, RuntimeError, psutil.Error) as error:
            self._complain("sample", f"a sample could not be taken ({error}); the next is tried as usual")
            return []
        self._complaints.discard("sample")
        return samples

    def keep(self, samples: list[dict[str, Any]]) -> None:
        """Spool samples; in memory, bounded, where the disk refuses."""
        if not samples:
            return
        with self._lock:
            if self.dropped > self._told_dropped:
                self.tell(
                    f"spool is full: {self.dropped - self._told_dropped} oldest batches were dropped; "
                    "make it larger with --spool-bytes"
                )
                self._told_dropped = self.dropped
                samples = [*samples, self._metric("agent.spoolDropped", float(self.dropped))]
            self._number += 1
            self._memory.append((self._number, msgspec.json.encode(samples)))
            try:
                while self._memory:
                    self.spool.add(self._memory[0][1])
                    self._memory.popleft()
                self._complaints.discard("disk")
            except ValueError as error:
                self._memory.popleft()
                self._lost += 1
                self._complain("size", f"{error}; it was dropped; make the spool larger with --spool-bytes")
            except OSError as error:
                self._complain("disk", f"spool cannot be written ({error.strerror}); samples are kept in memory for now")
            while len(self._memory) > MAX_IN_MEMORY:
                self._memory.popleft()
                self._lost += 1

    def _metric(self, name: str, value: float) -> dict[str, Any]:
        return {"resource": self.sampler.hostname, "metric": name, "timestamp": self.sampler.now(), "value": value,
                "unit": "Count"}  # fmt: skip

    def _complain(self, about: str, line: str) -> None:
        """Tell a trouble once, until it is over."""
        if about not in self._complaints:
            self._complaints.add(about)
            self.tell(line)

    # ------------------------------------------------------------------ delivery

    def _keep_delivering(self) -> None:
        failures = 0
        while True:
            self._fresh.clear()  # before the look at ``stop``, so that its signal cannot be missed
            ended = self.stop.is_set()
            try:
                failures = 0 if self.deliver() else failures + 1
                self._complaints.discard("unexpected")
            except Exception as error:
                failures += 1
                self._complain("unexpected", f"delivery failed: {type(error).__name__}: {error}; it is tried again")
            if ended:
                return
            if failures:
                self.stop.wait(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (failures - 1)))
            else:
                self._fresh.wait()

    def deliver(self) -> bool:
        """Send what is kept, oldest first; what the stream does not take stays. False where something is left."""
        while True:
            try:
                with self._lock:
                    frames = list(islice(self.spool.pending(), BATCH_FRAMES))
                    if self.spool.damaged > self._told_damaged:
                        self.tell(f"{self.spool.damaged - self._told_damaged} damaged places in the spool were passed over")
                        self._told_damaged = self.spool.damaged
                    in_memory = [] if frames else list(self._memory)
            except OSError as error:
                self._complain("read", f"spool cannot be read ({error.strerror}); it is tried again")
                return False
            self._complaints.discard("read")
            if frames:
                taken = self._put([frame.payload for frame in frames])
                if taken:
                    self._note(frames[taken - 1])
                if taken < len(frames):
                    return False
            elif in_memory:
                taken = self._put([payload for _, payload in in_memory])
                last = in_memory[taken - 1][0] if taken else 0
                with self._lock:
                    while self._memory and self._memory[0][0] <= last:
                        self._memory.popleft()
                return taken == len(in_memory)
            else:
                return True

    def _note(self, frame: Frame) -> None:
        with self._lock:
            if self._ended:
                return
            try:
                self.spool.delivered(frame)
                self._complaints.discard("cursor")
            except OSError as error:
                self._complain(
                    "cursor",
                    f"what was delivered cannot be noted ({error.strerror}); after a restart it may be sent again",
                )

    def _put(self, payloads: list[bytes]) -> int:
        """Send payloads; returns how many of them the stream took, from the first on."""
        batches = [self._events(payload) for payload in payloads]
        made = [event for batch in batches for event in batch]
        try:
            self.sent += self.producer.send(made)
        except ValueError as error:  # not for this stream, however often it is tried
            self._lost += len(payloads)
            self.tell(f"{len(payloads)} batches were dropped: {error}")
        except NotDelivered as error:
            self.code = error.code
            self._complain("stream", f"the stream is out of reach, spooling: {str(error)[:300]}")
            if len({key for key, _ in made}) > 1:
                return 0  # what was taken need not be the first of them
            taken, whole = len(made) - len(error.events), 0
            for batch in batches:
                if taken < len(batch):
                    break
                taken -= len(batch)
                self.sent += len(batch)
                whole += 1
            return whole
        self.code = ""
        if "stream" in self._complaints:
            self._complaints.discard("stream")
            self.tell("the stream takes records again")
        return len(payloads)

    def _events(self, payload: bytes) -> list[Event]:
        try:
            return events(payload)
        except (msgspec.DecodeError, AttributeError, TypeError):
            self.tell(f"a spooled batch of {len(payload)} bytes holds no samples; it was passed over")
            return []


def events(payload: bytes) -> list[Event]:
    """Events of a spooled batch: partition key and JSON of each."""
    return [
        (str(sample.get("hostname") or sample.get("resource")), msgspec.json.encode(sample))
        for sample in msgspec.json.decode(payload)
    ]
