"""Samples of cases in a FiftyOne data set: read what is stored, write what has changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.viz import case_tags
from mmvm_data.viz.case_labels import LabelEdit, Labels, edit_conflict, record_labels
from mmvm_data.viz.samples import make_sample_fields, record_digest, slice_names


@dataclass(frozen=True)
class StoredCase:
    """The samples of one case in the data set.

    Attributes:
        ids: slice -> id of the sample.
        tags: slice -> tags of the sample.
        digest: of the record that the samples were written from; "" when they are of different records.
        labels: slice -> answer and match types of the sample.
        edits: slice -> what a person edited of these since the sample was written.
        agreed_tags: tags of the record when record and App last agreed.
    """

    ids: dict[str, str]
    tags: dict[str, list[str]]
    digest: str
    agreed_tags: tuple[str, ...]
    labels: dict[str, Labels] = dataclasses.field(default_factory=dict)
    edits: dict[str, LabelEdit] = dataclasses.field(default_factory=dict)


@dataclass
class WriteCounts:
    """Numbers of cases that a load added, updated, or left as they are.

    Attributes:
        replaced_edits: edits of answers and match types that gave way to what the record has now, each with its reason.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    replaced_edits: list[bench.Problem] = dataclasses.field(default_factory=list)


def read_stored_cases(dataset: Any, case_ids: Collection[str] | None = None) -> dict[str, StoredCase]:
    """Return id of the case -> its samples; None: of all cases."""
    from fiftyone import ViewField

    view = dataset.select_group_slices(_allow_mixed=True)
    if case_ids is not None:
        view = view.match(ViewField("case_id").is_in(list(case_ids)))
    names = ["case_id", "group.name", "id", "tags", "made_from", "agreed_tags", "answer", "match_types"]
    names += [name for name in ("agreed_answer", "agreed_match_types") if dataset.has_field(name)]
    stored: dict[str, StoredCase] = {}
    for case_id, slice_name, sample_id, tags, digest, agreed, answer, types, *before in zip(
        *view.values(names), strict=True
    ):
        case = stored.setdefault(case_id, StoredCase({}, {}, digest, tuple(agreed or ())))
        case.ids[slice_name] = sample_id
        case.tags[slice_name] = list(tags or ())
        case.labels[slice_name] = labels = Labels(answer, tuple(types or ()))
        if len(before) == 2 and before[0] is not None:  # written by a version that keeps them
            written = Labels(before[0], tuple(before[1] or ()))
            if labels != written:
                case.edits[slice_name] = LabelEdit(written, labels)
        if digest != case.digest:  # the load that updated it was killed between two images
            stored[case_id] = dataclasses.replace(case, digest="")
    return stored


def write_cases(
    fo: Any, dataset: Any, folder: Path, cases: list[Case], stored: dict[str, StoredCase], counts: WriteCounts
) -> None:
    """Write the samples of the cases whose records have changed.

    Args:
        fo: the library.
        dataset: with its fields, see ``app_schema.add_fields``.
        folder: the benchmark, absolute.
        cases: a few cases; all of their samples are in memory at a time.
        stored: see ``read_stored_cases``.
        counts: increased.
    """
    new_samples, updates = [], []
    for case in cases:
        old = stored.get(case.id)
        is_complete = old is not None and sorted(old.ids) == sorted(slice_names(case))
        if old is not None and is_complete and old.digest == record_digest(case, folder):
            counts.unchanged += 1
            continue
        tags_in_record = case_tags.record_tags(case)
        if old is None:
            counts.added += 1
        else:
            counts.updated += 1
        group = fo.Group()
        fields_by_slice = make_sample_fields(fo, case, folder)
        if old is not None and is_complete:
            conflict = edit_conflict(case, old.edits.values())
            if conflict is not None:
                counts.replaced_edits.append(bench.Problem(f"{case.id}: {conflict[0]}", conflict[1]))
            for name, fields in fields_by_slice.items():
                tags = case_tags.apply_changes(old.tags[name], old.agreed_tags, tags_in_record)
                kept = {} if conflict is not None else _kept_labels(case, old.edits.get(name))
                updates.append((old.ids[name], fields | kept | {"tags": sorted(tags)}))
            continue
        tags = set(tags_in_record)
        if old is not None:  # a group that a killed load left incomplete, or a case with more images than before
            tags_in_app = case_tags.merge_tags(old.agreed_tags, old.tags.values())
            tags = case_tags.apply_changes(tags_in_app, old.agreed_tags, tags_in_record)
            dataset.delete_samples(list(old.ids.values()))
        for name, fields in fields_by_slice.items():
            new_samples.append(fo.Sample(group=group.element(name), tags=sorted(tags), **fields))
    if new_samples:
        for name in sorted({sample.group.name for sample in new_samples} - set(dataset.group_slices)):
            dataset.add_group_slice(name, "image")
        dataset.add_samples(new_samples, expand_schema=False, batcher=False, progress=False)
    if updates:
        fields_by_id = dict(updates)
        view = dataset.select_group_slices(_allow_mixed=True).select(list(fields_by_id))
        for sample in view.iter_samples(autosave=True):
            for name, value in fields_by_id[sample.id].items():
                sample[name] = value


def _kept_labels(case: Case, edit: LabelEdit | None) -> dict[str, Any]:
    """Return the fields that a person edited and that the record has not changed since; no pull has taken them yet."""
    if edit is None:
        return {}
    now = record_labels(case)
    return {
        name: list(after) if isinstance(after, tuple) else after
        for name, before, after, current in zip(Labels._fields, edit.before, edit.after, now, strict=True)
        if before == current != after
    }


def write_tags(dataset: Any, case: StoredCase, tags: Collection[str], agreed_tags: Collection[str]) -> None:
    """Set the tags of all samples of a case, and those that its record has now."""
    for sample in dataset.select_group_slices(_allow_mixed=True).select(list(case.ids.values())):
        sample.tags = sorted(tags)
        sample["agreed_tags"] = sorted(agreed_tags)
        sample.save()
