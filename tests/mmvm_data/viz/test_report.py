"""The report in a real browser: what it shows must be what the cases say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from mmvm_data.core.types import Case
from mmvm_data.viz.report import write_report
from tests.builds import CATEGORIES, WIDTH, make_case, write_build
from tests.pages import PAGE, Open, Scheme, count, facet, ids


def source(case: Case) -> str:
    assert case.provenance
    return case.provenance.source


def test_first_page_shows_the_first_cases_with_their_pictures(
    report: Path, cases: list[Case], open_report: Open
) -> None:
    page = open_report(report)
    assert count(page) == len(cases)
    assert ids(page) == [case.id for case in cases[:PAGE]]
    assert report.parent.name in page.title()
    images = page.locator(".card img")
    expect(images).to_have_count(2 * PAGE)
    page.wait_for_load_state("load")
    sizes = images.evaluate_all("images => Promise.all(images.map(i => i.decode().then(() => i.naturalWidth)))")
    assert sizes == [WIDTH] * len(sizes)
    expect(page.locator(".card").nth(5).locator(".more")).to_have_text("+1")
    expect(images.first).to_have_attribute("alt", re.compile("Image 1: the query, person"))
    totals = page.locator("#totals").inner_text().split()
    kept = str(sum(case.review.state != "rejected" for case in cases))
    assert totals[:2] in ([kept, "cases"], ["cases", kept])
    assert {"rejected", str(len(cases) - int(kept))} <= set(totals)


def test_a_search_from_far_down_shows_its_first_result(report: Path, open_report: Open) -> None:
    page = open_report(report)
    page.evaluate("window.scrollTo({ top: document.body.scrollHeight })")
    page.locator("#search").fill("nothing is called so")
    expect(page.locator(".nothing")).to_be_in_viewport()
    page.locator("#search").fill("")
    expect(page.locator(".card").first).to_be_in_viewport()


FILTERS: list[tuple[dict[str, str], Callable[[Case], bool]]] = [
    ({"source": "davis"}, lambda c: source(c) == "davis"),
    ({"prompt": "box"}, lambda c: c.prompt == "box"),
    ({"candidates": "5"}, lambda c: len(c.candidates) == 5),
    ({"type": "3"}, lambda c: 3 in c.match_types),
    ({"review": "rejected"}, lambda c: c.review.state == "rejected"),
    ({"none": "none"}, lambda c: c.answer is None),
    ({"answer": "B"}, lambda c: c.letter == "B"),
    ({"alike": "2"}, lambda c: c.provenance is not None and c.provenance.look_alikes == 2),
    ({"category": CATEGORIES[1]}, lambda c: c.query[0].category == CATEGORIES[1]),
    (
        {"source": "ytvos", "type": "1", "none": "object"},
        lambda c: source(c) == "ytvos" and 1 in c.match_types and c.answer is not None,
    ),
]


@pytest.mark.parametrize(("chosen", "kept"), FILTERS, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_filters_keep_what_they_say(
    report: Path, cases: list[Case], open_report: Open, chosen: dict[str, str], kept: Callable[[Case], bool]
) -> None:
    page = open_report(report)
    for name, value in chosen.items():
        facet(page, name, value)
    wanted = [case.id for case in cases if kept(case)]
    assert 0 < len(wanted) < len(cases)
    assert ids(page) == wanted[:PAGE]
    assert count(page) == len(wanted)
    assert page.locator("#chips button").count() == len(chosen) + 1
    page.get_by_role("button", name="Clear all").click()
    assert count(page) == len(cases)


def test_two_values_of_one_filter_widen_it_and_counts_show_every_choice(
    report: Path, cases: list[Case], open_report: Open
) -> None:
    page = open_report(report)
    facet(page, "source", "davis")
    facet(page, "source", "mot17")
    assert count(page) == 80
    # the bars of a filter ignore its own choice, those of the others obey it
    expect(page.locator('[data-facet="source"] [data-value="ytvos"]')).to_contain_text("40")
    none = sum(case.answer is None and source(case) != "ytvos" for case in cases)
    expect(page.locator('[data-facet="none"] [data-value="none"]')).to_contain_text(str(none))
    facet(page, "source", "davis")
    assert count(page) == 40


def test_histograms_give_exact_values_and_work_from_the_keyboard(
    report: Path, cases: list[Case], open_report: Open
) -> None:
    page = open_report(report)
    bars = page.locator('[data-facet="candidates"] .column')
    expect(bars).to_have_count(7)
    for k in range(7):
        number = sum(len(case.candidates) == 2 + k for case in cases)
        expect(bars.nth(k)).to_have_attribute("aria-label", re.compile(rf"^{2 + k} candidates: {number} cases, "))
    bars.first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator('[data-facet="candidates"] h3 span')).to_contain_text("3 candidates: ")
    page.keyboard.press("Enter")
    assert count(page) == sum(len(case.candidates) == 3 for case in cases)
    expect(bars.nth(1)).to_have_attribute("aria-pressed", "true")


def test_search_finds_words_anywhere_in_a_case(report: Path, cases: list[Case], open_report: Open) -> None:
    page = open_report(report)
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("MARK CASE_000017")
    expect(page.locator("#count")).to_have_text("1 of 120 cases")
    assert ids(page) == ["case_000017"]
    page.locator("#search").fill("davis accepted")
    wanted = [case.id for case in cases if source(case) == "davis" and case.review.state == "accepted"]
    expect(page.locator("#count")).to_have_text(f"{len(wanted)} of 120 cases")
    page.locator("#search").fill("nothing like it")
    expect(page.locator("#cards")).to_have_text("No case matches.")
    page.keyboard.press("Escape")
    expect(page.locator("#search")).not_to_be_focused()


def test_orders_and_pages(report: Path, cases: list[Case], open_report: Open) -> None:
    page = open_report(report)
    page.locator("#sort").select_option("many")
    wanted = [case.id for case in sorted(cases, key=lambda case: -len(case.candidates))]
    assert ids(page) == wanted[:PAGE]
    page.locator("#pager").get_by_role("button", name="Next").click()
    assert ids(page) == wanted[PAGE : 2 * PAGE]
    page.get_by_label("Page", exact=True).fill("5")
    page.keyboard.press("Enter")
    assert ids(page) == wanted[4 * PAGE :]
    page.locator("#sort").select_option("shuffled")
    first = ids(page)
    assert len(set(first)) == PAGE
    assert first != [case.id for case in cases[:PAGE]]


def test_the_address_keeps_the_view(report: Path, open_report: Open) -> None:
    page = open_report(report)
    facet(page, "source", "davis")
    facet(page, "source", "mot17")
    page.locator("#search").fill("clip")
    page.locator("#sort").select_option("few")
    page.locator("#reveal").check()
    page.locator("#pager").get_by_role("button", name="Next").click()
    before, hash = ids(page), page.evaluate("location.hash")
    assert "source=davis&source=mot17" in hash
    again = open_report(report, hash.lstrip("#"))
    assert ids(again) == before
    assert again.locator("#reveal").is_checked()
    expect(again.locator("#search")).to_have_value("clip")
    again.evaluate("location.hash = 'source=davis'")
    expect(again.locator("#count")).to_have_text("40 of 120 cases")
    odd = open_report(report, "source=nowhere&page=-4&sort=toString&tab=x&case=none")
    assert count(odd) == 120


def test_large_view_shows_the_full_images_and_obeys_the_keyboard(
    report: Path, cases: list[Case], open_report: Open
) -> None:
    page = open_report(report)
    opener = page.locator(".card .pair").nth(4)
    opener.click()
    dialog = page.locator("#large")
    expect(dialog).to_be_visible()
    expect(page.locator("#large-name")).to_have_text("case_000004")
    images = dialog.locator("figure img")
    expect(images.first).to_have_attribute("src", "match_bench/case_000004/FRAME00.jpg")
    expect(images.nth(1)).to_have_attribute("src", "match_bench/case_000004/FRAME01_CAND.jpg")
    expect(images.nth(1)).to_have_attribute("alt", "Image 2: 6 numbered candidates")
    expect(dialog).to_contain_text(cases[4].question.strip())
    expect(dialog).to_contain_text("clip 4")
    assert "case=case_000004" in page.evaluate("location.hash")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#large-name")).to_have_text("case_000005")
    expect(dialog.locator("figure img")).to_have_count(3)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#large-name")).to_have_text("case_000003")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()
    expect(page).not_to_have_url(re.compile("case="))


def test_a_report_alone_falls_back_to_its_previews(report: Path, tmp_path: Path, open_report: Open) -> None:
    alone = tmp_path / "alone.html"
    alone.write_bytes(report.read_bytes())
    page = open_report(alone, "case=case_000002")
    images = page.locator("#large figure img")
    expect(page.locator("#large figcaption").first).to_contain_text("Preview only")
    assert images.first.evaluate("i => i.decode().then(() => i.naturalWidth)") == WIDTH
    assert (images.first.get_attribute("src") or "").startswith("data:image/webp")


def test_answers_stay_hidden_until_asked_for(report: Path, cases: list[Case], open_report: Open) -> None:
    page = open_report(report)
    expect(page.locator(".option.right")).to_have_count(0)
    card = page.locator(".card").nth(1)
    right, wrong = cases[1].letter, next(o.letter for o in cases[1].options if o.number != cases[1].answer)
    card.get_by_role("button", name=re.compile(f"^{wrong}, ")).click()
    expect(card.locator(".option.wrong")).to_have_text(re.compile(f"^{wrong}"))
    expect(card.locator(".option.right")).to_have_text(re.compile(f"^{right}"))
    page.locator(".card").nth(2).get_by_role("button", name=re.compile(f"^{cases[2].letter}, ")).click()
    expect(page.locator("#tally")).to_have_text("You: 1 of 2 right")
    expect(page.locator(".option.right")).to_have_count(2)
    page.locator("#reveal").check()
    shown = page.locator(".card .option.right b").all_text_contents()
    assert shown == [case.letter for case in cases[:PAGE]]
    expect(page.locator(".option.right").first).to_have_accessible_name(re.compile("right answer"))


def test_large_view_hides_what_tells_the_answer(report: Path, open_report: Open) -> None:
    page = open_report(report, "case=case_000003")
    expect(page.get_by_text("because of mark 3")).to_be_hidden()
    page.keyboard.press("r")
    expect(page.get_by_text("because of mark 3")).to_be_visible()
    expect(page.locator("#large .option.right")).to_have_count(1)
    page.get_by_role("button", name="Hide the answer").click()
    expect(page.get_by_text("because of mark 3")).to_be_hidden()
    expect(page.locator("#large .option.right")).to_have_count(0)


def test_rejects_and_build_are_listed(report: Path, open_report: Open) -> None:
    page = open_report(report, "tab=rejects")
    tables = page.locator("#rejects table")
    expect(tables.first).to_contain_text("file '…' is cut off")
    expect(tables.nth(1).locator("tbody tr")).to_have_count(4)
    expect(tables.nth(1)).to_contain_text("whole video")
    page.locator("#search").fill("x.png")
    expect(tables.nth(1).locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Build", exact=True).click()
    expect(page.locator("#build")).to_contain_text("<b>x</b>")
    expect(page.locator("#build table").first).to_contain_text("mot17")


@pytest.mark.parametrize("hash", ["", "tab=rejects", "tab=build", "case=case_000005&answers=1", "q=clip&source=davis"])
def test_a_narrow_screen_does_not_scroll_sideways(report: Path, open_report: Open, hash: str) -> None:
    page = open_report(report, hash, width=390, height=844)
    if not hash:
        page.get_by_text("Filters and histograms").click()
        expect(page.locator("#facets")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.getElementById('large-body').scrollWidth") <= 390


def test_fields_on_a_phone_do_not_make_it_zoom(report: Path, open_report: Open) -> None:
    """Safari on an iPhone zooms into a page whose field has text below 16 pixels when that gets the focus."""
    page = open_report(report, width=390, height=844)
    for field in ("#search", "#sort"):
        assert page.locator(field).evaluate("node => parseFloat(getComputedStyle(node).fontSize)") >= 16


def test_sources_of_a_recipe_are_columns(tmp_path: Path, open_report: Open) -> None:
    folder = write_build(tmp_path / "b", [make_case(1)])
    sources = [{"name": name, "quota": quota, "sampling": {"min_gap": 1}} for name, quota in (("a", 3), ("<b>", None))]
    (folder / "build.json").write_text(json.dumps({"request": {"recipe": {"sources": sources, "seed": 7}}}))
    page = open_report(write_report(folder), "tab=build")
    table = page.locator("#build table", has_text="source of the recipe")
    expect(table.locator("th")).to_have_text(["source of the recipe", "a", "<b>"])
    expect(table.locator("tbody tr")).to_have_count(2)
    expect(table.locator("tr", has_text="quota").locator("td")).to_have_text(["quota", "3", "\N{EN DASH}"])
    expect(page.locator("#build table").last.locator("tbody tr")).to_have_text(["request / recipe / seed7"])


def test_numbers_of_the_build_are_not_broken_on_a_phone(tmp_path: Path, open_report: Open) -> None:
    folder = write_build(tmp_path / "b", [make_case(1)])
    (folder / "build.json").write_text(json.dumps({"request": {"sampling": {"max_gap": 1000, "sizes": [4, 8]}}}))
    page = open_report(write_report(folder), "tab=build", width=390, height=844)
    line = page.locator("#build tr", has_text="max_gap")
    expect(line).to_have_text("request / sampling / max_gap1000")
    box = line.bounding_box()
    assert box and box["height"] < 40
    expect(page.locator("#build tr", has_text="sizes")).to_contain_text("4, 8")


def luminance(color: str) -> float:
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(report: Path, open_report: Open, scheme: Scheme) -> None:
    """Ratio of at least 4.5 (WCAG 2.1, success criterion 1.4.3)."""
    page = open_report(report, scheme=scheme)

    def color(name: str) -> float:
        value = page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
        return luminance(value if len(value) == 7 else "#" + "".join(c * 2 for c in value[1:]))

    soft = [("accent", "accent-soft"), ("right", "right-soft"), ("wrong", "wrong-soft"), ("accent", "panel")]
    for text, ground in [("ink", "panel"), ("ink", "page"), ("dim", "panel"), ("dim", "page"), *soft]:
        lighter, darker = sorted((color(text), color(ground)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)
