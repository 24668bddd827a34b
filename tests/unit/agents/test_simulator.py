"""The simulated fleet: repeatable, however it is asked; faults have the size that the truth says."""

from __future__ import annotations

import numpy as np
import pytest

from agents.simulator import DAY, HOUR, METRICS, MINUTE, Fault, Fleet, Harmless

START = 1_790_000_000_000


def fleet(**options: object) -> Fleet:
    settings: dict[str, object] = {"hosts": 4, "seed": 3, "start": START, "end": START + 3 * DAY, "faults": 5}
    return Fleet(**{**settings, **options})  # type: ignore[arg-type]


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
