"""A case as a task of Label Studio: its data and its prediction; ``page`` is the page that shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any, Final

from mmvm_data.annotation.labelstudio.project import MODEL_VERSION
from mmvm_data.annotation.labelstudio.shapes import MAX_HANDLES, Editor, ObjectSlot, region_to_results
from mmvm_data.annotation.labelstudio.sync import data_revision
from mmvm_data.annotation.review.page import describe_match_type, hide_repeated_images, option_key, untyped_key
from mmvm_data.annotation.review.zoom import write_zoom_places
from mmvm_data.cases.prompts import format_choices
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, Region, Review
from mmvm_data.formats.difficulty import Difficulty, rate_difficulty
from mmvm_data.formats.tsv import drawn_paths

NAME_KEY: Final = "case_id"
"""Where a task's data hold the id of its case."""

DIFFICULTY_KEY: Final = "difficulty"
"""Where a task's data hold the number by which tasks are listed, 0..1."""

QUERY_LABEL: Final = "query"


def build_task(
    case: Case,
    image_url: Callable[[str], str],
    num_images: int,
    editor: Editor = "polygon",
    difficulty: Difficulty | None = None,
    shown: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """A case as a task: what the page shows, the case itself for the pull, and our proposal as a prediction.

    Args:
        case: of a benchmark's folder.
        image_url: path relative to the benchmark -> where the server finds the image.
        num_images: of the page; a case with fewer has its last image in all places that are left, one of them visible.
        editor: how masks are shown.
        difficulty: for the list of tasks; None: that of the case without answers of models.
        shown: position of an image -> path of what is shown for it with its marks, in place of the benchmark's.

    Raises:
        InputError: the images do not lie in a case folder, or no option stands for the answer.
    """
    drawn = drawn_paths(case)
    if not drawn:
        raise InputError(case.id, "images do not lie in a case folder", field="frames")
    drawn = [(shown or {}).get(position, path) for position, path in enumerate(drawn)]
    lines = format_choices(case.options).split("\n")
    answer = next((text for text, o in zip(lines, case.options, strict=True) if o.number == case.answer), None)
    if answer is None:
        raise InputError(case.id, f"no option for answer {case.answer}", field="options")
    objects = list(iter_objects(case))
    score, disagreement = difficulty or rate_difficulty(case)
    data: dict[str, Any] = {NAME_KEY: case.id, "proposed": answer, DIFFICULTY_KEY: score}
    if disagreement is not None:
        data["disagreement"] = disagreement
    data["question"] = case.question.strip()
    data["options"] = [
        {"value": text, "hotkey": option_key(o.number)} for text, o in zip(lines, case.options, strict=True)
    ]
    style = write_zoom_places(case) + hide_repeated_images(len(drawn), num_images)
    data["options"][0]["html"] = f"{escape(lines[0])}<style>{style}</style>"
    for k in range(1, num_images + 1):
        index = min(k, len(drawn)) - 1
        data[f"drawn{k}"], data[f"original{k}"] = image_url(drawn[index]), image_url(case.frames[index].path)
        data[f"objects{k}"] = [
            {"value": slot.label, "hotkey": untyped_key(100 + position)}
            for position, (_, slot) in enumerate(objects)
            if slot.image == k
        ]
    data["masks"] = editor if editor == "brush" else f"{editor}, at most {MAX_HANDLES} corners"  # part of the revision
    data["base"] = case.model_copy(update={"review": Review()}).model_dump_json()
    data["revision"] = data_revision(data)
    results = [result for region, slot in objects for result in region_to_results(region, slot, editor)]
    results.append(_control_result("answer", "choices", [answer]))
    if types := shown_match_types(case):
        results.append(_control_result("match_types", "choices", [describe_match_type(n) for n in types]))
    if case.rationale:
        results.append(_control_result("rationale", "textarea", [case.rationale]))
    return {"data": data, "predictions": [{"model_version": MODEL_VERSION, "result": results}]}


def shown_match_types(case: Case) -> tuple[int, ...]:
    """The match types that are ticked on the page: those of the cues until a person has chosen."""
    return tuple(sorted(set(case.match_types or (cue.type for cue in case.cues))))


def iter_objects(case: Case) -> Iterator[tuple[Region, ObjectSlot]]:
    """The regions of a case with their slots: the query in each image but the last, then the candidates."""
    for k, (region, frame) in enumerate(zip(case.query, case.frames, strict=False), start=1):
        yield region, ObjectSlot(k, QUERY_LABEL, frame.height, frame.width)
    last = case.frames[-1]
    for candidate in case.candidates:
        yield candidate.region, ObjectSlot(len(case.frames), str(candidate.number), last.height, last.width)


def _control_result(name: str, kind: str, values: list[str]) -> dict[str, Any]:
    """The result of a control that is not a shape."""
    value = {"text" if kind == "textarea" else "choices": values}
    return {"id": name, "from_name": name, "to_name": "question", "type": kind, "value": value}
