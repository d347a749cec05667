"""Answers of models beside the truth, in a FiftyOne data set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from mmvm_data.core.types import Case
from mmvm_data.viz import app_schema
from mmvm_data.viz.predictions import NONE, Runs, Said, chosen, field_of
from mmvm_data.viz.samples import LAST, box_of

BATCH = 250
MARGIN, HEAD = 0.006, 0.055
"""How far the box of a choice lies outside the candidate's, over the image's size, beside and above it: neither boxes
nor labels must hide each other. Twice as far for the second model, and so on."""


def names_of(dataset: Any, info: str) -> dict[str, str]:
    """Field -> name, of the models whose answers are in the data set."""
    return dict(dataset.info.get(info, {}).get("models", {}))


def stored(dataset: Any, names: Mapping[str, str]) -> Runs:
    """The answers that the data set holds."""
    runs: Runs = {}
    view = dataset.select_group_slices(LAST)
    for field, name in names.items():
        rows = zip(*view.values(["case_id", f"{field}.label", f"{field}.letter", f"{field}.text"]), strict=True)
        runs[name] = {case: Said(letter, text or "") for case, label, letter, text in rows if label is not None}
    return runs


def show(
    fo: Any, dataset: Any, runs: Runs, cases: Iterator[Case], ids: Mapping[str, Mapping[str, str]]
) -> dict[str, float]:
    """Write the answers of all models, judged by the records as they are now.

    Args:
        cases: all that are in the data set.
        ids: id of the case -> slice -> id of the sample.

    Returns:
        model -> share of right answers, 0..1, over the cases that it answered.
    """
    fields = {model: field_of(model) for model in runs}
    for model, field in fields.items():
        app_schema.add_model(fo, dataset, model, field)
    right, answered = dict.fromkeys(runs, 0), dict.fromkeys(runs, 0)
    everything = dataset.select_group_slices(_allow_mixed=True)
    while batch := list(itertools.islice(cases, BATCH)):
        values: dict[str, dict[str, Any]] = {}
        for case in batch:
            samples = ids.get(case.id, {})
            truth = NONE if case.answer is None else str(case.answer)
            said = {model: answers.get(case.id) for model, answers in runs.items()}
            labels = {model: chosen(case, one) for model, one in said.items() if one is not None}
            hits = sum(label == truth for label in labels.values())
            common = (hits, len(labels) - hits, len(set(labels.values())) > 1)
            for name, value in zip(app_schema.MODELS, common, strict=True):
                values.setdefault(name, {}).update(dict.fromkeys(samples.values(), value))
            for rank, (model, field) in enumerate(fields.items(), 1):
                one, label = said[model], labels.get(model)
                answer = None
                if one is not None:
                    answered[model] += 1
                    right[model] += label == truth
                    answer = fo.Classification(label=label, correct=label == truth, letter=one.letter, text=one.text)
                values.setdefault(field, {}).update(dict.fromkeys(samples.values(), answer))
                choice = None
                if label is not None and label.isdecimal():
                    verdict = "right" if label == truth else "wrong"
                    box = _wider(box_of(case, int(label)), rank)
                    choice = fo.Detection(label=f"{model}: {label}", bounding_box=box, verdict=verdict)
                if LAST in samples:
                    values.setdefault(app_schema.choice_of(field), {})[samples[LAST]] = choice
        for name, column in values.items():
            everything.set_values(name, column, key_field="id", progress=False)
    return {model: right[model] / answered[model] if answered[model] else 0.0 for model in runs}


def _wider(box: list[float], times: int) -> list[float]:
    x, y, width, height = box
    side, head = times * MARGIN, times * HEAD
    return [x - side, y - head, width + 2 * side, height + head + side]
