"""Numbers of names, found for all events of a batch by compiled loops, where the kernel is built.

A dictionary has them all, but of a hundred thousand names no cache holds its objects, and it makes the processor wait for
one of them after the other. Here names lie byte by byte in one array, and the loops (``kernels/names.c``) ask for many at
a time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stream_processors.detectors.base import IntArray, enlarged
from stream_processors.kernels import Kernel

_MARK = "\n"
"""Between names. None has one, as they hold no control characters (``schemas.names``)."""

_TAKEN, _BYTES, _USED = range(3)
"""What is used: places, and bytes of the pool."""

KERNEL = Kernel(
    "names",
    constants={"MARK": ord(_MARK), "PROBES": 32, "GROUP": 64, "TAKEN": _TAKEN, "BYTES": _BYTES},
    fields={
        # By hash: a name's number, and the upper half of the hash above it. By number: where the name is in the pool.
        "places": "u8", "spans": "i8", "pool": "u1", "used": "i8",
        # Of a place, whose number is a power of two, the highest.
        "mask": "number",
    },
)  # fmt: skip


class NameTable:
    """Some names and their numbers, which are 1 or more. ImportError where the kernel was not built."""

    def __init__(self) -> None:
        self._find = KERNEL.function("find", ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, result=None)
        self._learn = KERNEL.function("learn", ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, result=None)
        self._clear(0)

    def _clear(self, count: int) -> None:
        """Forget all, and make room for so many names and half as many again."""
        self._places: NDArray[np.uint64] = np.zeros(1 << (3 * count).bit_length(), np.uint64)
        self._spans: NDArray[np.int64] = np.zeros((count, 2), np.int64)
        self._pool: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._used: NDArray[np.int64] = np.zeros(_USED, np.int64)
        self._hand_over()

    def _hand_over(self) -> None:
        self._arguments = KERNEL.arguments(
            places=self._places, spans=self._spans, pool=self._pool, used=self._used, mask=len(self._places) - 1
        )

    def find(self, names: Sequence[str]) -> IntArray:
        """Numbers of names, 0 where one is not here."""
        found = np.zeros(len(names), np.int64)
        if (data := _joined(names)) is not None:
            self._find(self._arguments, data, len(data), len(names), found.ctypes.data)
        return found

    def learn(self, numbers: Mapping[str, int], known: int) -> None:
        """Take in names with their numbers; there are ``known`` in all that may be asked for."""
        if not numbers or (data := _joined(numbers)) is None:
            return
        if 2 * (self._used[_TAKEN] + len(numbers)) > len(self._places):
            self._clear(max(known, len(numbers)))
        given = np.fromiter(numbers.values(), np.int64, len(numbers))
        self._spans = enlarged(self._spans, int(given.max()) + 1, 0)
        self._pool = enlarged(self._pool, int(self._used[_BYTES]) + len(data), 0)
        self._hand_over()
        self._learn(self._arguments, data, len(data), len(given), given.ctypes.data)

    def forget(self, number: int) -> None:
        """A number is its name's no longer."""
        if number < len(self._spans):
            self._spans[number] = 0, -1  # as long as no name is


def _joined(names: Collection[str]) -> bytes | None:
    data = _MARK.join(names)
    return data.encode("utf-8", "surrogatepass") if data.count(_MARK) == len(names) - 1 else None
