"""Any allowed river anomaly detector as a bank: a river object a series, its scores calibrated.

A river model's raw score has a scale of its own and no memory of what is usual. Here it is compared
with its own past: its excess over mean plus two standard deviations has a generalised Pareto tail,
fitted by its first two moments (Pickands, Annals of Statistics 3, 1975; Hosking & Wallis,
Technometrics 29, 1987). The score is 0.5 where that tail expects so high a raw score once a year, and
an incident is reported once, by a bar that rises with a report and sinks afterwards.

Importing this module imports river.anomaly, which takes a second or more: only a configuration that
names a river model causes it. Nothing is pickled: the state of every allowed model is written as a list
of numbers (``_CODECS``), and read back into a model that this code has made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from river import anomaly
from river.sketch.histogram import Bin
from river.utils import VectorDict

from stream_processors.detectors import allowed
from stream_processors.detectors.allowed import DEFAULT_LAGS, LAGS, MODELS, PREFIX, Number
from stream_processors.detectors.base import Bank, FloatArray, IntArray, Verdicts

HOUR = 3_600_000.0
DAY = 24 * HOUR
_MEMORY = 30 * DAY
"""Calibration forgets over this time; until then every event counts alike."""
_RARE = 365 * DAY
"""A raw score pages where its tail expects it about once in this time."""
_WARM_EVENTS = 60
"""Events after the model's own first ones that are learned before any is judged."""
_START = 2.0
"""The tail begins at this many standard deviations of the raw score above its mean."""
_SHARE, _EXCESS, _PRIOR, _PRIOR_EVENTS = 0.02, 0.5, 10.0, 200.0
"""What is assumed of the tail before it is learned, its weight in exceedances and in events."""
_SHAPES = (-0.4, 0.2)
_BAR_RISE, _BAR_TOP, _BAR_START, _BAR_SHARE, _BAR_LONGEST = 2.0, 2.0, 2 * HOUR, 0.05, 7 * DAY
_BAND = 2.6
"""The expected band is the mean and this many standard deviations of the values, as learned."""
_LARGEST = 1e100
_LARGEST_NUMBER = 1e250
"""No number of a healthy state is larger: sums of squares of the largest values."""
_FAULTS = 10
"""A model that fails so many times in a row is replaced by a fresh one."""
_LOUDNESS = 4
_STANDARD_DEVIATIONS = 30.0
"""``n_std`` of PredictiveAnomalyDetection unless told otherwise: with river's own 3 one score in fifty is
its largest, and nothing is rarer than the rest."""
_FIRST_EVENTS = 30.0
"""So many events a fresh model only learns. Its first scores would say nothing (a deviation divided by
almost nothing), and a model that predicts before it has learned may keep the NaN for good."""

_FIELDS = (
    *("count", "origin", "first", "last", "interval", "low", "high", "mean", "variance"),
    *("trained", "faults", "judged", "usual", "spread", "beyond", "sum1", "sum2", "events"),
    *("day_start", "day_peak", "factor", "days", "bar", "gain"),
)
_SIGNED = frozenset({"origin", "first", "last", "low", "high", "mean", "usual", "day_start", "gain"})
"""Fields that may be negative."""


class _Row:
    """State of one series: the river model (made at its first event), its last values, and numbers."""

    __slots__ = ("lags", "model", *_FIELDS)
    count: float
    origin: float
    first: float
    last: float
    interval: float
    low: float
    high: float
    mean: float
    variance: float
    trained: float
    faults: float
    judged: float
    usual: float
    spread: float
    beyond: float
    sum1: float
    sum2: float
    events: float
    day_start: float
    day_peak: float
    factor: float
    days: float
    bar: float
    gain: float

    def __init__(self) -> None:
        self.model: Any = None
        self.lags: list[float] = []
        for name in _FIELDS:
            setattr(self, name, 0.0)


class _Verdict(NamedTuple):
    score: float
    level: float
    tail: float
    low: float
    middle: float
    high: float
    warming: bool
    interval: float


class RiverBank(Bank):
    """A river model a series. Make one by ``river_bank``."""

    version: ClassVar[int] = 1
    path: ClassVar[str]
    parameters: ClassVar[dict[str, Number]]

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._feeding = MODELS[self.path].feeding
        self._arguments = dict(self.parameters)
        self._lags = int(self._arguments.pop(LAGS, DEFAULT_LAGS)) if self._feeding != "value" else 0
        if "seed" in MODELS[self.path].parameters:
            self._arguments.setdefault("seed", 1)  # the same events must give the same scores
        if self.path == PREFIX + "PredictiveAnomalyDetection":
            self._arguments.setdefault("n_std", _STANDARD_DEVIATIONS)
        self._made = getattr(anomaly, self.path.removeprefix(PREFIX))
        self._scale = _SCALES.get(self.path, float)
        self._grace = _grace(self._new())

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, count: int) -> None:
        """Add ``count`` rows of an unseen series."""
        self._rows.extend(_Row() for _ in range(count))

    def step(self, rows: IntArray, timestamps: IntArray, values: FloatArray) -> Verdicts:
        """Score and then learn one event of each given row."""
        told = [
            self._event(self._rows[row], float(time), value)
            for row, time, value in zip(rows.tolist(), timestamps.tolist(), values.tolist(), strict=True)
        ]
        columns = np.array(told, np.float64).reshape(len(told), len(_Verdict._fields)).T
        score, level, tail, low, middle, high, warming, interval = columns
        return Verdicts(
            score=score,
            level=level,
            tail=tail,
            expected_low=low,
            expected=middle,
            expected_high=high,
            warming=warming > 0,
            evidence=np.where(level > 0, 1.0, 0.0)[:, None],
            interval=interval,
        )

    def dump(self, rows: IntArray) -> bytes:
        """State of the rows, little-endian; zeros for a model that is not made yet."""
        table = np.zeros((len(rows), self.row_bytes // 8), "<f8")
        for line, index in zip(table, rows.tolist(), strict=True):
            row = self._rows[index]
            if row.model is None:
                continue
            line[: len(_FIELDS)] = [getattr(row, name) for name in _FIELDS]
            line[len(_FIELDS) : len(_FIELDS) + len(row.lags)] = row.lags
            numbers = _CODECS[self.path].dump(row.model)
            at = len(_FIELDS) + self._lags
            line[at : at + len(numbers)] = numbers
        return table.tobytes()

    def restore(self, rows: IntArray, data: bytes | memoryview) -> None:
        """Set the rows from ``dump`` of the same version; rows of zeros start afresh.

        Raises ValueError if the length does not fit.
        """
        if len(data) != len(rows) * self.row_bytes:
            message = f"the state of {len(rows)} rows has {len(rows) * self.row_bytes} bytes, not {len(data)}"
            raise ValueError(message)
        table = np.frombuffer(data, "<f8").reshape(len(rows), self.row_bytes // 8)
        for index, line in zip(rows.tolist(), table, strict=True):
            self._rows[index] = row = _Row()
            if not line[0] > 0:
                continue
            numbers = line.tolist()
            fields = dict(zip(_FIELDS, numbers, strict=False))
            if not all(abs(number) <= _LARGEST_NUMBER for number in numbers) or any(
                number < 0 and name not in _SIGNED for name, number in fields.items()
            ):
                continue  # no state that a healthy row writes
            fields["gain"] = min(max(fields["gain"], -_LOUDNESS), _LOUDNESS)
            for name, number in fields.items():
                setattr(row, name, number)
            at = len(_FIELDS) + self._lags
            row.lags = numbers[len(_FIELDS) : at] if row.trained or row.faults else []
            row.model = self._new()
            _CODECS[self.path].restore(row.model, numbers[at:], range(self._lags))

    def feedback(self, row: int, *, missed: bool) -> None:
        """Make the series a quarter louder or quieter, at most four steps either way."""
        state = self._rows[row]
        state.gain = min(max(state.gain + (1.0 if missed else -1.0), -_LOUDNESS), _LOUDNESS)

    @property
    def memory_bytes(self) -> int:
        """Bytes that a row takes in memory, rounded up: river's objects take 4 to 16 times their numbers, and 4 KB."""
        return 16 * self.row_bytes + 4_096

    def resident_bytes(self) -> float:
        """What a series takes in memory, in bytes, by river's own measure; mean over the rows that have a model."""
        sizes = [row.model._raw_memory_usage for row in self._rows if row.model is not None]
        return sum(sizes) / len(sizes) if sizes else 0.0

    # ------------------------------------------------------------------ one event

    def _new(self) -> Any:
        return self._made(**self._arguments)

    def _event(self, row: _Row, time: float, value: float) -> _Verdict:
        value = min(max(value, -_LARGEST), _LARGEST)
        if not row.count:
            row.origin, row.first, row.day_start, row.factor = value, time, time, 1.0
            row.model = self._new() if row.model is None else row.model
        elapsed = max(time - row.last, 0.0) if row.count else 0.0
        if row.count:
            row.interval += (min(elapsed, 4 * row.interval) - row.interval) / 16 if row.interval else elapsed
        age = max(time - row.first, 0.0)
        v = value - row.origin
        width = row.high - row.low
        # A wild value acts like a moderate one: at most one range beyond the range seen so far.
        bounded = min(max(v, row.low - width), row.high + width) if width > 0 else v
        gain = max(elapsed / (elapsed + _MEMORY), 1.0 / (row.count + 1.0))
        deviation = math.sqrt(row.variance)
        middle, known = row.mean + row.origin, row.count >= 2

        raw = self._raw(row, v, bounded, deviation)
        rarity, warming = self._rarity(row, raw, elapsed)
        strength = self._strength(row, rarity, age, elapsed, time)
        above = strength > row.bar
        if above and strength >= 0.5 and not warming:
            row.bar = _BAR_RISE * strength
        level = 0.0 if warming else min(strength, 1.0)
        tail = math.exp(-min(rarity / max(1.0, row.factor), 600.0)) if level > 0 else 1.0

        from_mean = bounded - row.mean
        row.mean += gain * from_mean
        row.variance = (1.0 - gain) * (row.variance + gain * from_mean * from_mean)
        row.low, row.high = min(row.low, bounded), max(row.high, bounded)
        row.count += 1.0
        row.last = max(row.last, time) if row.count > 1 else time
        band = _BAND * deviation
        return _Verdict(
            level if above else 0.0,
            level,
            tail,
            middle - band if known else math.nan,
            middle if known else math.nan,
            middle + band if known else math.nan,
            warming,
            row.interval if row.interval > 0 else math.nan,
        )

    def _raw(self, row: _Row, v: float, bounded: float, deviation: float) -> float:
        """Raw score of a value before the model learns it; NaN where the model has none."""
        model, ready = row.model, row.trained >= _FIRST_EVENTS
        score: Any = 0.0
        try:
            if self._feeding == "value":
                score = model.score_one(None, v) if ready else 0.0
                model.learn_one(None, bounded)
            else:
                # From 0 to 1, and in scale whatever the unit: models of features need both.
                z = (bounded - row.mean) / deviation if deviation > 1e-12 * max(1.0, abs(row.mean)) else 0.0
                now = 0.5 + 0.5 * z / (2.0 + abs(z))
                before = row.lags or [now] * self._lags
                row.lags = [now, *before[:-1]]
                x = dict(enumerate(before if self._feeding == "forecast" else row.lags))
                event = (x, now) if self._feeding == "forecast" else (x,)
                score = model.score_one(*event) if ready else 0.0
                model.learn_one(*event)
            score = float(score)
        except Exception:  # a model of another project may raise anything; its series must not stop the shard
            score = math.nan
        if math.isfinite(score):
            row.faults = 0.0
            row.trained += 1.0
            return self._scale(min(max(score, -_LARGEST), _LARGEST))
        row.faults += 1.0
        if row.faults >= _FAULTS:
            row.model, row.lags = self._new(), []
            row.trained = row.faults = row.judged = 0.0
        return math.nan

    def _rarity(self, row: _Row, raw: float, elapsed: float) -> tuple[float, bool]:
        """Minus the logarithm of the probability of the raw score, 0 inside; learns it. And whether it is too early."""
        if math.isnan(raw) or row.trained <= self._grace:
            return 0.0, row.judged < _WARM_EVENTS
        warming = row.judged < _WARM_EVENTS
        deviation = math.sqrt(row.spread)
        usable = row.judged >= _WARM_EVENTS / 2 and deviation > 1e-9 * max(1.0, abs(row.usual))
        size = (raw - row.usual) / deviation if usable else 0.0
        rarity, keep = 0.0, 1.0 - elapsed / (elapsed + _MEMORY)
        if usable:
            first = (_PRIOR * _EXCESS + row.sum1) / (_PRIOR + row.beyond)
            if size > _START:
                second = (_PRIOR * 2 * _EXCESS**2 + row.sum2) / (_PRIOR + row.beyond)
                share = (_SHARE * _PRIOR_EVENTS + row.beyond) / (_PRIOR_EVENTS + row.events)
                rarity = -math.log(share) + _pareto(size - _START, first, second)
            row.beyond, row.sum1, row.sum2, row.events = (
                keep * row.beyond, keep * row.sum1, keep * row.sum2, keep * row.events + 1.0,
            )  # fmt: skip
            if size > _START:
                taken = min(size - _START, 5.0 * first)
                row.beyond, row.sum1, row.sum2 = row.beyond + 1.0, row.sum1 + taken, row.sum2 + taken * taken
        learned = min(raw, row.usual + 5.0 * deviation) if usable else raw
        gain = max(elapsed / (elapsed + _MEMORY), 1.0 / (row.judged + 1.0))
        off = learned - row.usual
        row.usual += gain * off
        row.spread = (1.0 - gain) * (row.spread + gain * off * off)
        row.judged += 1.0
        return rarity, warming

    def _strength(self, row: _Row, rarity: float, age: float, elapsed: float, time: float) -> float:
        """Rarity on the scale of scores; corrects the tail each day, lets the bar sink."""
        row.day_peak = max(row.day_peak, rarity)
        if time - row.day_start >= DAY:
            # A right tail reaches about log(events a day) on an ordinary day.
            ordinary = math.log(max(DAY / max(row.interval, 1.0), 2.0)) + 0.577
            if age > 1.5 * DAY:
                row.days += 1.0
                row.factor += (min(row.day_peak / ordinary, 1.5 * row.factor) - row.factor) / (1.0 + min(row.days, 15.0))
            row.day_start, row.day_peak = time, 0.0
        sinking = min(_BAR_START + _BAR_SHARE * age, _BAR_LONGEST)
        row.bar *= sinking / (sinking + elapsed)
        wanted = math.log(max(_RARE / max(row.interval, 60_000.0), 2.0))
        strength = 0.5 * rarity / (wanted * max(1.0, row.factor)) * math.pow(1.25, row.gain)
        return min(strength / (1.0 + max(1.0 - age / (2 * DAY), 0.0)), _BAR_TOP)


def _pareto(excess: float, first: float, second: float) -> float:
    """Minus the logarithm of the generalised Pareto survival of an excess, from the mean and mean square of excesses."""
    variance = max(second - first * first, 1e-6 * first * first)
    shape = min(max(0.5 * (1.0 - first * first / variance), _SHAPES[0]), _SHAPES[1])
    scale = first * (1.0 - shape)
    if abs(shape) < 1e-6:
        return excess / scale
    inside = 1.0 + shape * excess / scale
    return math.log(inside) / shape if inside > 1e-12 else 1e3


def _grace(model: Any) -> float:
    """Events of a fresh model whose scores are not used, for want of knowledge."""
    own = 0.0
    if isinstance(model, anomaly.GaussianScorer):
        own = float(model.grace_period)
    elif isinstance(model, anomaly.HalfSpaceTrees):
        own = float(model.window_size)
    elif isinstance(model, anomaly.PredictiveAnomalyDetection):
        own = float(model.warmup_period)
    return max(own, _FIRST_EVENTS)


def _surprise(score: float) -> float:
    return -math.log(max(1.0 - score, 1e-16))


def _logarithm(score: float) -> float:
    return math.log1p(max(score, 0.0))


_SCALES: Mapping[str, Callable[[float], float]] = {
    PREFIX + "GaussianScorer": _surprise,  # a probability, 1 for everything beyond eight standard deviations
    PREFIX + "StandardAbsoluteDeviation": _logarithm,  # its deviation may still be almost 0
}
"""Raw scores that are no scale of rarity, and what makes them one."""


# ---------------------------------------------------------------------- models as numbers


class _Codec(NamedTuple):
    """State of a model as at most ``size`` finite numbers. Any numbers may be restored: they can be
    wrong, but make no object other than the model's own.
    """

    size: Callable[[Any, int], int]
    """From a model and the number of its features."""
    dump: Callable[[Any], Sequence[float]]
    restore: Callable[[Any, Sequence[float], Iterable[int]], None]


def _variance_dump(variance: Any) -> list[float]:
    return [variance.mean.n, variance.mean._mean, variance._S]


def _variance_restore(variance: Any, numbers: Sequence[float]) -> None:
    variance.mean.n, variance.mean._mean, variance._S = max(numbers[0], 0.0), numbers[1], max(numbers[2], 0.0)


def _gaussian(model: Any) -> tuple[Any, Any]:
    """The variance a scorer keeps, and its window or None."""
    if model.window_size:
        return model.gaussian.obj._var, model.gaussian.window
    return model.gaussian._var, None


def _gaussian_dump(model: Any) -> list[float]:
    variance, window = _gaussian(model)
    held = [] if window is None else [arguments[0] for arguments, _ in window]
    return [*_variance_dump(variance), float(len(held)), *held]


def _gaussian_restore(model: Any, numbers: Sequence[float], _: Iterable[int]) -> None:
    variance, window = _gaussian(model)
    _variance_restore(variance, numbers)
    if window is not None:
        held = int(min(max(numbers[3], 0.0), float(model.window_size)))
        window.extend(((number,), {}) for number in numbers[4 : 4 + held])


def _deviation_dump(model: Any) -> list[float]:
    return [*_variance_dump(model.variance), model.sub_stat.n, model.sub_stat._mean]


def _deviation_restore(model: Any, numbers: Sequence[float], _: Iterable[int]) -> None:
    _variance_restore(model.variance, numbers)
    model.sub_stat.n, model.sub_stat._mean = max(numbers[3], 0.0), numbers[4]


def _trees_dump(model: Any) -> list[float]:
    masses = [mass for nodes in model._tree_nodes for node in nodes for mass in (node.l_mass, node.r_mass)]
    return [float(bool(model.trees)), float(model.counter), float(model._first_window), *masses]


def _trees_restore(model: Any, numbers: Sequence[float], features: Iterable[int]) -> None:
    if not numbers[0] > 0:
        return
    model.learn_one(dict.fromkeys(features, 0.5))  # draws the trees, which follow from seed and features alone
    model.counter, model._first_window = int(min(max(numbers[1], 0.0), model.window_size - 1.0)), numbers[2] > 0
    masses = iter(numbers[3:])
    for nodes in model._tree_nodes:
        for node in nodes:
            node.l_mass, node.r_mass = _whole(next(masses)), _whole(next(masses))


def _whole(number: float) -> int:
    return int(min(max(number, 0.0), 1e15))


def _loda_dump(model: Any) -> list[float]:
    numbers = [float(bool(model.histograms_))]
    for histogram in model.histograms_:
        bins = [part for one in histogram.data for part in (one.left, one.right, float(one.count))]
        numbers += [float(histogram.n), float(len(histogram.data)), *bins]
        numbers += [0.0] * (3 * model.n_bins - len(bins))
    return numbers


def _loda_restore(model: Any, numbers: Sequence[float], features: Iterable[int]) -> None:
    if not numbers[0] > 0:
        return
    model._initialize(dict.fromkeys(features, 0.5))  # draws the projections, which follow from seed and features alone
    stride = 2 + 3 * model.n_bins
    for place, histogram in enumerate(model.histograms_):
        part = numbers[1 + place * stride : 1 + (place + 1) * stride]
        histogram.n = _whole(part[0])
        for at in range(min(_whole(part[1]), model.n_bins)):
            left, right, count = part[2 + 3 * at : 5 + 3 * at]
            histogram.data.append(Bin(left, max(left, right), _whole(count)))  # type: ignore[no-untyped-call]


def _linear_dump(model: Any) -> list[float]:
    weights = model._weights.to_dict()
    held = [float(weights[feature]) for feature in range(len(weights))]
    return [float(bool(held)), float(model.optimizer.n_iterations), float(model.intercept), *held]


def _linear_restore(model: Any, numbers: Sequence[float], features: Iterable[int]) -> None:
    model.optimizer.n_iterations, model.intercept = _whole(numbers[1]), numbers[2]
    if numbers[0] > 0:
        model._weights = VectorDict({feature: numbers[3 + feature] for feature in features})


def _forecast_dump(model: Any) -> list[float]:
    scaler, linear = model.predictive_model.steps.values()
    told = [
        float(model.iter),
        float(model.dynamic_mae.n),
        model.dynamic_mae._mean,
        *_variance_dump(model.dynamic_se_variance),
    ]
    ends = [float(end[feature].get()) for end in (scaler.min, scaler.max) for feature in range(len(scaler.min))]
    return [*told, *_linear_dump(linear), *ends]


def _forecast_restore(model: Any, numbers: Sequence[float], features: Iterable[int]) -> None:
    scaler, linear = model.predictive_model.steps.values()
    model.iter, model.dynamic_mae.n, model.dynamic_mae._mean = _whole(numbers[0]), max(numbers[1], 0.0), numbers[2]
    _variance_restore(model.dynamic_se_variance, numbers[3:6])
    _linear_restore(linear, numbers[6:], features)
    if numbers[6] > 0:
        known = list(features)
        for feature in known:
            scaler.min[feature].update(numbers[9 + len(known) + feature])
            scaler.max[feature].update(numbers[9 + 2 * len(known) + feature])


_CODECS: Mapping[str, _Codec] = {
    PREFIX + "GaussianScorer": _Codec(lambda m, _: 4 + (m.window_size or 0), _gaussian_dump, _gaussian_restore),
    PREFIX + "StandardAbsoluteDeviation": _Codec(lambda _, __: 5, _deviation_dump, _deviation_restore),
    PREFIX + "HalfSpaceTrees": _Codec(
        lambda m, _: 3 + 2 * m.n_trees * (2 ** (m.height + 1) - 1), _trees_dump, _trees_restore
    ),
    PREFIX + "LODA": _Codec(lambda m, _: 1 + m.n_random_cuts * (2 + 3 * m.n_bins), _loda_dump, _loda_restore),
    PREFIX + "OneClassSVM": _Codec(lambda _, lags: 3 + lags, _linear_dump, _linear_restore),
    PREFIX + "PredictiveAnomalyDetection": _Codec(lambda _, lags: 9 + 3 * lags, _forecast_dump, _forecast_restore),
}


def river_bank(path: str, parameters: Mapping[str, Number] | None = None) -> RiverBank:
    """A bank of the river model at an import path, such as ``river.anomaly.LODA``, with its parameters.

    Raises ValueError where the path or a parameter is not allowed (``allowed.MODELS``).
    """
    chosen = dict(parameters or {})
    allowed.check(path, chosen)
    whole = {name: int(value) if MODELS[path].parameters[name].whole else float(value) for name, value in chosen.items()}
    lags = int(whole.pop(LAGS, DEFAULT_LAGS)) if MODELS[path].feeding != "value" else 0
    size = _CODECS[path].size(getattr(anomaly, path.removeprefix(PREFIX))(**whole), lags)

    class Configured(RiverBank):
        name = allowed.bank_name(path, chosen)
        families = ("unlike its past",)
        row_bytes = 8 * (len(_FIELDS) + lags + size)

    Configured.path = path
    Configured.parameters = {name: whole.get(name, value) for name, value in chosen.items()}
    return Configured()
