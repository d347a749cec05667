"""Tasks of a Label Studio project, as review and ingest make them: each has a name in its data, and a revision by which
a push sees what changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from mmvm_data.annotation.labelstudio.client import Client, Project, Refused, ServerError, Unsure
from mmvm_data.annotation.review.project import MODEL
from mmvm_data.core.errors import UsageError
from mmvm_data.formats import bench

_SETTLE: Final = 2.0  # seconds between two looks at what a lost request did
_HIDDEN: Final = ("base", "revision", "masks", "options", "numbers", "size", *(f"objects{k}" for k in range(1, 10)))
_NOISE: Final = (
    "inner_id",
    "annotations_results",
    "annotations_ids",
    "predictions_score",
    "predictions_model_versions",
    "predictions_results",
    "file_upload",
    "storage_filename",
)
Problem = tuple[str, str]
"""What is left out, and why."""


@dataclass
class Known:
    """A task that is on the server."""

    task: int
    revision: str
    touched: bool


def image_urls(
    directory: Path, images: str | None, files_root: Path | None, folder: str = bench.FOLDER
) -> Callable[[str], str]:
    """Path relative to ``directory`` -> where the server finds the image.

    Args:
        directory: what is pushed.
        images: what comes before paths; None when the server reads the folder itself.
        files_root: the folder that the server may read; None for the one that holds ``directory``.
        folder: the one of ``directory`` that has the images.

    Raises:
        UsageError: ``images`` is no URL, or ``directory`` does not lie in ``files_root``.
    """
    if images is not None:
        if "://" not in images:
            raise UsageError(f"--images {images}: expected a URL such as https://host/folder or s3://bucket/folder")
        return lambda path: f"{images.rstrip('/')}/{quote(path)}"
    whole = directory.resolve()
    root = (files_root or whole.parent).resolve()
    if not whole.is_relative_to(root) or whole / folder == root:
        raise UsageError(f"{directory} does not lie in {root}, the folder that the server reads (--files-root)")
    inner = whole.relative_to(root)
    return lambda path: f"/data/local-files/?d={quote(str(inner / path))}"


def make_project(client: Client, title: str, config: str) -> Project:
    """The project of this title (or number) with this page, made when it is not there.

    Raises:
        UsageError: there is no project of this number, the title is too short, or the server says no.
    """
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
        _hide_columns(client, found)
    elif found.config != config:
        client.send("PATCH", f"/api/projects/{found.id}", {"label_config": config, "model_version": MODEL})
    return found


def _hide_columns(client: Client, project: Project) -> None:
    """Give the list of tasks a first view without the columns that only the way back needs."""
    columns = [f"tasks:data.{name}" for name in _HIDDEN]
    more = [f"tasks:{name}" for name in _NOISE]
    view = {
        "title": "All",
        "type": "list",
        "target": "tasks",
        "hiddenColumns": {"explore": columns + more, "labeling": columns + more},
    }
    client.send("POST", "/api/dm/views", {"project": project.id, "data": view})


def serve_files(client: Client, project: Project, folder: Path) -> None:
    """Let the server read the images: it serves files below the folders of a project's storages only.

    Raises:
        UsageError: it may not read ``folder``.
    """
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


def known_tasks(client: Client, project: int, key: str) -> tuple[dict[str, Known], int]:
    """The tasks that are there, by the name that each has under ``key`` in its data, and how many second copies were
    deleted: of two that nobody touched the later goes."""
    known: dict[str, Known] = {}
    removed = 0
    for task in client.tasks(project, "id,data,total_annotations,cancelled_annotations,draft_exists"):
        name = task["data"].get(key)
        if not isinstance(name, str):
            continue
        now = Known(task["id"], str(task["data"].get("revision")), touched(task))
        before = known.get(name)
        if before is None:
            known[name] = now
            continue
        keep, drop = (before, now) if before.touched or not now.touched else (now, before)
        known[name] = keep
        if not drop.touched:
            client.send("DELETE", f"/api/tasks/{drop.task}")
            removed += 1
    return known, removed


def touched(task: dict[str, Any]) -> bool:
    """Whether people have worked on a task: annotations, skips, drafts."""
    return bool(task["total_annotations"] or task["cancelled_annotations"] or task["draft_exists"])


def renew(client: Client, number: int, task: dict[str, Any]) -> bool:
    """Put what changed into its task, unless somebody has begun to work on it. Its data come last, so that a push
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


def import_tasks(client: Client, project: int, tasks: list[dict[str, Any]], key: str, problems: list[Problem]) -> int:
    """Make tasks; of a batch that is refused, the bad ones are found and named. After a lost answer, what is there is
    looked at first.

    Args:
        key: where a task's data hold its name.
        problems: gets the tasks that the server refuses.

    Returns:
        how many were made.
    """
    if not tasks:
        return 0
    made = 0
    for _ in range(5):
        try:
            client.send("POST", f"/api/projects/{project}/import", tasks, once=True)
            return made + len(tasks)
        except Unsure:
            time.sleep(_SETTLE)
            there = {task["data"].get(key) for task in client.tasks(project, "id,data")}
            left = [task for task in tasks if task["data"][key] not in there]
            made += len(tasks) - len(left)
            tasks = left
            if not tasks:
                return made
        except Refused as error:
            if error.status != 400:
                raise
            if len(tasks) == 1:
                problems.append((tasks[0]["data"][key], str(error)))
                return made
            half = len(tasks) // 2
            return (
                made
                + import_tasks(client, project, tasks[:half], key, problems)
                + import_tasks(client, project, tasks[half:], key, problems)
            )
    raise ServerError(f"{client.url} lost the same {len(tasks)} tasks five times; push again when it is well")
