"""Storages of a project: what lets the server read images from its own disk, or from a bucket.

The server serves files, and signs ``s3://`` addresses, only below the storages of a project. No key is sent to it: it
reads a bucket with its own credentials, or with those that somebody gave a storage on its page.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from mmvm_data.annotation.labelstudio.client import (
    RESERVED_ADDRESS,
    Client,
    OutcomeUnknown,
    Project,
    RequestRejected,
    ServerError,
)
from mmvm_data.annotation.labelstudio.project import SETTLE_SECONDS, url_scheme
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.io.env import env_value


def connect_images(client: Client, project: Project, directory: Path, images: str | None, image_folder: str) -> None:
    """Let the server read the images of what is pushed.

    Args:
        client, project: the server.
        directory: what is pushed.
        images: what comes before paths; None when the server reads the folder itself. Only ``s3://`` needs a storage.
        image_folder: the folder of ``directory`` that has the images.

    Raises:
        UsageError: the server may not read them; what is missing.
    """
    if images is None:
        serve_folder(client, project, directory.resolve() / image_folder)
    elif url_scheme(images) == "s3":
        connect_bucket(client, project, f"{images.rstrip('/')}/{image_folder}")


def serve_folder(client: Client, project: Project, folder: Path) -> None:
    """Let the server read a folder on its own disk.

    Raises:
        UsageError: it may not.
    """
    try:
        _ensure_storage(
            lambda: str(folder) in list_folders(client, project.id),
            lambda: client.call(
                f"add a storage to project {project.id}",
                lambda sdk: sdk.import_storage.local.create(
                    project=project.id, path=str(folder), title="images", use_blob_urls=True
                ),
                creates=True,
            ),
        )
    except RequestRejected as error:
        raise UsageError(
            f"{error}. The server must be started with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
            f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT above {folder}; otherwise give the URL of the images"
        ) from error


def connect_bucket(client: Client, project: Project, url: str) -> None:
    """Let the server read a folder of a bucket, unless a storage of the project names its bucket already.

    Region and endpoint are those of AWS_REGION (AWS_DEFAULT_REGION) and AWS_ENDPOINT_URL. An endpoint that the server
    refuses because it lies in a private network is left to the server's own setting, LABEL_STUDIO_S3_ENDPOINT.

    Args:
        client, project: the server.
        url: ``s3://bucket/folder``, with the images below it.

    Raises:
        OptionError: ``url`` names no bucket.
        UsageError: the server cannot read the folder; why, and what helps.
    """
    bucket, prefix = urlsplit(url).netloc, urlsplit(url).path.strip("/")
    if not bucket:
        raise OptionError("images", f"must be s3://bucket/folder, got {url!r}")
    settings = {
        "region_name": env_value("AWS_REGION") or env_value("AWS_DEFAULT_REGION"),
        "s3endpoint": env_value("AWS_ENDPOINT_URL"),
    }
    known = {name: value for name, value in settings.items() if value}

    def has_bucket() -> bool:
        return bucket in list_buckets(client, project.id)

    def create(**more: str) -> None:
        client.call(
            f"read {url}",
            lambda sdk: sdk.import_storage.s3.create(
                project=project.id, bucket=bucket, prefix=prefix, title="images", use_blob_urls=True, **more
            ),
            creates=True,
        )

    try:
        try:
            _ensure_storage(has_bucket, lambda: create(**known))
        except RequestRejected as error:
            if RESERVED_ADDRESS not in str(error) or "s3endpoint" not in known:
                raise
            del known["s3endpoint"]
            _ensure_storage(has_bucket, lambda: create(**known))
    except (RequestRejected, OutcomeUnknown) as error:
        page = f"{client.url}/projects/{project.id}/settings/storage"
        raise ServerError(
            f"{error}. Are the images there, and may the server read them? Start it with AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (and LABEL_STUDIO_S3_ENDPOINT where it is not Amazon's), or add a source storage "
            f"for the bucket {bucket!r} at {page}, and push again"
        ) from error


def list_folders(client: Client, project: int) -> list[str]:
    """Folders from which the server may serve files for a project."""
    storages = client.call(
        f"list storages of project {project}", lambda sdk: sdk.import_storage.local.list(project=project)
    )
    return [str(storage.path) for storage in storages]


def list_buckets(client: Client, project: int) -> list[str]:
    """Buckets of S3 that the server may read for a project."""
    storages = client.call(
        f"list storages of project {project}", lambda sdk: sdk.import_storage.s3.list(project=project)
    )
    return [str(storage.bucket) for storage in storages]


def _ensure_storage(exists: Callable[[], bool], create: Callable[[], object]) -> None:
    """Create a storage that does not exist; again once, where the first answer was lost and it is not there.

    Raises:
        OutcomeUnknown: the second answer was lost too, and it is not there.
        RequestRejected: the server refuses.
    """
    for attempt in (1, 2):
        if exists():
            return
        try:
            create()
            return
        except OutcomeUnknown:
            time.sleep(SETTLE_SECONDS)
            if attempt == 2 and not exists():
                raise
