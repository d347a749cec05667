"""Builds from and to S3, on a Ray cluster: the same bytes as on one machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import OutputError, UsageError
from mmvm_data.io import remote
from mmvm_data.pipeline import build as pipeline
from mmvm_data.pipeline import remote_worker, upload
from mmvm_data.pipeline.journal import VideoRecord
from tests import clouds, rays
from tests.worlds import davis, tree

COMMAND = [sys.executable, "-m", "mmvm_data.cli", "build", "--source", "davis", "--seed", "5", "--min-area", "100"]
SAMPLING = SamplingOptions(seed=5, min_area=100)
VIDEOS = 8
pytestmark = pytest.mark.xdist_group("ray")  # one cluster, and one server, at a time


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return davis(tmp_path_factory.mktemp("world"), videos=VIDEOS)


@pytest.fixture(scope="module")
def reference(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("reference") / "bench"
    pipeline.build("davis", world, out, pipeline.BuildOptions(SAMPLING))
    return tree(out)


@pytest.fixture(scope="module")
def s3(world: Path) -> Iterator[str]:
    for _ in clouds.server():
        clouds.put(world, "world")
        yield f"s3://{clouds.BUCKET}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMVM_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_mirrors", {})
    return tmp_path / "cache"


def build(root: Path | str, out: Path | str, **options: Any) -> pipeline.BuildResult:
    return pipeline.build("davis", root, out, pipeline.BuildOptions(SAMPLING, **options))


def test_a_build_is_written_to_and_read_from_s3(s3: str, reference: dict[str, bytes], cache: Path) -> None:
    done = build(f"{s3}/world", f"{s3}/out")
    assert done.out == f"{s3}/out"
    assert clouds.objects("out") == reference
    assert not list((cache / "builds").iterdir())
    record = json.loads(clouds.objects("out", leave_out=())["build.json"])
    assert record["counts"]["cases"] == done.cases
    # a finished one is not lost, and not made twice
    with pytest.raises(UsageError, match="holds a finished build"):
        build(f"{s3}/world", f"{s3}/out")
    assert build(f"{s3}/world", f"{s3}/out", existing="resume").already_done
    with pytest.raises(UsageError, match="other options"):
        build(f"{s3}/world", f"{s3}/out", existing="resume", max_cases=3)
    build(f"{s3}/world", f"{s3}/out", existing="overwrite", max_cases=3)
    assert len(clouds.objects("out")) == 3 * 6 + 3


def test_only_what_is_needed_travels(s3: str, world: Path, cache: Path, tmp_path: Path) -> None:
    build(f"{s3}/world", tmp_path / "few", max_cases=1)
    (tree_,) = (cache / "mirrors").glob("*/tree")
    files = [p for p in tree_.rglob("*") if p.is_file()]
    assert len(files) == len([p for p in world.rglob("*") if p.is_file()])
    fetched = [p for p in files if p.stat().st_size]
    assert 4 <= len(fetched) < len(files) / 2
    for path in fetched:
        assert path.read_bytes() == (world / path.relative_to(tree_)).read_bytes()


def test_a_changed_and_a_deleted_object_are_noticed(s3: str, world: Path, tmp_path: Path) -> None:
    clouds.put(world / "JPEGImages/480p/clip000", "changing/JPEGImages/480p/clip000")
    clouds.put(world / "Annotations/480p/clip000", "changing/Annotations/480p/clip000")
    first = remote.open_mirror(f"{s3}/changing")
    picture = first / "JPEGImages/480p/clip000/00001.jpg"
    remote.ensure_local(picture)
    assert picture.stat().st_size
    key = "changing/JPEGImages/480p/clip000/"
    clouds.client().put_object(Bucket=clouds.BUCKET, Key=f"{key}00001.jpg", Body=b"new")
    clouds.client().delete_object(Bucket=clouds.BUCKET, Key=f"{key}00002.jpg")
    remote.open_mirror(f"{s3}/changing")
    remote.ensure_local(picture)
    assert picture.read_bytes() == b"new"
    assert not picture.with_name("00002.jpg").exists()


def test_two_processes_read_s3(s3: str, reference: dict[str, bytes], tmp_path: Path) -> None:
    build(f"{s3}/world", tmp_path / "b", workers=2)
    assert tree(tmp_path / "b") == reference


def test_resumed_shard_by_shard(
    s3: str, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    uploaded: list[int] = []
    upload_video = upload.BuildUpload.upload_video

    def fail_after(units: int) -> None:
        def upload_or_fail(self: upload.BuildUpload, record: VideoRecord, *rest: Any) -> None:
            if record.totals.units > units:
                raise OSError(5, "the network is gone")
            uploaded.append(record.totals.units)
            upload_video(self, record, *rest)

        monkeypatch.setattr(upload.BuildUpload, "upload_video", upload_or_fail)

    for after in (2, 5):
        fail_after(after)
        with pytest.raises(OutputError, match="network is gone"):
            build(f"{s3}/world", f"{s3}/again", existing="resume" if after > 2 else "refuse")
        shutil.rmtree(cache)  # as on another machine
        monkeypatch.setattr(remote, "_mirrors", {})
    with pytest.raises(UsageError, match="holds an unfinished build"):
        build(f"{s3}/world", f"{s3}/again")
    with pytest.raises(UsageError, match="started with other options"):
        build(f"{s3}/world", f"{s3}/again", existing="resume", quality=50)
    fail_after(VIDEOS)
    build(f"{s3}/world", f"{s3}/again", existing="resume")
    assert uploaded == list(range(1, VIDEOS + 1))  # none was built twice
    assert clouds.objects("again") == reference


def test_a_source_at_a_url_that_changes(s3: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of the source is at the URL of the result too, for another machine that continues."""
    clouds.put(world, "moving")

    def interrupt(progress: pipeline.BuildProgress) -> None:
        raise KeyboardInterrupt

    options = pipeline.BuildOptions(SAMPLING)
    with pytest.raises(KeyboardInterrupt):
        pipeline.build("davis", f"{s3}/moving", f"{s3}/from_moving", options, interrupt)
    files = clouds.objects("from_moving", leave_out=())
    (shard,) = (
        json.loads(data) for name, data in files.items() if name.startswith(".build/shards/") and b"clip" in data
    )
    clouds.put(world / "JPEGImages/480p/clip000", "moving/JPEGImages/480p/new")
    clouds.put(world / "Annotations/480p/clip000", "moving/Annotations/480p/new")
    image = next(f"{folder}/{name}" for folder, names in shard["reads"]["files"].items() for name in names)
    clouds.client().put_object(Bucket=clouds.BUCKET, Key=f"moving/{image}", Body=b"new")
    monkeypatch.setattr(remote, "_mirrors", {})
    with pytest.raises(UsageError, match=f"video {shard['video']}: {image} has changed\n.*video new is new"):
        build(f"{s3}/moving", f"{s3}/from_moving", existing="resume")
    with pytest.raises(UsageError, match="accept_changes needs an `out` folder on this machine"):
        build(f"{s3}/moving", f"{s3}/from_moving", existing="resume", accept_changes=True)
    assert clouds.objects("from_moving", leave_out=()) == files


def test_a_folder_without_a_build_is_not_touched(s3: str) -> None:
    clouds.client().put_object(Bucket=clouds.BUCKET, Key="mine/thesis.txt", Body=b"mine")
    for existing in ("refuse", "resume", "overwrite"):
        with pytest.raises(UsageError, match="not empty and holds no build"):
            build(f"{s3}/world", f"{s3}/mine", existing=existing)
    assert clouds.objects("mine") == {"thesis.txt": b"mine"}


@pytest.mark.parametrize(
    ("root", "message"),
    [("s3://bucket/nothing-here", "no files found"), ("nosuch://bucket/x", "cannot be opened")],
)
def test_a_wrong_url_is_an_error_in_one_line(s3: str, root: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        build(root, tmp_path / "b")


def test_objects_that_lead_outside_are_refused(s3: str, tmp_path: Path, cache: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pipe_file("/set/../../escape.txt", b"x")
    memory.store["/set/a/../../../escape.txt"] = memory.store.pop(next(iter(memory.store)))
    with pytest.raises(Exception, match="must be relative") as caught:
        remote.open_mirror("memory://set")
    assert type(caught.value).__name__ == "InputError"
    assert not list(tmp_path.rglob("escape.txt"))


def test_a_frame_that_cannot_be_fetched_is_a_reject(s3: str, world: Path, tmp_path: Path) -> None:
    clouds.put(world / "JPEGImages/480p/clip001", "holes/JPEGImages/480p/clip001")
    clouds.put(world / "Annotations/480p/clip001", "holes/Annotations/480p/clip001")
    remote.open_mirror(f"{s3}/holes")
    gone = [f"JPEGImages/480p/clip001/{k:05d}.jpg" for k in (1, 3, 4)]
    for name in gone:
        clouds.client().delete_object(Bucket=clouds.BUCKET, Key=f"holes/{name}")
    mirror, remote.open_mirror = remote.open_mirror, lambda url, refresh=True: mirror(url, refresh=False)
    try:
        done = build(f"{s3}/holes", tmp_path / "b")
    finally:
        remote.open_mirror = mirror
    assert done.cases
    rejects = [json.loads(line) for line in (tmp_path / "b/rejects.jsonl").read_text().splitlines()]
    assert set(gone) & {r["file"] for r in rejects if r["reason"].startswith("cannot be fetched")}


def test_workers_without_a_shared_disk_send_bytes(world: Path, reference: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    marker = remote_worker.write_shared_marker(tmp_path / "stage")
    arguments = ("davis", world, None, tmp_path / "stage")
    near = remote_worker.init_worker(*arguments, marker, SAMPLING, 95)
    far = remote_worker.init_worker(*arguments, "another", SAMPLING, 95)
    assert (near.is_shared, far.is_shared) == (True, False)
    for context, name in ((near, "a"), (far, "b")):
        (tmp_path / name).mkdir()
        sent = remote_worker.build_video_cases(context, (0, "clip000"))
        result = remote_worker.collect_result(sent, (0, "clip000"), tmp_path / name)
        assert len(result.cases) == len(list((result.folder or tmp_path / name).iterdir())) > 0
    assert tree(near.local.staging_dir) == tree(tmp_path / "b")


ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    yield from rays.cluster()


def test_ray_writes_the_same_bytes(world: Path, reference: dict[str, bytes], tmp_path: Path, address: str) -> None:
    build(world, tmp_path / "b", engine="ray", ray_address=address, workers=2)
    assert tree(tmp_path / "b") == reference


def test_ray_from_and_to_s3(s3: str, reference: dict[str, bytes], address: str) -> None:
    build(f"{s3}/world", f"{s3}/rayed", engine="ray", ray_address=address, workers=2, max_cases=None)
    assert clouds.objects("rayed") == reference


def test_a_ray_worker_killed_in_mid_shard(
    reference: dict[str, bytes], tmp_path: Path, address: str, world: Path
) -> None:
    psutil = pytest.importorskip("psutil")
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    for attempt in range(20):
        out = tmp_path / f"b{attempt}"
        command = [*COMMAND, "--root", str(world), "--out", str(out), "--engine", "ray", "--workers", "2"]
        process = subprocess.Popen(
            [*command, "--ray-address", address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        killed = 0
        while process.poll() is None and not killed:
            # those of one look are at different inputs; to kill one that repeats an input would reject that input
            for other in psutil.process_iter(["name", "cmdline"]):
                name = " ".join(other.info["cmdline"] or [other.info["name"] or ""])
                if "ray::_Actor.process" in name:
                    os.kill(other.pid, signal.SIGKILL)
                    killed += 1
            time.sleep(0.02)
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        assert tree(out) == reference
        if killed:  # else all inputs were done between two looks
            return
    raise AssertionError("no worker was seen at an input")
