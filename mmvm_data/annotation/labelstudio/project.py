"""A project of Label Studio: found or created, its list of tasks made readable, and its images within reach."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator

from mmvm_data.annotation.labelstudio.client import Client, OutcomeUnknown, Project
from mmvm_data.annotation.labelstudio.views import build_view, widen_columns
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError

MODEL_VERSION: Final = "mmvm-data"
"""Model version of the predictions that we push."""

SETTLE_SECONDS: Final = 2.0
"""Time between a request whose outcome is unknown and the look at what it did."""

_MAX_TITLE, _MIN_TITLE = 50, 3
_TAB: Final = "All"
_HIDDEN_DATA: Final = (
    "base",
    "revision",
    "masks",
    "options",
    "numbers",
    "size",
    "question",
    "frames",
    "video",
    *(f"{name}{k}" for k in range(1, 10) for name in ("objects", "original")),
)
_HIDDEN_COLUMNS: Final = (
    "inner_id",
    "annotations_results",
    "annotations_ids",
    "predictions_score",
    "predictions_model_versions",
    "predictions_results",
    "file_upload",
    "storage_filename",
    "completed_at",
    "cancelled_annotations",
    "total_predictions",
    "created_at",
    "updated_at",
    "updated_by",
    "avg_lead_time",
    "draft_exists",
)


def _check_url(images: str) -> str:
    if "://" not in images:
        raise ValueError(f"must be a URL such as https://host/folder or s3://bucket/folder, got {images!r}")
    return images


ImagesUrl = Annotated[str, AfterValidator(_check_url)]
"""What comes before the paths of images, where the server cannot read the folder itself."""


def url_scheme(images: str | None) -> str:
    """The scheme of an ``ImagesUrl`` in lower case, such as "https" or "s3"; "" when the server reads the folder."""
    return urlsplit(images or "").scheme


def make_image_url(
    directory: Path, images: str | None, files_root: Path | None, image_folder: str
) -> Callable[[str], str]:
    """A function from a path relative to ``directory`` to the URL at which the server finds the image.

    Args:
        directory: what is pushed.
        images: what comes before paths; None when the server reads the folder itself.
        files_root: the folder that the server may read; None for the one that holds ``directory``.
        image_folder: the folder of ``directory`` that has the images.

    Raises:
        OptionError: ``directory`` does not lie in ``files_root``.
    """
    if images is not None:
        return lambda path: f"{images.rstrip('/')}/{quote(path)}"
    resolved = directory.resolve()
    root = (files_root or resolved.parent).resolve()
    if not resolved.is_relative_to(root) or resolved / image_folder == root:
        raise OptionError("files_root", f"must be a folder that holds {directory}, got {root}")
    inner = resolved.relative_to(root)
    return lambda path: f"/data/local-files/?d={quote(str(inner / path))}"


def open_project(client: Client, name: str) -> Project:
    """The project of this title or number.

    Raises:
        UsageError: there is none.
    """
    project = client.find_project(name)
    if project is None:
        raise UsageError(f"{client.url}: there is no project {name!r}: it was deleted, or not pushed yet")
    return project


def ensure_project(
    client: Client,
    name: str,
    label_config: str,
    instructions: str = "",
    overlap: int | None = None,
    order_by: str | None = None,
) -> Project:
    """The project of this title or number with this label config, created when there is none of this title.

    Args:
        client: the server.
        name: title or number.
        label_config: XML, see labelstud.io/tags.
        instructions: HTML that people see before they begin. Those of a project that has this label config already
            stay, since somebody may have changed them.
        overlap: how many people get each task; None leaves it as it is.
        order_by: the number in the data of tasks by which a new project lists them, the largest first.

    Raises:
        OptionError: there is no project of this number, or the title is too short.
        ServerError: the server refuses or cannot be reached.
    """
    project = client.find_project(name)
    shown = {"expert_instruction": instructions, "show_instruction": True} if instructions else {}
    shared = {} if overlap is None else {"maximum_annotations": overlap}
    if project is not None:
        settings: dict[str, Any] = {}
        if project.label_config != label_config:
            settings = {"label_config": label_config, "model_version": MODEL_VERSION, **shown}
        if overlap not in (None, project.overlap):
            settings |= shared
        if settings:
            client.update_project(project.id, **settings)
            project = client.find_project(str(project.id)) or project
        widen_columns(client, project, _TAB)
        return project
    if name.isdigit():
        raise OptionError("project", f"must be a project of {client.url}: there is no project {name}")
    if len(name) < _MIN_TITLE:
        raise OptionError("project", f"must have {_MIN_TITLE} characters or more, got {name!r}")
    title = name[:_MAX_TITLE]
    settings = {"show_collab_predictions": True, "model_version": MODEL_VERSION, **shown, **shared}
    try:
        project = client.create_project(title, label_config, **settings)
    except OutcomeUnknown:
        time.sleep(SETTLE_SECONDS)
        project = client.find_project(title) or client.create_project(title, label_config, **settings)
    with contextlib.suppress(OutcomeUnknown):  # one view more or less only changes comfort
        client.create_view(project.id, build_view(_TAB, hidden_columns(), order_by=order_by))
    return project


def hidden_columns() -> list[str]:
    """The columns of the list of tasks that only the pull needs."""
    return [f"tasks:data.{name}" for name in _HIDDEN_DATA] + [f"tasks:{name}" for name in _HIDDEN_COLUMNS]
