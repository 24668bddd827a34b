"""The river models that configuration may name, and the parameters each takes. Imports no river."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Number = int | float
PREFIX = "river.anomaly."
LAGS = "lags"
"""Parameter of the adapter itself: how many values, the present one included, a model of features sees."""
DEFAULT_LAGS = 10
LARGEST_STATE = 1 << 20
"""Most bytes that the state of one series may take: parameters multiply, and a shard has many series."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """Bounds of a parameter; ``whole`` where it is an integer."""

    least: float
    most: float
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Model:
    """How a river model is fed.

    ``feeding`` is ``value`` (the value as y), ``features`` (x holds the last values) or ``forecast``
    (x holds the values before, y the present one).
    """

    feeding: str
    parameters: Mapping[str, Parameter]
    numbers: Callable[[Mapping[str, Number]], Number] = lambda _: 0
    """Numbers of a series' state that grow with the parameters, from these; river's own defaults are known here."""


_LAGS = {LAGS: Parameter(1, 100)}
_SEED = {"seed": Parameter(0, 2**31)}

MODELS: Mapping[str, Model] = {
    "river.anomaly.GaussianScorer": Model(
        "value",
        {"window_size": Parameter(2, 10_000), "grace_period": Parameter(1, 1_000_000)},
        lambda given: given.get("window_size", 0),
    ),
    "river.anomaly.StandardAbsoluteDeviation": Model("value", {}),
    "river.anomaly.HalfSpaceTrees": Model(
        "features",
        {"n_trees": Parameter(1, 100), "height": Parameter(1, 12), "window_size": Parameter(10, 100_000), **_SEED, **_LAGS},
        lambda given: given.get("n_trees", 10) * 2 ** (given.get("height", 8) + 2),
    ),
    "river.anomaly.LODA": Model(
        "features",
        {"n_bins": Parameter(2, 200), "n_random_cuts": Parameter(1, 500), **_SEED, **_LAGS},
        lambda given: given.get("n_random_cuts", 100) * (2 + 3 * given.get("n_bins", 10)),
    ),
    "river.anomaly.OneClassSVM": Model("features", {"nu": Parameter(0, 1, whole=False), **_LAGS}),
    "river.anomaly.PredictiveAnomalyDetection": Model(
        "forecast", {"n_std": Parameter(0, 100, whole=False), "warmup_period": Parameter(0, 1_000_000), **_LAGS}
    ),
}
"""By import path. Filters are left out: they wrap other detectors. LocalOutlierFactor is left out: its
time and memory a series grow without a bound that a parameter could set."""


def check(path: str, parameters: Mapping[str, Number]) -> None:
    """Whether configuration may ask for this model with these parameters.

    Raises ValueError that names the value and what is allowed.
    """
    if path not in MODELS:
        raise ValueError(f"river model {path!r} is not allowed; allowed are {', '.join(sorted(MODELS))}")
    known = MODELS[path].parameters
    for name, value in parameters.items():
        if name not in known:
            takes = ", ".join(sorted(known)) or "none"
            raise ValueError(f"{path} takes no parameter {name!r} here; it takes {takes}")
        bounds = known[name]
        inside = bounds.least <= value <= bounds.most  # neither infinity nor NaN is
        if isinstance(value, bool) or not inside or (bounds.whole and value != int(value)):
            kind = "a whole number" if bounds.whole else "a number"
            told = str(value) if len(str(value)) <= 40 else f"{str(value)[:40]}…"
            raise ValueError(
                f"{name} = {told} of {path} must be {kind} from {_written(bounds.least)} to {_written(bounds.most)}"
            )
    size = 8 * MODELS[path].numbers(parameters)
    if size > LARGEST_STATE:
        told = ", ".join(f"{name} = {_written(value)}" for name, value in sorted(parameters.items()))
        raise ValueError(
            f"{path} with {told} keeps {size / 1024:,.0f} KiB a series, more than {LARGEST_STATE // 1024:,}; "
            "make them smaller"
        )


def _written(value: Number) -> str:
    """A number in full, and the same however it was given: 5 for 5.0."""
    return str(int(value)) if value == int(value) else repr(float(value))


def bank_name(path: str, parameters: Mapping[str, Number]) -> str:
    """Name of the bank of a model: models of different parameters keep their state apart."""
    if not parameters:
        return path
    return f"{path}({', '.join(f'{name}={_written(value)}' for name, value in sorted(parameters.items()))})"
