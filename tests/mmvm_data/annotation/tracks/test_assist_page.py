"""Drawing with an assistant in a real browser: one box is answered in all pictures, through a real Label Studio."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmvm_data.annotation.labelstudio.client import Project
from mmvm_data.annotation.labelstudio.ml_backend import connect_backend, open_backend
from mmvm_data.annotation.tracks.assist import Assistant, CachedSegmenter
from mmvm_data.annotation.tracks.cut import CutOptions, cut_clips
from mmvm_data.annotation.tracks.follow import FlowTracker
from mmvm_data.annotation.tracks.interpret import read_tracks
from mmvm_data.annotation.tracks.layout import iter_shots
from mmvm_data.annotation.tracks.pull import pull
from mmvm_data.annotation.tracks.push import push
from mmvm_data.builders import open_source
from mmvm_data.core.errors import UsageError
from tests.browser import open_browser
from tests.mmvm_data.annotation.conftest import Studio
from tests.mmvm_data.annotation.editor_page import keep_screenshot, submit
from tests.mmvm_data.annotation.tracks.clips import write_clip
from tests.mmvm_data.annotation.tracks.segmenters import ColorSegmenter
from tests.mmvm_data.annotation.tracks.test_assist import click, iou_with_square
from tests.mmvm_data.annotation.tracks.test_page import drag, open_shot, wait_for_regions
from tests.mmvm_data.annotation.tracks.test_tracks import tasks_of
from tests.ports import free_port

pytestmark = [pytest.mark.xdist_group("label-studio"), pytest.mark.slow]

NAME = "a/shot000"


@pytest.fixture(scope="module")
def clips(running_studio: Studio) -> Path:
    folder = running_studio.files / "assisted-clips"
    folder.mkdir()
    assert cut_clips([write_clip(folder / "a.mp4", (40,))], folder, CutOptions(max_frames=4)).problems == []
    return folder


@pytest.fixture(scope="module")
def backend(clips: Path) -> Iterator[str]:
    segmenter = CachedSegmenter(ColorSegmenter())
    with open_backend(Assistant(clips, FlowTracker(segmenter), segmenter.embed), "127.0.0.1", 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(scope="module")
def project(running_studio: Studio, clips: Path, backend: str) -> tuple[Project, int]:
    """The project, and the number of the backend in it."""
    client = running_studio.client()
    made = push(clips, client, clips.name).project
    number = connect_backend(client, made, Assistant.name, backend)
    return made, number


def test_the_server_passes_a_click_on(studio: Studio, clips: Path, project: tuple[Project, int], backend: str) -> None:
    made, number = project
    client = studio.client()
    assert connect_backend(client, made, Assistant.name, backend) == number  # once
    task = tasks_of(client, made)[NAME]
    assert task["predictions"] == []  # opening a task leaves none
    asked = {"task": task["id"], "context": {"result": click(0.2, 0.5)}}
    answer = studio.request("POST", f"/api/ml/{number}/interactive-annotating", asked).json()
    shot = dict(iter_shots(clips))[NAME]
    video = read_tracks(NAME, shot, answer["data"]["result"]).video
    assert video.annotated == (0, 1, 2, 3)
    assert min(iou_with_square(shot, p, video.regions(p)[0]) for p in video.annotated) > 0.85
    asked["context"]["result"] = click(0.2, 0.5)[:1]
    answer = studio.request("POST", f"/api/ml/{number}/interactive-annotating", asked).json()
    assert "400 Client Error" in answer["errors"][0]


def test_a_backend_at_another_address_takes_the_place_of_the_first(
    studio: Studio, clips: Path, project: tuple[Project, int]
) -> None:
    client = studio.client()
    made = push(clips, client, "assisted elsewhere").project
    for _ in range(2):
        with open_backend(Assistant(clips, FlowTracker(ColorSegmenter())), "127.0.0.1", 0) as running:
            threading.Thread(target=running.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{running.server_port}"
            number = connect_backend(client, made, Assistant.name, url)
            (known,) = studio.request("GET", "/api/ml/", project=made.id).json()
            assert (known["id"], known["url"], known["is_interactive"]) == (number, url, True)
            running.shutdown()
    with pytest.raises(UsageError, match=r"connect to ML backend.*must reach http://127.0.0.1"):
        connect_backend(client, made, Assistant.name, f"http://127.0.0.1:{free_port()}")


def test_one_box_fills_all_pictures(studio: Studio, clips: Path, project: tuple[Project, int]) -> None:
    made, _ = project
    client = studio.client()
    task = tasks_of(client, made)[NAME]["id"]
    errors: list[str] = []
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1366, "height": 1000})
        page.on("pageerror", lambda error: errors.append(str(error)))
        open_shot(page, studio, made.id, task)
        for toggle in ("Auto-Annotation", "Auto-Accept Suggestions"):  # once for a person: the browser remembers them
            page.get_by_text(toggle, exact=True).click()
        page.keyboard.press("2")  # a switch that kept the focus would get it
        page.keyboard.press("m")
        with page.expect_response(lambda r: "interactive-annotating" in r.url) as answer:
            drag(page, (0.05, 0.3), (0.4, 0.78))
        assert answer.value.status == 200
        wait_for_regions(page, 4)
        keep_screenshot(page, "assist")
        submit(page)
    assert errors == []
    assert pull(clips, client, made).changed == [NAME]
    shot = dict(iter_shots(clips))[NAME]
    video = open_source("video", clips).load(NAME)
    assert (video.annotated, video.prompt) == ((0, 1, 2, 3), "mask")  # the box itself is gone
    assert [len(video.regions(p)) for p in video.annotated] == [1, 1, 1, 1]
    assert min(iou_with_square(shot, p, video.regions(p)[0]) for p in video.annotated) > 0.85
    assert {video.regions(p)[0].id for p in video.annotated} == {"2"}
