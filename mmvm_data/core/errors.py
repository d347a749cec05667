"""Errors that a user can act on, and the record of an input that was skipped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmvm_data.core.redact import redact_urls


class InputError(Exception):
    """An input cannot be used; the message is one line.

    Args:
        file: the invalid file, as the user would type it.
        reason: what was expected and what was found.
        field: the key, line or column inside the file, if there is one.
    """

    def __init__(self, file: str | Path, reason: str, field: str | None = None) -> None:
        self.file = redact_urls(str(file))
        self.reason = redact_urls(reason)
        self.field = field
        message = f"{self.file}{f': {field}' if field else ''}: {reason}"
        super().__init__(escape_message(message))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.reason, self.field)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message that is not blank, or the name of its class."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def escape_message(message: str) -> str:
    """Return a message without control characters and with the line breaks alone that start list items.

    Passwords in URLs are masked.

    Names from broken data may contain line breaks; those before two spaces are intended and start list items.
    """
    return "\n  ".join(map(escape_unprintable, redact_urls(message).replace("\n  ", "\0").split("\0")))


def escape_unprintable(text: str) -> str:
    """Return one line of text, with escapes for line breaks, control characters and lone surrogates."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UsageError(Exception):
    """A request cannot be carried out (exit code 2). Passwords in URLs are masked in the message."""

    def __init__(self, message: str) -> None:
        super().__init__(redact_urls(message))


class OutputError(UsageError):
    """Results cannot be written: the disk is full or read-only, or permission is missing."""

    def __init__(self, path: str | Path, error: OSError) -> None:
        self.path = str(path)
        self.error = error
        super().__init__(f"{path}: cannot write: {error.strerror or error}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.error)


@dataclass(frozen=True, order=True)
class Reject:
    """One line of ``rejects.jsonl``: which input was skipped, and why.

    Attributes:
        source: name of the source.
        video: id of the video, or "" when the index entry has none.
        ordinal: number of the case within the video; -1 for a complete video or file.
        reason: one sentence.
        file: the invalid file, relative to the root if it is inside, or "".
        field: the key, line or frame inside the file, or "".
    """

    source: str
    video: str
    ordinal: int
    reason: str
    file: str = ""
    field: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the record as a dict, with keys in the order of the attributes."""
        return asdict(self)
