"""Shots -> tasks of a Label Studio project; a second push makes what is missing and changes nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.annotation.labelstudio.tasks import (
    Problem,
    image_urls,
    import_tasks,
    known_tasks,
    make_project,
    renew,
    serve_files,
)
from mmvm_data.annotation.tracks.layout import FRAMES, Shot, shots_of
from mmvm_data.annotation.tracks.project import KEY, page, task_of
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io.files import safe_join

_BATCH: Final = 100
MOST_OBJECTS: Final = 200


@dataclass
class Pushed:
    """What a push did.

    Attributes:
        project: where the tasks are.
        created, updated, same: tasks that are new, were changed, or were there as they are.
        worked_on: tasks that would change but that people have worked on; they are left as they are.
        removed: second copies of tasks, left by requests whose answer was lost.
        problems: shot, and why it was left out.
    """

    project: Project
    created: int = 0
    updated: int = 0
    same: int = 0
    worked_on: int = 0
    removed: int = 0
    problems: list[Problem] = field(default_factory=list)


def push(
    directory: Path,
    client: Client,
    title: str,
    objects: int = 20,
    categories: Sequence[str] = (),
    images: str | None = None,
    files_root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Pushed:
    """Make or update the project of a folder of cut clips, one task a shot.

    Args:
        directory: what ``cut`` wrote.
        client: the server.
        title: of the project, three characters or more, or the number of one that is there.
        objects: numbers to choose from, 1..200.
        categories: names to choose from; without any, a category is typed.
        images: what comes before the paths of images; None when the server reads the folder itself.
        files_root: the server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT; None for the folder that holds ``directory``.
        progress: called with (shots done, shots in all).

    Raises:
        InputError: nothing was cut here, or a record is broken.
        UsageError: the server cannot be used, or ``directory`` does not lie in ``files_root``.
    """
    if not 1 <= objects <= MOST_OBJECTS:
        raise UsageError(f"--objects {objects}: expected 1 to {MOST_OBJECTS}")
    shots = list(shots_of(directory))
    url = image_urls(directory, images, files_root, FRAMES)
    project = make_project(client, title, page(objects, categories))
    if images is None:
        serve_files(client, project, directory.resolve() / FRAMES)
    result = Pushed(project)
    known, result.removed = known_tasks(client, project.id, KEY)
    batch: list[dict[str, Any]] = []
    for done, (name, shot) in enumerate(shots, start=1):
        there = known.get(name)
        try:
            if images is None:
                _see_images(directory, shot)
            task = task_of(name, shot, url)
            if there is None:
                batch.append(task)
            elif there.revision == task["data"]["revision"]:
                result.same += 1
            elif not there.touched and renew(client, there.task, task | {"predictions": []}):
                result.updated += 1
            else:
                result.worked_on += 1
        except InputError as error:
            result.problems.append((name, str(error)))
        if len(batch) >= _BATCH:
            result.created += import_tasks(client, project.id, batch, KEY, result.problems)
            batch = []
        if progress:
            progress(done, len(shots))
    if batch:
        result.created += import_tasks(client, project.id, batch, KEY, result.problems)
    return result


def _see_images(directory: Path, shot: Shot) -> None:
    for frame in shot.frames:
        if not safe_join(directory, frame.path, frame.path).is_file():
            raise InputError(frame.path, "image is missing")
