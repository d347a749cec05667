"""Annotations -> cases. Every annotation is kept in a history; of several for one case the latest submitted counts.

Where several people get each case (``plan``), an annotation counts once they agree or somebody decides (``consensus``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.annotation.labelstudio.history import (
    FOLDER,
    HISTORY,
    History,
    annotation_key,
    read_tasks,
    timestamp,
)
from mmvm_data.annotation.labelstudio.sync import (
    AnnotationReader,
    Interpret,
    Problem,
    PullResult,
    ReadAnnotation,
    choose_latest,
    pull_annotations,
)
from mmvm_data.annotation.review.agreement import measure_agreement, measure_annotators
from mmvm_data.annotation.review.consensus import Opinion, Verdict, decide
from mmvm_data.annotation.review.derived import Derived, DerivedFields
from mmvm_data.annotation.review.interpret import (
    apply_annotation,
    is_rationale_left,
    is_same_case,
    parse_base_case,
    typed_rationale,
)
from mmvm_data.annotation.review.plan import read_plan
from mmvm_data.annotation.review.task import NAME_KEY
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case, Review
from mmvm_data.formats import bench
from mmvm_data.formats.disputes import AGREEMENT
from mmvm_data.formats.import_bench import import_benchmark
from mmvm_data.formats.revisions import Edit, check_drawable, open_revision
from mmvm_data.io.files import atomic_write

COMMAND: Final = "mmvm-data review pull"
_BUILT_AGAIN: Final = "the case was built again since it was pushed; push again"


@dataclass
class ReviewPullResult(PullResult):
    """What a pull did; see ``PullResult``.

    Attributes:
        shared: number of cases that two people or more have annotated.
        waiting: number of cases that fewer people have annotated than the plan asks for.
        disputed: case, and the fields that its people disagree about.
        golden: by person, how many golden cases were annotated, and how many rightly.
        notes: case, and what became of its cues or its rationale, or why they need a second look.
    """

    shared: int = 0
    waiting: int = 0
    disputed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    golden: dict[str, dict[str, float | int]] = field(default_factory=dict)
    notes: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class _Reviewed:
    """An annotation of a case.

    Attributes:
        base: the case as the person saw it.
        annotation: as the server gives it.
        author: of the annotation.
        case: the record that was read before, after the annotation.
    """

    base: Case
    annotation: dict[str, Any]
    author: str
    case: Case

    def apply(self, current: Case) -> Case:
        """Return the record as it is now, after the annotation."""
        return apply_annotation(self.base, current, self.annotation, self.author)


def pull(
    directory: Path,
    client: Client | None,
    project: Project | None,
    export: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> ReviewPullResult:
    """Apply annotations to cases.jsonl, as a new revision.

    An annotation that was applied before is not applied again, so what was changed since by other means stays; unless
    the record shows no verdict or an older one, so that a verdict that was lost comes back.

    The benchmark is locked while it is written, not while the server is read. What other commands have written
    meanwhile is kept: only the fields that a person sets are changed.

    Args:
        directory: the benchmark; one in the published layout is imported first.
        client, project: the server, or None with ``export``.
        export: a JSON export of a project instead (a list of tasks with annotations).
        progress: called with the number of tasks read.

    Raises:
        InputError: cases.jsonl, the history or the export cannot be read.
        OutputError: the folder cannot be written.
        UsageError: the server cannot be used, or another command writes to the benchmark and does not end.
    """
    import_benchmark(directory, COMMAND)
    history = History.read(directory / FOLDER / HISTORY)
    cases = {case.id: case for case in bench.read(directory)}
    opinions: dict[str, dict[str, Case]] = {}
    derived = DerivedFields(directory)
    plan = read_plan(directory)
    overlap = max(plan.overlap, project.overlap if project else 1)
    golden = {name: cases[name].answer for name in plan.golden if name in cases}
    verdicts: dict[str, Verdict[ReadAnnotation[_Reviewed]]] = {}

    def choose(name: str, read: Sequence[ReadAnnotation[_Reviewed]]) -> ReadAnnotation[_Reviewed] | None:
        if name in golden:
            return None
        if overlap == 1:
            return choose_latest(name, read)
        verdict = verdicts[name] = decide(
            [_to_opinion(entry, entry.reading) for entry in read if entry.reading is not None],
            overlap,
            plan.adjudicators,
        )
        return verdict.final.source if verdict.final else None

    def open_task(name: str, data: dict[str, Any]) -> Interpret[_Reviewed]:
        base = parse_base_case(data)
        if name not in cases:
            raise ValueError(f"there is no case {name!r} in this benchmark")
        if not is_same_case(base, cases[name]):
            raise ValueError(_BUILT_AGAIN)

        def interpret(annotation: dict[str, Any], author: str) -> _Reviewed:
            case = apply_annotation(base, cases[name], annotation, author)
            if author not in plan.adjudicators:
                opinions.setdefault(name, {})[author] = case
            return _Reviewed(base, annotation, author, case)

        return interpret

    applied = _AppliedReviews(history)
    result = ReviewPullResult()
    tasks, users = read_tasks(client, project, export, page_size=100)
    reader = AnnotationReader(
        "case",
        NAME_KEY,
        open_task,
        reads_all=True,
        must_apply=lambda name, reviewed: applied.is_lost(cases[name], reviewed.case.review),
        choose=choose,
    )
    latest = pull_annotations(tasks, users, history, reader, result, progress)
    for name, reviewed in latest.items():  # what takes time is done before the benchmark is locked
        _apply(reviewed, cases[name], derived)
    _write(directory, history, latest, derived, result)
    shared = {name: by_person for name, by_person in opinions.items() if len(by_person) > 1 and name not in golden}
    result.shared = len(shared)
    result.waiting = sum(verdict.missing > 0 for verdict in verdicts.values())
    result.disputed = {n: v.disputed for n, v in sorted(verdicts.items()) if v.disputed and not v.missing}
    result.golden = measure_annotators(opinions, golden)
    if shared or result.golden or verdicts:
        report = measure_agreement(shared)
        if verdicts:
            report |= {"overlap": overlap, "waiting": result.waiting}
            report["adjudicate"] = {name: _describe_dispute(verdicts[name]) for name in result.disputed}
        if result.golden:
            report["golden"] = result.golden
        _write_if_changed(directory / AGREEMENT, json.dumps(report, indent=1) + "\n")
    return result


def _to_opinion(entry: ReadAnnotation[_Reviewed], reviewed: _Reviewed) -> Opinion[ReadAnnotation[_Reviewed]]:
    is_decision = entry.annotation.get("ground_truth") is True
    return Opinion(entry.by, timestamp(entry.annotation), reviewed.case, is_decision, entry)


def _describe_dispute(verdict: Verdict[ReadAnnotation[_Reviewed]]) -> dict[str, Any]:
    """What adjudicators need to know of a case: the fields in dispute, and what each person said about it."""
    people = {
        opinion.by: {
            "annotation": opinion.source.annotation.get("id"),
            "verdict": opinion.case.review.state,
            "answer": opinion.case.answer,
            "match_types": list(opinion.case.match_types),
        }
        for opinion in verdict.opinions
    }
    return {"fields": list(verdict.disputed), "people": people}


def _write(
    directory: Path, read: History, latest: dict[str, _Reviewed], derived: DerivedFields, result: ReviewPullResult
) -> None:
    """Write the annotations and what they change in one step, against the records and the history as they are now."""
    notes: dict[str, tuple[str, ...]] = {}
    not_applied: dict[str, Problem] = {}
    with open_revision(directory, COMMAND) as revision:
        history = History.read(read.path)
        applied = _AppliedReviews(history)

        def make_edit(reviewed: _Reviewed) -> Edit:
            key = annotation_key(reviewed.annotation)

            def edit(current: Case) -> Case:
                review = reviewed.case.review
                if not is_same_case(reviewed.base, current):
                    not_applied[key] = current.id, f"{_BUILT_AGAIN}; the case is left as it is"
                    return current
                was_applied = key in history.entries and history.entries[key]["applied"]
                if (was_applied and not applied.is_lost(current, review)) or applied.is_newer(current, review):
                    return current  # another pull was faster
                case, of_case = _apply(reviewed, current, derived)
                try:
                    check_drawable(case, current, directory)
                except InputError as error:
                    reason = f"{error}; the case is left as it is, and the next pull tries again"
                    not_applied[key] = current.id, reason
                    return current
                notes[current.id] = of_case
                return case

            return edit

        edits = {name: make_edit(reviewed) for name, reviewed in latest.items()}
        merged = History(history.path, dict(history.entries))
        merged.merge(read.added)
        name = f"{FOLDER}/{HISTORY}"
        result.changed = revision.write(edits, lambda: {name: _history_text(merged, not_applied)} if merged.new else {})
    result.notes = [(name, note) for name in result.changed for note in notes.get(name, ())]
    result.problems += not_applied.values()


def _history_text(history: History, not_applied: Container[str]) -> str:
    """The content of the history, in which annotations of ``not_applied`` count as not applied."""
    for key, entry in history.added.items():
        if key in not_applied:
            history.entries[key] = entry | {"applied": False}
    return history.to_text()


def _apply(reviewed: _Reviewed, current: Case, derived: DerivedFields) -> Derived:
    """The record after an annotation, with cues and rationale that agree with it or are marked."""
    after = reviewed.apply(current)
    if after.review.state in ("rejected", "unsure"):
        return Derived(after, ())
    is_typed = not is_rationale_left(reviewed.base, typed_rationale(reviewed.annotation))
    return derived.update(reviewed.base, current, after, is_typed)


class _AppliedReviews:
    """The reviews that a history says were applied, to tell whether a record still shows them."""

    def __init__(self, history: History) -> None:
        self._reviews: dict[str, set[tuple[Any, Any]]] = {}
        for entry in history.entries.values():
            if entry["applied"]:
                self._reviews.setdefault(str(entry.get("case")), set()).add((entry.get("by"), entry.get("at")))

    def is_lost(self, current: Case, review: Review) -> bool:
        """Whether a record shows no review, or that of an older annotation, where it should show this one."""
        return current.review.state == "proposed" or self._order(current, review) < 0

    def is_newer(self, current: Case, review: Review) -> bool:
        """Whether a record shows the review of a newer annotation than this one."""
        return self._order(current, review) > 0

    def _order(self, current: Case, review: Review) -> int:
        """-1, 0, 1: the record shows an older annotation, none that is known or this one, a newer one."""
        shown = current.review
        if shown.at is None or review.at is None or (shown.by, shown.at) not in self._reviews.get(current.id, ()):
            return 0
        return (shown.at > review.at) - (shown.at < review.at)


def _write_if_changed(path: Path, text: str) -> None:
    try:
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            with atomic_write(path) as out:
                out.write(text)
    except OSError as error:
        raise OutputError(error.filename or path, error) from error
