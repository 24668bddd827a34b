"""The simulated fleet: repeatable, however it is asked; faults have the size that the truth says."""

from __future__ import annotations

import re
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.simulator import COUPLING, DAY, HOUR, METRICS, MINUTE, NOISES, Fault, Fleet, Harmless
from stream_processors.records.batch import StreamRecord
from stream_processors.records.decode import decode

START = 1_790_000_000_000


def fleet(**options: object) -> Fleet:
    defaults: dict[str, object] = {"hosts": 4, "seed": 3, "start": START, "end": START + 3 * DAY, "faults": 5}
    return Fleet(**{**defaults, **options})  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_fleet_and_another_seed_another() -> None:
    one, two, other = fleet(), fleet(), fleet(seed=4)
    assert one.truth == two.truth
    assert one.truth_document() == two.truth_document()
    first, second, third = (list(f.samples(f.start, f.start + HOUR)) for f in (one, two, other))
    assert first == second
    assert first != third


@pytest.mark.parametrize("chunk", [7 * MINUTE, HOUR, 5 * HOUR])
def test_samples_do_not_depend_on_how_they_are_asked_for(chunk: int) -> None:
    made = fleet()
    whole = list(made.samples(made.start, made.start + 6 * HOUR))
    assert list(made.samples(made.start, made.start + 6 * HOUR, chunk=chunk)) == whole
    assert [s["timestamp"] for s in whole] == sorted(s["timestamp"] for s in whole)


@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(1, 1_499), max_size=6, unique=True), seed=st.integers(0, 50), varied=st.booleans())
def test_columns_agree_to_the_last_bit_however_time_is_cut(cuts: list[int], seed: int, varied: bool) -> None:
    made = fleet(hosts=3, seed=seed, varied=varied)
    edges = [made.start + n * MINUTE for n in sorted([0, 1_500, *cuts])]
    _, whole = made.columns(edges[0], edges[-1])
    parts = [made.columns(begin, end)[1] for begin, end in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts, axis=2), whole, equal_nan=True)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), varied=st.booleans())
def test_drawn_faults_have_at_least_the_size_that_the_truth_says(seed: int, varied: bool) -> None:
    options = {"hosts": 8, "seed": seed, "end": START + 6 * DAY, "missing": 0.0, "varied": varied}
    broken, calm = fleet(faults=15, **options), fleet(faults=0, **options)
    assert len(broken.truth) == 15
    for fault in broken.truth:
        times = broken.times(fault.start, fault.end)
        if fault.kind == "silence":
            assert all(np.isnan(broken.column(fault.host, metric, times)).all() for metric in METRICS)
            continue
        shape = calm._shapes[fault.host, fault.metric]
        noise = calm._spread(shape.kind) * shape.noise
        moved = broken.column(fault.host, fault.metric, times) - calm.column(fault.host, fault.metric, times)
        assert fault.size >= 6.0
        assert np.abs(moved).max() >= 0.99 * fault.size * noise, fault
        after = broken.times(fault.end, fault.end + HOUR)
        rest = broken.column(fault.host, fault.metric, after), calm.column(fault.host, fault.metric, after)
        assert np.array_equal(*rest, equal_nan=True)


def test_noise_has_the_spread_that_sizes_are_measured_in_and_metrics_of_a_host_move_together() -> None:
    made = fleet(hosts=40, faults=0)
    times = made.times(made.start, made.start + 14 * DAY)
    kinds = set()
    for host in made.names:
        for metric in METRICS:
            kind = made._shapes[host, metric].kind
            kinds.add(kind)
            assert made._noise(host, metric, kind, times).std() == pytest.approx(made._spread(kind), rel=0.08)
    assert kinds == set(NOISES)
    cpu, network, stranger = (
        made._noise(host, metric, "gaussian", times)
        for host, metric in (("host-000", "cpuUsage"), ("host-000", "networkIO"), ("host-001", "networkIO"))
    )
    wanted = COUPLING["cpuUsage"] * COUPLING["networkIO"]
    assert np.corrcoef(cpu, network)[0, 1] == pytest.approx(wanted, abs=0.05)
    assert abs(np.corrcoef(cpu, stranger)[0, 1]) < 0.05


def test_a_restart_is_a_gap_and_a_deploy_a_small_step_that_stays() -> None:
    made = fleet(hosts=30, faults=0, restarts=1.0, deploys=1.0, missing=0.0, end=START + 7 * DAY)
    calm = fleet(hosts=30, faults=0, restarts=0, deploys=0, missing=0.0, end=START + 7 * DAY)
    assert {h.kind for h in made.harmless} == {"restart", "deploy"}
    for host in {h.host for h in made.harmless}:
        mine = [h for h in made.harmless if h.host == host]
        if len(mine) > 1:
            continue
        (one,) = mine
        times = made.times(one.start, one.end + HOUR)
        got, before = made.column(host, "diskIO", times), calm.column(host, "diskIO", times)
        inside = times < one.end
        if one.kind == "restart":
            assert np.isnan(got[inside]).all()
            assert not np.isnan(got[~inside]).any()
            continue
        steps = (got - before)[~inside] / made._shapes[host, "diskIO"].noise
        assert np.ptp(steps) < 1e-6
        assert 0 < abs(steps[0]) <= 1


def test_a_fleet_may_have_more_metrics_which_travel_as_native_ones() -> None:
    made = fleet(hosts=2, metrics=(*METRICS, "requestRate", "queueUsage"), missing=0.3, faults=0)
    _, values = made.columns(made.start, made.start + DAY)
    assert values.shape == (2, 6, 1440)
    assert np.nanmax(values[:, 5]) <= 100
    sent = list(made.samples(made.start, made.start + HOUR))
    assert {s["metric"] for s in sent if "metric" in s} == {"requestRate", "queueUsage"}
    records = [StreamRecord("s", str(n), "k", made.start + DAY, msgspec.json.encode(s)) for n, s in enumerate(sent)]
    batch = decode(records)
    assert not batch.dead_letters
    assert len(batch) == np.isfinite(values[:, :, :60]).sum()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cadence": 0}, "cadence is 0 ms"),
        ({"end": START - 1}, "before it starts"),
        ({"missing": 1.5}, "between 0 and 1"),
        ({"hosts": ["a", "a"]}, "host is named twice"),
        ({"metrics": ("x", "x")}, "metric is named twice"),
        ({"hosts": 0}, "at least one host"),
        ({"faults": [Fault("nobody", "cpuUsage", "spike", START, START + 1, 6)]}, "no series cpuUsage of nobody"),
        ({"faults": [Fault("host-000", "cpu", "spike", START, START + 1, 6)]}, "no series cpu of host-000"),
        ({"faults": [Fault("host-000", "*", "spike", START, START + 1, 6)]}, "no fault of kind 'spike'"),
    ],
)
def test_settings_that_make_no_fleet_are_refused_in_words(options: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        fleet(**options)


def test_a_fault_changes_its_series_by_its_size_and_no_other() -> None:
    calm = fleet(faults=0, restarts=0, deploys=0)
    fault = Fault("host-001", "cpuUsage", "shift", calm.start + DAY, calm.start + DAY + HOUR, 10.0)
    broken = fleet(faults=[fault], restarts=0, deploys=0)
    times = calm.times(calm.start, calm.start + 2 * DAY)
    for host in calm.names:
        for metric in METRICS:
            before, after = calm.column(host, metric, times), broken.column(host, metric, times)
            changed = ~((before == after) | (np.isnan(before) & np.isnan(after)))
            if (host, metric) != ("host-001", "cpuUsage"):
                assert not changed.any()
                continue
            inside = (times >= fault.start) & (times < fault.end)
            assert not changed[~inside].any()
            shape = calm._shapes[host, metric]
            moved = (after - before)[inside]
            assert np.nanmin(moved) == pytest.approx(10.0 * shape.noise * calm._spread(shape.kind), rel=1e-6)


def test_a_silent_host_sends_nothing_and_the_truth_says_so() -> None:
    made = fleet(faults=[Fault("host-002", "*", "silence", START + HOUR, START + 2 * HOUR, 5.0)], restarts=0)
    quiet = [s for s in made.samples(START + HOUR, START + 2 * HOUR - MINUTE) if s["hostname"] == "host-002"]
    assert quiet == []


def test_drawn_faults_lie_apart_and_not_on_restarts() -> None:
    made = fleet(hosts=10, faults=20, end=START + 14 * DAY)
    assert len(made.truth) == 20
    spans = [(f.host, f.start, f.end) for f in made.truth] + [(h.host, h.start, h.end) for h in made.harmless]
    for place, (host, start, end) in enumerate(spans[: len(made.truth)]):
        for other, (host2, start2, end2) in enumerate(spans):
            assert place == other or host != host2 or end <= start2 or end2 <= start
    assert {h.kind for h in made.harmless} <= {"restart", "deploy"}
    assert all(isinstance(h, Harmless) for h in made.harmless)


def test_percentages_stay_percentages() -> None:
    made = fleet(hosts=12, faults=10)
    _, values = made.columns(made.start, made.end)
    for metric in ("cpuUsage", "memoryUsage"):
        column = values[:, METRICS.index(metric)]
        assert np.nanmin(column) >= 0
        assert np.nanmax(column) <= 100
