"""A case as a task of Label Studio: the label config of the page, and the data and the prediction of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from mmvm_data.annotation.labelstudio.project import MODEL_VERSION
from mmvm_data.annotation.labelstudio.shapes import Editor, ObjectSlot, region_to_results
from mmvm_data.annotation.labelstudio.sync import data_revision
from mmvm_data.cases.prompts import format_choices
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import MATCH_TYPES, Case, Region, Review
from mmvm_data.formats.tsv import drawn_paths

NAME_KEY: Final = "case_id"
"""Where a task's data hold the id of its case."""

QUERY_LABEL: Final = "query"
VERDICTS: Final = {"accept": "Accept", "fix": "Fix: I changed something", "reject": "Reject the case"}

_STYLE = """
.mmvm-pair { display: flex; flex-wrap: wrap; gap: 12px; margin-bottom: 8px; }
.mmvm-side { flex: 1 1 340px; min-width: 0; }
.mmvm-ask { max-width: 1000px; }
"""
# an odd image would fill a row, and be twice as large as the others
_THREE_IMAGES_STYLE = "@media (min-width: 900px) { .mmvm-side { max-width: calc(50% - 6px); } }"


def build_label_config(num_images: int = 2, has_boxes: bool = False) -> str:
    """The label config (labelstud.io/tags) of cases with up to ``num_images`` images.

    Args:
        num_images: 2 or more.
        has_boxes: whether there are cases of boxes, which need the rectangle tool.
    """
    marked = "".join(
        f'<View className="mmvm-side"><Header value={quoteattr(_image_title(k, num_images))} size="5"/>'
        f'<Image name="drawn{k}" value="$drawn{k}" zoom="true"/></View>'
        for k in range(1, num_images + 1)
    )
    rectangle = (
        '<Rectangle name="rectangle{k}" toName="original{k}" opacity="0.3" strokeWidth="2"/>' if has_boxes else ""
    )
    original = "".join(
        '<View className="mmvm-side">'
        f'<Header value="Image {k}" size="5"/>'
        f'<Labels name="object{k}" toName="original{k}" value="$objects{k}" showInline="true"/>'
        f'<Image name="original{k}" value="$original{k}" zoom="true" brightnessControl="true"/>'
        f'<Polygon name="polygon{k}" toName="original{k}" opacity="0.3" strokeWidth="2" pointSize="small"/>'
        f'<Brush name="brush{k}" toName="original{k}"/>{rectangle.format(k=k)}</View>'
        for k in range(1, num_images + 1)
    )
    types = "".join(f"<Choice value={quoteattr(describe_match_type(n))}/>" for n in MATCH_TYPES)
    verdicts = "".join(f'<Choice value={quoteattr(text)} alias="{name}"/>' for name, text in VERDICTS.items())
    return (
        f'<View className="mmvm"><Style>{_STYLE}{_THREE_IMAGES_STYLE if num_images > 2 else ""}</Style>'
        f'<View className="mmvm-pair">{marked}</View>'
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


def _image_title(k: int, num_images: int) -> str:
    return f"Image {k}: the candidates" if k == num_images else f"Image {k}: the object in cyan"


def describe_match_type(number: int) -> str:
    """A match type as the page shows it: its abbreviation and its meaning."""
    return " ".join(MATCH_TYPES[number])


def build_task(
    case: Case, image_url: Callable[[str], str], num_images: int, editor: Editor = "polygon"
) -> dict[str, Any]:
    """A case as a task: what the page shows, the case itself for the pull, and our proposal as a prediction.

    Args:
        case: of a benchmark's folder.
        image_url: path relative to the benchmark -> where the server finds the image.
        num_images: of the page; a case with fewer shows its last image again in the places that are left.
        editor: how masks are shown.

    Raises:
        InputError: the images do not lie in a case folder, or no option stands for the answer.
    """
    drawn = drawn_paths(case)
    if not drawn:
        raise InputError(case.id, "images do not lie in a case folder", field="frames")
    lines = format_choices(case.options).split("\n")
    answer = next((text for text, o in zip(lines, case.options, strict=True) if o.number == case.answer), None)
    if answer is None:
        raise InputError(case.id, f"no option for answer {case.answer}", field="options")
    objects = list(iter_objects(case))
    data: dict[str, Any] = {NAME_KEY: case.id, "proposed": answer, "question": case.question.strip()}
    data["options"] = [{"value": text} for text in lines]
    for k in range(1, num_images + 1):
        index = min(k, len(drawn)) - 1
        data[f"drawn{k}"], data[f"original{k}"] = image_url(drawn[index]), image_url(case.frames[index].path)
        data[f"objects{k}"] = [{"value": slot.label} for _, slot in objects if slot.image == k]
    data["masks"] = editor
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
