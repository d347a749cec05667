"""What one annotation says about one case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError

from mmvm_data.annotation.labelstudio.history import utc
from mmvm_data.annotation.labelstudio.shapes import edited
from mmvm_data.annotation.review.project import QUERY, VERDICTS, match_type_text, objects_of
from mmvm_data.cases.prompts import format_choices
from mmvm_data.core.types import MATCH_TYPES, Case, Region, Review

_SHAPES: Final = ("polygon", "brush", "rectangle")
_TYPES: Final = {match_type_text(number): number for number in MATCH_TYPES}


def base_of(data: dict[str, Any]) -> Case:
    """The case as a task shows it.

    Raises:
        ValueError: the task was not made by ``review push``.
    """
    try:
        return Case.model_validate_json(data["base"])
    except (KeyError, ValidationError, TypeError) as error:
        raise ValueError("is of another or an older kind of project: it holds no case of `review push`") from error


def same_case(a: Case, b: Case) -> bool:
    """Whether two states of a case are of the same images and objects, whatever was reviewed since."""
    return _identity(a) == _identity(b)


def _identity(case: Case) -> tuple[Any, ...]:
    origin = case.provenance
    tracks = (origin.source, origin.video, origin.frames, origin.tracks) if origin else ()
    sizes = [(f.path, f.width, f.height) for f in case.frames]
    return case.id, case.prompt, sizes, [(c.number, c.region.id) for c in case.candidates], case.options, tracks


def judged(base: Case, current: Case, annotation: dict[str, Any], by: str) -> Case:
    """A case after an annotation.

    Answer, match types, rationale and masks are what the annotation says; whatever else ``current`` holds stays.

    Args:
        base: the case as the person saw it.
        current: the case as it is now, ``same_case`` as ``base``.
        annotation: as the server gives it.
        by: who made it.

    Raises:
        ValueError: what is missing or wrong in it; one line.
    """
    results = annotation.get("result")
    if not isinstance(results, list) or not all(
        isinstance(r, dict) and isinstance(r.get("value"), dict) for r in results
    ):
        raise ValueError("its result is no list of regions")
    verdict = next(iter(_chosen(results, "verdict")), "")
    wording = {text: name for name, text in VERDICTS.items()}
    verdict = wording.get(verdict, verdict)
    if verdict not in VERDICTS:
        raise ValueError("has no verdict: neither accepted, fixed nor rejected")
    seconds = annotation.get("lead_time")
    review = Review(
        state="rejected",
        by=by,
        at=utc(annotation.get("updated_at") or annotation.get("created_at")),
        seconds=round(float(seconds), 1) if isinstance(seconds, (int, float)) else None,
        reason=_text(results, "reason"),
    )
    if verdict == "reject":
        return current.model_copy(update={"review": review})
    answer = _answer(base, results)
    regions = _regions(base, results)
    count = len(base.query)
    candidates = tuple(
        c.model_copy(update={"region": region}) for c, region in zip(base.candidates, regions[count:], strict=True)
    )
    rationale = _text(results, "rationale")
    said = {
        "answer": answer,
        "match_types": _match_types(results),
        # the editor trims lines; a rationale that only lost blanks was not changed
        "rationale": base.rationale if (rationale or "") == (base.rationale or "").strip() else rationale,
        "query": _named(base, answer, regions[:count]),
        "candidates": candidates,
    }
    changed = any(getattr(base, name) != value for name, value in said.items())
    if verdict == "fix" and not changed:
        raise ValueError("says that something was fixed, but nothing differs from the proposal")
    review = review.model_copy(update={"state": "fixed" if changed else "accepted", "reason": None})
    return current.model_copy(update={**said, "review": review})


def _chosen(results: Sequence[dict[str, Any]], name: str) -> list[str]:
    found = [r["value"].get("choices") for r in results if r.get("from_name") == name]
    return [str(v) for choices in found if isinstance(choices, list) for v in choices]


def _text(results: Sequence[dict[str, Any]], name: str) -> str | None:
    found = [r["value"].get("text") for r in results if r.get("from_name") == name]
    lines = [str(t) for text in found for t in (text if isinstance(text, list) else [text]) if t]
    return "\n".join(lines).strip() or None


def _answer(base: Case, results: Sequence[dict[str, Any]]) -> int | None:
    chosen = _chosen(results, "answer")
    if not chosen:
        raise ValueError("has no answer")
    offered = dict(zip(format_choices(base.options).split("\n"), base.options, strict=True))
    if len(chosen) > 1 or chosen[0] not in offered:
        raise ValueError(f"its answer {chosen} is not one of the options")
    return offered[chosen[0]].number


def _match_types(results: Sequence[dict[str, Any]]) -> tuple[int, ...]:
    chosen = _chosen(results, "match_types")
    if strange := [text for text in chosen if text not in _TYPES]:
        raise ValueError(f"{strange[0]!r} is no match type")
    return tuple(sorted({_TYPES[text] for text in chosen}))


def _regions(base: Case, results: Sequence[dict[str, Any]]) -> list[Region]:
    """Every object of the case, in the order of ``objects_of``, with the edits of the annotation."""
    labels = {r["id"]: (r["value"].get("labels") or [None])[0] for r in results if r.get("type") == "labels"}
    places = list(objects_of(base))
    drawn: dict[tuple[str, str], list[dict[str, Any]]] = {(f"original{p.image}", p.label): [] for _, p in places}
    for result in results:
        if result.get("type") not in _SHAPES:
            continue
        label, image = labels.get(result.get("id")), str(result.get("to_name"))
        if label is None:
            raise ValueError(f"a {result['type']} on {image} has no object's number")
        if (image, str(label)) not in drawn:
            raise ValueError(
                f"a {result['type']} on the wrong image: {label!r} on {image.replace('original', 'image ')}"
            )
        drawn[image, str(label)].append(result)
    found = []
    for region, place in places:
        name = f"object {place.label!r} of image {place.image}"
        try:
            now = edited(region, place, drawn[f"original{place.image}", place.label])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if now is None:
            if place.label != QUERY or place.image == 1 or region.mask is None:
                raise ValueError(f"{name} has no shape left")
            now = region
        found.append(now)
    return found


def _named(base: Case, answer: int | None, query: Sequence[Region]) -> tuple[Region, ...]:
    """The query under the identity of the candidate that was found to be it."""
    if answer == base.answer:
        return tuple(query)
    tracks = {c.number: c.region.id for c in base.candidates}
    name = tracks[answer] if answer is not None else query[0].id
    while answer is None and name in tracks.values():
        name += "-query"
    return tuple(region.model_copy(update={"id": name}) for region in query)
