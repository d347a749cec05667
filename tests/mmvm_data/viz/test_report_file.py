"""The report as a file: hostile text, missing pictures, other sets, many cases, errors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import expect

from mmvm_data.cases import prompts
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.io.pages import script_json
from mmvm_data.viz.report import MAX_REJECTS, write_report
from tests.builds import make_case, make_reject, write_build
from tests.pages import PAGE, Open, count, ids, node_count

HOSTILE = '</script><img src=x onerror="window.hit=1"><!--<script>window.hit=2</script>\u2028\'&lt;"`${1}'


def test_hostile_text_stays_text(tmp_path: Path, open_report: Open) -> None:
    case = make_case(1)
    assert case.provenance
    query = tuple(region.model_copy(update={"category": HOSTILE}) for region in case.query)
    origin = case.provenance.model_copy(update={"source": HOSTILE, "video": HOSTILE, "extra": {"a": HOSTILE}})
    hostile = make_case(
        1, query=query, provenance=origin, question=HOSTILE, rationale=HOSTILE, id="__proto__", extra={"b": HOSTILE}
    )
    folder = write_build(tmp_path / "<i>name", [hostile, make_case(2)], [make_reject(1, HOSTILE)])
    (folder / "build.json").write_text(json.dumps({HOSTILE: HOSTILE}), encoding="utf-8")
    page = open_report(write_report(folder), "answers=1")
    card = page.locator(".card").first
    for place in (card.locator(".facts"), card.locator(".first"), page.locator('[data-facet="source"]')):
        expect(place).to_contain_text(HOSTILE)
    expect(page.locator("h1")).to_have_text("<i>name")
    card.locator(".pair").click()
    expect(page.locator("#large .question").first).to_contain_text(HOSTILE)
    expect(page.locator("#solution")).to_contain_text(HOSTILE)
    page.keyboard.press("Escape")
    page.locator('[data-facet="source"] .line', has_text="script").click()
    assert count(page) == 1
    for tab in ("Rejects", "Build"):
        page.get_by_role("button", name=tab, exact=True).click()
        expect(page.locator(f"#{tab.lower()}")).to_contain_text(HOSTILE)
    assert page.evaluate("window.hit") is None
    assert page.locator('img[src="x"]').count() == 0


def test_missing_and_broken_images_are_shown_as_missing(tmp_path: Path, open_report: Open) -> None:
    folder = write_build(tmp_path / "b", [make_case(i) for i in range(4)])
    (folder / "match_bench/case_000000/FRAME00.jpg").write_bytes(b"")
    (folder / "match_bench/case_000001/FRAME00.jpg").write_bytes(b"no picture")
    for name in ("FRAME00.jpg", "FRAME00_ORI.jpg"):
        (folder / "match_bench/case_000002" / name).unlink()
    (folder / "match_bench/case_000003/FRAME00.jpg").unlink()  # the clean one still shows
    page = open_report(write_report(folder))
    expect(page.locator(".card .gone")).to_have_text(["picture missing"] * 3)
    expect(page.locator(".card").nth(3).locator("img")).to_have_count(2)


def test_dense_screens_get_the_files_while_these_are_beside_the_page(tmp_path: Path, open_report: Open) -> None:
    """A preview is 240 pixels wide; two images over a phone's width want about 360 there."""
    case = make_case(1)
    frames = tuple(frame.model_copy(update={"width": 800, "height": 450}) for frame in case.frames)
    folder = write_build(tmp_path / "b", [make_case(1, frames=frames)])
    for name in ("FRAME00.jpg", "FRAME01_CAND.jpg"):
        cv2.imwrite(str(folder / "match_bench/case_000001" / name), np.full((450, 800, 3), 90, np.uint8))
    report = write_report(folder)
    phone = {"width": 390, "height": 844}
    sharp = open_report(report, density=2, **phone).locator(".card img")
    expect(sharp.nth(0)).to_have_attribute("src", re.compile("case_000001/FRAME00.jpg$"))
    expect(sharp.nth(1)).to_have_attribute("src", re.compile("case_000001/FRAME01_CAND.jpg$"))
    coarse = open_report(report, density=1, **phone)
    coarse.wait_for_timeout(300)
    alone = tmp_path / "alone.html"
    alone.write_bytes(report.read_bytes())
    moved = open_report(alone, density=2, **phone)
    moved.wait_for_timeout(300)
    for page in (coarse, moved):
        expect(page.locator(".card img").nth(1)).to_have_attribute("src", re.compile("^data:image/webp"))
        expect(page.locator(".card img").nth(1)).to_have_js_property("naturalWidth", 240)


def test_long_names_and_many_options_stay_inside_their_card(tmp_path: Path, open_report: Open) -> None:
    many = tuple(make_case(2).candidates[0].model_copy(update={"number": k}) for k in range(1, 38))
    wide = make_case(
        2, id="case_" + "x" * 90, candidates=many, options=prompts.build_options(range(1, 38), 17), answer=17
    )
    page = open_report(write_report(write_build(tmp_path / "b", [wide])), "answers=1", width=390, height=844)
    card = page.locator(".card").bounding_box()
    assert card
    for part in (".first b", ".facts", ".option"):
        for box in [found.bounding_box() for found in page.locator(f".card {part}").all()]:
            assert box and box["x"] >= card["x"] and box["x"] + box["width"] <= card["x"] + card["width"], part


def test_a_set_without_our_records_is_shown_from_its_table(
    tmp_path: Path, cases: list[Case], open_report: Open
) -> None:
    folder = tmp_path / "published"
    masked = [case for case in cases if case.prompt == "mask" and len(case.frames) == 2][:5]
    bench.write(masked, folder, root=write_build(tmp_path / "b", masked))
    (folder / "cases.jsonl").unlink()
    (folder / "match_bench" / masked[1].id / "FRAME00.json").write_text("[", encoding="utf-8")
    page = open_report(write_report(folder))
    assert ids(page) == [case.id for case in masked if case is not masked[1]]
    expect(page.locator(".card img")).to_have_count(8)
    expect(page.locator("#totals")).to_contain_text("problem")
    page.get_by_role("button", name="Rejects").click()
    expect(page.locator("#rejects table").first).to_contain_text(masked[1].id)


def test_five_thousand_cases_keep_the_page_small(tmp_path: Path, open_report: Open) -> None:
    report = write_report(write_build(tmp_path / "many", [make_case(i) for i in range(5000)]))
    page = open_report(report, "source=davis")
    assert count(page) == 1667
    few = node_count(page)
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator("#count")).to_have_text("5,000 cases")
    for turn in range(6):
        page.locator("#sort").select_option("shuffled" if turn % 2 else "many")
        page.locator("#pager").get_by_role("button", name="Next").click()
        expect(page.locator(".card img")).to_have_count(2 * PAGE)
        assert node_count(page) < few + 400
    assert few < 2500
    page.locator("#search").fill("mark 4999")
    expect(page.locator("#count")).to_have_text("1 of 5,000 cases")
    assert ids(page) == ["case_004999"]


def test_report_elsewhere_refers_to_the_images_by_a_relative_path(
    report: Path, tmp_path: Path, open_report: Open
) -> None:
    out = write_report(report.parent, tmp_path / "out.html")
    page = open_report(out, "case=case_000001")
    expect(page.locator("#large figure img").first).to_have_attribute("src", re.compile(r"^\.\./.*FRAME00\.jpg$"))
    assert str(report.parent.parent) not in out.read_text(encoding="utf-8")


def test_writing_is_repeatable_atomic_and_reports_progress(report: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    before = report.read_bytes()
    assert write_report(report.parent, progress=lambda done, of: calls.append((done, of))) == report
    assert report.read_bytes() == before
    assert calls[-1] == (120, 120)
    assert calls == sorted(calls)
    folder = write_build(tmp_path / "b", [make_case(0)])
    with open(folder / "cases.jsonl", "a", encoding="utf-8") as handle:
        handle.write("{\n")
    with pytest.raises(InputError, match="line 2"):
        write_report(folder)
    assert not [path.name for path in folder.iterdir() if "report" in path.name]
    with pytest.raises(InputError, match="is not a folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(OutputError):
        write_report(report.parent, tmp_path / "nowhere" / "report.html")


@pytest.mark.parametrize("path", ["../x/FRAME00_ORI.jpg", "/etc/passwd", "a/../../b.jpg", "."])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    case = make_case(0)
    frames = (case.frames[0].model_copy(update={"path": path}), *case.frames[1:])
    folder = write_build(tmp_path / "b", [make_case(0, frames=frames)])
    with pytest.raises(InputError, match="case_000000"):
        write_report(folder)


def test_many_rejects_are_cut_and_counted(tmp_path: Path, open_report: Open) -> None:
    folder = write_build(tmp_path / "b", [], [make_reject(i) for i in range(MAX_REJECTS + 7)])
    page = open_report(write_report(folder), "tab=rejects")
    expect(page.locator("#rejects")).to_contain_text("The first 5,000 of 5,007 rejects are listed here")
    expect(page.locator("#rejects table").nth(1).locator("tbody tr")).to_have_count(200)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#rejects table").nth(1).locator("tbody tr")).to_have_count(1200)


def test_script_json_cannot_end_its_element() -> None:
    text = script_json([HOSTILE, "\ud800"])
    assert "<" not in text
    assert text.isascii()
    assert json.loads(text) == [HOSTILE, "\ud800"]
