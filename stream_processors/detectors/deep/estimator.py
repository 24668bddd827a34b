"""The deep detector as a river estimator: a bank with one row.

Importing this module imports river.anomaly, which takes a second or more; the bank does not need it.
"""

from __future__ import annotations

from stream_processors.detectors.deep.bank import DeepBank
from stream_processors.detectors.seasonal.estimator import SeasonalDetector


class DeepDetector(SeasonalDetector):
    """Detects anomalies of one series as ``SeasonalDetector`` does, and by courses that no lag of the past days explains.

    Takes and answers what ``SeasonalDetector`` does.

    Examples
    --------
    >>> import math
    >>> from stream_processors.detectors.deep.estimator import DeepDetector
    >>> detector = DeepDetector()
    >>> for n in range(3 * 288):
    ...     x, y = {"timestamp": n * 300_000}, math.sin(n * math.tau / 288) + 0.1 * math.sin(n * n)
    ...     detector.learn_one(x, y)
    >>> x = {"timestamp": 3 * 288 * 300_000}
    >>> detector.score_one(x, 0.1) >= 0.3, detector.score_one(x, 9.0) >= 0.5
    (False, True)

    """

    def __init__(self) -> None:
        super().__init__()
        self._bank = DeepBank(1)
