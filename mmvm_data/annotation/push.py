"""Cases -> tasks of a Label Studio project. What is on the server decides what is left to do, so a push that was
stopped goes on, and one that is repeated changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from mmvm_data.annotation.client import Client, Project, Refused, ServerError, Unsure
from mmvm_data.annotation.project import MODEL, page, task_of
from mmvm_data.annotation.shapes import Editor
from mmvm_data.errors import InputError, UsageError
from mmvm_data.formats import bench
from mmvm_data.formats.tsv import drawn_paths
from mmvm_data.types import Case

_BATCH: Final = 100
_BATCH_BYTES: Final = 4_000_000
_SETTLE: Final = 2.0  # seconds between two looks at what a lost request did
Problem = tuple[str, str]


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


@dataclass
class _Known:
    """A task that is on the server."""

    task: int
    revision: str
    touched: bool


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
    url = _urls(directory, images, files_root)
    project = _project(client, title, page(count, boxes))
    if images is None:
        _serve_files(client, project, directory.resolve() / bench.FOLDER)
    result = Pushed(project)
    known = _known(client, project.id, result)

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
            sent = sender.submit(_import, client, project.id, batch, result)
        if sent:
            result.created += sent.result()
    return result


def _batches(
    directory: Path,
    client: Client,
    known: dict[str, _Known],
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
                elif _renew(client, there.task, task):
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


def _urls(directory: Path, images: str | None, files_root: Path | None) -> Callable[[str], str]:
    if images is not None:
        if "://" not in images:
            raise UsageError(f"--images {images}: expected a URL such as https://host/folder or s3://bucket/folder")
        return lambda path: f"{images.rstrip('/')}/{quote(path)}"
    whole = directory.resolve()
    root = (files_root or whole.parent).resolve()
    if not whole.is_relative_to(root) or whole / bench.FOLDER == root:
        raise UsageError(f"{directory} does not lie in {root}, the folder that the server reads (--files-root)")
    inner = whole.relative_to(root)
    return lambda path: f"/data/local-files/?d={quote(str(inner / path))}"


def _project(client: Client, title: str, config: str) -> Project:
    found = client.project(title)
    if found is None:
        if title.isdigit():
            raise UsageError(f"{client.url}: there is no project {title}")
        if len(title) < 3:
            raise UsageError(f"--project {title!r}: titles have three characters or more")
        settings = {
            "title": title[:50],
            "label_config": config,
            "show_collab_predictions": True,
            "model_version": MODEL,
        }
        try:
            client.send("POST", "/api/projects", settings, once=True)
        except Unsure:
            time.sleep(_SETTLE)
        found = client.project(title[:50]) or Project(
            client.send("POST", "/api/projects", settings)["id"], title, config
        )
    elif found.config != config:
        client.send("PATCH", f"/api/projects/{found.id}", {"label_config": config, "model_version": MODEL})
    return found


def _serve_files(client: Client, project: Project, folder: Path) -> None:
    """Let the server read the images: it serves files below the folders of a project's storages only."""
    for storage in client.get("/api/storages/localfiles", project=project.id):
        if storage["path"] == str(folder):
            return
    body = {"project": project.id, "path": str(folder), "title": "images", "use_blob_urls": True}
    try:
        client.send("POST", "/api/storages/localfiles", body)
    except Refused as error:
        raise UsageError(
            f"{error}. The server must be started with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
            f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT above {folder}, or give --images URL"
        ) from error


def _see_images(directory: Path, case: Case) -> None:
    for path in (*drawn_paths(case), *(frame.path for frame in case.frames)):
        if not (directory / path).is_file():
            raise InputError(path, "image is missing")


def _known(client: Client, project: int, result: Pushed) -> dict[str, _Known]:
    """The tasks that are there, by case. Of two that nobody touched the later goes."""
    known: dict[str, _Known] = {}
    for task in client.tasks(project, "id,data,total_annotations,cancelled_annotations,draft_exists"):
        case = task["data"].get("case_id")
        if not isinstance(case, str):
            continue
        now = _Known(task["id"], str(task["data"].get("revision")), _touched(task))
        before = known.get(case)
        if before is None:
            known[case] = now
            continue
        keep, drop = (before, now) if before.touched or not now.touched else (now, before)
        known[case] = keep
        if not drop.touched:
            client.send("DELETE", f"/api/tasks/{drop.task}")
            result.removed += 1
    return known


def _touched(task: dict[str, Any]) -> bool:
    """Whether people have worked on a task: annotations, skips, drafts."""
    return bool(task["total_annotations"] or task["cancelled_annotations"] or task["draft_exists"])


def _renew(client: Client, number: int, task: dict[str, Any]) -> bool:
    """Put a changed case into its task, unless somebody has begun to work on it. Its data come last, so that a push
    that is stopped in between does it again."""
    now = client.get(f"/api/tasks/{number}")
    if now["annotations"] or now["drafts"]:
        return False
    for old in now["predictions"]:
        client.send("DELETE", f"/api/predictions/{old['id']}")
    for new in task["predictions"]:
        client.send("POST", "/api/predictions", new | {"task": number})
    client.send("PATCH", f"/api/tasks/{number}", {"data": task["data"]})
    return True


def _import(client: Client, project: int, tasks: list[dict[str, Any]], result: Pushed) -> int:
    """Make tasks; of a batch that is refused, the bad ones are found and named. After a lost answer, what is there is
    looked at first."""
    if not tasks:
        return 0
    made = 0
    for _ in range(5):
        try:
            client.send("POST", f"/api/projects/{project}/import", tasks, once=True)
            return made + len(tasks)
        except Unsure:
            time.sleep(_SETTLE)
            there = {task["data"].get("case_id") for task in client.tasks(project, "id,data")}
            left = [task for task in tasks if task["data"]["case_id"] not in there]
            made += len(tasks) - len(left)
            tasks = left
            if not tasks:
                return made
        except Refused as error:
            if error.status != 400:
                raise
            if len(tasks) == 1:
                result.problems.append((tasks[0]["data"]["case_id"], str(error)))
                return made
            half = len(tasks) // 2
            return (
                made + _import(client, project, tasks[:half], result) + _import(client, project, tasks[half:], result)
            )
    raise ServerError(f"{client.url} lost the same {len(tasks)} tasks five times; push again when it is well")
