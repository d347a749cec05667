"""Names of many cases in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, overload

Key = TypeVar("Key")


class Numbering(dict[Key, int]):
    """Gives each new key the next number, from 0."""

    def __missing__(self, key: Key) -> int:
        self[key] = number = len(self)
        return number


class NameList(Sequence[str]):
    """Names that are only added: their bytes and four more each, where a list takes about 70."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._text = bytearray()
        self._ends = array("I", [0])
        self._is_ascending = True
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Add a name."""
        encoded = name.encode()
        last = self._text[self._ends[-2] :] if len(self) else b""
        self._is_ascending &= not len(self) or last < encoded
        self._text += encoded
        self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> NameList: ...

    def __getitem__(self, index: int | slice) -> str | NameList:
        if isinstance(index, slice):
            return NameList(self[k] for k in range(len(self))[index])
        position = range(len(self))[index]
        return self._text[self._ends[position] : self._ends[position + 1]].decode()

    def __iter__(self) -> Iterator[str]:
        return (self[k] for k in range(len(self)))

    def count_repeats(self) -> int:
        """Number of names that are there before."""
        return 0 if self._is_ascending else len(self) - len(set(self))
