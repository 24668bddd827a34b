"""Where a series is: the slot of every resource and series, found for all events of a batch together.

Resources and names of series have numbers, and a series' key is made of both. Keys lie in a table with open addressing,
and NumPy looks at the places of all events at once: where there are so many series that no cache holds
them, the processor then waits for many places at the same time, and not, as with a dictionary of dictionaries, for one
object of an event after the other.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_processors.detectors.base import IntArray, enlarged, in_order
from stream_processors.name_table import KERNEL, NameTable

_SHIFT = 32
_SPREAD = 0x9E3779B97F4A7C15
"""Of a multiplicative hash: 2^64 divided by the golden ratio (Knuth, The Art of Computer Programming 3, 6.4)."""
_WORD = (1 << 64) - 1
_MANY = 4096
"""Texts whose numbers are looked up in compiled loops: of fewer the processor's cache holds what a dictionary needs."""


class SeriesIndex(Mapping[str, dict[str, int]]):
    """Slots by resource and series; of one resource, ``index[resource]`` are the slots by the names of its series, in their
    order.

    With ``compiled``, and where the kernel was built, the same is found sooner of many resources or names.
    """

    def __init__(self, *, compiled: bool = False) -> None:
        # Numbers begin with one: zero is the number of nothing known.
        self._resources, self._names = _Numbers(compiled=compiled), _Numbers(compiled=compiled)
        self._first = array("i", [0])  # of a resource: the series that was added last
        # By slot plus one: the key, and the series that was added to the resource before. Zero is none.
        self._key = np.zeros(64, np.int64)
        self._next = np.zeros(64, np.int32)
        self._used = 0
        self._make_places(6)

    def __getitem__(self, resource: str) -> dict[str, int]:
        slots = self.slots_of(resource)
        if not slots:
            raise KeyError(resource)
        return dict(sorted((self._names.texts[self._key.item(slot + 1) & (1 << _SHIFT) - 1], slot) for slot in slots))

    def __contains__(self, resource: object) -> bool:
        return resource in self._resources.of

    def __iter__(self) -> Iterator[str]:
        return iter(self._resources.of)

    def __len__(self) -> int:
        return len(self._resources.of)

    def count(self, resource: str) -> int:
        """How many series a resource has."""
        return self._resources.users[self._resources.of.get(resource, 0)]

    def last(self, resource: str) -> int:
        """Slot of the series of a resource that was added last, or -1."""
        return self._first[self._resources.of.get(resource, 0)] - 1

    def slots_of(self, resource: str) -> list[int]:
        """Slots of a resource's series, the last added first."""
        found = []
        one = self._first[self._resources.of.get(resource, 0)]
        while one:
            found.append(one - 1)
            one = self._next.item(one)
        return found

    def find(self, resource: str, series: str) -> int:
        """Slot of a series, or -1."""
        return self._places.item(self._place(self._key_of(resource, series))) - 1

    def find_all(self, resources: Sequence[str], series: Iterable[str]) -> IntArray:
        """Slots of so many series, -1 where there is none."""
        count = len(resources)
        key = self._resources.find_all(resources, count) << _SHIFT | self._names.find_all(series, count)
        at = self._homes(key)
        found = self._places[at]
        left = np.flatnonzero((self._key[found] != key) & (found > 0))
        while len(left):
            at[left] = (at[left] + 1) & self._mask
            found[left] = self._places[at[left]]
            left = left[(self._key[found[left]] != key[left]) & (found[left] > 0)]
        return found.astype(np.int64) - 1

    def add(self, resource: str, series: str, slot: int) -> None:
        """Put a series that is not there yet at a slot that is free."""
        one = slot + 1
        self._make_room(1, one)
        number = self._resources.use(resource)
        if number == len(self._first):
            self._first.append(0)
        self._next[one], self._first[number] = self._first[number], one
        self._key[one] = key = number << _SHIFT | self._names.use(series)
        self._places[self._place(key)] = one

    def add_all(self, resources: Sequence[str], series: Sequence[str], start: int) -> None:
        """Put series that are not there yet at the free slots from ``start`` on."""
        count = len(resources)
        if not count:
            return
        self._make_room(count, start + count)
        numbers, ones = self._resources.use_all(resources), np.arange(start + 1, start + 1 + count)
        self._key[ones] = numbers << _SHIFT | self._names.use_all(series)
        self._first.frombytes(bytes(self._first.itemsize * (len(self._resources.texts) - len(self._first))))
        first = np.frombuffer(self._first, np.int32)
        order = in_order(numbers)
        of, ones = numbers[order], ones[order]
        begins = np.append(True, of[1:] != of[:-1])
        self._next[ones] = np.where(begins, first[of], np.roll(ones, 1))
        first[of] = ones  # of a resource's series the last counts
        self._put(ones)

    def remove(self, resource: str, series: str) -> int:
        """Take a series out; returns its slot, which is free then. KeyError where it is not there."""
        at = self._place(self._key_of(resource, series))
        one = self._places.item(at)
        if not one:
            raise KeyError((resource, series))
        self._close(at)
        number = self._resources.of[resource]
        if self._first[number] == one:
            self._first[number] = self._next.item(one)
        else:
            before = self._first[number]
            while self._next.item(before) != one:
                before = self._next.item(before)
            self._next[before] = self._next[one]
        self._key[one] = self._next[one] = 0
        self._resources.leave(resource)
        self._names.leave(series)
        self._used -= 1
        return one - 1

    def _make_room(self, further: int, last: int) -> None:
        self._key, self._next = enlarged(self._key, last + 1, 0), enlarged(self._next, last + 1, 0)
        self._used += further
        if 2 * self._used > len(self._places):
            self._make_places((4 * self._used - 1).bit_length() - 1)

    # ------------------------------------------------------------------ the table

    def _make_places(self, bits: int) -> None:
        """A table of 2^bits places, at most half of which are taken, with all series in it."""
        self._bits, self._mask = bits, (1 << bits) - 1
        self._places: NDArray[np.int32] = np.zeros(1 << bits, np.int32)
        self._put(np.flatnonzero(self._key))

    def _homes(self, key: IntArray) -> IntArray:
        """The place at which each key is looked for first."""
        return ((key.view(np.uint64) * np.uint64(_SPREAD)) >> np.uint64(64 - self._bits)).view(np.int64)

    def _put(self, left: IntArray) -> None:
        at = self._homes(self._key[left])
        while len(left):
            free = self._places[at] == 0
            self._places[at[free]] = left[free]  # where several want a place the last has it
            lost = self._places[at] != left
            left, at = left[lost], (at[lost] + 1) & self._mask

    def _key_of(self, resource: str, series: str) -> int:
        return self._resources.of.get(resource, 0) << _SHIFT | self._names.of.get(series, 0)

    def _home(self, key: int) -> int:
        return (key * _SPREAD & _WORD) >> (64 - self._bits)

    def _place(self, key: int) -> int:
        """Where a key is, or the empty place that says that it is nowhere."""
        at = self._home(key)
        while (one := self._places.item(at)) and self._key.item(one) != key:
            at = (at + 1) & self._mask
        return at

    def _close(self, gap: int) -> None:
        """Empty a place, and move those behind it up that are no longer found otherwise (Knuth's algorithm R)."""
        at = gap
        while one := self._places.item(at := (at + 1) & self._mask):
            if (at - self._home(self._key.item(one))) & self._mask >= (at - gap) & self._mask:
                self._places[gap], gap = one, at
        self._places[gap] = 0


class _Numbers:
    """Numbers of texts from one on; a number is given away again when nobody uses its text."""

    def __init__(self, *, compiled: bool) -> None:
        self.of: dict[str, int] = {}
        self.texts: list[Any] = [None]
        self.users = array("q", [0])
        self._free: list[int] = []
        self._table = NameTable() if compiled and KERNEL.available else None

    def use(self, text: str) -> int:
        """The text's number, for one more who uses it."""
        number = self.of.get(text)
        if number is None:
            number = self._make(text)
        self.users[number] += 1
        return number

    def use_all(self, texts: Sequence[str]) -> IntArray:
        """The numbers of texts, each for one more who uses it."""
        for text in dict.fromkeys(texts):
            if text not in self.of:
                self._make(text)
        numbers = np.fromiter(map(self.of.__getitem__, texts), np.int64, len(texts))
        users = np.frombuffer(self.users, np.int64)
        users += np.bincount(numbers, minlength=len(users))
        return numbers

    def find_all(self, texts: Iterable[str], count: int) -> IntArray:
        """The numbers of so many texts, 0 of those that nobody uses."""
        if self._table is None or len(self.of) < _MANY:
            return np.fromiter(map(self.of.get, texts, repeat(0)), np.int64, count)
        texts = list(texts)
        numbers = self._table.find(texts)
        learned: dict[str, int] = {}
        for index in np.flatnonzero(numbers == 0).tolist():
            if number := self.of.get(text := texts[index]):
                numbers[index] = learned[text] = number
        self._table.learn(learned, len(self.of))
        return numbers

    def _make(self, text: str) -> int:
        if self._free:
            number = self._free.pop()
            self.texts[number] = text
        else:
            number = len(self.texts)
            self.texts.append(text)
            self.users.append(0)
        self.of[text] = number
        return number

    def leave(self, text: str) -> None:
        """One uses the text no longer."""
        number = self.of[text]
        self.users[number] -= 1
        if not self.users[number]:
            del self.of[text]
            if self._table is not None:
                self._table.forget(number)
            self.texts[number] = None
            self._free.append(number)
