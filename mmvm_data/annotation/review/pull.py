"""Annotations -> cases. Every annotation is kept in a history; of several for one case the latest submitted counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.annotation.labelstudio.history import FOLDER, HISTORY, History, read_tasks
from mmvm_data.annotation.labelstudio.sync import AnnotationReader, Interpret, PullResult, pull_annotations
from mmvm_data.annotation.review.agreement import measure_agreement
from mmvm_data.annotation.review.interpret import apply_annotation, is_same_case, parse_base_case
from mmvm_data.annotation.review.task import NAME_KEY
from mmvm_data.core.errors import OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.formats.revisions import revise
from mmvm_data.io.files import atomic_write

AGREEMENT: Final = "agreement.json"


@dataclass
class ReviewPullResult(PullResult):
    """What a pull did; see ``PullResult``.

    Attributes:
        shared: number of cases that two people or more have annotated.
    """

    shared: int = 0


def pull(
    directory: Path,
    client: Client | None,
    project: Project | None,
    export: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> ReviewPullResult:
    """Apply annotations to cases.jsonl, as a new revision.

    An annotation that was applied before is not applied again, so what was changed since by other means stays.

    Args:
        directory: the benchmark.
        client, project: the server, or None with ``export``.
        export: a JSON export of a project instead (a list of tasks with annotations).
        progress: called with the number of tasks read.

    Raises:
        InputError: cases.jsonl, the history or the export cannot be read.
        OutputError: the folder cannot be written.
        UsageError: the server cannot be used.
    """
    history = History.read(directory / FOLDER / HISTORY)
    cases = {case.id: case for case in bench.read(directory)}
    opinions: dict[str, dict[str, Case]] = {}

    def open_task(name: str, data: dict[str, Any]) -> Interpret[Case]:
        base = parse_base_case(data)
        if name not in cases:
            raise ValueError(f"there is no case {name!r} in this benchmark")
        if not is_same_case(base, cases[name]):
            raise ValueError("the case was built again since it was pushed; push again")

        def interpret(annotation: dict[str, Any], author: str) -> Case:
            case = apply_annotation(base, cases[name], annotation, author)
            opinions.setdefault(name, {})[author] = case
            return case

        return interpret

    result = ReviewPullResult()
    tasks, users = read_tasks(client, project, export, page_size=100)
    reader = AnnotationReader("case", NAME_KEY, open_task, reads_all=True)
    latest = pull_annotations(tasks, users, history, reader, result, progress)
    result.changed = revise(directory, latest)
    shared = {name: by_person for name, by_person in opinions.items() if len(by_person) > 1}
    result.shared = len(shared)
    history.write()
    if shared:
        _write_if_changed(directory / FOLDER / AGREEMENT, json.dumps(measure_agreement(shared), indent=1) + "\n")
    return result


def _write_if_changed(path: Path, text: str) -> None:
    try:
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            with atomic_write(path) as out:
                out.write(text)
    except OSError as error:
        raise OutputError(error.filename or path, error) from error
