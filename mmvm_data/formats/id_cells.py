"""Ids and names in tables that are loaded with the defaults of pandas, which guesses types also for quoted text.

``pandas.read_csv`` turns NA, nan and null into missing values, 001 and 1e5 into numbers, and true into a truth value. A
cell that it would change gets an apostrophe in front, as in spreadsheets: ``'001``. It stays text then, in every table.
"""

from __future__ import annotations

from typing import Final

MARK: Final = "'"
MISSING: Final = frozenset(
    (
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
        *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    )
)
"""What pandas reads as a missing value (``pandas.read_csv``, argument ``na_values``)."""
_MAX_DIGITS: Final = 18  # more may not fit into 64 bits


def quote_id(text: str) -> str:
    """Return an id as the text of a cell; ``unquote_id`` gives it back."""
    return MARK + text if _is_changed(text.lstrip(MARK)) else text


def unquote_id(cell: str) -> str:
    """Return the id of a cell; one without the apostrophe that it should have is returned as it is."""
    id = cell.removeprefix(MARK)
    return id if quote_id(id) == cell else cell


def quote_name(text: str) -> str:
    """Return the name of a source or a video as the text of a cell; ``unquote_name`` gives it back.

    Numbers are left as they are: sets number their videos, and joins with their files need the names unchanged.
    """
    return MARK + text if text and text.lstrip(MARK) in MISSING else text


def unquote_name(cell: str) -> str:
    """Return the name of a cell of ``quote_name``."""
    name = cell.removeprefix(MARK)
    return name if quote_name(name) == cell else cell


def format_index(index: str) -> int | str:
    """Return the cell of an index: a number when the text is one in plain digits, else text that pandas keeps.

    The apostrophe becomes a part of the index: predictions are joined with it as it stands in the table.
    """
    if index == "0" or (index.isascii() and index.isdigit() and index[0] != "0" and len(index) <= _MAX_DIGITS):
        return int(index)
    return MARK + index if _is_changed(index) else index


def _is_changed(text: str) -> bool:
    """Whether pandas reads text as something else, in a column of its own or in any other."""
    if text in MISSING or text.lower() in ("true", "false"):
        return True
    if text == "0" or (text.isascii() and text.isdigit() and text[0] != "0"):
        return len(text) > _MAX_DIGITS
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python allows within a number, and pandas does not
