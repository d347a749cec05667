"""Parsers for cells of the table: image paths, choices and match types."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from mmvm_data.cases import prompts
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import MATCH_TYPES, Option
from mmvm_data.formats.tsv import parse_list_literal, parse_whole_number, shorten
from mmvm_data.io.files import safe_join


def parse_image_paths(directory: Path, text: str, where: str) -> list[str]:
    """The paths of a case's drawn images: two or more, inside the folder, in one folder of their own.

    Raises:
        InputError: anything else.
    """
    try:
        paths = parse_list_literal(text)
    except ValueError as error:
        raise InputError(where, str(error), field="image_path") from error
    if len(paths) < 2 or not all(isinstance(path, str) for path in paths):
        raise InputError(where, f"expected two or more paths, found {shorten(paths)}", field="image_path")
    for path in paths:
        safe_join(directory, path, where)
        drawn = PurePosixPath(path)
        if not drawn.suffix or not drawn.parent.name:
            raise InputError(where, f"{shorten(path)} is no image in a folder of its case", field="image_path")
    if len({PurePosixPath(path).parent for path in paths}) > 1:
        raise InputError(where, f"images lie in different folders: {shorten(paths)}", field="image_path")
    return paths


def parse_choices(text: str) -> tuple[Option, ...]:
    """The options of a ``choices`` cell, split as the published evaluator does.

    Raises:
        ValueError: a line is no option, letters or numbers repeat, or there is no single "none" at the end.
    """
    options = []
    for line in filter(None, (line.strip() for line in text.split("\n"))):
        letter, dot, value = (part.strip() for part in line.partition("."))
        if not dot or letter not in prompts.LETTERS or len(letter) != 1:
            raise ValueError(f"{shorten(line)} is no option such as 'A. 1'")
        number = parse_whole_number(value)
        if number is not None:
            options.append(Option(letter=letter, number=number))
        elif value.rstrip(".").casefold() == prompts.NONE_TEXT.casefold():
            options.append(Option(letter=letter, number=None))
        else:
            raise ValueError(f"{shorten(line)} is neither a number nor {prompts.NONE_TEXT!r}")
    if len({o.letter for o in options}) < len(options) or len({o.number for o in options}) < len(options):
        raise ValueError(f"letters or numbers repeat: {shorten(text)}")
    if not options or options[-1].number is not None:
        raise ValueError(f"the last option must be {prompts.NONE_TEXT!r}, found {shorten(text)}")
    return tuple(options)


def parse_match_types(text: str | None) -> tuple[tuple[int, ...], str | None]:
    """The match types of a cell that can be read, and what is wrong with it (None: nothing)."""
    if not text:
        return (), "is missing"
    try:
        values = parse_list_literal(text)
    except ValueError as error:
        return (), str(error)
    valid = tuple(v for v in values if isinstance(v, int) and not isinstance(v, bool) and v in MATCH_TYPES)
    return valid, None if len(valid) == len(values) else f"expected numbers from 1 to 8, found {shorten(values)}"
