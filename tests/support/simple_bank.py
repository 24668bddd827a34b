"""A bank small enough to reason about: distance from a running mean, for tests of the core alone."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from stream_processors.detectors.base import Bank, FloatArray, IntArray, Verdicts

WARM_UP = 10


class SimpleBank(Bank):
    """Scores |value - running mean| / (10 + |running mean|), capped at 1."""

    name: ClassVar[str] = "seasonal"
    version: ClassVar[int] = 1
    families: ClassVar[tuple[str, ...]] = ("distance",)
    row_bytes: ClassVar[int] = 40

    def __init__(self) -> None:
        self.state = np.zeros((0, 5))

    def __len__(self) -> int:
        return len(self.state)

    def append(self, count: int) -> None:
        self.state = np.concatenate([self.state, np.zeros((count, 5))])

    def step(self, rows: IntArray, timestamps: IntArray, values: FloatArray) -> Verdicts:
        count, mean, last, interval, gain = self.state[rows].T
        t = timestamps.astype(np.float64)
        warming = count < WARM_UP
        level = np.where(warming, 0.0, np.minimum(np.abs(values - mean) / (10 + np.abs(mean)) * (1 + gain), 1.0))
        step = np.where(count > 0, np.maximum(t - last, 0), 0)
        interval = np.where(count <= 1, step, interval + (np.minimum(step, 4 * interval) - interval) / 16)
        mean = mean + (values - mean) / np.minimum(count + 1, 50)
        self.state[rows] = np.stack([count + 1, mean, t, interval, gain], axis=1)
        return Verdicts(
            score=level,
            level=level,
            tail=np.where(level > 0, 1 - level * 0.999, 1.0),
            expected_low=mean - 10,
            expected=mean,
            expected_high=mean + 10,
            warming=warming,
            evidence=np.where(level > 0, 1.0, 0.0)[:, None],
            interval=np.where(count > 1, interval, np.nan),
        )

    def dump(self, rows: IntArray) -> bytes:
        return self.state[rows].astype("<f8").tobytes()

    def restore(self, rows: IntArray, data: bytes) -> None:
        if len(data) != len(rows) * self.row_bytes:
            raise ValueError("length")
        self.state[rows] = np.frombuffer(data, "<f8").reshape(len(rows), 5)

    def feedback(self, row: int, *, missed: bool) -> None:
        self.state[row, 4] = min(1.0, max(-0.5, self.state[row, 4] + (0.25 if missed else -0.25)))


def banks() -> dict[str, Bank]:
    return {"seasonal": SimpleBank()}
