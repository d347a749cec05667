"""Errors that a user can act on, and the record of an input that was left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


class InputError(Exception):
    """An input that cannot be used, said in one line.

    Args:
        file: the file at fault, as the user would type it.
        reason: what was found and what was expected.
        field: the key, line or column inside the file, if there is one.
    """

    def __init__(self, file: str | Path, reason: str, field: str | None = None) -> None:
        self.file = str(file)
        self.reason = reason
        self.field = field
        said = f"{self.file}{f': {field}' if field else ''}: {reason}"
        # a name out of broken data may hold line ends; those before two spaces are ours, they begin the lines of a list
        lines = said.replace("\n  ", "\0").split("\0")
        super().__init__("\n  ".join(map(_printable, lines)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.reason, self.field)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UsageError(Exception):
    """A request that cannot be carried out as it stands (exit code 2)."""


class OutputError(UsageError):
    """The place for the results cannot be written to: a full or read-only disk, a folder of someone else."""

    def __init__(self, path: str | Path, error: OSError) -> None:
        self.path = str(path)
        self.error = error
        super().__init__(f"{path}: cannot write: {error.strerror or error}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.error)


@dataclass(frozen=True, order=True)
class Reject:
    """One line of ``rejects.jsonl``: what was left out, and why.

    Attributes:
        source: name of the source.
        video: id of the video, or "" when the index entry has none.
        ordinal: which case of the video was being made; -1 when the whole video or file is meant.
        reason: one sentence.
        file: the file at fault, relative to the root where it lies inside, or "".
        field: the key, line or frame inside the file, or "".
    """

    source: str
    video: str
    ordinal: int
    reason: str
    file: str = ""
    field: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record as a plain dict, keys in the order of the attributes."""
        return asdict(self)
