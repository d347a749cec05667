"""Cases -> tasks of a Label Studio project; see ``labelstudio.sync`` for how a push is resumed and repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmvm_data.annotation.labelstudio.client import Client
from mmvm_data.annotation.labelstudio.project import ImagesUrl, ensure_project, make_image_url, serve_images
from mmvm_data.annotation.labelstudio.shapes import Editor
from mmvm_data.annotation.labelstudio.sync import PushResult, push_tasks
from mmvm_data.annotation.review.task import NAME_KEY, build_label_config, build_task
from mmvm_data.core.options import options
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.formats.case_images import check_orientation
from mmvm_data.formats.tsv import drawn_paths
from mmvm_data.io.checked_images import read_frame_image
from mmvm_data.io.files import path_kind


@options
class ReviewPushOptions:
    """How cases are shown on the server.

    Attributes:
        editor: how masks are shown, "polygon" or "brush".
        images: what comes before the paths of images (``https://…`` or ``s3://…``); None when the server reads the
            folder itself (local-file serving).
        files_root: the server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT; None for the folder that holds the benchmark.
    """

    editor: Editor = "polygon"
    images: ImagesUrl | None = None
    files_root: Path | None = None


def push(
    directory: Path,
    client: Client,
    project: str,
    options: ReviewPushOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PushResult:
    """Create or update the project of a benchmark.

    Rejected cases get no task (``skipped``).

    Args:
        directory: a benchmark with cases.jsonl.
        client: the server.
        project: title of the project, three characters or more, or the number of one that exists.
        options: how cases are shown.
        progress: called with (cases done, cases in all).

    Raises:
        InputError: the benchmark cannot be read.
        UsageError: the server cannot be used, or ``directory`` does not lie in ``files_root``.
    """
    options = options or ReviewPushOptions()
    total, num_images, has_boxes = _survey_cases(directory)
    image_url = make_image_url(directory, options.images, options.files_root, bench.FOLDER)
    server_project = ensure_project(client, project, build_label_config(num_images, has_boxes))
    is_local = options.images is None
    if is_local:
        serve_images(client, server_project, directory.resolve() / bench.FOLDER)

    def build(case: Case) -> dict[str, Any]:
        task = build_task(case, image_url, num_images, options.editor)
        _check_images(directory, case, is_local)
        return task

    return push_tasks(
        client,
        server_project,
        NAME_KEY,
        ((case.id, case) for case in bench.read(directory)),
        build,
        is_wanted=lambda case: case.review.state != "rejected",
        progress=None if progress is None else lambda done: progress(done, total),
    )


def _survey_cases(directory: Path) -> tuple[int, int, bool]:
    """Number of cases, number of images of the case with the most, and whether there are boxes."""
    cases, images, boxes = 0, 2, False
    for case in bench.read(directory):
        cases += 1
        images, boxes = max(images, len(case.frames)), boxes or case.prompt == "box"
    return cases, images, boxes


def _check_images(directory: Path, case: Case, is_local: bool = True) -> None:
    """Check the images that the server shows: its own, or those that were copied to where it reads them."""
    drawn = zip(drawn_paths(case), case.frames, strict=False)  # none outside of case folders
    for path, frame in (*drawn, *((frame.path, frame) for frame in case.frames)):
        if is_local:
            read_frame_image(directory, path, frame, case.id)
        if is_local or path_kind(directory / path) == "file":
            check_orientation(directory / path, path)
