"""Predictions as a table that VLMEvalKit's scorer reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from colva.evaluation.runs import Prediction
from colva.evaluation.scoring.extract import NONE
from colva.evaluation.scoring.outcomes import ScoredRun
from mmvm_data.cases.prompts import NONE_TEXT
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.formats.tsv import PUBLISHED, TSV, write_rows
from mmvm_data.formats.vlmevalkit import quote_cell
from mmvm_data.io.files import atomic_write

FOLDER = "vlmevalkit"
MAX_CELL_LENGTH = 32_767
"""Characters of a spreadsheet's cell; longer text would be cut without a warning."""
_DATASETS = {"mcq": "MMatch", "vqa": "MMVMBench"}


def write_vlmevalkit_predictions(scored: ScoredRun, folder: Path, xlsx: bool = False) -> list[Path]:
    """Write predictions with VLMEvalKit's names and columns: ``<model>_<data set>.tsv``, and xlsx when asked for.

    Columns are those of the table that the kit loads, without images, and ``prediction``; rows are the questions as
    published, those without a reply with an empty prediction. For ``mcq`` the table of these questions, with which the
    fork compares the predictions, is written beside them: point ``MATCH_TSV_DATA_PATH`` to the folder, since options
    and letters of ``--difficulty`` differ from the benchmark's own table. For ``vqa`` texts that pandas would read as
    numbers or as nothing are in quotation marks (``formats.vlmevalkit.quote_cell``).

    ``mcq`` is for the published fork's ``MMatch`` (GitHub zhouyiks/MMVMEvalKit, vlmeval/dataset/image_mcq.py,
    ``evaluate``), ``vqa`` for ``MMVMBench``. The tsv has no limit for a cell; a text that a spreadsheet would cut, or
    cannot hold, is refused there.

    Args:
        scored: a run.
        folder: of the run; files go to ``vlmevalkit/`` in it.
        xlsx: also write a spreadsheet.

    Returns:
        the paths of the files.

    Raises:
        UsageError: openpyxl is not installed.
        InputError: a reply does not fit into a spreadsheet.
        OutputError: a file cannot be written.
    """
    outcomes = [o for o in scored.outcomes if o.prediction.variant == 0]
    if not outcomes:
        return []
    rows = [_row(o.prediction, bool(o.error)) for o in outcomes]
    name = re.sub(r"[^\w.-]+", "_", outcomes[0].prediction.model).strip("_")
    target_dir = folder / FOLDER
    path = target_dir / f"{name}_{_DATASETS[outcomes[0].prediction.protocol]}.tsv"
    try:
        target_dir.mkdir(exist_ok=True)
        path.with_suffix(".xlsx").unlink(missing_ok=True)  # of an earlier run, with other replies
        write_rows(rows, list(rows[0]), path)
        written = [path]
        if outcomes[0].prediction.protocol == "mcq":
            table = target_dir / TSV
            write_rows(({name: row[name] for name in PUBLISHED} for row in rows), PUBLISHED, table)
            written.append(table)
        if xlsx:
            written.append(path.with_suffix(".xlsx"))
            _write_xlsx(rows, written[-1])
    except OSError as error:
        raise OutputError(error.filename or target_dir, error) from error
    return written


def _row(prediction: Prediction, without_reply: bool) -> dict[str, Any]:
    index = int(prediction.index) if prediction.index.isascii() and prediction.index.isdigit() else prediction.index
    reply = "" if without_reply else prediction.reply
    types = repr(list(prediction.types))
    if prediction.protocol == "vqa":
        answer = NONE_TEXT if prediction.answer == NONE else prediction.answer
        return {
            "index": index,
            "question": prediction.text,
            "answer": quote_cell(answer),
            "match_type": types,
            "prediction": quote_cell(reply) if reply else reply,
        }
    choices = "\n".join(f"{label}. {text}" for label, text in prediction.choices.items())
    cells = {
        "index": index,
        "image_path": repr(list(prediction.images)),
        "image_path_v3": repr(list(prediction.images)),
        "question": prediction.text,
        "question_v3": prediction.text,
        "pure_question": prediction.pure,
        "choices": choices,
        "choices_head": ", ".join(prediction.choices),
        "answer": prediction.answer,
        "match_type": types,
    }
    return {name: cells[name] for name in PUBLISHED} | {"prediction": reply}


def _write_xlsx(rows: list[dict[str, Any]], path: Path) -> None:
    try:
        from openpyxl import Workbook
        from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
    except ImportError as error:
        raise UsageError("--xlsx needs openpyxl: pip install 'mmvm-data[eval]'") from error
    for row in rows:  # before anything is open
        for column, value in row.items():
            if isinstance(value, str) and len(value) > MAX_CELL_LENGTH:
                reason = f"{len(value)} characters do not fit into a cell of {MAX_CELL_LENGTH}; use the tsv beside it"
                raise InputError(path, reason, field=f"index {row['index']}, {column}")
            if isinstance(value, str) and ILLEGAL_CHARACTERS_RE.search(value):
                reason = "a reply holds control characters that a spreadsheet cannot; use the tsv beside it"
                raise InputError(path, reason, field=f"index {row['index']}")
    book = Workbook(write_only=True)
    sheet = book.create_sheet("Sheet1")
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append([_cell(sheet, value) for value in row.values()])
    with atomic_write(path, "wb") as handle:
        book.save(handle)


def _cell(sheet: Any, value: Any) -> Any:
    """Return text as a text cell, also where it begins with "=" and would become a formula."""
    if not isinstance(value, str):
        return value
    from openpyxl.cell import WriteOnlyCell

    cell = WriteOnlyCell(sheet, value)
    cell.data_type = "s"
    return cell
