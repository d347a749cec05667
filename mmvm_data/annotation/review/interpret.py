"""One annotation of a case -> the case after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError

from mmvm_data.annotation.labelstudio.history import utc_time
from mmvm_data.annotation.labelstudio.shapes import Result, apply_edits, check_results
from mmvm_data.annotation.review.page import VERDICTS, describe_match_type
from mmvm_data.annotation.review.task import QUERY_LABEL, iter_objects, shown_match_types
from mmvm_data.cases.prompts import format_choices
from mmvm_data.core.types import MATCH_TYPES, Case, Region, Review

_SHAPES: Final = ("polygon", "brush", "rectangle")
_MATCH_TYPES: Final = {describe_match_type(number): number for number in MATCH_TYPES}


def parse_base_case(data: dict[str, Any]) -> Case:
    """The case as a task shows it.

    Raises:
        ValueError: the task was not made by ``review push``.
    """
    try:
        return Case.model_validate_json(data["base"])
    except (KeyError, ValidationError, TypeError) as error:
        raise ValueError("is of another or an older kind of project: it holds no case of `review push`") from error


def is_same_case(a: Case, b: Case) -> bool:
    """Whether two states of a case have the same images and objects, whatever was reviewed since."""
    return _identity(a) == _identity(b)


def _identity(case: Case) -> tuple[Any, ...]:
    origin = case.provenance
    tracks = (origin.source, origin.video, origin.frames, origin.tracks) if origin else ()
    sizes = [(f.path, f.width, f.height) for f in case.frames]
    return case.id, case.prompt, sizes, [(c.number, c.region.id) for c in case.candidates], case.options, tracks


def apply_annotation(base: Case, current: Case, annotation: dict[str, Any], author: str) -> Case:
    """A case after an annotation.

    Answer, match types, rationale and masks are taken from the annotation; everything else from ``current``. A case
    that is rejected, or that the person is not sure about, gets a review and keeps the rest. A rationale that the
    person left as it was does not replace one that another person has written since.

    Args:
        base: the case as the person saw it.
        current: the case as it is now; ``is_same_case`` as ``base``.
        annotation: as the server gives it.
        author: of the annotation.

    Raises:
        ValueError: what is missing or wrong in it; one line.
    """
    results = check_results(annotation.get("result"))
    verdict = next(iter(_selected_choices(results, "verdict")), "")
    aliases = {text: name for name, text in VERDICTS.items()}
    verdict = aliases.get(verdict, verdict)
    if verdict not in VERDICTS:
        raise ValueError("has no verdict: neither accepted, fixed, rejected nor not sure")
    seconds = annotation.get("lead_time")
    review = Review(
        state="unsure" if verdict == "unsure" else "rejected",
        by=author,
        at=utc_time(annotation.get("updated_at") or annotation.get("created_at")),
        seconds=round(float(seconds), 1) if isinstance(seconds, (int, float)) else None,
        reason=_typed_text(results, "reason"),
    )
    if verdict in ("reject", "unsure"):
        return current.model_copy(update={"review": review})
    answer = _parse_answer(base, results)
    regions = _edit_regions(base, results)
    count = len(base.query)
    candidates = tuple(
        c.model_copy(update={"region": region}) for c, region in zip(base.candidates, regions[count:], strict=True)
    )
    match_types = _parse_match_types(results)
    rationale = _typed_text(results, "rationale")
    update: dict[str, Any] = {
        "answer": answer,
        "query": _identify_query(base, answer, regions[:count]),
        "candidates": candidates,
    }
    is_changed = any(getattr(base, name) != value for name, value in update.items())
    is_changed |= match_types != shown_match_types(base)
    update["match_types"] = match_types
    if is_rationale_left(base, rationale):
        update |= _choose_rationale(base, current, answer)
    else:
        is_changed = True
        update["rationale"] = rationale
    if verdict == "fix" and not is_changed:
        raise ValueError("says that something was fixed, but nothing differs from the proposal")
    review = review.model_copy(update={"state": "fixed" if is_changed else "accepted", "reason": None})
    return current.model_copy(update={**update, "review": review})


def is_rationale_left(base: Case, typed: str | None) -> bool:
    """Whether a text of the editor, which trims lines, is the rationale as the person saw it."""
    return (typed or "") == (base.rationale or "").strip()


def typed_rationale(annotation: dict[str, Any]) -> str | None:
    """The rationale of an annotation as it was submitted."""
    return _typed_text(check_results(annotation.get("result")), "rationale")


def _choose_rationale(base: Case, current: Case, answer: int | None) -> dict[str, Any]:
    """Rationale and author of a case whose reviewer left the text that was shown: that one, unless the record has got
    another since that a person wrote, that is the only one, or that was written for the reviewer's answer."""
    is_newer = current.rationale != base.rationale and (
        current.rationale_by == "human" or not base.rationale or base.answer != answer == current.answer
    )
    case = current if is_newer else base
    return {"rationale": case.rationale, "written": case.written}


def _selected_choices(results: Sequence[Result], name: str) -> list[str]:
    lists = [r["value"].get("choices") for r in results if r.get("from_name") == name]
    return [str(value) for choices in lists if isinstance(choices, list) for value in choices]


def _typed_text(results: Sequence[Result], name: str) -> str | None:
    texts = [r["value"].get("text") for r in results if r.get("from_name") == name]
    lines = [str(t) for text in texts for t in (text if isinstance(text, list) else [text]) if t]
    return "\n".join(lines).strip() or None


def _parse_answer(base: Case, results: Sequence[Result]) -> int | None:
    chosen = _selected_choices(results, "answer")
    if not chosen:
        raise ValueError("has no answer")
    offered = dict(zip(format_choices(base.options).split("\n"), base.options, strict=True))
    if len(chosen) > 1 or chosen[0] not in offered:
        raise ValueError(f"its answer {chosen} is not one of the options")
    return offered[chosen[0]].number


def _parse_match_types(results: Sequence[Result]) -> tuple[int, ...]:
    chosen = _selected_choices(results, "match_types")
    if unknown := [text for text in chosen if text not in _MATCH_TYPES]:
        raise ValueError(f"{unknown[0]!r} is not a match type")
    return tuple(sorted({_MATCH_TYPES[text] for text in chosen}))


def _edit_regions(base: Case, results: Sequence[Result]) -> list[Region]:
    """Every object of the case, in the order of ``iter_objects``, with the edits of the annotation."""
    labels = {r.get("id"): (r["value"].get("labels") or [None])[0] for r in results if r.get("type") == "labels"}
    objects = list(iter_objects(base))
    shapes: dict[tuple[str, str], list[Result]] = {(f"original{s.image}", s.label): [] for _, s in objects}
    for result in results:
        if result.get("type") not in _SHAPES:
            continue
        label, image = labels.get(result.get("id")), str(result.get("to_name"))
        if label is None:
            raise ValueError(f"a {result['type']} on {image} has no object's number")
        if (image, str(label)) not in shapes:
            raise ValueError(
                f"a {result['type']} on the wrong image: {label!r} on {image.replace('original', 'image ')}"
            )
        shapes[image, str(label)].append(result)
    regions = []
    for region, slot in objects:
        name = f"object {slot.label!r} of image {slot.image}"
        try:
            edited = apply_edits(region, slot, shapes[f"original{slot.image}", slot.label])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if edited is None:
            if slot.label != QUERY_LABEL or slot.image == 1 or region.mask is None:
                raise ValueError(f"{name} has no shape left")
            edited = region
        regions.append(edited)
    return regions


def _identify_query(base: Case, answer: int | None, query: Sequence[Region]) -> tuple[Region, ...]:
    """The query with the identity of the candidate that was found to be it."""
    if answer == base.answer:
        return tuple(query)
    tracks = {c.number: c.region.id for c in base.candidates}
    identity = tracks[answer] if answer is not None else query[0].id
    while answer is None and identity in tracks.values():
        identity += "-query"
    return tuple(region.model_copy(update={"id": identity}) for region in query)
