"""Reading a benchmark: ours from cases.jsonl, any other from its tsv and case folders.

Nothing is guessed. What cannot be read is left out of the case and reported; a case that cannot be made at all is
reported and left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from mmvm_data.cases import prompts
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import MATCH_TYPES, Candidate, Case, Frame, Option, Region, Rle
from mmvm_data.formats.drawing import mask_of
from mmvm_data.formats.tsv import (
    OWN,
    PUBLISHED,
    TSV,
    annotation_name,
    literal_list,
    original_name,
    read_rows,
    shorten,
    whole_number,
)
from mmvm_data.io.files import safe_join

CASES = "cases.jsonl"
_NEEDED = ("image_path", "choices", "answer")
_OPTIONAL = ("image_path_v3", "question_v3")


class Problem(NamedTuple):
    """Something wrong with a benchmark: the file, row or case, and what was found."""

    where: str
    what: str


class Item(NamedTuple):
    """One object of a case's JSON.

    Attributes:
        id: what the file says under ``id``.
        height, width: pixels of the image.
        polygons: as the file has them.
        region: ``bbox`` when its pixels are the object's, else the mask: ``rle``, or what the published reader sees.
        rle: ``rle`` of the file.
        skipped: polygons that the published reader skips.
    """

    id: Any
    height: int
    width: int
    polygons: list[list[float]]
    region: Region
    rle: Rle | None
    skipped: int


def read(directory: str | Path, problems: list[Problem] | None = None, table: str | None = None) -> Iterator[Case]:
    """The cases of a benchmark, one at a time.

    With cases.jsonl beside the tsv they are our own records. Otherwise a case is made from its row and its folder:
    masks from ``rle`` where the JSON has it, else as the published reader fills polygons (``masks.from_polygons``, rule
    "original"); the answer through the choices; further columns in ``extra``. Images are not opened. The directory
    becomes the ``root`` of the cases.

    Args:
        directory: holds the tsv and what its paths lead to.
        problems: gets what is wrong, in the order of the file: cases that had to be left out, and cases with parts
            that had to be left out (polygons, ``match_type``). When None, the former raise, and the latter keep the
            text that was found in ``extra``.
        table: name of a tsv in the directory that is to be read, whatever else is there; None: as above.

    Raises:
        InputError: the table itself cannot be read, or (without ``problems``) a case.
    """
    directory = Path(directory)
    if table is None and (directory / CASES).is_file():
        for case in _records(directory / CASES, problems):
            yield case.with_root(directory)
        return
    path = directory / (table or TSV)
    first = True
    for row in read_rows(path):
        if first:
            first = False
            check_columns(path, set(row.cells), problems)
        where = f"{path.name}: line {row.line}"
        try:
            if row.fault:
                raise InputError(path, row.fault, field=f"line {row.line}")
            yield case_of(directory, row.cells, where, problems).with_root(directory)
        except InputError as error:
            if problems is None:
                raise
            problems.append(problem(directory, where, error))


def record(path: Path, line: bytes, number: int) -> Case:
    """One line of cases.jsonl.

    Raises:
        InputError: it is not a case.
    """
    try:
        return Case.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise InputError(
            path, f"not a case record: {first['msg']}{f' at {at}' if at else ''}", f"line {number}"
        ) from error


def check_columns(path: Path, columns: set[str], problems: list[Problem] | None) -> None:
    """Whether a table has what a case needs; the second version of question and images may be missing.

    Raises:
        InputError: a column that a case needs is missing.
    """
    missing = [name for name in _NEEDED if name not in columns]
    if not columns & {"question", "pure_question"}:
        missing.append("question")
    if missing:
        raise InputError(path, f"columns are missing: {', '.join(missing)}", field="line 1")
    gone = [name for name in PUBLISHED if name not in columns and name not in _NEEDED]
    if gone and problems is not None:
        problems.append(Problem(path.name, f"columns are missing: {', '.join(gone)}"))


def case_of(directory: Path, cells: dict[str, str], where: str, problems: list[Problem] | None) -> Case:
    """The case of one row and its folder.

    Args:
        directory: what the paths are relative to.
        cells: of the row, by column.
        where: names the row in messages.
        problems: gets what was left out.

    Raises:
        InputError: the case cannot be made.
    """
    paths = image_paths(directory, cells.get("image_path", ""), where)
    try:
        offered = parse_choices(cells.get("choices", ""))
    except ValueError as error:
        raise InputError(where, str(error), field="choices") from error
    letter = cells.get("answer", "").strip()
    if letter not in {option.letter for option in offered}:
        raise InputError(where, f"{shorten(letter)} is not one of {choices_of(offered)}", field="answer")
    answer = next(option.number for option in offered if option.letter == letter)
    frames, queries = [], []
    candidates: list[Candidate] = []
    for position, path in enumerate(paths):
        drawn = PurePosixPath(path)
        file = str(drawn.with_name(annotation_name(drawn.name)))
        items = read_items(safe_join(directory, file, where), file)
        if not items:
            raise InputError(file, "list of objects is empty")
        for item in items:
            if item.skipped and problems is not None:
                what = (
                    f"{item.skipped} polygons of odd length or under 6 values are skipped, as the published reader does"
                )
                problems.append(Problem(f"{file}: object {shorten(item.id)}", what))
        original = str(drawn.with_name(original_name(drawn.name)))
        frames.append(Frame(path=original, index=position, width=items[0].width, height=items[0].height))
        if position < len(paths) - 1:
            queries.append(items[0].region)
        else:
            candidates = _candidates(items, file)
    found, fault = match_types(cells.get("match_type"))
    extra: dict[str, Any] = {k: v for k, v in cells.items() if v and k not in (*PUBLISHED, *OWN)}
    extra |= {k: cells[k] for k in ("index", *_OPTIONAL, "source", "video") if cells.get(k)}
    if fault:
        extra["match_type"] = cells.get("match_type", "")
        if problems is not None:
            problems.append(Problem(f"{where}: match_type", fault))
    same = next((c.region.id for c in candidates if c.number == answer and answer is not None), "query")
    queries = [q if q.id else q.model_copy(update={"id": same}) for q in queries]
    visible = [r for r in queries if r.mask is None or masks.area(r.mask)]  # a query may be hidden in between
    boxes = all(region.box is not None for region in [*visible, *(c.region for c in candidates)])
    prompt: Literal["mask", "box"] = "box" if boxes else "mask"
    try:
        return Case(
            id=PurePosixPath(paths[-1]).parent.name,
            frames=tuple(frames),
            query=tuple(queries),
            candidates=tuple(candidates),
            answer=answer,
            prompt=prompt,
            question=cells.get("pure_question") or _pure(cells.get("question", ""), cells.get("choices", "")),
            options=offered,
            match_types=found,
            extra=extra,
        )
    except ValidationError as error:
        raise InputError(where, error.errors(include_url=False)[0]["msg"]) from error


def image_paths(directory: Path, text: str, where: str) -> list[str]:
    """The paths of a case's drawn images: two or more, inside the folder, in one folder of their own.

    Raises:
        InputError: anything else.
    """
    try:
        paths = literal_list(text)
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
        number = whole_number(value)
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


def match_types(text: str | None) -> tuple[tuple[int, ...], str | None]:
    """The match types of a cell, and what is wrong with it: nothing is put in the place of what cannot be read."""
    if not text:
        return (), "is missing"
    try:
        values = literal_list(text)
    except ValueError as error:
        return (), str(error)
    known = tuple(v for v in values if isinstance(v, int) and not isinstance(v, bool) and v in MATCH_TYPES)
    return known, None if len(known) == len(values) else f"expected numbers from 1 to 8, found {shorten(values)}"


def read_items(path: Path, name: str) -> list[Item]:
    """The objects of a case's JSON.

    Args:
        path: the file.
        name: how messages call it.

    Raises:
        InputError: the file is missing, is no list of objects, or an object lacks its size or shape.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(name, f"file cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(name, f"not JSON: {shorten(str(error))}") from error
    if not isinstance(content, list):
        raise InputError(name, f"expected a list of objects, found {type(content).__name__}")
    return [_item(item, f"{name}: object {number}") for number, item in enumerate(content)]


def choices_of(options: tuple[Option, ...]) -> str:
    """The letters of options for a message."""
    return ", ".join(option.letter for option in options)


def polygons(value: Any) -> list[list[float]]:
    """A list of polygons as it is, when it is one: lists of numbers below a million.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, list) or not all(isinstance(p, list) and _finite(p) for p in value):
        raise ValueError("expected a list of polygons, each a list of numbers")
    return value


def _item(item: Any, where: str) -> Item:
    if not isinstance(item, dict):
        raise InputError(where, f"expected an object, found {type(item).__name__}")
    height, width = (_whole(item.get(key), where, key) for key in ("height", "width"))
    try:
        outlines = polygons(item.get("segmentation", []))
    except ValueError as error:
        raise InputError(where, str(error), field="segmentation") from error
    skipped = sum(len(p) % 2 == 1 or len(p) < 6 for p in outlines)
    rle = None
    if "rle" in item:
        rle = _rle(item["rle"], (height, width), where)
    mask = masks.from_polygons(outlines, height, width) if rle is None else rle
    category = item.get("category")
    track = item.get("track", "")
    try:
        region = Region(id=str(track), category=category, mask=mask)
        if "bbox" in item:
            # annotations in COCO's style give a mask's tight box too; a box prompt is one that the pixels fill
            boxed = Region(id=str(track), category=category, box=item["bbox"])
            filled = mask_of(boxed, height, width)
            if mask == filled or not (rle or outlines):
                region = boxed
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(where, first["msg"], field=".".join(map(str, first["loc"])) or None) from error
    return Item(item.get("id"), height, width, outlines, region, rle, skipped)


def _candidates(items: list[Item], file: str) -> list[Candidate]:
    found = []
    for item in items:
        if isinstance(item.id, bool) or not isinstance(item.id, int) or item.id < 1:
            raise InputError(file, f"id {shorten(item.id)} must be a number from 1", field="id")
        region = item.region if item.region.id else item.region.model_copy(update={"id": str(item.id)})
        found.append(Candidate(number=item.id, region=region))
    return sorted(found, key=lambda candidate: candidate.number)


def _rle(value: Any, size: tuple[int, int], where: str) -> Rle:
    if not isinstance(value, dict) or not isinstance(value.get("counts"), (str, list)):
        raise InputError(where, "expected size and counts", field="rle")
    try:
        if not str(value["counts"]).isascii():
            raise ValueError("counts are not in COCO's run-length coding")
        rle = masks.from_counts(value["counts"], value.get("size", ()))
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(where, str(error), field="rle") from error
    if rle.size != size:
        raise InputError(where, f"size {rle.size} differs from height and width {size}", field="rle")
    return rle


def _whole(value: Any, where: str, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**16:
        raise InputError(where, f"expected a number of pixels, found {shorten(value)}", field=key)
    return value


def _finite(values: list[Any]) -> bool:
    # over whole lists: a case has thousands of corners
    if not values or not set(map(type, values)) <= {int, float}:
        return not values
    return min(values) > -1e6 and max(values) < 1e6 and not math.isnan(sum(values))


def _pure(question: str, choices: str) -> str:
    return question.removesuffix(choices)


def _records(path: Path, problems: list[Problem] | None) -> Iterator[Case]:
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    yield record(path, line, number)
                except InputError as error:
                    if problems is None:
                        raise
                    problems.append(Problem(f"{path.name}: line {number}", error.reason))
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error


def problem(directory: Path, where: str, error: InputError) -> Problem:
    """An error as a problem; what lies in the folder is named relative to it."""
    file = error.file.removeprefix(f"{directory}/")
    place = file if file.startswith(where) or where.startswith(file) else f"{where}: {file}"
    return Problem(f"{place}{f': {error.field}' if error.field else ''}", error.reason)
