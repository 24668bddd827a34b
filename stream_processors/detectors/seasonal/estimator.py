"""The default detector as a river estimator: a bank with one row.

Importing this module imports river.anomaly, which takes a second or more; the bank does not need it.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
from river.base import SupervisedAnomalyDetector

from stream_processors.detectors.base import Verdicts
from stream_processors.detectors.seasonal.bank import SeasonalBank

NOMINAL_INTERVAL = 60_000
"""Milliseconds between events whose ``x`` carries no timestamp."""


class SeasonalDetector(SupervisedAnomalyDetector):
    """Detects anomalies of one series by seasonal, level and range evidence against its own past.

    ``x["timestamp"]`` is a datetime (a naive one is taken as UTC) or epoch milliseconds; without it
    events count as one a minute. Values that are not finite are ignored and score 0.

    Examples
    --------
    >>> import math
    >>> from stream_processors.detectors.seasonal.estimator import SeasonalDetector
    >>> detector = SeasonalDetector()
    >>> for n in range(3 * 288):
    ...     x, y = {"timestamp": n * 300_000}, math.sin(n * math.tau / 288) + 0.1 * math.sin(n * n)
    ...     detector.learn_one(x, y)
    >>> x = {"timestamp": 3 * 288 * 300_000}
    >>> detector.score_one(x, 0.1) >= 0.3, detector.score_one(x, 9.0) >= 0.5
    (False, True)

    """

    def __init__(self) -> None:
        self._bank = SeasonalBank(1)
        self._time = 0
        self._seen = 0

    def score_one(self, x: dict[Any, Any], y: Any) -> float:
        """Anomaly score of ``y`` in [0, 1], before it is learned; 0 while warming."""
        verdicts = self.verdict_one(x, y)
        return 0.0 if verdicts is None else float(verdicts.score[0])

    def verdict_one(self, x: dict[Any, Any], y: Any) -> Verdicts | None:
        """Everything the bank says of ``y``, without learning it; None if ``y`` is not finite."""
        if y is None or not math.isfinite(y):
            return None
        row = np.zeros(1, dtype=np.int64)
        before = self._bank.dump(row)
        verdicts = self._bank.step(row, np.array([self._when(x)]), np.array([float(y)]))
        self._bank.restore(row, before)
        return verdicts

    def learn_one(self, x: dict[Any, Any], y: Any) -> None:
        """Learn ``y``."""
        if y is None or not math.isfinite(y):
            return
        time = self._when(x)
        self._bank.step(np.zeros(1, dtype=np.int64), np.array([time]), np.array([float(y)]))
        self._time = time
        self._seen += 1

    def feedback(self, *, missed: bool) -> None:
        """Make the detector louder (``missed``) or quieter (a false positive), within bounds."""
        self._bank.feedback(0, missed=missed)

    def _when(self, x: dict[Any, Any]) -> int:
        stamp = x.get("timestamp") if hasattr(x, "get") else None
        if isinstance(stamp, dt.datetime):
            if stamp.tzinfo is None:
                stamp = stamp.replace(tzinfo=dt.UTC)
            return round(stamp.timestamp() * 1000)
        if isinstance(stamp, int | float) and math.isfinite(stamp):
            return int(stamp)
        return self._time + NOMINAL_INTERVAL if self._seen else 0
