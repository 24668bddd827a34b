"""The index of series against a dictionary of dictionaries."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stream_processors.series_index import SeriesIndex

RESOURCES = st.sampled_from([f"host-{number}" for number in range(9)])
SERIES = st.sampled_from(["", *(f"metric.{number}" for number in range(12))])


class Index(RuleBasedStateMachine):
    """What is put and taken out one by one or together is found, and nothing else is."""

    def __init__(self) -> None:
        super().__init__()
        self.index, self.known, self.free, self.end = SeriesIndex(), dict[str, dict[str, int]](), list[int](), 0

    def slot(self, resource: str, series: str) -> int:
        return self.known.get(resource, {}).get(series, -1)

    @rule(resource=RESOURCES, series=SERIES)
    def add(self, resource: str, series: str) -> None:
        if self.slot(resource, series) >= 0:
            return
        if self.free:
            slot = self.free.pop()
        else:
            slot, self.end = self.end, self.end + 1
        self.index.add(resource, series, slot)
        self.known.setdefault(resource, {})[series] = slot
        assert self.index.last(resource) == slot

    @rule(chosen=st.sets(st.tuples(RESOURCES, SERIES), max_size=90))
    def add_together(self, chosen: set[tuple[str, str]]) -> None:
        new = sorted(one for one in chosen if self.slot(*one) < 0)
        self.index.add_all([one for one, _ in new], [one for _, one in new], self.end)
        for slot, (resource, series) in enumerate(new, self.end):
            self.known.setdefault(resource, {})[series] = slot
        self.end += len(new)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        resource = data.draw(st.sampled_from(sorted(self.known)))
        series = data.draw(st.sampled_from(sorted(self.known[resource])))
        slot = self.known[resource].pop(series)
        if not self.known[resource]:
            del self.known[resource]
        assert self.index.remove(resource, series) == slot
        self.free.append(slot)
        with pytest.raises(KeyError):
            self.index.remove(resource, series)

    @rule(asked=st.lists(st.tuples(RESOURCES | st.just("unknown"), SERIES | st.just("unknown")), max_size=40))
    def find(self, asked: list[tuple[str, str]]) -> None:
        expected = [self.slot(*one) for one in asked]
        assert [self.index.find(*one) for one in asked] == expected
        assert self.index.find_all([one for one, _ in asked], (one for _, one in asked)).tolist() == expected

    @invariant()
    def the_same(self) -> None:
        assert self.index == self.known
        assert [self.index.count(resource) for resource in self.known] == [len(mine) for mine in self.known.values()]
        assert all(list(self.index[resource]) == sorted(mine) for resource, mine in self.known.items())


TestIndex = Index.TestCase


def test_what_is_not_there_is_no_key() -> None:
    index = SeriesIndex()
    assert not index
    assert index.count("host") == 0
    assert index.last("host") == -1
    with pytest.raises(KeyError, match="host"):
        index["host"]


def test_names_that_come_and_go_take_no_room() -> None:
    index = SeriesIndex()
    index.add("host", "cpu", 0)
    for number in range(1_000):
        index.add("host", f"container-{number}", 1)
        index.remove("host", f"container-{number}")
    assert len(index._names.texts) == 3
    assert index["host"] == {"cpu": 0}


def test_many_series_are_found_where_the_table_has_grown() -> None:
    index, hosts = SeriesIndex(), [f"host-{number // 10}" for number in range(20_000)]
    names = [f"metric.{number % 10}" for number in range(20_000)]
    index.add_all(hosts[:10_000], names[:10_000], 0)
    for slot in range(10_000, 20_000):
        index.add(hosts[slot], names[slot], slot)
    assert index.find_all(hosts[::-1], names[::-1]).tolist() == list(range(19_999, -1, -1))
