"""Annotations -> tracks. Every annotation is kept in a history; of several for one shot the latest submitted counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.annotation.labelstudio.history import FOLDER, HISTORY, History, done_of, tasks_of, when, who
from mmvm_data.annotation.labelstudio.tasks import Problem
from mmvm_data.annotation.tracks.drawn import Drawn, tracks_of
from mmvm_data.annotation.tracks.layout import Shot, shots_of, tracks_file
from mmvm_data.annotation.tracks.project import KEY, same_shot
from mmvm_data.core.errors import OutputError
from mmvm_data.io.files import atomic_write


@dataclass
class Pulled:
    """What a pull did.

    Attributes:
        tasks, annotations: seen; skipped: tasks that people passed over.
        changed: shots whose tracks were written.
        kept: annotations that are new in the history.
        notes: shot, and what somebody may want to look at again; of the shots that were written.
        problems: task, and why its shot was left as it is.
    """

    tasks: int = 0
    annotations: int = 0
    skipped: int = 0
    changed: list[str] = field(default_factory=list)
    kept: int = 0
    notes: list[Problem] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def pull(
    directory: Path,
    client: Client | None,
    project: Project | None,
    export: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Pulled:
    """Bring what people drew into ``tracks/<clip>/<shot>.json``.

    An annotation that was brought before is not brought again unless its file is gone, so what was changed since
    by other means stays.

    Args:
        directory: what ``cut`` wrote.
        client, project: the server, or None with ``export``.
        export: a JSON export of a project instead.
        progress: called with the number of tasks seen.

    Raises:
        InputError: a record of a clip, the history or the export cannot be read.
        OutputError: the folder cannot be written.
        UsageError: the server cannot be used.
    """
    shots = dict(shots_of(directory))
    history = History.read(directory / FOLDER / HISTORY)
    result = Pulled()
    tasks, people = tasks_of(client, project, export, size=20)
    latest: dict[str, tuple[tuple[str, int], Drawn]] = {}
    for task in tasks:
        result.tasks += 1
        _take(directory, task, shots, people, history, latest, result)
        if progress:
            progress(result.tasks)
    for name in sorted(latest):
        drawn = latest[name][1]
        if _write(directory, name, drawn):
            result.changed.append(name)
            result.notes += [(name, note) for note in drawn.notes]
    result.kept = history.new
    history.write()
    return result


def _take(
    directory: Path,
    task: dict[str, Any],
    shots: dict[str, Shot],
    people: dict[int, str],
    history: History,
    latest: dict[str, tuple[tuple[str, int], Drawn]],
    result: Pulled,
) -> None:
    """One task: every annotation to the history, the latest to the tracks."""
    done = done_of(task)
    result.annotations += len(done)
    result.skipped += bool(task.get("annotations") and not done)
    if not done:
        return
    data = task.get("data") or {}
    name = str(data.get(KEY, ""))
    shot, fault = shots.get(name), ""
    if not name:
        fault = "is of another kind of project: it holds no shot of `ingest push`"
    elif shot is None:
        fault = f"there is no shot {name!r} in this folder"
    elif not same_shot(data, shot):
        fault = "the shot was cut anew since it was pushed; push again"
    where = f"task {task.get('id')}" + (f" ({name})" if name else "")
    for annotation in done:
        by, last, now = who(annotation, people), annotation is done[-1], None
        if last and not fault and shot is not None:
            try:
                now = tracks_of(name, shot, annotation.get("result") or [])
            except ValueError as error:
                fault = f"the annotation of {by} {error}"
        known = history.keep(task, name, annotation, by, applied=now is not None, what="shot")
        if not last:
            continue
        if now is None:
            result.problems.append((where, f"{fault}; the shot is left as it is"))
        elif not known or not tracks_file(directory, name).exists():
            before = latest.get(name)
            if before is None or before[0] <= when(annotation):  # two tasks of one shot
                latest[name] = when(annotation), now


def _write(directory: Path, name: str, drawn: Drawn) -> bool:
    """Write the tracks of a shot; whether the file became different."""
    path = tracks_file(directory, name)
    text = drawn.video.model_dump_json(indent=1) + "\n"
    try:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as out:
            out.write(text)
    except OSError as error:
        raise OutputError(error.filename or path, error) from error
    return True
