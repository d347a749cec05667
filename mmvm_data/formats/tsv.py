"""The table of the benchmark, and the names of the files that it leads to.

What the published evaluator (GitHub zhouyiks/MMVMEvalKit) does with each column, and what follows for the writer:

- ``index``: numbers stay numbers, anything else is text; answers and predictions are joined by it
  (vlmeval/dataset/image_mcq.py, ``__init__``; dataset/utils/multiple_choice.py, ``mcq_vanilla_eval``). We write the
  number of the row from 0.
- ``image_path``, ``image_path_v3``: Python literals of lists (vlmeval/smp/misc.py, ``toliststr``); an empty cell in
  either stops the evaluator, so both are always written. Paths are opened as they are, relative to the folder that the
  evaluator is started in, which holds the tsv (image_mcq.py, ``dump_image`` and ``MATCH_TSV_DATA_PATH``; README).
- The annotation of an image is its path with the last extension replaced by ``.json``; its original is the first seven
  characters of its name + ``_ORI.`` + its extension
  (vlmeval/vlm/colva/internvl_matcher.py, ``generate_inner``). The query is the first item of each JSON but the last.
- ``question`` is the prompt; ``question_v3`` replaces it, together with ``image_path_v3``, when a switch in the code is
  set (image_mcq.py, ``build_prompt``). We have one version and write it twice.
- ``pure_question``, ``choices``, ``choices_head``, ``answer``: the judge's prompt gets the first three; options are the
  lines of ``choices``, split at the first dot; a hit is an extracted letter equal to ``answer`` (multiple_choice.py,
  ``build_prompt_mmatch``, ``extract_answer_from_item``, ``eval_vanilla``).
- ``match_type``: a Python literal of a list. What cannot be evaluated, an empty cell too, counts there as [1, 5], and
  numbers outside 1..8 as 2 (multiple_choice.py, ``report_acc_mmatch``), so "no type" is written ``[]``.
- Columns ``image``, ``prediction``, ``hit``, ``log`` and single capital letters are the evaluator's own; we use none.

The evaluator loads with ``pandas.read_csv(sep="\\t")`` (vlmeval/smp/file.py). Text is always quoted here: pandas ends a
line at a lone carriage return outside quotes. It guesses types of quoted text too; see ``id_cells`` for ids and names.
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel

from mmvm_data.cases.prompts import format_choices
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, Option
from mmvm_data.formats.id_cells import quote_id, quote_name
from mmvm_data.io.files import atomic_write, open_regular

FOLDER = "match_bench"
MEASURES = "measures.jsonl"
"""What a build has measured of its cases, a line each, blank where nothing was measured; see
``BuildOptions.measurer_factory``."""
REVISIONS: Final = "revisions"
"""The folder of earlier records, see ``formats.revisions``."""
TSV = "mllm_match_eval_full.tsv"
PUBLISHED = (
    "index",
    "image_path",
    "image_path_v3",
    "question",
    "question_v3",
    "pure_question",
    "choices",
    "choices_head",
    "answer",
    "match_type",
)
"""Columns of the published set."""
OWN = ("source", "video", "case_id", "prompt", "candidates", "gap", "look_alikes", "visible")
"""Our columns after them; the last three are empty for sets that do not say (see ``types.Provenance``)."""

MOST_FRAMES = 100
"""Images of a case: of FRAME100.jpg, the published evaluator would take FRAME10_ORI.jpg as the original."""

_ORIGINAL = re.compile(r"FRAME\d\d_ORI\.\w+")
_DIALECT: Final[dict[str, Any]] = {
    "delimiter": "\t",
    "lineterminator": "\n",
    "quoting": csv.QUOTE_NONNUMERIC,
    "strict": True,
}
_QUOTE: Final = '"'
_LONGEST_CELL = 2**31 - 1  # the largest limit that csv takes on every platform


class TableRecord(BaseModel):
    """What the table says of a case, read from a record that was written as a ``Case``; a third of the time of that.

    Attributes: those of ``Case``; of frames and candidates only the number counts, of the review only the state.
    """

    class Provenance(BaseModel):
        """As ``types.Provenance``."""

        source: str
        video: str
        gap: int
        look_alikes: int
        visible: int
        extra: dict[str, Any] | None = None

    class Review(BaseModel):
        """As ``types.Review``."""

        state: str = "proposed"

    id: str
    frames: tuple[Any, ...]
    candidates: tuple[Any, ...]
    answer: int | None
    prompt: Literal["mask", "box"]
    question: str
    options: tuple[Option, ...]
    match_types: tuple[int, ...]
    provenance: Provenance | None
    extra: dict[str, Any]
    review: Review = Review()


class Row(NamedTuple):
    """One row: the line of the file that it starts on (from 1), its cells by column, what is wrong with its shape."""

    line: int
    cells: dict[str, str]
    fault: str | None


def drawn_names(frames: int) -> list[str]:
    """Names of the drawn images of a case: FRAME00.jpg, …, the last with ``_CAND``."""
    names = [f"FRAME{k:02d}.jpg" for k in range(frames - 1)]
    return [*names, f"FRAME{frames - 1:02d}_CAND.jpg"]


def original_name(drawn: str) -> str:
    """Name of the clean image of a drawn one, as the published evaluator derives it."""
    return f"{drawn[:7]}_ORI.{drawn.rpartition('.')[2]}"


def drawn_paths(case: Case) -> list[str]:
    """Paths of a case's drawn images, beside its clean ones; empty when those do not lie in a case folder."""
    clean = [PurePosixPath(frame.path) for frame in case.frames]
    if not all(_ORIGINAL.fullmatch(path.name) for path in clean):
        return []
    marks = [*[""] * (len(clean) - 1), "_CAND"]
    return [str(p.with_name(f"{p.name[:7]}{mark}{p.suffix}")) for p, mark in zip(clean, marks, strict=True)]


def require_drawn_paths(case: Case) -> list[str]:
    """Paths of a case's drawn images, see ``drawn_paths``.

    Raises:
        InputError: its images do not lie in a case folder.
    """
    paths = drawn_paths(case)
    if not paths:
        raise InputError(case.id, f"its images lie in no case folder: {case.frames[0].path}")
    return paths


def annotation_name(drawn: str) -> str:
    """Name of the JSON of a drawn image."""
    return f"{drawn.rpartition('.')[0]}.json"


def format_letters(options: Sequence[Option]) -> str:
    """The letters as the judge's prompt lists them: "A, B, C"."""
    return ", ".join(option.letter for option in options)


def tsv_row(case: Case | TableRecord, index: int = 0, case_id: str | None = None) -> dict[str, Any]:
    """The cells of a case by column; images are those of its folder ``match_bench/<id>``.

    Args:
        case: any case.
        index: number of the row.
        case_id: stands for the id of the case.

    Raises:
        InputError: no option stands for the answer.
    """
    letter = next((option.letter for option in case.options if option.number == case.answer), None)
    if letter is None:
        raise InputError(case.id, f"{case.id}: no option for answer {case.answer}", field="options")
    name_in_table = case.id if case_id is None else case_id
    paths = repr([f"{FOLDER}/{name_in_table}/{name}" for name in drawn_names(len(case.frames))])
    choices = format_choices(case.options)
    source = case.provenance
    return {
        "index": index,
        "image_path": paths,
        "image_path_v3": paths,
        "question": case.question + choices,
        "question_v3": case.question + choices,
        "pure_question": case.question,
        "choices": choices,
        "choices_head": format_letters(case.options),
        "answer": letter,
        "match_type": repr(list(case.match_types)),
        "source": quote_name(source.source if source else str(case.extra.get("source", ""))),
        "video": quote_name(source.video if source else str(case.extra.get("video", ""))),
        "case_id": quote_id(name_in_table),
        "prompt": case.prompt,
        "candidates": len(case.candidates),
        "gap": source.gap if source else "",
        "look_alikes": source.look_alikes if source else "",
        "visible": source.visible if source else "",
    }


def format_row(case: Case | TableRecord, case_id: str | None = None) -> str:
    """The line of a case in the table after its first cell, the index, and without the end of the line.

    Args:
        case, case_id: see ``tsv_row``.

    Raises:
        InputError: as ``tsv_row``.
    """
    cells = tsv_row(case, case_id=case_id)
    # as csv quotes them, in a fifth of its time
    ordered = [cells[column] for column in (*PUBLISHED[1:], *OWN)]
    return "\t".join([f'"{c.replace(_QUOTE, _QUOTE * 2)}"' if isinstance(c, str) else f"{c}" for c in ordered])


def write_lines(lines: Iterable[str], path: str | Path) -> None:
    """Write the table of a benchmark from lines of ``format_row``, one at a time; they get their indices here.

    Raises:
        OSError: the disk is full or read-only.
    """
    with atomic_write(Path(path)) as handle:
        csv.DictWriter(handle, (*PUBLISHED, *OWN), **_DIALECT).writeheader()
        handle.writelines(f"{index}\t{line}\n" for index, line in enumerate(lines))


def write_rows(rows: Iterable[dict[str, Any]], columns: Sequence[str], path: str | Path) -> None:
    """Write rows to a tsv, one at a time; the file appears when it is complete.

    Raises:
        OSError: the disk is full or read-only.
    """
    with atomic_write(Path(path)) as handle:
        writer = csv.DictWriter(handle, columns, **_DIALECT)
        writer.writeheader()
        writer.writerows(rows)


def write_tsv(cases: Iterable[Case | TableRecord], path: str | Path) -> None:
    """Write the table of a benchmark, one case at a time.

    Raises:
        InputError: a case has no option for its answer.
        OSError: the disk is full or read-only.
    """
    write_rows((tsv_row(case, index) for index, case in enumerate(cases)), (*PUBLISHED, *OWN), path)


def read_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a tsv, one at a time, cells as text.

    Raises:
        InputError: the file is missing, empty, not UTF-8, repeats a column, or its quotes cannot be followed.
    """
    csv.field_size_limit(_LONGEST_CELL)
    try:
        with TextIOWrapper(open_regular(Path(path)), encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, delimiter="\t")
            columns = next(reader, [])
            if not columns:
                raise InputError(path, "table is empty, expected a line with the names of its columns")
            repeated = sorted({name for name in columns if columns.count(name) > 1})
            if repeated:
                raise InputError(path, f"columns repeat: {', '.join(repeated)}", field="line 1")
            start = reader.line_num + 1
            for cells in reader:
                fault = None
                if len(cells) != len(columns):
                    fault = f"has {len(cells)} cells, expected {len(columns)}"
                if cells:  # a blank line is no row, as in pandas
                    yield Row(start, dict(zip(columns, cells, strict=False)), fault)
                start = reader.line_num + 1
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, f"table cannot be read: {error}") from error
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error


def parse_list_literal(text: str) -> list[Any]:
    """A Python literal of a list.

    Raises:
        ValueError: anything else.
    """
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"expected a list such as [1, 5], found {shorten(text)}") from error
    if not isinstance(value, list):
        raise ValueError(f"expected a list such as [1, 5], found {shorten(text)}")
    return value


def parse_whole_number(text: str) -> int | None:
    """A number from 0 in plain digits, of at most 18; None for anything else."""
    return int(text) if len(text) <= 18 and text.isascii() and text.isdigit() else None


def shorten(value: object) -> str:
    """A value as it is shown in messages: its repr, cut after 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python prints
        text = f"a {type(value).__name__} with a huge number"
    return text if len(text) <= 60 else f"{text[:57]}..."
