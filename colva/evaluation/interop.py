"""Predictions for other tools: VLMEvalKit's table, which its scorer reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from colva.evaluation.runs import Record
from colva.evaluation.scoring.extract import NONE
from colva.evaluation.scoring.metrics import Scored
from mmvm_data.cases.prompts import NONE_TEXT
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.formats.tsv import PUBLISHED, write_rows
from mmvm_data.io.files import atomic_write

FOLDER = "vlmevalkit"
LONGEST_CELL = 32_767
"""Characters of a cell of a spreadsheet; what is longer would be cut without a word."""
_SETS = {"mcq": "MMatch", "vqa": "MMVMBench"}


def write_vlmevalkit(scored: Scored, folder: Path, xlsx: bool = False) -> list[Path]:
    """Write predictions as VLMEvalKit names and lays them out: ``<model>_<data set>.tsv``, and xlsx when asked for.

    Columns are those of the table that the kit loads, without images, and ``prediction``; rows are the questions as
    published, those without a reply with an empty prediction. ``mcq`` is for the published fork's ``MMatch``
    (GitHub zhouyiks/MMVMEvalKit, vlmeval/dataset/image_mcq.py, ``evaluate``), ``vqa`` for ``MMVMBench``. The tsv has
    no limit to a cell; a text that a spreadsheet would cut, or that holds characters it cannot, is refused there.

    Args:
        scored: a run.
        folder: of the run; files go to ``vlmevalkit/`` in it.
        xlsx: also write a spreadsheet.

    Returns:
        the files.

    Raises:
        UsageError: openpyxl is not installed.
        InputError: a reply does not fit into a spreadsheet.
        OutputError: a file cannot be written.
    """
    outcomes = [o for o in scored.outcomes if o.record.variant == 0]
    if not outcomes:
        return []
    rows = [_row(o.record, bool(o.fault)) for o in outcomes]
    name = re.sub(r"[^\w.-]+", "_", outcomes[0].record.model).strip("_")
    place = folder / FOLDER
    path = place / f"{name}_{_SETS[outcomes[0].record.protocol]}.tsv"
    try:
        place.mkdir(exist_ok=True)
        write_rows(rows, list(rows[0]), path)
        if not xlsx:
            return [path]
        _write_xlsx(rows, path.with_suffix(".xlsx"))
    except OSError as error:
        raise OutputError(error.filename or place, error) from error
    return [path, path.with_suffix(".xlsx")]


def _row(record: Record, without_reply: bool) -> dict[str, Any]:
    index = int(record.index) if record.index.isascii() and record.index.isdigit() else record.index
    prediction = "" if without_reply else record.reply
    types = repr(list(record.types))
    if record.protocol == "vqa":
        answer = NONE_TEXT if record.answer == NONE else record.answer
        return {
            "index": index,
            "question": record.text,
            "answer": answer,
            "match_type": types,
            "prediction": prediction,
        }
    choices = "\n".join(f"{label}. {text}" for label, text in record.choices.items())
    cells = {
        "index": index,
        "image_path": repr(list(record.images)),
        "image_path_v3": repr(list(record.images)),
        "question": record.text,
        "question_v3": record.text,
        "pure_question": record.pure,
        "choices": choices,
        "choices_head": ", ".join(record.choices),
        "answer": record.answer,
        "match_type": types,
    }
    return {name: cells[name] for name in PUBLISHED} | {"prediction": prediction}


def _write_xlsx(rows: list[dict[str, Any]], path: Path) -> None:
    try:
        from openpyxl import Workbook
        from openpyxl.utils.exceptions import IllegalCharacterError
    except ImportError as error:
        raise UsageError("--xlsx needs openpyxl: pip install 'mmvm-data[eval]'") from error
    book = Workbook(write_only=True)
    sheet = book.create_sheet("Sheet1")
    sheet.append(list(rows[0]))
    for row in rows:
        for column, value in row.items():
            if isinstance(value, str) and len(value) > LONGEST_CELL:
                reason = f"{len(value)} characters do not fit into a cell of {LONGEST_CELL}; use the tsv beside it"
                raise InputError(path, reason, field=f"index {row['index']}, {column}")
        try:
            sheet.append([_cell(sheet, value) for value in row.values()])
        except IllegalCharacterError as error:
            reason = "a reply holds control characters that a spreadsheet cannot; use the tsv beside it"
            raise InputError(path, reason, field=f"index {row['index']}") from error
    with atomic_write(path, "wb") as handle:
        book.save(handle)


def _cell(sheet: Any, value: Any) -> Any:
    """Text as text, also where it begins with "=" and would become a formula."""
    if not isinstance(value, str):
        return value
    from openpyxl.cell import WriteOnlyCell

    cell = WriteOnlyCell(sheet, value)
    cell.data_type = "s"
    return cell
