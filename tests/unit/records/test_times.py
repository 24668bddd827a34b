"""Timestamps: what is understood, and how far they may lie from the arrival."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.records import times
from stream_processors.records.refused import Refused
from tests.support.wire import ARRIVAL, native, one, refused

UNDERSTOOD: list[Any] = [
    ("2026-03-01T12:00:05Z", ARRIVAL),
    ("2026-03-01t12:00:05z", ARRIVAL),
    ("2026-03-01 12:00:05Z", ARRIVAL),
    ("2026-03-01T13:00:05+01:00", ARRIVAL),
    ("2026-03-01T04:30:05-07:30", ARRIVAL),
    ("2026-03-01T12:00:05.123456789Z", ARRIVAL + 123),
    ("2026-03-01T12:00:05.985+0000", ARRIVAL + 985),
    ("2026-03-01T12:00:60Z", ARRIVAL + 55_000),
    (ARRIVAL, ARRIVAL),
    (ARRIVAL // 1000, ARRIVAL),
    (ARRIVAL / 1000 + 0.25, ARRIVAL + 250),
    (ARRIVAL + 0.4, ARRIVAL),
    (99_999_999_999, 99_999_999_999_000),
    (100_000_000_000, 100_000_000_000),
]


def test_text_with_a_zone_seconds_and_milliseconds_are_understood() -> None:
    for given_, expected in UNDERSTOOD:
        assert times.milliseconds(given_) == expected


NO_TIMES: list[Any] = [
    ("2026-03-01T12:00:05", "no time zone"),
    ("2026-03-01T12:00:05.123", "no time zone"),
    ("2026-03-01", "no point in time"),
    ("20260301T120005Z", "no point in time"),
    ("2026-W09-7T12:00:05Z", "no point in time"),
    ("2026-02-30T12:00:05Z", "no point in time"),
    ("1772366405", "no point in time"),
    ("", "no point in time"),
    ("yesterday" * 20, "no point in time"),
    ("２０２６-03-01T12:00:05Z", "no point in time"),
    (None, "null"),
    (True, "truth value"),
    ([1], "an array"),
]


def test_other_times_are_refused_and_the_value_named() -> None:
    for given_, why in NO_TIMES:
        with pytest.raises(Refused) as refusal:
            times.milliseconds(given_)
        assert why in refusal.value.reason
        assert refusal.value.reason.startswith("timestamp ")


@settings(deadline=None)
@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_any_moment_written_with_any_offset_is_the_same_moment(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=minutes)))
    expected = (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)
    assert times.milliseconds(zoned.isoformat()) == expected


def test_the_bounds_about_the_arrival_are_inclusive_and_the_reason_names_both_times() -> None:
    ahead, behind = ARRIVAL + 3_600_000, ARRIVAL - 400 * 86_400_000
    assert one([native(timestamp=ahead), native(timestamp=behind)]).timestamp.tolist() == [ahead, behind]
    future, past = refused(native(timestamp=ahead + 1)), refused(native(timestamp=behind - 1))
    assert (future.code, past.code) == ("time", "time")
    assert "2026-03-01T13:00:05.001Z" in future.reason
    assert "2026-03-01T12:00:05.000Z" in future.reason
    assert "2025-01-25T12:00:04.999Z" in past.reason
    assert "2026-03-01T12:00:05.000Z" in past.reason


def test_absurd_numbers_are_orderly_letters() -> None:
    for given_ in (10**30, -(10**30), 1e300, -1e300, -1.7e308, 0, -1, 5e-324, 10**400):
        assert refused(native(timestamp=given_)).code in {"time", "not-finite"}


def test_telegraf_and_otlp_count_in_finer_units() -> None:
    for unit in (1, 1000, 10**6, 10**9):
        assert times.any_unit(ARRIVAL // 1000 * unit) == ARRIVAL
