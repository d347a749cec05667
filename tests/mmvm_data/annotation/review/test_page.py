"""The real page in a real browser: what a person changes is what comes back, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from playwright.sync_api import Page

from mmvm_data import cli
from mmvm_data.core import masks
from mmvm_data.core.masks import decode
from mmvm_data.formats import bench
from mmvm_data.formats.revisions import revise
from mmvm_data.formats.tsv import read_rows
from tests.browser import open_browser
from tests.mmvm_data.annotation.conftest import Studio, tasks_of
from tests.mmvm_data.annotation.editor_page import drag_mouse, keep_screenshot, log_in, submit
from tests.mmvm_data.annotation.review.grids import write_grids
from tests.worlds import tree

pytestmark = [pytest.mark.xdist_group("label-studio"), pytest.mark.slow]


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(cli.cli, [str(a) for a in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def open_queue(page: Page, studio: Studio, project: int) -> None:
    """Open what "Label all tasks" opens, and close the instructions."""
    page.goto(f"{studio.url}/projects/{project}/data?labeling=1")
    instructions = page.get_by_text("Labeling Instructions")
    instructions.wait_for()
    while instructions.is_visible():  # the window listens to keys a little after it is shown
        page.keyboard.press("Escape")
        page.wait_for_timeout(100)
    page.wait_for_selector(".mmvm-side img")


def wait_for_case(page: Page, options: int) -> None:
    """Wait for a case with this number of options and no verdict yet, with its proposal ticked and its images there."""
    page.wait_for_function(
        """options => {
            const boxes = [...document.querySelectorAll('.mmvm-ask input[type=checkbox]')];
            const images = [...document.querySelectorAll('.mmvm-marks img')];
            const places = JSON.stringify(images.map(image => image.getBoundingClientRect()));
            const isStill = places === window.lastPlaces;  // since the frame before
            window.lastPlaces = places;
            return isStill && images.length === document.querySelectorAll('.mmvm-marks .mmvm-side').length
                && images.every(image => image.complete && image.naturalWidth && image.offsetWidth > 1)
                && boxes.length === options + 4 && boxes.filter(box => box.checked).length === 1
                && boxes.slice(0, 4).every(box => !box.checked);
        }""",
        arg=options,
    )


def press_keys(page: Page, *keys: str) -> list[str]:
    """Press keys on the page of a case and return what is ticked then."""
    for key in keys:
        page.keyboard.press(key)
    ticked: list[str] = page.evaluate("[...document.querySelectorAll('.mmvm input:checked')].map(box => box.name)")
    return ticked


def submit_with_keys(page: Page) -> None:
    with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as answer:
        page.keyboard.press("Control+Enter")
    assert answer.value.status == 201


def open_task(page: Page, studio: Studio, project: int, task: int) -> None:
    log_in(page, studio)
    page.goto(f"{studio.url}/projects/{project}/data?task={task}")
    page.wait_for_selector(".mmvm-side img")
    page.wait_for_function("[...document.querySelectorAll('.mmvm-side img')].every(i => i.complete && i.naturalWidth)")


def tick(page: Page, text: str) -> None:
    page.locator(".mmvm-ask label, .mmvm-why label").filter(has_text=text).first.click()


def paint(page: Page, number: str, box: tuple[float, float, float, float]) -> None:
    """A stroke of the brush on the clean last image; ``box`` is from and to, as shares of its sides."""
    page.locator(".ant-collapse-header").first.click()
    side = page.locator(".ant-collapse .mmvm-side").nth(1)
    side.locator(".lsf-label").filter(has=page.locator(f".lsf-label__text:text-is('{number}')")).click()
    side.locator("button[aria-label=brush-tool]").click()
    image = side.locator("img").first
    image.evaluate("image => image.scrollIntoView({block: 'center'})")
    place = image.bounding_box()
    assert place is not None
    at = [(place["x"] + x * place["width"], place["y"] + y * place["height"]) for x, y in (box[:2], box[2:])]
    drag_mouse(page, *at)


def test_a_person_changes_a_case(built: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.server.token)
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    output = invoke("review", "push", built)
    assert "4 new" in output
    assert studio.server.token not in output
    client = studio.client()
    project = client.find_project(built.name)
    assert project is not None
    task = tasks_of(client, project)["case_000000"]
    before, files = {c.id: c for c in bench.read(built)}, tree(built)
    case = before["case_000000"]
    other = next(o for o in case.options if o.number not in (None, case.answer))
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 1400})
        open_task(page, studio, project.id, task["id"])
        tick(page, f"{other.letter}. {other.number}")
        tick(page, "OM object markers")
        paint(page, "1", (0.5, 0.85, 0.6, 0.85))
        tick(page, "Fix: I changed something")
        keep_screenshot(page, "page")
        submit(page)
    assert "1 of 4 tasks done (25 %)" in invoke("review", "status", built)
    assert json.loads(invoke("review", "status", built, "--json"))["people"] == {studio.server.user: 1}
    assert "1 case changed" in invoke("review", "pull", built)

    now = {c.id: c for c in bench.read(built)}
    assert {n for n in now if now[n] != before[n]} == {"case_000000"}
    fixed = now["case_000000"]
    assert (fixed.answer, fixed.match_types, fixed.rationale) == (other.number, (*case.match_types, 8), case.rationale)
    assert fixed.review.state == "fixed"
    assert fixed.review.seconds
    assert fixed.candidates[1:] == case.candidates[1:]
    assert [r.mask for r in fixed.query] == [r.mask for r in case.query]
    old, new = (decode(c.candidates[0].region.mask) for c in (case, fixed))  # type: ignore[arg-type]
    added = np.argwhere(new & ~old.astype(bool))
    assert not (old & ~new.astype(bool)).any()
    height, width = new.shape
    assert len(added) > 20
    assert np.all(np.abs(added.mean(axis=0) - (0.85 * height, 0.55 * width)) < 4)

    # the folder, the table and the training records show exactly that
    folder = "match_bench/case_000000"
    drawn = json.loads((built / folder / "FRAME01_CAND.json").read_text())
    assert [item["rle"]["counts"] for item in drawn] == [c.region.mask.counts for c in fixed.candidates]  # type: ignore[union-attr]
    after = tree(built)
    changed = {name for name in files if after[name] != files[name]}
    query = {f"{folder}/FRAME00.json"}  # names the track of the answer
    cand = {f"{folder}/FRAME01_CAND.jpg", f"{folder}/FRAME01_CAND.json"}
    assert changed == {bench.CASES, bench.TSV} | query | cand
    row = next(iter(read_rows(built / bench.TSV))).cells
    assert (row["answer"], row["match_type"]) == (other.letter, repr(list(fixed.match_types)))
    assert bench.validate(built, deep=True).problems == []
    invoke("export", built, "--to", "sft", "--out", built.with_name("sft"))
    record = json.loads((built.with_name("sft") / "match_records.json").read_text())[0]
    right = next(c.region for c in fixed.candidates if c.number == fixed.answer)
    assert record["pos_annotations"][-1][0]["counts"] == right.mask.counts  # type: ignore[union-attr]
    assert masks.area(right.mask) > 0  # type: ignore[arg-type]

    assert "0 cases changed" in invoke("review", "pull", built)
    assert tree(built) == after
    assert "left alone" in invoke("review", "push", built)


def test_text_that_was_typed_but_not_added_is_not_lost(
    built: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The editor adds the text of a field when the annotation is submitted; this test fails should it stop doing so."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.server.token)
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    cases = {case.id: case for case in bench.read(built)}
    revise(built, {"case_000001": cases["case_000001"].model_copy(update={"rationale": "old text"})})
    invoke("review", "push", built)
    client = studio.client()
    project = client.find_project(built.name)
    assert project is not None
    tasks = tasks_of(client, project)
    with open_browser() as browser:
        for name in ("case_000000", "case_000001", "case_000002"):
            page = browser.new_page(viewport={"width": 1600, "height": 1400})  # each logs in on its own
            open_task(page, studio, project.id, tasks[name]["id"])
            if name == "case_000002":
                tick(page, "Reject the case")
                page.locator("input[placeholder='Why is it rejected?'], textarea[placeholder^='Why is it']").click()
                page.keyboard.type("too blurred")
            else:
                tick(page, "Fix: I changed something")
                if name == "case_000001":
                    page.locator(".mmvm-why button:has(svg)").first.click()
                    page.keyboard.press("Control+A")
                else:
                    page.locator(".mmvm-why textarea").first.click()
                page.keyboard.type(f"typed for {name}")
            submit(page)
    assert "3 cases changed" in invoke("review", "pull", built)
    now = {case.id: case for case in bench.read(built)}
    assert [now[f"case_00000{k}"].rationale for k in (0, 1)] == [f"typed for case_00000{k}" for k in (0, 1)]
    assert now["case_000002"].review.reason == "too blurred"


def test_keys_are_the_same_with_4_6_and_29_candidates(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two keys accept a case; verdict, question, answers and both images are visible without scrolling."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.server.token)
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    folder = studio.files / "key-grids"
    write_grids(folder, (4, 6, 9, 29))
    invoke("review", "push", folder)
    project = studio.client().find_project(folder.name)
    assert project is not None
    # the hardest first: the one with the most candidates
    pressed = [["o", "m", "Control+Alt+2", "f"], ["0", "n"], ["3", "c", "z", "f"], ["a"]]
    ticked = [
        ["Fix: I changed something", "L. 12", "Without marks", "Zoom to the objects", "CL colour"],
        ["Not sure", "J. None of the above choices are correct", "CL colour"],
        ["Fix: I changed something", "C. 3", "SZ size"],
        ["Accept", "B. 2", "CL colour"],
    ]
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        log_in(page, studio)
        open_queue(page, studio, project.id)
        for count, keys, boxes in zip((26, 10, 7, 5), pressed, ticked, strict=True):
            wait_for_case(page, count)
            for label in page.locator(".mmvm-ask label").all():
                box = label.bounding_box()
                assert box is not None and box["y"] + box["height"] < 700
            places = image_places(page)
            assert len(places) == 2 and all(p["y"] > 0 and p["y"] + p["height"] < 718 for p in places)  # the bar's top
            query, last = places
            assert query["x"] + query["width"] < last["x"] and last["x"] + last["width"] < 1366
            assert last["width"] > 800 and last["height"] / last["width"] == pytest.approx(360 / 640, abs=0.01)
            keep_screenshot(page, f"keys{count}")
            assert press_keys(page, *keys) == boxes
            submit_with_keys(page)
    tasks = tasks_of(studio.client(), project).values()
    stored = {result["from_name"] for task in tasks for result in task["annotations"][0]["result"]}
    assert {"verdict", "answer"} <= stored and "look" not in stored  # how a page is looked at is no annotation
    assert "4 cases changed" in invoke("review", "pull", folder)
    now = list(bench.read(folder))
    assert [case.review.state for case in now] == ["accepted", "fixed", "unsure", "fixed"]
    assert [case.answer for case in now] == [2, 3, 2, 12]
    assert [case.match_types for case in now] == [(1,), (4,), (1,), (1,)]


def test_wide_images_with_brushes_can_be_seen(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key takes the marks away; side panels come with the fold and hide no image; brushes in the closed fold are no
    errors; and the browser asks nobody but the server."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.server.token)
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    folder = studio.files / "wide-grids"
    write_grids(folder, (29,))
    answers = folder.with_suffix(".jsonl")
    lines = [{"id": "case_000000", "model": f"model {k}", "answer": letter} for k, letter in enumerate("BBC")]
    answers.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    invoke("review", "push", folder, "--masks", "brush", "--predictions", answers)
    answers.unlink()
    assert "1 unchanged" in invoke("review", "push", folder, "--masks", "brush")  # the answers are kept
    project = studio.client().find_project(folder.name)
    assert project is not None
    (task,) = tasks_of(studio.client(), project).values()
    assert task["data"]["disagreement"] == 0.33
    errors: list[str] = []
    hosts: set[str] = set()
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: hosts.add(request.url.partition("?")[0]))
        open_task(page, studio, project.id, task["id"])
        page.mouse.move(700, 400)
        page.wait_for_timeout(3000)
        assert errors == []
        assert [url for url in hosts if not url.startswith((studio.url, "data:", "blob:"))] == []
        panels = page.locator(".lsf-sidepanels__wrapper_align_right")
        assert not panels.is_visible()
        keep_screenshot(page, "wide")
        assert visible_images(page) == [True, True, False, False]
        rooms = page.evaluate(f"{MARKS}.map(image => image.offsetWidth)")
        places = page.evaluate(f"{MARKS}.map(image => JSON.stringify(image.getBoundingClientRect()))")
        assert places[:2] == places[2:]  # so that a key takes the marks away, and nothing moves
        page.keyboard.press("o")
        assert visible_images(page) == [False, False, True, True]
        page.keyboard.press("o")
        assert visible_images(page) == [True, True, False, False]
        page.locator(".ant-collapse-header").first.click()
        panels.wait_for(state="visible")
        page.wait_for_timeout(1000)
        room, panel, submit = (
            element.bounding_box()
            for element in (
                page.locator(".mmvm-originals .mmvm-side").last,
                panels,
                page.get_by_role("button", name="Submit").first,
            )
        )
        assert room is not None and panel is not None and submit is not None
        shown = image_places(page)
        assert all(box["x"] + box["width"] <= panel["x"] for box in (room, submit, *shown))
        keep_screenshot(page, "masks")
        assert page.evaluate(f"{MARKS}.map(image => image.offsetWidth)") == rooms  # or the editor would change its zoom
        assert errors == []
        page.goto(f"{studio.url}/projects/{project.id}/data")
        column = page.get_by_text("disagreement", exact=True)
        column.wait_for()
        keep_screenshot(page, "tasks")
        place = column.bounding_box()
        assert place is not None and place["x"] + place["width"] < 1300  # the type of the column stands beside it


def test_three_images_fit_and_are_zoomed_together(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key enlarges query and candidate in the middle of their images, by one factor, and changes nothing else; a case
    of two images shows its last one once, on a page for three."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.server.token)
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    folder = studio.files / "three-grids"
    write_grids(folder, (25, 6), num_images=3)
    invoke("review", "push", folder)
    project = studio.client().find_project(folder.name)
    assert project is not None
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        log_in(page, studio)
        open_queue(page, studio, project.id)  # the case of three images has more candidates, and comes first
        wait_for_case(page, 26)
        places = image_places(page)
        assert len(places) == 3 and all(p["y"] > 0 and p["y"] + p["height"] < 718 for p in places)
        assert all(p["x"] + p["width"] < places[2]["x"] and p["width"] > 300 for p in places[:2])
        keep_screenshot(page, "three")
        ticked = press_keys(page)
        assert press_keys(page, "m") == [*ticked[:1], "Zoom to the objects", *ticked[1:]]
        keep_screenshot(page, "three-zoom")
        factor = 0.5 / (44 / 360)  # the side of an object is the larger share of its image's height
        widths = [factor * place["width"] for place in places]
        middle = [place["x"] + place["width"] / 2 for place in places]
        for number, pointed in ((2, None), (15, "O. 15")):
            if pointed:
                page.locator(f".mmvm-answer label:has(input[name='{pointed}'])").hover()
            centers = [(10 + (n - 1) % 10 * 62 + 22) / 640 for n in (2, 2, number)]
            page.wait_for_function(
                f"""([widths, centers, middle]) => {MARKS}.slice(0, 3).every((image, k) => {{
                    const place = image.getBoundingClientRect();
                    return Math.abs(place.width / widths[k] - 1) < 0.01
                        && Math.abs(place.x + place.width * centers[k] - middle[k]) < 3;
                }})""",
                arg=[widths, centers, middle],
            )
        assert "Zoom to the objects" in press_keys(page) and press_keys(page, "m") == ticked
        assert image_places(page) == places
        press_keys(page, "a")
        submit_with_keys(page)
        wait_for_case(page, 7)
        assert visible_images(page) == [True, False, True, False, False, False]


MARKS = "[...document.querySelectorAll('.mmvm-marks img')]"
"""The images with their marks, then those without."""


def image_places(page: Page) -> list[dict[str, float]]:
    """Where the images are that are shown, in the window."""
    shown = f"{MARKS}.filter(image => image.checkVisibility({{opacityProperty: true}}))"
    places: list[dict[str, float]] = page.evaluate(f"{shown}.map(image => image.getBoundingClientRect().toJSON())")
    return places


def visible_images(page: Page) -> list[bool]:
    answer: list[bool] = page.evaluate(f"{MARKS}.map(image => image.checkVisibility({{opacityProperty: true}}))")
    return answer
