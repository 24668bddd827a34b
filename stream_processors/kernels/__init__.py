"""What is compiled: loops in C that give the same bits as their NumPy or Python twins, sooner.

A kernel is a C file here. Its Python face holds the kernel's constants and the fields of what passes
between the two, and the C header of both is written from these (``python tools/kernel_headers.py``), so
nothing is told twice. The library knows neither Python nor NumPy: any C compiler builds it, for any
processor, and no version of Python needs one of its own. Where it was not built, or was built from other
constants than are here now, everything is computed without it.
"""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_TYPES = {
    "f8": "double *",
    "i8": "int64_t *",
    "u8": "uint64_t *",
    "u2": "uint16_t *",
    "u1": "uint8_t *",
    "b1": "uint8_t *",
    "number": "int64_t ",
}
"""C types by the array's type in NumPy's letters; ``number`` is one whole number."""

Constant = int | float | tuple[float, ...]


class Kernel:
    """The C functions of one file, and what passes between them and Python.

    Parameters
    ----------
    name
        Of the C file, of its header (``NAME_face.h``) and the beginning of its functions' names.
    constants
        What the header defines, by name: whole numbers, doubles, or tuples of either.
    fields
        Of the structure that all its functions take a pointer to: type by name, in order.

    """

    def __init__(self, name: str, constants: Mapping[str, Constant], fields: Mapping[str, str]) -> None:
        self.name, self.constants, self.fields = name, dict(constants), dict(fields)

    @property
    def available(self) -> bool:
        """Whether the library lies here and was built from these constants."""
        return self._functions is not None

    @property
    def header(self) -> str:
        """The C header that the kernel is compiled with."""
        body = self._body()
        return (
            f"/* Written by tools/kernel_headers.py from the Python face of {self.name}.c. */\n"
            f"#include <stdint.h>\n\n#define STAMP {_stamp(body)}u\n{body}"
        )

    def function(self, name: str, *numbers: type[Any], result: type[Any] | None = ctypes.c_int64) -> Any:
        """One of the functions: it takes an ``Arguments`` and ``numbers`` more. ImportError where it was not built."""
        if self._functions is None:
            raise ImportError(
                f"the compiled {self.name} is not here, or was built from other constants: run `make install` "
                "(it needs a C compiler), or leave compiled out, which computes the same without"
            )
        found = getattr(self._functions, f"{self.name}_{name}")
        found.argtypes, found.restype = [ctypes.c_void_p, *numbers], result
        return found

    def arguments(self, **values: Any) -> Arguments:
        """What the functions take: an array or a whole number for every field. The arrays live as long as it does.

        Raises ``TypeError`` for an array that is not of the field's type or not contiguous, and for missing fields.
        """
        if values.keys() != self.fields.keys():
            wrong = ", ".join(sorted(values.keys() ^ self.fields.keys()))
            raise TypeError(f"{self.name} takes {', '.join(self.fields)}; missing or unknown: {wrong}")
        made = self._structure()
        for name, kind in self.fields.items():
            value = values[name]
            if kind == "number":
                setattr(made, name, value)
                continue
            if value.dtype.str[1:] != kind or not value.dtype.isnative or not value.flags.c_contiguous:
                raise TypeError(f"{name} must be contiguous and of type {kind}, not {value.dtype}")
            setattr(made, name, _address(value))
        return Arguments(made, values)

    def _body(self) -> str:
        lines = [f"#define {name} {_literal(value)}" for name, value in self.constants.items()]
        members = [f"    {_TYPES[kind]}{name};" for name, kind in self.fields.items()]
        return "\n".join([*lines, "", "struct arguments {", *members, "};", ""])

    @cached_property
    def _structure(self) -> type[ctypes.Structure]:
        types = [(name, ctypes.c_int64 if kind == "number" else ctypes.c_void_p) for name, kind in self.fields.items()]
        return type("Structure", (ctypes.Structure,), {"_fields_": types})

    @cached_property
    def _functions(self) -> ctypes.PyDLL | None:
        library = _library()
        if library is None:
            return None
        stamp = getattr(library, f"{self.name}_stamp")
        stamp.argtypes, stamp.restype = [], ctypes.c_uint32
        return library if stamp() == _stamp(self._body()) else None


class Arguments:
    """Values of a kernel's fields, which its functions take; it keeps the arrays."""

    __slots__ = ("_as_parameter_", "_kept", "_made")

    def __init__(self, made: ctypes.Structure, kept: Mapping[str, Any]) -> None:
        self._made, self._kept, self._as_parameter_ = made, kept, ctypes.addressof(made)


def _address(array: Any) -> int:
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):  # read-only, or empty: NumPy's own way takes four times as long
        return int(array.ctypes.data)


def _stamp(body: str) -> int:
    return zlib.crc32(body.encode())


def _literal(value: Constant) -> str:
    if isinstance(value, tuple):
        return "{" + ", ".join(_literal(one) for one in value) + "}"
    return repr(value)  # of a double so many digits that it comes back


@cache
def _library() -> ctypes.PyDLL | None:
    """The library, which keeps the interpreter's lock: nobody else changes the arrays meanwhile."""
    for suffix in EXTENSION_SUFFIXES:
        file = _FOLDER / f"_kernels{suffix}"
        if file.exists():
            try:
                return ctypes.PyDLL(str(file))
            except OSError:  # of another processor, or cut short
                continue
    return None
