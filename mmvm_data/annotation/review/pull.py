"""Annotations -> cases. Every annotation is kept in a history; of several for one case the latest submitted counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.annotation.labelstudio.history import FOLDER, HISTORY, History, done_of, tasks_of, when, who
from mmvm_data.annotation.review.agreement import agreement
from mmvm_data.annotation.review.verdicts import base_of, judged, same_case
from mmvm_data.core.errors import OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.formats.revisions import revise
from mmvm_data.io.files import atomic_write

AGREEMENT: Final = "agreement.json"


@dataclass
class Pulled:
    """What a pull did.

    Attributes:
        tasks, annotations: seen; skipped: tasks that people passed over.
        changed: ids of the cases that became different.
        kept: annotations that are new in the history.
        several: cases with the annotations of two people or more.
        problems: task, and why its case was left as it is.
    """

    tasks: int = 0
    annotations: int = 0
    skipped: int = 0
    changed: list[str] = field(default_factory=list)
    kept: int = 0
    several: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class _State:
    history: History
    cases: dict[str, Case] = field(default_factory=dict)
    changed: dict[str, tuple[str, Case]] = field(default_factory=dict)
    opinions: dict[str, dict[str, Case]] = field(default_factory=dict)


def pull(
    directory: Path,
    client: Client | None,
    project: Project | None,
    export: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Pulled:
    """Bring annotations into cases.jsonl as a new revision.

    An annotation that was brought before is not brought again, so what was changed since by other means stays.

    Args:
        directory: the benchmark.
        client, project: the server, or None with ``export``.
        export: a JSON export of a project instead (a list of tasks with annotations).
        progress: called with the number of tasks seen.

    Raises:
        InputError: cases.jsonl, the history or the export cannot be read.
        OutputError: the folder cannot be written.
        UsageError: the server cannot be used.
    """
    folder = directory / FOLDER
    state = _State(History.read(folder / HISTORY), cases={case.id: case for case in bench.read(directory)})
    result = Pulled()
    tasks, people = tasks_of(client, project, export, size=100)
    for task in tasks:
        result.tasks += 1
        _take(task, people, state, result)
        if progress:
            progress(result.tasks)
    result.changed = revise(directory, {case: value for case, (_, value) in state.changed.items()})
    several = {case: by for case, by in state.opinions.items() if len(by) > 1}
    result.several, result.kept = len(several), state.history.new
    try:
        state.history.write()
        if several:
            text = json.dumps(agreement(several), indent=1) + "\n"
            path = folder / AGREEMENT
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                with atomic_write(path) as out:
                    out.write(text)
    except OSError as error:
        raise OutputError(error.filename or folder, error) from error
    return result


def _take(task: dict[str, Any], people: dict[int, str], state: _State, result: Pulled) -> None:
    """One task: every annotation to the history, the latest to the case."""
    where = f"task {task.get('id')}"
    done = done_of(task)
    result.annotations += len(done)
    result.skipped += bool(task.get("annotations") and not done)
    if not done:
        return
    data = task.get("data") or {}
    name = data.get("case_id")
    where = f"{where} ({name})" if isinstance(name, str) else where
    base, fault = None, ""
    try:
        base = base_of(data)
        if name not in state.cases:
            raise ValueError(f"there is no case {name!r} in this benchmark")
        if not same_case(base, state.cases[name]):
            raise ValueError("the case was built anew since it was pushed; push again")
    except ValueError as error:
        fault = str(error)
    for annotation in done:
        by, own = who(annotation, people), ""
        last = annotation is done[-1]
        now = None
        if base is not None and not fault:
            try:
                now = judged(base, state.cases[base.id], annotation, by)
                state.opinions.setdefault(base.id, {})[by] = now
            except ValueError as error:
                own = str(error)
        known = state.history.keep(task, name, annotation, by, applied=bool(now) and last)
        if not last:
            continue
        if now is None:
            result.problems.append((where, f"{fault or f'the annotation of {by} {own}'}; the case is left as it is"))
        elif not known:
            before = state.changed.get(now.id)
            if before is None or before[0] <= when(annotation)[0]:  # two tasks of one case
                state.changed[now.id] = (when(annotation)[0], now)
