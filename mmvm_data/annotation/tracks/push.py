"""Shots -> tasks of a Label Studio project; see ``labelstudio.sync`` for how a push is resumed and repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mmvm_data.annotation.labelstudio.client import Client
from mmvm_data.annotation.labelstudio.project import ImagesUrl, ensure_project, make_image_url
from mmvm_data.annotation.labelstudio.storages import connect_images
from mmvm_data.annotation.labelstudio.sync import PushResult, push_tasks
from mmvm_data.annotation.tracks import timeline
from mmvm_data.annotation.tracks.layout import FRAMES, Shot, iter_shots
from mmvm_data.annotation.tracks.task import NAME_KEY, build_label_config, build_task
from mmvm_data.core.options import options
from mmvm_data.io.checked_images import read_frame_image


@options
class TrackPushOptions:
    """What annotators can choose from, and where the server finds the pictures.

    Attributes:
        objects: how many identity numbers there are to choose from.
        categories: names to choose from; without any, a category is typed.
        images: what comes before the paths of pictures (``https://…`` or ``s3://…``); None when the server reads the
            folder itself (local-file serving).
        files_root: the server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT; None for the folder that holds the clips'.
        timeline: boxes on the timeline of a video, in place of masks and boxes on pictures.
    """

    objects: Annotated[int, Field(ge=1, le=200)] = 20
    categories: tuple[str, ...] = ()
    images: ImagesUrl | None = None
    files_root: Path | None = None
    timeline: bool = False


def push(
    directory: Path,
    client: Client,
    project: str,
    options: TrackPushOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PushResult:
    """Create or update the project of a folder of cut clips, one task for each shot.

    Args:
        directory: what ``cut_clips`` wrote.
        client: the server.
        project: title of the project, three characters or more, or the number of one that exists.
        options: what annotators can choose from, and where the pictures are.
        progress: called with (shots done, shots in all).

    Raises:
        InputError: no clip was cut into this folder, or a record is broken.
        UsageError: the server cannot be used, or ``directory`` does not lie in ``files_root``.
    """
    options = options or TrackPushOptions()
    shots = list(iter_shots(directory))
    image_url = make_image_url(directory, options.images, options.files_root, FRAMES)
    rate = timeline.RATE if options.timeline else None
    server_project = ensure_project(client, project, build_label_config(options.objects, options.categories, rate))
    is_local = options.images is None
    connect_images(client, server_project, directory, options.images, FRAMES)

    def build(named_shot: tuple[str, Shot]) -> dict[str, Any]:
        name, shot = named_shot
        if is_local:
            _check_images(directory, shot)
        if options.timeline:
            timeline.write_video(directory, shot)
        return build_task(name, shot, image_url, timeline.video_path(shot) if options.timeline else None)

    return push_tasks(
        client,
        server_project,
        NAME_KEY,
        ((name, (name, shot)) for name, shot in shots),
        build,
        progress=None if progress is None else lambda done: progress(done, len(shots)),
    )


def _check_images(directory: Path, shot: Shot) -> None:
    for frame in shot.frames:
        read_frame_image(directory, frame.path, frame)
