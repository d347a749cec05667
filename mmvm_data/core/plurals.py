"""Counts in messages, with their nouns."""

from __future__ import annotations


def pluralize(number: int, name: str, plural: str | None = None) -> str:
    """A count with its noun: "1 case", "48 cases".

    Args:
        number: how many.
        name: of one.
        plural: of several; None for ``name`` with an s.
    """
    return f"{number} {name if number == 1 else plural or f'{name}s'}"
