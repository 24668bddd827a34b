"""What a responder reads at 3 a.m.: thirty explanations of real runs, printed and held to rules of plain language."""

from __future__ import annotations

import functools
import itertools
import math
import re

import numpy as np
import pytest

from schemas.events import AlarmSignal, Feedback, Signal
from schemas.insights import Insight
from schemas.names import series_name
from stream_processors import explain
from stream_processors.detectors.config import Bounds, DetectorConfig, Rule
from stream_processors.episodes import Episode
from stream_processors.records.batch import EventBatch, PlacedSignal, Shared
from stream_processors.scoring import Scorer, default_banks
from tests.support.paths import FASTEST

pytestmark = pytest.mark.together

START = 1_790_294_400_000  # Friday 25 September 2026, 00:00 UTC
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
STEP = 5 * MINUTE

Sample = tuple[str, str, int, float, str | None]
"""Resource, metric, epoch milliseconds, value, unit."""

JARGON = (
    "sigma", "standard deviation", "quantile", "percentile", "tail", "residual", "z-score", "p-value", "probability",
    "likelihood", "threshold", "score", "calibrat", "covariance", "regression", "median", "kendall", "bank", "slot",
    "episode", "epoch", "variance", "distribution", "stochastic", "outlier", "null", "none", "nan", "inf ", "true",
)  # fmt: skip
NAMES = {
    "cpuUsage", "memoryUsage", "diskUsage", "networkIO", "diskIO", "errors", "latency", "temperature", "requests",
    "queue_depth",     "web_1", "web-1", "web-2", "db-1", "cache-1", "build-7", "bad-1", "FreeableBytes",
}  # fmt: skip
"""Names of metrics and hosts of the examples."""
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"
LONGEST_SENTENCE = 45
"""Words of one sentence."""


def decoded(samples: list[Sample | Signal]) -> EventBatch:
    made = EventBatch()
    for item in samples:
        if not isinstance(item, tuple):
            made.signals.append(PlacedSignal(len(made), 0, 0, 0, item))
            continue
        resource, metric, timestamp, value, unit = item
        for column, one in (
            (made.resource, resource), (made.shared, Shared(series_name(metric, None), metric, unit)), (made.value, value),
            (made.timestamp, timestamp), (made.arrival, timestamp),
        ):  # fmt: skip
            column.append(one)  # type: ignore[attr-defined]
    return made


def series(
    resource: str, metric: str, unit: str | None, base: float, noise: float, days: float, seed: int, daily: float = 0.0
) -> tuple[list[int], np.ndarray]:
    rng = np.random.default_rng(seed)
    times = [START + n * STEP for n in range(round(days * DAY / STEP))]
    hours = np.array([(t - START) / HOUR for t in times])
    return times, base + daily * np.sin(2 * np.pi * hours / 24) + noise * rng.normal(size=len(times))


def mixed(*parts: list[Sample]) -> list[Sample | Signal]:
    return sorted(itertools.chain.from_iterable(parts), key=lambda one: one[2])  # type: ignore[return-value]


def faulty(
    resource: str,
    metric: str,
    unit: str | None,
    base: float,
    noise: float,
    fault: str,
    size: float,
    seed: int,
    daily: float = 0.0,
) -> list[Sample]:
    """A week of a series with one fault on its last day."""
    times, values = series(resource, metric, unit, base, noise, 7, seed, daily)
    at = round(6.4 * DAY / STEP)
    if fault == "spike":
        values[at : at + 2] += size * noise
    elif fault == "shift":
        values[at : at + 40] += size * noise
    elif fault == "ramp":
        values[at:] += np.linspace(0, size * noise, len(values) - at)
    elif fault == "restless":
        values[at : at + 60] += size * noise * np.where(np.arange(60) % 2, 1, -1)
    elif fault == "frozen":
        values[at : at + 60] = base + noise / 4
    elif fault == "rhythm":
        values[at : at + 100] = base - daily * np.sin(2 * np.pi * np.arange(100) / 288 + 1.4)
    return [(resource, metric, t, float(v), unit) for t, v in zip(times, values, strict=True)]


@functools.cache
def found() -> tuple[Insight, ...]:
    """Insights of runs of the real scorer: all kinds, severities, units, and openings, worse and over."""
    insights: list[Insight] = []

    def run(items: list[Sample | Signal], config: DetectorConfig | None = None) -> list[Insight]:
        told = Scorer(config, functools.partial(default_banks, config, compiled=FASTEST)).process(decoded(items)).insights
        insights.extend(told)
        return told

    run(mixed(
        faulty("web-1", "cpuUsage", "Percent", 40, 2, "spike", 25, 1),
        faulty("web_1", "queue_depth", "Count", 1_200, 30, "shift", -14, 2),
        faulty("db-1", "latency", "Milliseconds", 0.0123, 0.0004, "shift", 12, 3),
        faulty("cache-1", "networkIO", "Bytes/Second", 4.2e7, 1e6, "spike", -20, 4),
        faulty("cache-1", "errors", None, 3.0, 0.7, "restless", 5, 5),
        faulty("web-2", "requests", "Count/Second", 31_234.567, 900, "rhythm", 1, 6, 9_000),
        faulty("db-1", "FreeableBytes", "Bytes", 7.7e9, 2e7, "ramp", -40, 7),
        faulty("build-7", "temperature", None, -12.3456, 0.2, "shift", 9, 8),
    ))  # fmt: skip
    spikes = faulty("web-1", "diskIO", "Bytes/Second", 1e6, 5e4, "spike", 18, 9)
    first = [one for one in run(list(spikes)) if one.transition == "opened"][-1]
    later = [(r, m, t + 7 * DAY, v, u) for r, m, t, v, u in spikes]
    verdict = Feedback("web-1", "diskIO", "false-positive", START + 7 * DAY, first.insight_id)
    run([*spikes, verdict, *later])
    run([*spikes, Feedback("web-1", "diskIO", "missed", START + 7 * DAY, first.insight_id), *later])
    run([*faulty("cache-1", "temperature", None, 41.7, 0.6, "frozen", 0, 14)])
    bounds = DetectorConfig(rules=(Rule(bounds=Bounds(low=5, high=39)),))
    run([*faulty("web-2", "memoryUsage", "Percent", 36, 0.8, "spike", 4, 10)], bounds)
    model = DetectorConfig(rules=(Rule(detector="river.anomaly.GaussianScorer"),))
    run([*faulty("web-2", "latency", "Seconds", 1.5, 0.1, "spike", 30, 11)], model)
    leak = series("db-1", "diskUsage", "Percent", 62, 0.4, 6, 12)
    rising = leak[1] + np.maximum(0, np.array([(t - START) / HOUR for t in leak[0]]) - 72) * 0.9
    rising[-240:] = 62
    run([("db-1", "diskUsage", t, float(min(v, 99.5)), "Percent") for t, v in zip(leak[0], rising, strict=True)])
    rng = np.random.default_rng(13)
    times = [START + n * STEP for n in range(round(5 * DAY / STEP))]
    load = np.cumsum(rng.normal(size=len(times))) * 0.2 + 6 * np.sin(np.arange(len(times)) / 3)
    own = np.roll(load, 40)
    alone = np.array([4.4 * DAY <= t - START < 4.7 * DAY for t in times])
    run(mixed(*[
        [("web-1", metric, t, float(50 + v + 0.3 * rng.normal()), None)
         for t, v in zip(times, np.where(alone & (metric == "networkIO"), own, load), strict=True)]
        for metric in ("cpuUsage", "networkIO", "diskIO", "requests")
    ]))  # fmt: skip
    gone = [
        (host, metric, START + n * MINUTE, 50 + (n * 7919 % 13) / 10, None)
        for n in range(400) for host, metric in (("web-1", "cpuUsage"), ("web-1", "requests"), ("web-2", "cpuUsage"))
        if host == "web-2" or (not 100 <= n < 160 and not (metric == "requests" and 250 <= n < 300))
    ]  # fmt: skip
    run(gone)  # type: ignore[arg-type]
    flood = [("bad-1", f"id-{n}", START + n, 1.0, None) for n in range(9)]
    run([*flood], DetectorConfig(max_series_per_resource=5))

    def alarm(active: bool | None, text: str, minute: int, severity: str = "HIGH") -> AlarmSignal:
        return AlarmSignal(
            "db-1", "disk full", START + minute * MINUTE, severity, text, active, "aws.cloudwatch",  # type: ignore[arg-type]
            "CloudWatch Alarm State Change", "e1",
        )  # fmt: skip

    run([alarm(True, "disk full of db-1 is in alarm", 1), alarm(False, "disk full of db-1 is fine", 9)])
    return tuple(insights)


def examples() -> list[Insight]:
    """Thirty that differ: in turn one of every kind, transition and severity."""
    groups: dict[tuple[str, str, str], dict[object, Insight]] = {}
    for one in found():
        strongest = max(one.evidence, key=lambda family: one.evidence[family])
        group = groups.setdefault((one.kind, one.transition, one.severity), {})
        group.setdefault((one.metric, strongest, "marked" in one.message), one)
    turns = itertools.zip_longest(*(group.values() for group in groups.values()))
    return [one for one in itertools.chain.from_iterable(turns) if one is not None][:30]


def test_thirty_explanations_are_printed_and_cover_what_there_is() -> None:
    told = examples()
    assert len(told) == 30
    for number, one in enumerate(told, 1):
        print(f"{number:>2} {one.kind} {one.transition} {one.severity}\n   {one.message}")
    assert {one.kind for one in found()} == {"anomaly", "silence", "alarm", "series-limit", "prediction", "correlation"}
    assert {one.transition for one in told} == {"opened", "escalated", "closed"}
    assert {one.severity for one in told} == {"LOW", "MEDIUM", "HIGH", "CRITICAL"}
    words = " ".join(one.message for one in found())
    for needed in (
        "above the expected", "below the expected", "Lowered because marked as false alarm on", "got worse",
        "Raised because marked as missed on", "configured bound", "back to normal", "stopped reporting",
        "no longer moves with", "is withdrawn", "it reaches", "stands still for unusually long",
    ):  # fmt: skip
        assert needed in words, needed
    for family in ("sudden value", "time of day", "shifted level", "restlessness", "the same value"):
        assert family in words, family


def test_every_explanation_is_in_plain_words() -> None:
    for one in found():
        text = one.message
        plain = re.sub("|".join(map(re.escape, sorted(NAMES, key=len, reverse=True))), "NAME", text)
        assert "_" not in plain, text
        assert not re.search(r"\b[a-z]+[A-Z]", re.sub(r"\bkB(/s)?", "", plain)), f"a name of the program: {text}"
        for word in JARGON:
            assert not re.search(rf"\b{word}", plain.lower()), f"{word}: {text}"
        assert not re.search(r"\d[eE][+-]?\d", text), text
        for number in re.findall(r"\d[\d,]*(?:\.\d+)?", re.sub(TIME, "", plain)):
            assert len(number.replace(",", "").replace(".", "").strip("0")) <= 4, f"{number}: {text}"
        for sentence in re.split(r"(?<=[.;]) ", text):
            assert len(sentence.split()) <= LONGEST_SENTENCE, sentence
        assert text.endswith(".")
        assert text.strip() == text
        assert "  " not in text
        assert ".." not in text


def test_every_explanation_tells_evidence_with_shares_rarity_band_time_and_unit() -> None:
    for one in found():
        told = re.search(r"Evidence: (.+?)\. How rare: (.+?)\.(?: |$)", one.message)
        assert told, one.message
        shares = [re.fullmatch(r"[\w ./-]+ (\d+) %", part) for part in told[1].split(", ")]
        whole = [int(share[1]) for share in shares if share]
        assert len(whole) == len(shares), one.message
        assert sum(whole) == 100, one.message
        named = whole[:-1] if "other evidence" in told[1] else whole
        assert named == sorted(named, reverse=True), one.message
        assert sum(one.evidence.values()) == pytest.approx(1.0, abs=0.02)
        assert told[2] == one.rarity
        assert one.resource in one.message
        if one.kind not in ("series-limit", "alarm"):
            assert re.search(TIME, one.message), one.message
        if one.kind == "anomaly":
            if "bound" not in one.rarity:
                assert re.fullmatch(
                    r"(about once in \d+ (s|min|h|days)|less than once in 3 years) for this series", one.rarity
                )
            assert re.search(r"expected .+ to .+", one.message), one.message
            assert UNITS[one.unit] in one.message.split("Evidence")[0], one.message


UNITS = {
    "Percent": " %", "Bytes/Second": "B/s", "Bytes": "B", "Milliseconds": " ms", "Seconds": " s", "Count": "", None: "",
    "Count/Second": " a second",
}  # fmt: skip


def test_shares_always_add_up_to_a_hundred() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        drawn = rng.dirichlet(np.full(rng.integers(1, 8), 0.5))
        told = explain.evidence({f"family {n}": float(share) for n, share in enumerate(drawn)})
        assert sum(int(share) for share in re.findall(r"(\d+) %", told)) == 100
    assert explain.evidence({}) == explain.evidence({"a": 0.0}) == ""


def test_rarity_grows_with_the_score_and_shrinks_with_every_earlier_insight() -> None:
    def days(text: str) -> float:
        number, unit = re.match(r"about once in (\d+) (\w+)", text).groups()  # type: ignore[union-attr]
        return float(number) * {"s": 1 / 86_400, "min": 1 / 1_440, "h": 1 / 24, "days": 1.0}[unit]

    at = [days(explain.rarity(score, [], 0.0)) for score in (0.3, 0.35, 0.4, 0.5, 0.55, 0.6)]
    assert at == sorted(at)
    often = [days(explain.rarity(0.5, [0.6] * count, 28.0)) for count in range(9)]
    assert often == sorted(often, reverse=True)
    assert math.isclose(often[8], (50 + 28) / 9, rel_tol=0.1)
    assert days(explain.rarity(0.6, [0.5] * 9, 28.0)) > 365, "what was weaker says nothing of it"
    assert explain.rarity(1.0, [], 0.0) == "less than once in 3 years for this series"


@pytest.mark.parametrize(
    ("low", "high", "observed", "bounds", "told"),
    [
        (90.0, 90.0, 100.0, Bounds(high=90), "is 100 %, above its configured bound of 90.0 %, since"),
        (20.0, 30.0, 100.0, Bounds(high=90), "bound of 90.0 %, since 2026-09-25 00:00 UTC; the expected is 20.0 %"),
        (20.0, 30.0, 1.0, Bounds(low=5), "is 1.00 %, below its configured bound of 5.00 %, since"),
        (20.0, 30.0, 100.0, None, "above its configured bound, since"),  # the rules have changed since
        (-47.5, 65.6, 100.0, None, "expected is 0 % to 65.6 %"),
    ],
)
def test_the_bound_that_was_passed_is_told_and_a_share_is_expected_to_be_none_at_least(low, high, observed, bounds, told):
    episode = Episode(
        kind="anomaly", resource="web-1", series="cpuUsage", metric="cpuUsage", opened_at=START, peak_at=START,
        last_abnormal=START, severity=3, revision=0, insight_id="i", detector="seasonal", detector_version=1, unit="Percent",
        observed=observed, expected_low=low, expected_high=high, evidence={explain.BOUND: 1.0},
    )  # fmt: skip
    message = explain.anomaly(episode, bounds=bounds)
    assert told in message
    assert "90.0 % to 90.0 %" not in message
    assert "-47.5" not in explain.anomaly_over(episode, START + HOUR)
