"""Relations between a host's metrics: a break is found, and named; what single metrics show is not its matter."""

from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.detectors import correlation_compiled
from stream_processors.detectors.correlation import BLOCK, LANES, ROW_BYTES, CorrelationBank
from tests.support.paths import BUILT, PATHS
from tests.support.related import DAY, START, decouple, related, run, wandering

BOTH = pytest.mark.parametrize("compiled", PATHS)


def raised(told):
    return [(at, one) for at, one in told if one.what == "raised"]


def test_a_metric_that_leaves_the_others_is_found_and_named():
    rng = np.random.default_rng(1)
    values, rhythm = related(rng, 24, 8)
    start = 6 * DAY + 40
    decouple(rng, values, rhythm, 2, start, 48)
    found = 0
    for told in run(values):
        assert all(start <= at < start + 60 for at, _ in raised(told))
        for at, one in raised(told)[:1]:
            found += 1
            assert one.lane == 2
            assert one.shares[2] == max(one.shares)
            assert sum(one.shares) == pytest.approx(1.0)
            assert any(other.what == "over" and later > at for later, other in told)
    print(f"found on {found} of 24 hosts")
    assert found >= 18


@pytest.mark.parametrize("what", ["nothing", "a shift", "a spike", "a busy hour", "a gap", "a restart"])
def test_what_every_metric_or_a_single_one_shows_is_left_to_the_others(what):
    rng = np.random.default_rng(2)
    values, _ = related(rng, 24, 8)
    at = 6 * DAY + 40
    if what == "a shift":
        values[:, 1, at:] += 12
    elif what == "a spike":
        values[:, 1, at] += 1e9
    elif what == "a busy hour":
        values[:, :, at : at + 12] += 6
    elif what == "a gap":
        values[:, 3, at : at + DAY] = np.nan
    elif what == "a restart":
        values[:, :, at : at + 2] = np.nan
        values[:, :, at + 2 :] += rng.normal(size=(24, 4, 1)) * 0.3
    assert sum(len(raised(told)) for told in run(values)) == 0


def test_metrics_without_relation_are_not_judged():
    rng = np.random.default_rng(3)
    values = np.stack([wandering(rng, 24, 10 * DAY) for _ in range(4)], axis=1)
    assert [raised(told) for told in run(values)] == [[]] * 24


def events(rng, hosts, count):
    """Events in an order of their own: hosts and lanes mixed, some late, some missing."""
    values, rhythm = related(rng, hosts, -(-count // DAY))
    decouple(rng, values, rhythm, 1, count - 60, 60)
    made = []
    for at in range(count):
        for host in rng.permutation(hosts):
            for lane in rng.permutation(4):
                if rng.random() < 0.97:
                    late = rng.integers(0, 2 * BLOCK) if rng.random() < 0.01 else 0
                    stamp = START + at * BLOCK + int(rng.integers(0, BLOCK)) - int(late)
                    made.append((host, lane, stamp, values[host, lane, at]))
    return [np.array(column) for column in zip(*made, strict=True)]


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**32 - 1))
def test_cuts_and_other_hosts_change_no_bit(seed):
    rng = np.random.default_rng(seed)
    host, lane, stamp, value = events(rng, 3, 5 * DAY)
    whole, cut, alone = CorrelationBank(), CorrelationBank(), CorrelationBank()
    for bank in (whole, cut):
        for _ in range(3):
            bank.add()
    alone.add()
    told = whole.step(host, lane, stamp, value)[0]
    parts = []
    edges = np.unique(np.concatenate([[0, len(host)], rng.integers(0, len(host), 300)]))
    for begin, end in itertools.pairwise(edges):
        part = slice(begin, end)
        for one in cut.step(host[part], lane[part], stamp[part], value[part])[0]:
            parts.append((one.host, one.what, one.at, one.lane, one.level))
    assert sorted(parts) == sorted((one.host, one.what, one.at, one.lane, one.level) for one in told)
    mine = host == 1
    single = alone.step(np.zeros(mine.sum(), np.int64), lane[mine], stamp[mine], value[mine])[0]
    assert [one.level for one in single] == [one.level for one in told if one.host == 1]
    hosts, lanes = np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)
    assert cut.dump(hosts, lanes) == whole.dump(hosts, lanes)
    assert alone.dump(np.zeros(4, np.int64), np.arange(4)) == whole.dump(np.full(4, 1), np.arange(4))


@BOTH
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), zeros=st.integers(0, 2 * ROW_BYTES))
def test_any_bytes_may_be_restored_and_reach_no_other_host(compiled, seed, zeros):
    rng = np.random.default_rng(seed)
    wild = np.frombuffer(rng.bytes(2 * ROW_BYTES), np.uint8).copy()
    wild[rng.permutation(len(wild))[:zeros]] = 0
    bank = CorrelationBank()
    bank.compiled = compiled
    for _ in range(2):
        bank.add()
    host, lane = np.repeat(np.arange(2), 4), np.tile(np.arange(4), 2)
    bank.step(host, lane, np.full(8, START), np.arange(8.0))
    before = bank.dump(np.ones(4, np.int64), np.arange(4))
    bank.restore(np.zeros(2, np.int64), wild.tobytes())
    assert bank.dump(np.ones(4, np.int64), np.arange(4)) == before
    plain = CorrelationBank()
    plain.add()
    plain.step(np.zeros(4, np.int64), np.arange(4), np.full(4, START), np.arange(4.0, 8.0))
    for at in range(1, 30):
        bank.step(host, lane, np.full(8, START + at * BLOCK), np.arange(8.0))
        plain.step(np.zeros(4, np.int64), np.arange(4), np.full(4, START + at * BLOCK), np.arange(4.0, 8.0))
    assert bank.dump(np.ones(4, np.int64), np.arange(4)) == plain.dump(np.zeros(4, np.int64), np.arange(4))


@BOTH
def test_what_is_open_ends_after_a_day_though_no_block_can_be_judged_any_more(compiled):
    values, rhythm = related(np.random.default_rng(3), 2, 8)
    decouple(np.random.default_rng(4), values, rhythm, 2, 5 * DAY, 3 * DAY)
    odd = np.arange(values.shape[2]) % 2
    begins = [raised(told)[0][0] for told in run(values)]
    for host, begin in enumerate(begins):
        values[host, odd[begin + 2 :], begin + 2 + np.arange(len(odd) - begin - 2)] = np.nan  # one or the other is missing
    bank = CorrelationBank()
    bank.compiled = compiled
    for host, told in enumerate(run(values, bank)):
        assert [one.what for _, one in told] == ["raised", "over"]
        (begin, _), (end, _) = told
        assert begin == begins[host]
        assert DAY < end - begin <= DAY + 2


def test_events_that_all_come_too_late_change_nothing():
    bank, hosts, lanes = CorrelationBank(), np.zeros(2, np.int64), np.arange(2)
    bank.add()
    bank.step(hosts, lanes, np.full(2, START + BLOCK), np.ones(2))
    before = bank.dump(hosts, lanes)
    found, touched = bank.step(hosts, lanes, np.full(2, START), np.ones(2))
    assert (found, touched.tolist(), bank.dump(hosts, lanes)) == ([], [], before)


@BUILT
@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**32 - 1), hosts=st.integers(1, 6), together=st.sampled_from([40, 5_000, 60_000]))
def test_the_compiled_path_gives_the_bits_of_numpy(seed, hosts, together):
    rng = np.random.default_rng(seed)
    values, rhythm = related(rng, hosts, 6)
    decouple(rng, values, rhythm, 2, 5 * DAY, 60)
    values[:, 1, 4 * DAY : 4 * DAY + 30] += 9
    values[:, :, 2 * DAY : 2 * DAY + int(rng.integers(1, 40))] = np.nan
    values[rng.random(values.shape) < 0.01] = np.nan
    values[rng.random(values.shape) < 0.0005] *= 1e120
    host, lane, block = (axis.ravel() for axis in np.indices(values.shape))
    stamps = START + block * BLOCK + rng.integers(-BLOCK // 4, BLOCK, block.shape)  # some come after their block
    order = np.argsort(block * BLOCK + rng.integers(0, BLOCK, block.shape), kind="stable")
    order = order[np.isfinite(values.ravel()[order])]
    plain, compiled = CorrelationBank(), CorrelationBank()
    compiled.compiled = True
    for bank in (plain, compiled):
        bank.add_many(hosts)
    broken = 0
    begin = 0
    while begin < len(order):
        some = order[begin : begin + int(rng.integers(1, together))]
        begin += len(some)
        told, touched = plain.step(host[some], lane[some], stamps[some], values.ravel()[some])
        found, moved = compiled.step(host[some], lane[some], stamps[some], values.ravel()[some])
        assert found == told
        assert set(moved.tolist()) == set(touched.tolist())
        broken += len(found)
    print(f"{broken} insights")
    every = np.repeat(np.arange(hosts), 8), np.tile(np.arange(8), hosts)
    assert compiled.dump(*every) == plain.dump(*every)


@BUILT
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), zeros=st.integers(0, 8 * ROW_BYTES))
def test_the_compiled_path_gives_the_numbers_of_numpy_whatever_was_restored(seed, zeros):
    rng = np.random.default_rng(seed)
    wild = np.frombuffer(rng.bytes(8 * ROW_BYTES), np.uint8).copy()
    wild[rng.permutation(len(wild))[:zeros]] = 0
    host, lane = np.zeros(8 * 40, np.int64), np.tile(np.arange(8), 40)
    stamps, values = START + np.repeat(np.arange(40), 8) * BLOCK, rng.normal(size=8 * 40)
    rows = []
    for compiled in (False, True):
        bank = CorrelationBank()
        bank.compiled = compiled
        bank.add()
        bank.step(host[:8], lane[:8], stamps[:8] - BLOCK, values[:8])
        bank.restore(host[:8], wild.tobytes())
        bank.step(host, lane, stamps, values)
        rows.append((bank._host, bank._lane))
    for plain, other in zip(*rows, strict=True):
        for name, column in plain.items():
            np.testing.assert_array_equal(other[name], column, err_msg=name)


@BUILT
@pytest.mark.parametrize(("host", "lane"), [(-1, 0), (0, -1), (0, LANES), (0, 2**62)])
def test_the_compiled_path_refuses_a_host_or_a_lane_that_there_is_not(host, lane):
    bank, hosts, lanes = CorrelationBank(), np.zeros(2, np.int64), np.arange(2)
    bank.compiled = True
    bank.add()
    bank.step(hosts, lanes, np.full(2, START), np.ones(2))
    with pytest.raises(IndexError):
        bank.step(np.array([host]), np.array([lane]), np.array([START + BLOCK]), np.ones(1))


@BUILT
def test_hosts_that_come_later_are_where_the_compiled_path_looks_for_them():
    plain, compiled = CorrelationBank(), CorrelationBank()
    compiled.compiled = True
    rng = np.random.default_rng(5)
    for at in range(40):
        hosts, lanes = np.repeat(np.arange(at + 1), 3), np.tile(np.arange(3), at + 1)
        values = rng.normal(size=len(hosts))
        for bank in (plain, compiled):
            bank.add()
            bank.step(hosts, lanes, np.full(len(hosts), START + at * BLOCK), values)
    assert compiled.dump(hosts, lanes) == plain.dump(hosts, lanes)


@BOTH
def test_a_pickled_or_copied_bank_goes_on_with_the_same_bits_and_apart(compiled):
    bank, hosts, lanes = CorrelationBank(), np.zeros(4, np.int64), np.arange(4)
    bank.compiled = compiled
    bank.add()
    rng = np.random.default_rng(6)
    for at in range(5):
        bank.step(hosts, lanes, np.full(4, START + at * BLOCK), rng.normal(size=4))
    twins, before, values = (
        [copy.deepcopy(bank), pickle.loads(pickle.dumps(bank))],
        bank.dump(hosts, lanes),
        rng.normal(size=4),
    )
    for twin in twins:
        for at in range(5, 8):
            twin.step(hosts, lanes, np.full(4, START + at * BLOCK), values)
        assert bank.dump(hosts, lanes) == before
    for at in range(5, 8):
        bank.step(hosts, lanes, np.full(4, START + at * BLOCK), values)
    assert [twin.dump(hosts, lanes) for twin in twins] == [bank.dump(hosts, lanes)] * 2


@BUILT
def test_more_events_than_the_compiled_path_takes_in_at_once(monkeypatch):
    monkeypatch.setattr(correlation_compiled, "EVENTS", 1_000)
    values, rhythm = related(np.random.default_rng(7), 2, 6)
    decouple(np.random.default_rng(8), values, rhythm, 2, 5 * DAY, 60)
    host, lane, block = (axis.ravel() for axis in np.indices(values.shape))
    order = np.argsort(block, kind="stable")
    plain, compiled = CorrelationBank(), CorrelationBank()
    compiled.compiled = True
    told = []
    for bank in (plain, compiled):
        bank.add_many(2)
        told.append(bank.step(host[order], lane[order], START + block[order] * BLOCK, values.ravel()[order])[0])
    assert told[0] == told[1]
    assert len(told[0]) > 0
    every = np.repeat(np.arange(2), 4), np.tile(np.arange(4), 2)
    assert compiled.dump(*every) == plain.dump(*every)
