"""What the Metrics table keeps does not depend on order, cuts or repetition."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.metric_store import fold as folding
from consumers.metric_store.fold import BUDGET, HostMinute, Reading, Readings, fold, from_item, merge, to_attributes
from schemas.events import HOST_METRICS
from schemas.names import series_name
from stream_processors.records.batch import EventBatch, Shared

MINUTE = 1_795_705_440_000
Event = tuple[str, str, int, float, str | None]


def batch(events: list[Event]) -> EventBatch:
    made = EventBatch()
    for n, (resource, series, time, value, unit) in enumerate(events):
        made.sequence_numbers.append(str(n))
        for column, entry in (
            (made.record, n), (made.sub_sequence, 0), (made.item, 0), (made.resource, resource),
            (made.shared, Shared(series, series, unit)), (made.timestamp, time), (made.value, value), (made.arrival, time),
        ):  # fmt: skip
            column.append(entry)  # type: ignore[attr-defined]
    return made


def stored(batches: list[list[Event]]) -> dict[tuple[str, int], Readings]:
    """What the table holds after these batches, each item going through its attributes and back."""
    table: dict[tuple[str, int], Readings] = {}
    for events in batches:
        for minute in fold(batch(events)):
            key = (minute.hostname, minute.minute)
            merged = merge(table.get(key, {}), minute.readings)
            item = {**to_attributes(merged), "timestamp": {"N": str(minute.minute)}}
            assert from_item(item) == merged
            table[key] = merged
    return table


events = st.lists(
    st.tuples(
        st.sampled_from(["web-1", "web-2"]),
        st.sampled_from(["cpuUsage", "diskIO", "load", "load{device=sda}", "x" * 300]),
        st.integers(MINUTE - 60_000, MINUTE + 59_999),
        st.sampled_from([0.0, 1.0, -1.5, 1e300]),
        st.sampled_from([None, "Percent", "Count", "u" * 200]),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=200)
@given(events, st.randoms(use_true_random=False), st.integers(1, 7))
def test_any_order_cut_and_repetition_of_events_stores_the_same(found: list[Event], random: object, size: int) -> None:
    shuffled = [*found, *found[: len(found) // 2]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    cut = [shuffled[at : at + size] for at in range(0, len(shuffled), size)]
    assert stored(cut) == stored([found])


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.text(min_size=1, max_size=12), max_size=60, unique=True),
    st.randoms(use_true_random=False),
    st.integers(1, 9),
)
def test_which_series_find_room_does_not_depend_on_when_they_come(names: list[str], random: object, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "BUDGET", 20 * 128)
        readings = dict.fromkeys([*names, "cpuUsage"], (MINUTE, 1.0, ""))
        random.shuffle(names)  # type: ignore[attr-defined]
        held: Readings = {}
        for at in range(0, len(names), size):
            held = merge(held, {name: readings[name] for name in names[at : at + size]})
        held = merge(held, {"cpuUsage": readings["cpuUsage"]})
        assert held == merge({}, readings)
        assert "cpuUsage" in held


def test_within_a_minute_the_last_value_by_event_time_stays() -> None:
    late_first = [
        ("web-1", "cpuUsage", MINUTE + 50_000, 70.0, "Percent"),
        ("web-1", "cpuUsage", MINUTE + 10_000, 30.0, "Percent"),
        ("web-1", "cpuUsage", MINUTE + 60_000, 10.0, "Percent"),
    ]
    (first, second) = fold(batch(late_first))
    assert first == HostMinute("web-1", MINUTE, 0, {"cpuUsage": (MINUTE + 50_000, 70.0, "Percent")})
    assert (second.minute, second.first_record) == (MINUTE + 60_000, 2)


def test_an_item_has_a_column_for_each_metric_of_the_host_sample_and_a_map_for_all_others() -> None:
    readings: Readings = {
        **{name: (MINUTE + 30_000, 1.5, unit) for name, unit in HOST_METRICS.items()},
        "queue": (MINUTE + 20_000, 7.0, "Count"),
        "load{device=sda}": (MINUTE + 30_000, 0.5, ""),
    }
    assert to_attributes(readings) == {
        "cpuUsage": {"N": "1.5"},
        "memoryUsage": {"N": "1.5"},
        "diskIO": {"N": "1.5"},
        "networkIO": {"N": "1.5"},
        "metrics": {"M": {"queue": {"N": "7.0"}, "load{device=sda}": {"N": "0.5"}}},
        "units": {"M": {"queue": {"S": "Count"}}},
        "earlier": {"M": {"queue": {"N": str(MINUTE + 20_000)}}},
        "latest": {"N": str(MINUTE + 30_000)},
    }


def test_names_that_look_alike_never_share_a_place() -> None:
    series = [
        series_name("cpuUsage", None),
        series_name("cpuUsage", {"core": "0"}),
        series_name("cpuUsage{core=0}", None),
        series_name("metrics", None),
        series_name("a.b", None),
        series_name("ttl", None),
        series_name("hostname", None),
    ]
    found = fold(batch([("web-1", name, MINUTE, float(n), None) for n, name in enumerate(series)]))
    attributes = to_attributes(found[0].readings)
    assert attributes["cpuUsage"] == {"N": "0.0"}
    assert len(attributes["metrics"]["M"]) == len(series) - 1
    assert set(attributes) == {"cpuUsage", "metrics", "latest", "units"}


def test_a_host_that_invents_names_keeps_its_item_below_what_a_table_takes() -> None:
    readings: dict[str, Reading] = {
        f"{n}" + "\N{GRINNING FACE}" * 200: (MINUTE + n % 60_000, -1.2345678901234567e-100, "é" * 32) for n in range(3_000)
    }
    readings |= {f"m{n}": (MINUTE, 1.0, "") for n in range(100)}
    readings["cpuUsage"] = (MINUTE, 50.0, "Percent")
    held = merge({}, readings)
    size = len(json.dumps(to_attributes(held), ensure_ascii=False).encode())
    assert len(held) < len(readings)
    assert size < 400_000
    assert BUDGET < 400_000
    assert all(f"m{n}" in held for n in range(100))
    assert "cpuUsage" in held
