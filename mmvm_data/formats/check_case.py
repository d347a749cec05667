"""Checks of a case: its row of the table, its objects, and its record in cases.jsonl."""

from __future__ import annotations

from pathlib import Path

from mmvm_data.cases import prompts
from mmvm_data.core.errors import InputError
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import Case, Region
from mmvm_data.formats.bench_read import CASES
from mmvm_data.formats.check_images import CheckedImage, Report
from mmvm_data.formats.id_cells import unquote_name
from mmvm_data.formats.table_cells import parse_choices, parse_match_types
from mmvm_data.formats.tsv import format_letters, parse_list_literal, shorten
from mmvm_data.io.files import safe_join

MIN_CANDIDATES, MAX_CANDIDATES = 1, 37


def check_boxes(images: list[CheckedImage], where: str, report: Report) -> None:
    """Check that each object with pixels is a box."""
    for image in images:
        for number, (item, area) in enumerate(zip(image.objects, image.areas, strict=True)):
            if item.region.box is None and area:
                report.add(f"{where}: {image.annotation}: object {number}", "has no bbox that its pixels fill")


def check_candidates(cells: dict[str, str], image: CheckedImage, where: str, report: Report) -> None:
    """Check the objects of the last image against the row."""
    numbers = [item.id for item in image.objects]
    if not MIN_CANDIDATES <= len(numbers) <= MAX_CANDIDATES:
        report.add(
            f"{where}: {image.annotation}",
            f"{pluralize(len(numbers), 'candidate')}, expected {MIN_CANDIDATES} to {MAX_CANDIDATES}",
        )
    valid = [n for n in numbers if isinstance(n, int) and not isinstance(n, bool)]
    repeated = sorted({n for n in valid if valid.count(n) > 1})
    if repeated:
        report.add(f"{where}: {image.annotation}", f"numbers repeat: {repeated}")
    for item, area in zip(image.objects, image.areas, strict=True):
        if area == 0:
            report.add(f"{where}: {image.annotation}", f"candidate {item.id!r} has no pixels")
    try:
        offered = {option.number for option in parse_choices(cells.get("choices", ""))} - {None}
    except ValueError:
        return  # reported with the row
    unknown = sorted(number for number in offered if number is not None and number not in valid)
    if unknown:
        report.add(f"{where}: choices", f"numbers {unknown} are not among the candidates {sorted(valid)}")
    left_out = sorted(set(valid) - offered)
    if left_out and len(offered) < prompts.MAX_OFFERED:
        report.add(f"{where}: choices", f"candidates {left_out} are not offered")
    if "candidates" in cells and cells["candidates"] != str(len(numbers)):
        report.add(f"{where}: candidates", f"is {cells['candidates']!r}, the image has {len(numbers)}")


def check_text(cells: dict[str, str], where: str, report: Report) -> None:
    """Check the question, the choices and the match types of a row."""
    _, fault = parse_match_types(cells.get("match_type"))
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
            letters = format_letters(parse_choices(choices))
        except ValueError:
            return  # reported with the row
        if cells["choices_head"].replace(" ", "") != letters.replace(" ", ""):
            report.add(f"{where}: choices_head", f"is {cells['choices_head']!r}, the letters are {letters!r}")


def check_second_images(directory: Path, cells: dict[str, str], paths: list[str], where: str, report: Report) -> None:
    """Check the second version of the images (``image_path_v3``), if it differs."""
    text = cells.get("image_path_v3")
    if text is None or text == cells.get("image_path"):
        return
    try:
        others = parse_list_literal(text)
        if not all(isinstance(path, str) for path in others):
            raise ValueError("expected a list of paths")
        missing = [path for path in others if not safe_join(directory, path, where).is_file()]
    except (ValueError, InputError) as error:
        report.add(f"{where}: image_path_v3", getattr(error, "reason", str(error)))
        return
    if missing or len(others) != len(paths):
        what = f"missing {missing}" if missing else f"{pluralize(len(others), 'image')}, image_path has {len(paths)}"
        report.add(f"{where}: image_path_v3", what)


def check_query(case: Case, where: str, report: Report) -> None:
    """Check that the query, the first object of each image but the last, has the track of the answer."""
    tracks = {region.id for region in case.query}
    answer_track = next((c.region.id for c in case.candidates if c.number == case.answer), None)
    if answer_track is None and tracks & {c.region.id for c in case.candidates}:
        report.add(f"{where}: answer", f"is none, but track {sorted(tracks)} of the query is a candidate")
    elif answer_track is not None and tracks != {answer_track}:
        report.add(f"{where}: answer", f"is of track {answer_track!r}, the query of {sorted(tracks)}")


def check_record(case: Case, record: Case, cells: dict[str, str], where: str, report: Report) -> None:
    """Compare the row and its folder with the record of the case in cases.jsonl."""
    if record.provenance is not None:
        for name in ("source", "video", "gap", "look_alikes", "visible"):
            known = str(getattr(record.provenance, name))
            cell = unquote_name(cells.get(name, known))
            if cell != known:
                report.add(f"{where}: {name}", f"differs: {CASES} has {shorten(known)}, table {shorten(cell)}")
    for name in ("answer", "question", "options", "match_types", "prompt"):
        expected, actual = getattr(record, name), getattr(case, name)
        if expected != actual:
            report.add(
                f"{where}: {name}", f"differs: {CASES} has {shorten(expected)}, table and folder {shorten(actual)}"
            )
    if [f.path for f in record.frames] != [f.path for f in case.frames]:
        report.add(where, f"paths of the images differ between {CASES} and the table")
    if [(f.width, f.height) for f in record.frames] != [(f.width, f.height) for f in case.frames]:
        report.add(where, f"sizes of the images differ between {CASES} and the JSON files")
    if [_identity_and_shape(region) for region in record.query] != [
        _identity_and_shape(region) for region in case.query
    ]:
        report.add(where, f"query differs between {CASES} and the JSON files")
    if {c.number: _identity_and_shape(c.region) for c in record.candidates} != {
        c.number: _identity_and_shape(c.region) for c in case.candidates
    }:
        report.add(where, f"candidates differ between {CASES} and the JSON files")


def _identity_and_shape(region: Region) -> object:
    return region.id, region.category, region.mask or region.box
