"""Cases -> tasks of a Label Studio project. What is on the server decides what is left to do, so a push that was
stopped goes on, and one that is repeated changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mmvm_data.annotation.labelstudio.client import Client, Project
from mmvm_data.annotation.labelstudio.shapes import Editor
from mmvm_data.annotation.labelstudio.tasks import (
    Known,
    Problem,
    image_urls,
    import_tasks,
    known_tasks,
    make_project,
    renew,
    serve_files,
)
from mmvm_data.annotation.review.project import page, task_of
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.formats.tsv import drawn_paths

_BATCH: Final = 100
_BATCH_BYTES: Final = 4_000_000
_KEY: Final = "case_id"


@dataclass
class Pushed:
    """What a push did.

    Attributes:
        project: where the tasks are.
        created, updated, same: tasks that are new, were changed, or were there as they are.
        reviewed: tasks whose case has changed since but that people have worked on; they are left as they are.
        removed: second copies of tasks, left by requests whose answer was lost.
        rejected: rejected cases, for which no task was made.
        problems: case, and why it was left out.
    """

    project: Project
    created: int = 0
    updated: int = 0
    same: int = 0
    reviewed: int = 0
    removed: int = 0
    rejected: int = 0
    problems: list[Problem] = field(default_factory=list)


def push(
    directory: Path,
    client: Client,
    title: str,
    editor: Editor = "polygon",
    images: str | None = None,
    files_root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Pushed:
    """Make or update the project of a benchmark.

    Args:
        directory: a benchmark with cases.jsonl.
        client: the server.
        title: of the project, three characters or more, or the number of one that is there.
        editor: how masks are shown, "polygon" or "brush".
        images: what comes before the paths of images (``https://…`` or ``s3://…``); None when the server reads the
            folder itself (local-file serving).
        files_root: the server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT; None for the folder that holds ``directory``.
        progress: called with (cases done, cases in all).

    Raises:
        InputError: the benchmark cannot be read.
        UsageError: the server cannot be used, or ``directory`` does not lie in ``files_root``.
    """
    of, count, boxes = _survey(directory)
    url = image_urls(directory, images, files_root)
    project = make_project(client, title, page(count, boxes))
    if images is None:
        serve_files(client, project, directory.resolve() / bench.FOLDER)
    result = Pushed(project)
    known, result.removed = known_tasks(client, project.id, _KEY)

    def make(case: Case) -> dict[str, Any]:
        task = task_of(case, url, count, editor)
        if images is None:
            _see_images(directory, case)
        return task

    with ThreadPoolExecutor(1) as sender:  # the next batch is made while the server takes in the last
        sent: Future[int] | None = None
        for batch in _batches(directory, client, known, make, result, progress, of):
            if sent:
                result.created += sent.result()
            sent = sender.submit(import_tasks, client, project.id, batch, _KEY, result.problems)
        if sent:
            result.created += sent.result()
    return result


def _batches(
    directory: Path,
    client: Client,
    known: dict[str, Known],
    make: Callable[[Case], dict[str, Any]],
    result: Pushed,
    progress: Callable[[int, int], None] | None,
    of: int,
) -> Iterator[list[dict[str, Any]]]:
    """The tasks that are missing, in batches; those that are there are brought up to date on the way."""
    batch: list[dict[str, Any]] = []
    size = 0
    for done, case in enumerate(bench.read(directory), start=1):
        there = known.get(case.id)
        try:
            if case.review.state == "rejected" and not there:
                result.rejected += 1
            elif there and there.touched:
                result.reviewed += 1
            else:
                task = make(case)
                if there is None:
                    batch.append(task)
                    size += 4 * len(task["data"]["base"])
                elif there.revision == task["data"]["revision"]:
                    result.same += 1
                elif renew(client, there.task, task):
                    result.updated += 1
                else:
                    result.reviewed += 1
        except InputError as error:
            result.problems.append((case.id, str(error)))
        if len(batch) >= _BATCH or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        if progress:
            progress(done, of)
    if batch:
        yield batch


def _survey(directory: Path) -> tuple[int, int, bool]:
    """Cases, images of the case with the most, and whether there are boxes."""
    cases, images, boxes = 0, 2, False
    for case in bench.read(directory):
        cases += 1
        images, boxes = max(images, len(case.frames)), boxes or case.prompt == "box"
    return cases, images, boxes


def _see_images(directory: Path, case: Case) -> None:
    for path in (*drawn_paths(case), *(frame.path for frame in case.frames)):
        if not (directory / path).is_file():
            raise InputError(path, "image is missing")
