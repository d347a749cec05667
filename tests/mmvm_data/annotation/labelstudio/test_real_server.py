"""A real server of one's own on the data of an earlier one, with images in a bucket."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Response

from mmvm_data.annotation.labelstudio.client import Client
from mmvm_data.annotation.labelstudio.credentials import fetch_token
from mmvm_data.annotation.labelstudio.server import Server, ServerOptions, start_server, stop_server
from mmvm_data.annotation.labelstudio.storages import list_buckets
from mmvm_data.annotation.review.push import ReviewPushOptions, push
from mmvm_data.annotation.tracks.cut import CutOptions, cut_clips
from mmvm_data.annotation.tracks.layout import iter_shots
from mmvm_data.annotation.tracks.push import TrackPushOptions
from mmvm_data.annotation.tracks.push import push as push_tracks
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.formats import bench
from tests import clouds
from tests.browser import open_browser
from tests.mmvm_data.annotation.conftest import Studio, tasks_of
from tests.mmvm_data.annotation.editor_page import TIMEOUT, keep_screenshot, log_in
from tests.mmvm_data.annotation.review.test_page import invoke, open_queue, press_keys, submit_with_keys
from tests.mmvm_data.annotation.tracks.clips import write_clip
from tests.ports import free_port
from tests.worlds import tree

pytestmark = [pytest.mark.xdist_group("label-studio"), pytest.mark.slow]


@pytest.fixture(scope="module")
def own(running_studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on a copy of the studio's database, for a user who has lost the password, with a bucket at hand."""
    folder = tmp_path_factory.mktemp("own")
    data = folder / "copied"
    data.mkdir()
    for path in running_studio.data.glob("label_studio.sqlite3*"):
        shutil.copy2(path, data / path.name)
    (folder / "bench").mkdir()
    buckets = clouds.server()
    next(buckets)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        for name in ("LABEL_STUDIO_API_KEY", "LABEL_STUDIO_PASSWORD"):
            monkeypatch.delenv(name, raising=False)
        running = start_server(folder / "bench", ServerOptions(port=free_port(), data=data), reset_password=True)
        yield running
        stop_server(running)
    buckets.close()


def test_the_password_of_an_existing_server_is_set_again(studio: Studio, own: Server) -> None:
    assert own.password != studio.server.password
    assert own.token == studio.server.token  # read from the server
    assert (own.is_password_valid, own.is_token_valid) == (True, True)
    assert fetch_token(own.url, own.user, studio.server.password) is None


def read_image(server: Server, task: int, url: str, shown: str) -> bytes:
    """An image of a task, as the editor reads it: the server sends the browser from its own address to a signed one.

    Args:
        server: of the task.
        task: its number.
        url: ``s3://…`` of the image.
        shown: what the server gives in its place.
    """
    assert shown == f"/tasks/{task}/resolve/?fileuri={base64.b64encode(url.encode()).decode()}"
    headers = {"Authorization": f"Token {server.token}"}
    return httpx.get(f"{server.url}{shown}", headers=headers, follow_redirects=True).content


def test_a_review_of_images_in_a_bucket(built: Path, own: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(own.url, own.token)
    images = f"s3://{clouds.BUCKET}/reviews/{built.name}"
    with pytest.raises(
        UsageError, match=r"not found\..*Are the images there, and may the server read them\?.*projects/"
    ):
        push(built, client, built.name, ReviewPushOptions(images=images))
    project = client.find_project(built.name)
    assert project is not None
    assert tasks_of(client, project) == {}
    clouds.put(built, f"reviews/{built.name}")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", own.token)
    monkeypatch.setenv("LABEL_STUDIO_URL", own.url)
    for summary in ("4 new", "4 unchanged"):
        assert summary in invoke("review", "push", built, "--images", images)
    assert list_buckets(client, project.id) == [clouds.BUCKET]
    for name, task in tasks_of(client, project).items():
        url = f"{images}/match_bench/{name}/FRAME00.jpg"
        assert (
            read_image(own, task["id"], url, task["data"]["drawn1"])
            == (built / "match_bench" / name / "FRAME00.jpg").read_bytes()
        )
    reviewed = accept_first_case(Studio(own, built.parent, own.folder), project.id)
    assert "1 case changed" in invoke("review", "pull", built)
    assert {case.id for case in bench.read(built) if case.review.state == "accepted"} == {reviewed}
    pulled = tree(built)
    assert "0 cases changed" in invoke("review", "pull", built)
    assert tree(built) == pulled


def accept_first_case(studio: Studio, project: int) -> str:
    """Accept the first case of the queue in a browser that gets its images from the bucket, and return its id."""
    answers: list[Response] = []
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.on("response", lambda answer: answers.append(answer))
        log_in(page, studio)
        open_queue(page, studio, project)
        bucket = f"{os.environ['AWS_ENDPOINT_URL']}/{clouds.BUCKET}/reviews/"
        page.wait_for_function(  # both images, with marks and without
            """() => {
                const images = [...document.querySelectorAll('.mmvm-marks img')];
                return images.length === 4 && images.every(image => image.naturalWidth > 1);
            }""",
            timeout=TIMEOUT,
        )
        for _ in range(300):  # an image can be shown before its response is reported
            if signed := [answer for answer in answers if answer.url.startswith(bucket)]:
                break
            page.wait_for_timeout(100)
        assert signed, [answer.url for answer in answers]
        assert all(answer.ok and "Signature=" in answer.url for answer in signed)
        # the images of a case lie in its folder
        (name,) = {urlsplit(answer.url).path.split("/")[-2] for answer in signed}
        keep_screenshot(page, "bucket")
        press_keys(page, "a")
        submit_with_keys(page)
    return name


def test_a_server_that_may_not_read_a_bucket_says_what_is_missing(built: Path, studio: Studio, own: Server) -> None:
    with pytest.raises(UsageError, match=r"cannot read s3://.*AWS_ACCESS_KEY_ID.*source storage for the bucket"):
        push(built, studio.client(), built.name, ReviewPushOptions(images=f"s3://{clouds.BUCKET}/reviews"))
    with pytest.raises(OptionError, match="images must be s3://bucket/folder"):
        push(built, studio.client(), built.name, ReviewPushOptions(images="s3:///reviews"))


def test_pictures_of_clips_in_a_bucket_are_shown(tmp_path: Path, own: Server) -> None:
    folder = tmp_path / "bucket-clips"
    folder.mkdir()
    assert cut_clips([write_clip(folder / "a.mp4", (40,))], folder, CutOptions(max_frames=2)).problems == []
    clouds.put(folder, "clips")
    client = Client(own.url, own.token)
    project = push_tracks(folder, client, folder.name, TrackPushOptions(images=f"s3://{clouds.BUCKET}/clips")).project
    (task,) = [client.get_task(task["id"]) for task in client.iter_tasks(project.id, "id")]
    for position, frame in enumerate(dict(iter_shots(folder))["a/shot000"].frames):
        url = f"s3://{clouds.BUCKET}/clips/{frame.path}"
        assert read_image(own, task["id"], url, task["data"]["frames"][position]) == (folder / frame.path).read_bytes()
