"""What people and audits found about cases, as fields of a FiftyOne data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmvm_data.core.errors import InputError
from mmvm_data.formats.disputes import read_queue
from mmvm_data.io.json_files import read_json_file

DISPUTED, NEAR_DUPLICATES, LEAKS = FINDINGS = ("disputed", "near_duplicates", "leaks")
"""Fields: what annotators disagree about; cases that share an image or the question; what is in the other set too."""


@dataclass
class AuditFindings:
    """Pairs of an audit.

    Attributes:
        near_duplicates: id of a case -> other cases with a near image, or with the same question.
        leaks: id of a case -> cases of the other set with a near image.
        leaked_videos: "source video" of the videos that the other set has too.
    """

    near_duplicates: dict[str, set[str]] = field(default_factory=dict)
    leaks: dict[str, set[str]] = field(default_factory=dict)
    leaked_videos: set[str] = field(default_factory=set)


def read_audit(path: Path) -> AuditFindings:
    """Return the pairs in a file that ``mmvm-data audit --json`` printed.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    report, findings = read_json_file(path), AuditFindings()
    try:
        groups = [list(map(_name, group)) for group in report["repeated_cases"]]
        groups += [list(map(_name, pair["cases"])) for pair in (report["near_duplicates"] or {"pairs": []})["pairs"]]
        leak = report["leak"] or {"videos": [], "frames": None}
        leaks = [map(_name, pair["cases"]) for pair in (leak["frames"] or {"pairs": []})["pairs"]]
        for group in groups:
            for case in group:
                findings.near_duplicates.setdefault(case, set()).update({*group} - {case})
        for own, other in leaks:
            findings.leaks.setdefault(own, set()).add(other)
        findings.leaked_videos = set(map(_name, leak["videos"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, "expected what `mmvm-data audit --json` prints") from error
    return findings


def _name(value: object) -> str:
    """Return a name; a ValueError for one that no database can store."""
    name = str(value)
    name.encode()
    return name


def add_fields(fo: Any, dataset: Any) -> None:
    """Declare the fields that do not exist yet."""
    meanings = (
        "what annotators disagree about: verdict, answer, match_types, masks",
        "cases with a near image or the same question, of the last --audit",
        "cases and videos of the other set that are the same, of the last --audit",
    )
    known = dataset.get_field_schema()
    for name, meaning in zip(FINDINGS, meanings, strict=True):
        if name not in known:
            dataset.add_sample_field(name, fo.ListField, subfield=fo.StringField, description=meaning)


def write_findings(
    dataset: Any, folder: Path, ids: Mapping[str, Mapping[str, str]], audit: AuditFindings | None
) -> None:
    """Write what annotators disagreed about at the last pull, and the pairs of an audit; None keeps those of before.

    Args:
        dataset: with its fields.
        folder: the benchmark.
        ids: id of the case -> slice -> id of the sample.
        audit: of the benchmark.

    Raises:
        InputError: ``annotation/agreement.json`` cannot be read.
    """
    disputes = {dispute.case: list(dispute.fields) for dispute in read_queue(folder)}
    view = dataset.select_group_slices(_allow_mixed=True)
    _set_values(view, DISPUTED, ids, disputes)
    if audit is None:
        return
    leaks = {case: set(others) for case, others in audit.leaks.items()}
    for case, source, video in zip(*view.values(["case_id", "source", "video"]), strict=True):
        if f"{source} {video}" in audit.leaked_videos:
            leaks.setdefault(case, set()).add(f"{source} {video}")
    _set_values(view, NEAR_DUPLICATES, ids, {case: sorted(others) for case, others in audit.near_duplicates.items()})
    _set_values(view, LEAKS, ids, {case: sorted(others) for case, others in leaks.items()})


def saved_views(fo: Any, dataset: Any) -> dict[str, tuple[Any, str]]:
    """Return the name of each view of findings -> the view, and its description."""
    field = fo.ViewField
    leaks = dataset.match(field(LEAKS).length() > 0)
    order = dataset.match(field(NEAR_DUPLICATES).length() > 0).sort_by(NEAR_DUPLICATES)
    return {
        "annotators disagree": (dataset.match(field(DISPUTED).length() > 0), "at the last review pull"),
        "near-duplicates": (order, "cases that share an image or the question with another, of the last --audit"),
        "leakage": (leaks, "images and videos of the other set, of the last --audit"),
    }


def _set_values(view: Any, name: str, ids: Mapping[str, Mapping[str, str]], values: Mapping[str, list[str]]) -> None:
    column = {sample: values.get(case, []) for case, samples in ids.items() for sample in samples.values()}
    view.set_values(name, column, key_field="id", progress=False)
