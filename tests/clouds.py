"""A local S3 server for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BUCKET = "bucket"


def server() -> Iterator[str]:
    """Starts a server with one bucket, sets the environment of this process and its children, and gives its address."""
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("fsspec")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    client(boto3).create_bucket(Bucket=BUCKET)
    try:
        yield settings["AWS_ENDPOINT_URL"]
    finally:
        running.stop()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def client(boto3: Any | None = None) -> Any:
    """A client of Amazon's own library, as the independent view of what is there."""
    if boto3 is None:
        import boto3
    return boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])


def put(folder: Path, prefix: str) -> None:
    """Upload a folder."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        client().put_object(Bucket=BUCKET, Key=f"{prefix}/{path.relative_to(folder)}", Body=path.read_bytes())


def objects(prefix: str, leave_out: tuple[str, ...] = ("build.json",)) -> dict[str, bytes]:
    """Every object under a prefix, as ``worlds.tree`` gives files."""
    found = {}
    for page in client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/"):
        for entry in page.get("Contents", []):
            name = entry["Key"].removeprefix(f"{prefix}/")
            if name.rpartition("/")[2] not in leave_out:
                found[name] = client().get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
    return found
