"""Answers of models beside the ground truth, in a FiftyOne data set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from mmvm_data.core.types import Case
from mmvm_data.formats.predictions import NONE, AnswersByModel, ModelAnswer, model_field, resolve_choice
from mmvm_data.viz import app_schema
from mmvm_data.viz.samples import LAST, candidate_box

BATCH = 250
MARGIN, HEAD = 0.006, 0.055
"""Distance of the box of a choice from the candidate's, over the image's size, beside and above it, so that boxes and
labels do not hide each other. Twice as far for the second model, and so on."""


def stored_models(dataset: Any, info: str) -> dict[str, str]:
    """Return field -> name of the models whose answers are in the data set."""
    return dict(dataset.info.get(info, {}).get("models", {}))


def read_stored_answers(dataset: Any, names: Mapping[str, str]) -> AnswersByModel:
    """Return the answers that the data set holds."""
    answers: AnswersByModel = {}
    view = dataset.select_group_slices(LAST)
    for field, name in names.items():
        rows = zip(*view.values(["case_id", f"{field}.label", f"{field}.letter", f"{field}.text"]), strict=True)
        answers[name] = {
            case: ModelAnswer(letter, text or "") for case, label, letter, text in rows if label is not None
        }
    return answers


def write_answers(
    fo: Any, dataset: Any, answers: AnswersByModel, cases: Iterator[Case], ids: Mapping[str, Mapping[str, str]]
) -> dict[str, float]:
    """Write the answers of all models into the data set, right or wrong by the present records.

    Args:
        cases: all cases in the data set.
        ids: id of the case -> slice -> id of the sample.

    Returns:
        model -> share of right answers, 0..1, over the cases that it answered.
    """
    fields = {model: model_field(model) for model in answers}
    for model, field in fields.items():
        app_schema.add_model(fo, dataset, model, field)
    right, answered = dict.fromkeys(answers, 0), dict.fromkeys(answers, 0)
    all_samples = dataset.select_group_slices(_allow_mixed=True)
    while batch := list(itertools.islice(cases, BATCH)):
        values: dict[str, dict[str, Any]] = {}
        for case in batch:
            samples = ids.get(case.id, {})
            truth = NONE if case.answer is None else str(case.answer)
            of_case = {model: by_case.get(case.id) for model, by_case in answers.items()}
            labels = {model: resolve_choice(case, a) for model, a in of_case.items() if a is not None}
            hits = sum(label == truth for label in labels.values())
            totals = (hits, len(labels) - hits, len(set(labels.values())) > 1)
            for name, value in zip(app_schema.MODELS, totals, strict=True):
                values.setdefault(name, {}).update(dict.fromkeys(samples.values(), value))
            for rank, (model, field) in enumerate(fields.items(), 1):
                answer, label = of_case[model], labels.get(model)
                classification = None
                if answer is not None:
                    answered[model] += 1
                    right[model] += label == truth
                    classification = fo.Classification(
                        label=label, correct=label == truth, letter=answer.letter, text=answer.text
                    )
                values.setdefault(field, {}).update(dict.fromkeys(samples.values(), classification))
                choice = None
                if label is not None and label.isdecimal():
                    verdict = "right" if label == truth else "wrong"
                    box = _enlarge_box(candidate_box(case, int(label)), rank)
                    choice = fo.Detection(label=f"{model}: {label}", bounding_box=box, verdict=verdict)
                if LAST in samples:
                    values.setdefault(app_schema.choice_field(field), {})[samples[LAST]] = choice
        for name, column in values.items():
            all_samples.set_values(name, column, key_field="id", progress=False)
    return {model: right[model] / answered[model] if answered[model] else 0.0 for model in answers}


def _enlarge_box(box: list[float], rank: int) -> list[float]:
    x, y, width, height = box
    side, head = rank * MARGIN, rank * HEAD
    return [x - side, y - head, width + 2 * side, height + head + side]
