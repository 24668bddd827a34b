"""Insights as items: nothing changes on the way, nothing grows beyond what a table takes."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.insights.store import from_item, to_item
from runtime.dynamodb import attribute, number, plain
from schemas.insights import Insight
from tests.support.insights import insight

numbers = st.floats(allow_nan=False, allow_infinity=False).filter(lambda v: v == 0 or 1e-130 <= abs(v) <= 9.9e125)
names = st.text(min_size=1, max_size=40)


@settings(deadline=None, max_examples=300)
@given(
    st.builds(
        insight,
        observed=st.none() | numbers,
        expected_low=st.none() | numbers,
        score=numbers,
        message=st.text(max_size=300),
        resource=names,
        timestamp=st.integers(0, 2**53),
        closed_at=st.none() | st.integers(0, 2**53),
        evidence=st.dictionaries(names, numbers, max_size=5),
        dimensions=st.none() | st.dictionaries(names, names, min_size=1, max_size=5),
        related=st.lists(names, max_size=5),
        unit=st.none() | names,
    )
)
def test_an_insight_comes_back_from_its_item_exactly(one: Insight) -> None:
    assert from_item(to_item(one)) == one


@pytest.mark.parametrize("value", [1e22, 1e100, 2.0**63, 0.1, 1e-130, 5e15 + 0.5, 123456789012345680.0])
def test_a_number_survives_any_form_in_which_the_table_writes_it(value: float) -> None:
    from decimal import Decimal

    for text in (repr(value), format(Decimal(repr(value)), "f"), format(Decimal(repr(value)), "E")):
        assert number(text) == value


def test_what_a_table_cannot_hold_is_left_out_or_brought_to_its_bounds() -> None:
    item = to_item(
        insight(observed=float("nan"), expected=float("inf"), score=1e-200, evidence={"a": float("nan"), "b": 1.0})
    )
    assert "observed" not in item
    assert float(item["expected"]["N"]) == 9.9e125
    assert float(item["score"]["N"]) == 0.0
    assert item["evidence"] == {"M": {"b": {"N": "1.0"}}}
    with pytest.raises(ValueError, match="NaN"):
        attribute(float("nan"))


def test_an_item_stays_far_below_what_a_table_takes() -> None:
    long = "\N{GRINNING FACE}" * 256
    huge = insight(
        message="\N{GRINNING FACE}" * 100_000,
        affected_hosts=[f"{n}{long}" for n in range(5_000)],
        related=[f"{n}{long}" for n in range(5_000)],
        dimensions={f"{n}{long}": long for n in range(500)},
        evidence={f"{n}{long}": 0.001 for n in range(1_000)},
        rarity=long * 1000,
    )
    size = len(json.dumps(to_item(huge), ensure_ascii=False).encode())
    assert size < 300_000
    read = from_item(to_item(huge))
    assert (read.insight_id, read.resource, read.revision) == (huge.insight_id, huge.resource, huge.revision)


def test_an_item_of_a_later_version_is_read_and_one_that_is_no_insight_is_not() -> None:
    item = to_item(insight())
    assert from_item({**item, "incidentId": {"S": "new"}, "flag": {"NULL": True}}) == insight()
    del item["severity"]
    with pytest.raises(msgspec.ValidationError, match="severity"):
        from_item(item)


def test_attributes_of_all_kinds_come_back() -> None:
    value = {"text": "x", "yes": True, "no": False, "none": None, "list": [1, 2.5, "a"], "map": {"": 0}}
    assert plain(attribute(value)) == value
