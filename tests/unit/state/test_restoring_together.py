"""A snapshot with many series makes them together; nothing may tell that from one after the other."""

from __future__ import annotations

import gc
import weakref
from operator import attrgetter

import numpy as np
import pytest

from stream_processors.detectors.config import DetectorConfig, parse
from stream_processors.scoring import SERIES_FIELDS, Scorer
from stream_processors.state.snapshot import TOGETHER, Body, apply, decode, encode, mark_clean
from tests.support.batches import batch
from tests.support.simple_bank import banks

START = 1_750_000_000_000
RULES = b"""
[[rules]]
resource = "host-1*"
metric = "cpu"
direction = "up"
false_alarms = "1 per 30 days"
bounds = { high = 200.0 }

[[rules]]
metric = "disk"
detector = "off"

[[rules]]
resource = "host-20"
at_most = "LOW"
"""


def fed(config: DetectorConfig | None, hosts: int = 2 * TOGETHER // 3) -> Scorer:
    scorer = Scorer(config)
    for minute in range(3):
        scorer.process(
            batch([
                (f"host-{host}", metric, START + minute * 60_000, 50.0 + host % 7 + minute)
                for host in range(hosts)
                for metric in ("cpu", "memory", "disk")
            ])
        )  # fmt: skip
    return scorer


def one_by_one(config: DetectorConfig | None, body: Body) -> Scorer:
    """The same series made by the core itself, then filled from the snapshot."""
    scorer = Scorer(config)
    for entry in body.series:
        scorer.ensure(*entry)
    apply(scorer, body)
    return scorer


@pytest.mark.parametrize("config", [None, parse(RULES)], ids=["no rules", "rules"])
def test_series_made_together_equal_those_made_one_by_one(config: DetectorConfig | None) -> None:
    data = encode(fed(config))
    body = decode(data)
    assert len(body.series) > TOGETHER
    together, single = Scorer(config), one_by_one(config, body)
    apply(together, body)
    assert encode(together) == encode(single) == data
    assert together.info == single.info
    assert [together.rule(slot) for slot in range(len(together.info))] == [single.rule(n) for n in range(len(single.info))]
    assert together.resources == single.resources
    used = len(together.info)
    banked = together.bank[:used] >= 0
    assert len(set(together.row[:used][banked])) == banked.sum(), "every series has a row of its own"
    for name in ("bank", "special", "floor", "ceiling", "allowance", "open", "dirty"):
        assert np.array_equal(getattr(together, name)[:used], getattr(single, name)[:used]), name
    after = batch([(f"host-{host}", "cpu", START + 300_000, 51.0) for host in range(0, 400, 3)])
    for scorer in (together, single):
        mark_clean(scorer)
        scorer.process(after)
    assert encode(together, full=False) == encode(single, full=False)


@pytest.mark.parametrize("config", [None, parse(RULES)], ids=["no rules", "rules"])
def test_a_metric_of_several_units_is_made_for_each_of_them(config: DetectorConfig | None) -> None:
    units = (None, "Percent", "Count", "Bytes/Second")
    series = [
        (f"host-{host:03}", metric, metric, units[(host + at) % 4], {"zone": "ab"[host % 2]} if host % 3 else None)
        for host in range(TOGETHER)
        for at, metric in enumerate(("cpu", "disk", "memory_used"))
    ]
    body = Body("base", 0, 0, series, bytes(len(series) * SERIES_FIELDS.itemsize), [], [], [], [])
    together, single = Scorer(config), one_by_one(config, body)
    apply(together, body)
    used = len(series)
    assert together.info == single.info
    assert [together.rule(slot) for slot in range(used)] == [single.rule(slot) for slot in range(used)]
    for of in ("predictions.row", "counters.state", "correlations.lane", "bank"):
        there, alone = (attrgetter(of)(scorer)[:used] for scorer in (together, single))
        assert np.array_equal(there, alone), of
        assert len(set(there.tolist())) > 1 or of == "bank", of
    shared = {id(info.metric) for info in together.info if info is not None}
    assert len(shared) == 3, "all hosts share the names of metrics"


@pytest.mark.parametrize("config", [
    DetectorConfig(max_series=TOGETHER // 2), DetectorConfig(max_series_per_resource=2)
], ids=["a shard", "a resource"])  # fmt: skip
def test_the_bounds_hold_for_series_made_together(config: DetectorConfig) -> None:
    body = decode(encode(fed(None)))
    together, single = Scorer(config), one_by_one(config, body)
    apply(together, body)
    assert encode(together) == encode(single)
    assert together.series_count() < len(body.series)


def test_series_known_already_stay_where_they_are_and_others_follow() -> None:
    body = decode(encode(fed(None)))
    scorer = Scorer()
    slots = [scorer.ensure(*entry) for entry in body.series[::5]]
    apply(scorer, body)
    assert [scorer.resources[e[0]][e[1]] for e in body.series[::5]] == slots
    assert encode(scorer) == encode(fed(None))


def test_only_the_kept_resources_are_made() -> None:
    body = decode(encode(fed(None)))
    scorer = Scorer(None, banks)
    apply(scorer, body, keep=lambda resource: resource.endswith("3"))
    assert scorer.resources
    assert all(resource.endswith("3") for resource in scorer.resources)
    assert scorer.series_count() == sum(entry[0].endswith("3") for entry in body.series)


def test_the_memory_of_a_scorer_is_free_as_soon_as_it_is_dropped() -> None:
    scorer = Scorer()
    apply(scorer, decode(encode(fed(None))))
    scorer.process(batch([("host-7", "cpu", START + 600_000, 1.0)]))
    bank = weakref.ref(scorer.banks["seasonal"])
    gc.collect()
    gc.disable()
    try:
        del scorer
        assert bank() is None
    finally:
        gc.enable()


def test_a_delta_holds_what_was_touched_wherever_it_lies_among_many() -> None:
    scorer = fed(None)
    mark_clean(scorer)
    scorer.process(batch([("host-7", "cpu", START + 600_000, 1.0), ("host-150", "memory", START + 600_000, 1.0)]))
    held = [entry[:2] for entry in decode(encode(scorer, full=False)).series]
    # The relations between a host's series are kept with all of them.
    assert {("host-150", "memory"), ("host-7", "cpu")} <= set(held)
    assert {resource for resource, _ in held} == {"host-150", "host-7"}
