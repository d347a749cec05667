"""What Label Studio is told: the page of a project, and a case as one of its tasks with our proposal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from mmvm_data.annotation.labelstudio.shapes import Editor, Place, shown
from mmvm_data.cases.prompts import format_choices
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import MATCH_TYPES, Case, Region, Review
from mmvm_data.formats.tsv import drawn_paths

MODEL: Final = "mmvm-data"
"""Under this name our proposals stand as predictions."""

QUERY: Final = "query"
VERDICTS: Final = {"accept": "Accept", "fix": "Fix: I changed something", "reject": "Reject the case"}

_STYLE = """
.mmvm-pair { display: flex; flex-wrap: wrap; gap: 12px; margin-bottom: 8px; }
.mmvm-side { flex: 1 1 340px; min-width: 0; }
.mmvm-ask { max-width: 1000px; }
"""
# an odd image would fill a row, and be twice as large as the others
_THREE = "@media (min-width: 900px) { .mmvm-side { max-width: calc(50% - 6px); } }"


def page(images: int = 2, boxes: bool = False) -> str:
    """The labeling config (labelstud.io/tags) of cases with up to ``images`` images.

    Args:
        images: 2 or more.
        boxes: whether there are cases of boxes, which need the rectangle tool.
    """
    drawn = "".join(
        f'<View className="mmvm-side"><Header value={quoteattr(_title(k, images))} size="5"/>'
        f'<Image name="drawn{k}" value="$drawn{k}" zoom="true"/></View>'
        for k in range(1, images + 1)
    )
    rectangle = '<Rectangle name="rectangle{k}" toName="original{k}" opacity="0.3" strokeWidth="2"/>' if boxes else ""
    original = "".join(
        '<View className="mmvm-side">'
        f'<Header value="Image {k}" size="5"/>'
        f'<Labels name="object{k}" toName="original{k}" value="$objects{k}" showInline="true"/>'
        f'<Image name="original{k}" value="$original{k}" zoom="true" brightnessControl="true"/>'
        f'<Polygon name="polygon{k}" toName="original{k}" opacity="0.3" strokeWidth="2" pointSize="small"/>'
        f'<Brush name="brush{k}" toName="original{k}"/>{rectangle.format(k=k)}</View>'
        for k in range(1, images + 1)
    )
    types = "".join(f"<Choice value={quoteattr(match_type_text(n))}/>" for n in MATCH_TYPES)
    verdicts = "".join(f'<Choice value={quoteattr(text)} alias="{name}"/>' for name, text in VERDICTS.items())
    return (
        f'<View className="mmvm"><Style>{_STYLE}{_THREE if images > 2 else ""}</Style>'
        f'<View className="mmvm-pair">{drawn}</View>'
        '<View className="mmvm-ask"><Text name="question" value="$question"/>'
        '<Choices name="answer" toName="question" value="$options" choice="single" showInline="true"/>'
        '<Header value="What gives it away" size="5"/>'
        f'<Choices name="match_types" toName="question" choice="multiple" showInline="true">{types}</Choices>'
        '<Header value="Why" size="5"/>'
        '<TextArea name="rationale" toName="question" rows="2" editable="true" maxSubmissions="1" '
        'placeholder="What makes it the same object, in a sentence or two"/>'
        '<Header value="Verdict" size="5"/>'
        f'<Choices name="verdict" toName="question" choice="single" showInline="true" required="true" '
        f'requiredMessage="Accept, fix or reject: choose one">{verdicts}</Choices>'
        '<View visibleWhen="choice-selected" whenTagName="verdict" whenChoiceValue="reject">'
        '<TextArea name="reason" toName="question" rows="1" maxSubmissions="1" placeholder="Why is it rejected?"/>'
        "</View></View>"
        '<Collapse bordered="false"><Panel value="Originals: see them without marks, mend masks">'
        f'<View className="mmvm-pair">{original}</View></Panel></Collapse></View>'
    )


def _title(k: int, images: int) -> str:
    return f"Image {k}: the candidates" if k == images else f"Image {k}: the object in cyan"


def match_type_text(number: int) -> str:
    """How a match type reads on the page: its abbreviation and its meaning."""
    return " ".join(MATCH_TYPES[number])


def task_of(case: Case, url: Callable[[str], str], images: int, editor: Editor = "polygon") -> dict[str, Any]:
    """A case as a task: what the page shows, the case itself for the way back, and our proposal as a prediction.

    Args:
        case: of a benchmark's folder.
        url: path relative to the benchmark -> where the server finds it.
        images: of the page; a case with fewer shows its last image again in the places that are left.
        editor: how masks are shown.

    Raises:
        InputError: the images do not lie in a case folder, or no option stands for the answer.
    """
    drawn = drawn_paths(case)
    if not drawn:
        raise InputError(case.id, "images do not lie in a case folder", field="frames")
    lines = format_choices(case.options).split("\n")
    right = next((text for text, o in zip(lines, case.options, strict=True) if o.number == case.answer), None)
    if right is None:
        raise InputError(case.id, f"no option for answer {case.answer}", field="options")
    data: dict[str, Any] = {"case_id": case.id, "proposed": right, "question": case.question.strip()}
    data["options"] = [{"value": text} for text in lines]
    for k in range(1, images + 1):
        own = min(k, len(drawn)) - 1
        data[f"drawn{k}"], data[f"original{k}"] = url(drawn[own]), url(case.frames[own].path)
        labels = [place.label for _, place in objects_of(case) if place.image == k]
        data[f"objects{k}"] = [{"value": label} for label in labels]
    data["masks"] = editor
    data["base"] = case.model_copy(update={"review": Review()}).model_dump_json()
    data["revision"] = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    results = [r for region, place in objects_of(case) for r in shown(region, place, editor)]
    results.append(_said("answer", "choices", [right]))
    # until a person has said which, those of the cues are ticked
    types = case.match_types or sorted({cue.type for cue in case.cues})
    if types:
        results.append(_said("match_types", "choices", [match_type_text(n) for n in types]))
    if case.rationale:
        results.append(_said("rationale", "textarea", [case.rationale]))
    return {"data": data, "predictions": [{"model_version": MODEL, "result": results}]}


def objects_of(case: Case) -> Iterator[tuple[Region, Place]]:
    """The regions of a case with their places: the query in each image but the last, then the candidates."""
    for k, (region, frame) in enumerate(zip(case.query, case.frames, strict=False), start=1):
        yield region, Place(k, QUERY, frame.height, frame.width)
    last = case.frames[-1]
    for candidate in case.candidates:
        yield candidate.region, Place(len(case.frames), str(candidate.number), last.height, last.width)


def _said(name: str, kind: str, values: list[str]) -> dict[str, Any]:
    value = {"text" if kind == "textarea" else "choices": values}
    return {"id": name, "from_name": name, "to_name": "question", "type": kind, "value": value}
