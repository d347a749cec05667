"""Annotations -> tracks. Every annotation is kept in a history; of several for one shot the latest submitted counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.annotation.labelstudio.history import FOLDER, HISTORY, History, read_tasks
from mmvm_data.annotation.labelstudio.sync import AnnotationReader, Interpret, Problem, PullResult, pull_annotations
from mmvm_data.annotation.tracks.interpret import TrackAnnotation, read_tracks
from mmvm_data.annotation.tracks.layout import iter_shots, tracks_path
from mmvm_data.annotation.tracks.task import NAME_KEY, is_same_shot
from mmvm_data.core.errors import OutputError
from mmvm_data.core.types import Video
from mmvm_data.io.files import atomic_write
from mmvm_data.io.folder_lock import lock_folder


@dataclass
class TrackPullResult(PullResult):
    """What a pull did; see ``PullResult``.

    Attributes:
        notes: shot, and what somebody may want to look at again; of the shots that were written.
    """

    notes: list[Problem] = field(default_factory=list)


def pull(
    directory: Path,
    client: Client | None,
    project: Project | None,
    export: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> TrackPullResult:
    """Write what people drew to ``tracks/<clip>/<shot>.json``.

    An annotation that was written before is not written again unless its file is gone, so what was changed since by
    other means stays.

    Args:
        directory: what ``cut_clips`` wrote.
        client, project: the server, or None with ``export``.
        export: a JSON export of a project instead.
        progress: called with the number of tasks read.

    Raises:
        InputError: a record of a clip, the history or the export cannot be read.
        OutputError: the folder cannot be written.
        UsageError: the server cannot be used.
    """
    shots = dict(iter_shots(directory))
    history = History.read(directory / FOLDER / HISTORY)

    def open_task(name: str, data: dict[str, Any]) -> Interpret[TrackAnnotation]:
        if not name:
            raise ValueError("is of another kind of project: it holds no shot of `ingest push`")
        if name not in shots:
            raise ValueError(f"there is no shot {name!r} in this folder")
        if not is_same_shot(data, shots[name]):
            raise ValueError("the shot was cut again since it was pushed; push again")
        return lambda annotation, author: read_tracks(name, shots[name], annotation.get("result") or [])

    reader = AnnotationReader(
        "shot", NAME_KEY, open_task, must_apply=lambda name, _: not tracks_path(directory, name).exists()
    )
    result = TrackPullResult()
    tasks, users = read_tasks(client, project, export, page_size=20)
    latest = pull_annotations(tasks, users, history, reader, result, progress)
    with lock_folder(directory, "mmvm-data ingest pull"):
        for name in sorted(latest):
            if _write_tracks(tracks_path(directory, name), latest[name].video):
                result.changed.append(name)
                result.notes += [(name, note) for note in latest[name].notes]
        current = History.read(directory / FOLDER / HISTORY)  # another pull may have written it meanwhile
        current.merge(history.added)
        current.write()
    return result


def _write_tracks(path: Path, video: Video) -> bool:
    """Write the tracks of a shot; whether the file became different."""
    text = video.model_dump_json(indent=1) + "\n"
    try:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as out:
            out.write(text)
    except OSError as error:
        raise OutputError(error.filename or path, error) from error
    return True
