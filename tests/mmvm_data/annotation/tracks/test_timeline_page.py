"""Label Studio's timeline in a real browser: a box that is drawn in one picture and moved in a later one comes back."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from mmvm_data.annotation.tracks.cut import CutOptions, cut_clips
from mmvm_data.annotation.tracks.pull import pull
from mmvm_data.annotation.tracks.push import TrackPushOptions, push
from mmvm_data.builders import open_source
from tests.browser import open_browser
from tests.mmvm_data.annotation.conftest import Studio
from tests.mmvm_data.annotation.editor_page import drag_mouse, keep_screenshot, log_in, submit
from tests.mmvm_data.annotation.tracks.clips import write_clip
from tests.mmvm_data.annotation.tracks.test_tracks import tasks_of

pytestmark = [pytest.mark.xdist_group("label-studio"), pytest.mark.slow]

WIDTH, HEIGHT = 160, 120
_FIRST_FRAME, _FRAME_WIDTH = 150, 16  # of the timeline, in pixels


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From and to as shares of the picture, which lies in the middle of the player and is never enlarged."""
    place = page.locator(".lsf-video__main").bounding_box()
    assert place is not None
    scale = min(1, place["width"] / WIDTH, place["height"] / HEIGHT)
    left = place["x"] + (place["width"] - scale * WIDTH) / 2
    top = place["y"] + (place["height"] - scale * HEIGHT) / 2
    at = [(left + x * scale * WIDTH, top + y * scale * HEIGHT) for x, y in (start, end)]
    drag_mouse(page, *at)


def go_to(page: Page, picture: int) -> None:
    """Click on a picture, from 1 on, of the timeline."""
    place = page.locator(".lsf-timeline__view").bounding_box()
    assert place is not None
    page.mouse.click(place["x"] + _FIRST_FRAME + (picture - 0.5) * _FRAME_WIDTH, place["y"] + 10)
    page.wait_for_function(
        "n => document.querySelector('.lsf-frames-control').innerText.trim().startsWith(`${n}`)", arg=picture
    )


def test_a_box_is_drawn_and_moved(studio: Studio) -> None:
    folder = studio.files / "timeline-page"
    folder.mkdir()
    assert cut_clips([write_clip(folder / "a.mp4", (40,))], folder, CutOptions(max_frames=5)).problems == []
    client = studio.client()
    project = push(folder, client, folder.name, TrackPushOptions(timeline=True)).project
    (task,) = tasks_of(client, project).values()
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        log_in(page, studio)
        page.goto(f"{studio.url}/projects/{project.id}/data?task={task['id']}")
        page.wait_for_selector(".lsf-video__main canvas")
        page.wait_for_timeout(2000)  # the video's first frame
        # picture, controls and timeline are in the window
        view = page.locator(".lsf-timeline__view").bounding_box()
        assert view is not None and view["y"] + 50 < 718
        page.keyboard.press("2")
        drag(page, (0.2, 0.3), (0.4, 0.7))
        go_to(page, 4)
        drag(page, (0.3, 0.5), (0.6, 0.5))
        keep_screenshot(page, "timeline")
        submit(page)
    assert pull(folder, client, project).changed == ["a/shot000"]
    video = open_source("video", folder).load("a/shot000")
    assert (video.annotated, video.prompt) == ((0, 1, 2, 3, 4), "box")
    boxes = [region.box for position in video.annotated for region in video.regions(position)]
    assert {region.id for position in video.annotated for region in video.regions(position)} == {"2"}
    x = [0.2 * WIDTH + share * 0.3 * WIDTH for share in (0, 1 / 3, 2 / 3, 1, 1)]
    expected = [(left, 0.3 * HEIGHT, 0.2 * WIDTH, 0.4 * HEIGHT) for left in x]
    assert boxes == [pytest.approx(box, abs=1.5) for box in expected]
