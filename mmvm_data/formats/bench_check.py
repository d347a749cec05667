"""Checking a benchmark: everything about its files that a reader, an evaluator or a trainer could stumble over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np

from mmvm_data.cases import prompts
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, Frame, Region
from mmvm_data.formats import bench_read as reading
from mmvm_data.formats.bench_read import CASES, Item, Problem
from mmvm_data.formats.drawing import draw, jpeg, mask_of
from mmvm_data.formats.tsv import (
    FOLDER,
    TSV,
    Row,
    annotation_name,
    choices_head,
    literal_list,
    original_name,
    read_rows,
    shorten,
    whole_number,
)
from mmvm_data.io import media
from mmvm_data.io.files import list_names, safe_join

FEWEST, MOST = 1, 37
"""Candidates of a case."""

_TILE = 32
_FEW = 24
_MARKS_DIFFER = 40.0
"""Marks are compared in tiles of 32 x 32 pixels, where 24 or more pixels of a tile are marked. Above this mean
difference in grey levels they count as drawn otherwise. Measured on DAVIS frames: JPEG of quality 75 gives up to 12, of
60 up to 19; one missing candidate 85 and more, a wrong number 150."""


@dataclass
class Report:
    """What a check found.

    Attributes:
        cases: rows of the table.
        problems: in the order of the table; where, and what.
    """

    cases: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        """Note one problem."""
        self.problems.append(Problem(where, what))


class _Image(NamedTuple):
    """A drawn image, its original and its objects, paths relative to the benchmark; how many pixels of each object the
    published reader sees."""

    drawn: str
    original: str
    json: str
    items: list[Item]
    areas: list[int]


def validate(
    directory: str | Path, deep: bool = False, progress: Callable[[int, int | None], None] | None = None
) -> Report:
    """Check every case of a benchmark. One case is in memory at a time; a bad one never stops the check.

    Looked at: the table (columns, cells, indices without gaps or repeats, literals, official question, choices,
    letters), the folders (paths that stay inside, every file there, images whole and of the size that the JSON says),
    the objects (numbers, options, polygons that the published reader turns back into exactly ``rle`` or ``bbox``), and
    cases.jsonl against the table. Folders that no row names are reported too.

    Args:
        directory: holds the tsv, ``match_bench/`` and, for ours, cases.jsonl.
        deep: also draw every case again, and compare with its drawn images.
        progress: called after each case with (cases done, cases in cases.jsonl; None when there is no such file).

    Returns:
        the report; a table that cannot be read at all is a problem, not an error.
    """
    directory = Path(directory)
    report = Report()
    records = _Records(directory / CASES, report)
    state = _State()
    try:
        for row in read_rows(directory / TSV):
            if report.cases == 0:
                reading.check_columns(directory / TSV, set(row.cells), report.problems)
            report.cases += 1
            where = f"{TSV}: line {row.line}"
            if row.fault:
                report.add(where, row.fault)
            _check_index(row, state, where, report)
            _check_row(directory, row, where, state, records, report, deep)
            if progress:
                progress(report.cases, records.count if records.there else None)
    except InputError as error:
        report.problems.append(reading.problem(directory, TSV, error))
    for name in records.unused():
        case = records.get(name)
        if case is not None and case.review.state == "rejected":
            state.folders.add(f"{FOLDER}/{name}")  # keeps its record and its folder
        else:
            report.add(CASES, f"case {name!r} has no row in the table")
    _check_folders(directory, state, report)
    return report


@dataclass
class _State:
    """What is remembered over the rows."""

    indices: set[str] = field(default_factory=set)
    before: int | None = None
    ids: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)


class _Records:
    """cases.jsonl by case id: offsets are kept, records are read when their row comes."""

    def __init__(self, path: Path, report: Report) -> None:
        self._path = path
        self._offsets: dict[str, int] = {}
        self._used: set[str] = set()
        self.there = path.is_file()
        for offset, number, line in self._lines(report):
            try:
                name = reading.record(path, line, number).id
            except InputError as error:
                report.add(f"{CASES}: line {number}", error.reason)
                continue
            if name in self._offsets:
                report.add(f"{CASES}: line {number}", f"case {name!r} is there twice")
            self._offsets.setdefault(name, offset)

    def get(self, name: str) -> Case | None:
        if name not in self._offsets:
            return None
        self._used.add(name)
        with open(self._path, "rb") as lines:
            lines.seek(self._offsets[name])
            return reading.record(self._path, lines.readline(), 0)

    @property
    def count(self) -> int:
        return len(self._offsets)

    def unused(self) -> list[str]:
        return sorted(self._offsets.keys() - self._used)

    def _lines(self, report: Report) -> Iterator[tuple[int, int, bytes]]:
        if not self.there:
            return
        try:
            with open(self._path, "rb") as lines:
                offset = 0
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield offset, number, line
                    offset += len(line)
        except OSError as error:
            report.add(CASES, f"file cannot be read: {error.strerror or error}")


def _check_index(row: Row, state: _State, where: str, report: Report) -> None:
    text = row.cells.get("index")
    if text is None:
        return
    if text in state.indices:
        report.add(f"{where}: index", f"{shorten(text)} is there twice")
    state.indices.add(text)
    number = whole_number(text)
    if number is not None and state.before is not None and number not in (state.before, state.before + 1):
        report.add(f"{where}: index", f"{number} follows {state.before}")
    if not text:
        report.add(f"{where}: index", "is empty")
    state.before = number


def _check_row(
    directory: Path, row: Row, where: str, state: _State, records: _Records, report: Report, deep: bool
) -> None:
    cells = row.cells
    try:
        paths = reading.image_paths(directory, cells.get("image_path", ""), where)
    except InputError as error:
        report.problems.append(reading.problem(directory, where, error))
        return
    first = len(report.problems)
    name = PurePosixPath(paths[-1]).parent.name
    where = f"{name} (line {row.line})"
    state.folders.add(str(PurePosixPath(paths[-1]).parent))
    if name in state.ids:
        report.add(where, "case has a second row")
    state.ids.add(name)
    if "case_id" in cells and cells["case_id"] != name:
        report.add(f"{where}: case_id", f"is {cells['case_id']!r}, the folder {name!r}")
    images = [_check_image(directory, path, where, report) for path in paths]
    if cells.get("prompt") == "box":
        _check_boxes([image for image in images if image], where, report)
    _check_text(cells, where, report)
    _check_v3(directory, cells, paths, where, report)
    case = None
    try:
        case = reading.case_of(directory, cells, where, None)
    except InputError as error:
        found = reading.problem(directory, where, error)
        if found.what not in {p.what for p in report.problems[first:]}:  # not said yet, for an image
            report.problems.append(found)
    last = images[-1]
    if last:
        _check_candidates(cells, last, where, report)
    record = records.get(name)
    if record is None and records.there:
        report.add(where, f"has no line in {CASES}")
    if record is not None and record.review.state == "rejected":
        report.add(where, "was rejected, but is in the table")
    if case is None:
        return
    _check_query(case, where, report)
    if record is not None:
        _check_record(case, record, cells, where, report)
    if deep and all(images):
        _check_drawn(directory, case, [image for image in images if image], where, report)


def _check_image(directory: Path, path: str, where: str, report: Report) -> _Image | None:
    """The objects of one image; None when they cannot be read."""
    drawn = PurePosixPath(path)
    image = _Image(
        str(drawn),
        str(drawn.with_name(original_name(drawn.name))),
        str(drawn.with_name(annotation_name(drawn.name))),
        [],
        [],
    )
    try:
        image.items.extend(reading.read_items(safe_join(directory, image.json, where), image.json))
    except InputError as error:
        report.problems.append(reading.problem(directory, where, error))
    sizes = {(item.width, item.height) for item in image.items}
    if len(sizes) > 1:
        report.add(f"{where}: {image.json}", f"objects are of images of different sizes: {sorted(sizes)}")
    for name in (image.drawn, image.original):
        try:
            file = safe_join(directory, name, where)
            width, height = min(sizes) if sizes else media.read_image_size(file)
            media.load_frame(directory, Frame(path=name, index=0, width=width, height=height))
        except InputError as error:
            report.problems.append(reading.problem(directory, where, error))
    for number, item in enumerate(image.items):
        image.areas.append(_check_polygons(item, f"{where}: {image.json}: object {number}", report))
    return image if image.items else None


def _check_polygons(item: Item, where: str, report: Report) -> int:
    if item.skipped:
        report.add(where, f"{item.skipped} polygons of odd length or under 6 values: the published reader skips them")
    size = item.height, item.width
    seen = masks.from_polygons(item.polygons, *size)
    area = masks.area(seen)
    covered = masks.area(masks.from_polygons(item.polygons, *size, rule="union")) if len(item.polygons) > 1 else area
    if covered != area:
        report.add(where, f"polygons overlap: the published reader clears {covered - area} pixels")
    if item.rle or item.region.box:
        exact = mask_of(item.region, *size)
        both = int(masks.intersections([seen], [exact])[0, 0])
        wrong = area + masks.area(exact) - 2 * both
        if wrong:
            report.add(where, f"polygons differ from {'rle' if item.rle else 'bbox'} in {wrong} pixels")
    return area


def _check_boxes(images: list[_Image], where: str, report: Report) -> None:
    for image in images:
        for number, (item, area) in enumerate(zip(image.items, image.areas, strict=True)):
            if item.region.box is None and area:
                report.add(f"{where}: {image.json}: object {number}", "has no bbox that its pixels fill")


def _check_candidates(cells: dict[str, str], image: _Image, where: str, report: Report) -> None:
    numbers = [item.id for item in image.items]
    if not FEWEST <= len(numbers) <= MOST:
        report.add(f"{where}: {image.json}", f"{len(numbers)} candidates, expected {FEWEST} to {MOST}")
    whole = [n for n in numbers if isinstance(n, int) and not isinstance(n, bool)]
    repeated = sorted({n for n in whole if whole.count(n) > 1})
    if repeated:
        report.add(f"{where}: {image.json}", f"numbers repeat: {repeated}")
    for item, area in zip(image.items, image.areas, strict=True):
        if area == 0:
            report.add(f"{where}: {image.json}", f"candidate {item.id!r} has no pixels")
    try:
        offered = {option.number for option in reading.parse_choices(cells.get("choices", ""))} - {None}
    except ValueError:
        return  # reported with the row
    unknown = sorted(number for number in offered if number is not None and number not in whole)
    if unknown:
        report.add(f"{where}: choices", f"numbers {unknown} are not among the candidates {sorted(whole)}")
    left_out = sorted(set(whole) - offered)
    if left_out and len(offered) < prompts.MAX_OFFERED:
        report.add(f"{where}: choices", f"candidates {left_out} are not offered")
    if "candidates" in cells and cells["candidates"] != str(len(numbers)):
        report.add(f"{where}: candidates", f"is {cells['candidates']!r}, the image has {len(numbers)}")


def _check_text(cells: dict[str, str], where: str, report: Report) -> None:
    _, fault = reading.match_types(cells.get("match_type"))
    if fault and "match_type" in cells:
        report.add(f"{where}: match_type", fault)
    choices, pure, question = (cells.get(key) for key in ("choices", "pure_question", "question"))
    if pure is not None and question is not None and choices is not None and question != pure + choices:
        report.add(f"{where}: question", "is not pure_question followed by choices")
    official = [prompts.format_question("mask"), prompts.format_question("box")]
    if cells.get("prompt") in ("mask", "box"):
        official = [prompts.format_question("mask" if cells["prompt"] == "mask" else "box")]
    asked = pure if pure is not None else (question or "").removesuffix(choices or "")
    if asked not in official:
        report.add(f"{where}: {'question' if pure is None else 'pure_question'}", "is not the official question")
    if "choices_head" in cells and choices:
        try:
            head = choices_head(reading.parse_choices(choices))
        except ValueError:
            return  # reported with the row
        if cells["choices_head"].replace(" ", "") != head.replace(" ", ""):
            report.add(f"{where}: choices_head", f"is {cells['choices_head']!r}, the letters are {head!r}")


def _check_v3(directory: Path, cells: dict[str, str], paths: list[str], where: str, report: Report) -> None:
    """The second version of the images, where it is another one."""
    text = cells.get("image_path_v3")
    if text is None or text == cells.get("image_path"):
        return
    try:
        others = literal_list(text)
        if not all(isinstance(path, str) for path in others):
            raise ValueError("expected a list of paths")
        missing = [path for path in others if not safe_join(directory, path, where).is_file()]
    except (ValueError, InputError) as error:
        report.add(f"{where}: image_path_v3", getattr(error, "reason", str(error)))
        return
    if missing or len(others) != len(paths):
        found = f"missing {missing}" if missing else f"{len(others)} images, image_path has {len(paths)}"
        report.add(f"{where}: image_path_v3", found)


def _check_query(case: Case, where: str, report: Report) -> None:
    """The first object of each image but the last is the query: of the answer's track, where tracks are named."""
    tracks = {region.id for region in case.query}
    right = next((c.region.id for c in case.candidates if c.number == case.answer), None)
    if right is None and tracks & {c.region.id for c in case.candidates}:
        report.add(f"{where}: answer", f"is none, but track {sorted(tracks)} of the query is a candidate")
    elif right is not None and tracks != {right}:
        report.add(f"{where}: answer", f"is of track {right!r}, the query of {sorted(tracks)}")


def _check_record(case: Case, record: Case, cells: dict[str, str], where: str, report: Report) -> None:
    """The row and its folder against our own record of the case."""
    if record.provenance is not None:
        for name in ("source", "video", "gap", "look_alikes", "visible"):
            known = str(getattr(record.provenance, name))
            if cells.get(name, known) != known:
                report.add(f"{where}: {name}", f"differs: {CASES} has {shorten(known)}, table {shorten(cells[name])}")
    for name in ("answer", "question", "options", "match_types", "prompt"):
        ours, theirs = getattr(record, name), getattr(case, name)
        if ours != theirs:
            report.add(f"{where}: {name}", f"differs: {CASES} has {shorten(ours)}, table and folder {shorten(theirs)}")
    if [f.path for f in record.frames] != [f.path for f in case.frames]:
        report.add(where, f"paths of the images differ between {CASES} and the table")
    if [(f.width, f.height) for f in record.frames] != [(f.width, f.height) for f in case.frames]:
        report.add(where, f"sizes of the images differ between {CASES} and the JSON files")
    if [_shape(region) for region in record.query] != [_shape(region) for region in case.query]:
        report.add(where, f"query differs between {CASES} and the JSON files")
    if {c.number: _shape(c.region) for c in record.candidates} != {c.number: _shape(c.region) for c in case.candidates}:
        report.add(where, f"candidates differ between {CASES} and the JSON files")


def _shape(region: Region) -> object:
    return region.id, region.category, region.mask or region.box


def _check_drawn(directory: Path, case: Case, images: list[_Image], where: str, report: Report) -> None:
    for position, (frame, image) in enumerate(zip(case.frames, images, strict=True)):
        try:
            clean = media.read_frame_bgr(directory, frame)
            shown = media.read_frame_bgr(directory, frame.model_copy(update={"path": image.drawn}))
            expected = draw(case, position, clean)
        except InputError:
            continue  # reported with the image
        difference = _marks_differ(clean, expected, shown)
        if difference > _MARKS_DIFFER:
            report.add(f"{where}: {image.drawn}", f"marks differ from those drawn anew by {difference:.0f} grey levels")


def _marks_differ(clean: np.ndarray, expected: np.ndarray, shown: np.ndarray) -> float:
    """Largest mean difference, over tiles, between the marks that should be there and those that are."""
    # through JPEG, so that the colour bleeds as it does in the file
    coded = cv2.imdecode(np.frombuffer(jpeg(expected), np.uint8), cv2.IMREAD_COLOR)
    assert coded is not None
    difference = np.abs(coded.astype(np.int16) - shown).mean(axis=2)
    marked = (expected != clean).any(axis=2) | (difference > 2 * _MARKS_DIFFER)
    counts, sums = _tiles(marked), _tiles(difference * marked)
    many = counts >= _FEW
    return float((sums[many] / counts[many]).max()) if many.any() else 0.0


def _tiles(values: np.ndarray) -> np.ndarray:
    """Sums over tiles: [h, w] -> [h / 32, w / 32], rounded up."""
    rows = np.add.reduceat(values.astype(np.float64), np.arange(0, values.shape[0], _TILE), axis=0)
    return np.add.reduceat(rows, np.arange(0, values.shape[1], _TILE), axis=1)


def _check_folders(directory: Path, state: _State, report: Report) -> None:
    """Folders beside those of the table."""
    if not (directory / FOLDER).is_dir():
        return
    for name in list_names(directory / FOLDER):
        if f"{FOLDER}/{name}" not in state.folders:
            report.add(f"{FOLDER}/{name}", "no row of the table names this folder")
