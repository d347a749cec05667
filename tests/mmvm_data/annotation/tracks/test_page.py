"""The page of a shot in a real browser: what is drawn over its pictures is what comes back."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import Page

from mmvm_data.annotation.tracks.cut import CutOptions, cut_clips
from mmvm_data.annotation.tracks.pull import pull
from mmvm_data.annotation.tracks.push import push
from mmvm_data.builders import open_source
from mmvm_data.core import masks
from tests.browser import open_browser
from tests.mmvm_data.annotation.conftest import Studio
from tests.mmvm_data.annotation.editor_page import drag_mouse, keep_screenshot, log_in, submit
from tests.mmvm_data.annotation.tracks.clips import write_clip
from tests.mmvm_data.annotation.tracks.test_tracks import tasks_of

pytestmark = [pytest.mark.xdist_group("label-studio"), pytest.mark.slow]


def open_shot(page: Page, studio: Studio, project: int, task: int) -> None:
    """Log in and open a task whose pictures are shown."""
    log_in(page, studio)
    page.goto(f"{studio.url}/projects/{project}/data?task={task}")
    page.wait_for_selector(".mmvm-shot img")
    wait_for_picture(page, 0)


def wait_for_picture(page: Page, position: int) -> None:
    """Wait until the editor can be drawn on, and shows this picture."""
    page.wait_for_function(
        """position => {
            const shot = window.Htx?.annotationStore?.selected?.objects.find(object => object.type === 'image');
            return shot?.isReady && shot.imageIsLoaded && shot.stageRef && shot.currentImage === position;
        }""",
        arg=position,
    )


def wait_for_regions(page: Page, number: int) -> None:
    """Wait until the annotation has this number of shapes."""
    page.wait_for_function("number => window.Htx.annotationStore.selected.regions.length === number", arg=number)


def choose(page: Page, number: int, tool: str) -> None:
    page.keyboard.press("Escape")  # lets go of the shape drawn last
    page.locator(".lsf-label").filter(has=page.locator(f".lsf-label__text:text-is('{number}')")).first.click()
    page.locator(f"button[aria-label={tool}]").click()


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From and to as shares of the picture's sides."""
    place = page.locator(".mmvm-shot img").first.bounding_box()
    assert place is not None
    at = [(place["x"] + x * place["width"], place["y"] + y * place["height"]) for x, y in (start, end)]
    drag_mouse(page, *at)


def test_a_person_draws_one_thing_over_two_pictures(studio: Studio) -> None:
    folder = studio.files / "drawn-clips"
    folder.mkdir()
    done = cut_clips([write_clip(folder / "a.mp4", (40,))], folder, CutOptions(max_frames=3))
    name = "a/shot000"
    assert done.problems == []
    client = studio.client()
    project = push(folder, client, "drawn-clips").project
    task = tasks_of(client, project)[name]["id"]
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1500, "height": 1200})
        open_shot(page, studio, project.id, task)
        choose(page, 3, "brush-tool")
        drag(page, (0.2, 0.4), (0.2, 0.7))
        page.locator("[class*=arrow-right]").first.click()
        wait_for_picture(page, 1)
        choose(page, 3, "brush-tool")
        drag(page, (0.5, 0.4), (0.5, 0.7))
        wait_for_regions(page, 2)
        keep_screenshot(page, "shot")
        submit(page)
    assert pull(folder, client, project).changed == [name]
    video = open_source("video", folder).load(name)
    assert video.annotated == (0, 1)
    for position, x in ((0, 0.2), (1, 0.5)):
        (region,) = video.regions(position)
        assert (region.id, region.mask is not None) == ("3", True)
        where = np.argwhere(masks.decode(region.mask))  # type: ignore[arg-type]
        assert np.all(np.abs(where.mean(axis=0) - (0.55 * 120, x * 160)) < 4)
