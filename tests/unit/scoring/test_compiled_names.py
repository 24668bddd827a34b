"""The compiled numbers of names against a dictionary."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from schemas.names import MAX_NAME_LENGTH
from stream_processors import series_index
from stream_processors.name_table import NameTable
from stream_processors.series_index import SeriesIndex
from tests.support.paths import BUILT

pytestmark = BUILT

NAMES = st.sampled_from(["", "a", "host-1", "host-12", "host-123456789", "müller-web", "機械-7", "x" * MAX_NAME_LENGTH])
ODD = st.text(max_size=20) | st.sampled_from(["\n", "a\n", "\nhost-1", "\ud800", "a\0", "\0"])


class Table(RuleBasedStateMachine):
    """A name has the number that it was last learned with and that nobody has forgotten since, or none."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.known, self.free = NameTable(), dict[str, int](), list(range(1, 40))

    @rule(names=st.sets(NAMES | ODD, max_size=8))
    def learn(self, names: set[str]) -> None:
        new = {name: self.free.pop() for name in sorted(names - self.known.keys())[: len(self.free)]}
        self.known |= new
        self.table.learn(new, len(self.known))

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        if self.known:
            number = self.known.pop(data.draw(st.sampled_from(sorted(self.known))))
            self.table.forget(number)
            self.free.append(number)

    @rule(names=st.lists(NAMES | ODD, max_size=12))
    def find(self, names: list[str]) -> None:
        found = self.table.find(names).tolist()
        assert [number for number, name in zip(found, names, strict=True) if number not in {0, self.known.get(name)}] == []


TestTable = Table.TestCase


def test_what_is_asked_for_is_found_as_the_table_grows() -> None:
    table, numbers = NameTable(), {f"host-{number:06d}.eu-west-1.example.internal": number for number in range(1, 20_001)}
    names = list(numbers)
    for begin in range(0, 20_000, 500):
        table.learn({name: numbers[name] for name in names[begin : begin + 500]}, begin + 500)
    for _ in range(2):  # a table that is full begins anew
        missing = [name for name, number in zip(names, table.find(names).tolist(), strict=True) if not number]
        table.learn({name: numbers[name] for name in missing}, 20_000)
    assert table.find(names[::-1]).tolist() == list(range(20_000, 0, -1))
    assert not table.find([name + "x" for name in names]).any()


def test_a_name_with_a_line_break_leaves_all_to_the_dictionary() -> None:
    table = NameTable()
    table.learn({"a": 1, "b": 2}, 2)
    assert table.find(["a", "b", "c"]).tolist() == [1, 2, 0]
    assert table.find(["a\nb", "a"]).tolist() == [0, 0]
    table.learn({"c\n": 3, "d": 4}, 4)
    assert table.find(["c", "d"]).tolist() == [0, 0]


def test_names_that_come_and_go_take_no_room() -> None:
    table = NameTable()
    for number in range(20_000):
        table.learn({f"host-{number}": 1 + number % 50}, 50)
        assert table.find([f"host-{number}"]).tolist() == [1 + number % 50]
        table.forget(1 + number % 50)
    assert len(table._places) <= 256
    assert len(table._pool) < 64 * 1024


def test_an_index_of_many_resources_asks_it_and_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, find = [], NameTable.find
    monkeypatch.setattr(series_index, "_MANY", 100)
    monkeypatch.setattr(NameTable, "find", lambda self, names: asked.append(len(names)) or find(self, names))
    plain, fast = SeriesIndex(), SeriesIndex(compiled=True)
    hosts, names = [f"host-{number // 10}" for number in range(2_000)], [f"m.{number % 10}" for number in range(2_000)]
    for index in (plain, fast):
        index.add_all(hosts, names, 0)
    for start in (0, 1, 2):
        for index in (plain, fast):
            for slot in range(start, 2_000, 7):
                index.remove(hosts[slot], names[slot])
                index.add(f"other-{slot % 40}", f"{start}.{slot}", slot)
        wanted = [(one, name) for one, mine in plain.items() for name in (*mine, "none")] * 2
        found = [index.find_all(*map(list, zip(*wanted, strict=True))).tolist() for index in (plain, fast)]
        assert found[0] == found[1]
    assert asked
