"""The audit in a report, enlarged images, copied ids, and cases with many options."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import expect

from mmvm_data.cases import prompts
from mmvm_data.cli import cli
from mmvm_data.core.types import Candidate, Case, Region
from mmvm_data.viz.report import write_report
from tests.builds import make_case, write_build
from tests.pages import Open

MANY = 29
OFFERED = 26
"""Options of a case with that many candidates: one for each letter."""


def case_with_many_options(i: int) -> Case:
    regions = [Region(id=str(k), box=(2.5 * k, 4, 2, 5), category="person") for k in range(MANY)]
    candidates = tuple(Candidate(number=k + 1, region=region) for k, region in enumerate(regions))
    options = prompts.build_options(range(1, MANY + 1), MANY)
    return make_case(i, candidates=candidates, options=options, answer=MANY)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with its audit; the first case has 29 candidates and the last of them is right."""
    cases = [case_with_many_options(1), *(make_case(i) for i in range(2, 60))]
    folder = write_build(tmp_path_factory.mktemp("panels"), cases)
    build = {"counts": {"cases": len(cases)}, "shortfalls": ["balance.none: <i>few</i> disappear"]}
    (folder / "build.json").write_text(json.dumps(build))
    done = CliRunner().invoke(cli, ["report", str(folder)])
    assert done.exit_code == 0, done.output
    return folder / "report.html"


def test_the_tab_audit_has_findings_and_counts(report: Path, open_report: Open) -> None:
    page = open_report(report, "tab=audit")
    panel = page.locator("#audit")
    expect(page.locator("#search")).to_be_hidden()
    sources = panel.locator("table").first
    row = sources.locator("tr", has_text="davis").locator("td").all_text_contents()
    own = [i for i in range(1, 60) if i % 3 == 0 and i % 5 != 4]
    levels = [sum(i % 4 in alike for i in own) for alike in ((0,), (1, 2), (3,))]
    assert row[1] == str(len(own)) and row[3:6] == [str(level) for level in levels]
    expect(panel).to_contain_text("balance.none: <i>few</i> disappear")
    baselines = panel.locator("table").nth(1)
    expect(baselines).to_contain_text("nearest place")
    assert baselines.locator("svg.score").count() == baselines.locator("tbody tr").count() > 5
    expect(baselines.locator("svg.score").first).to_have_accessible_name(re.compile(r"^[\d.]+ % to [\d.]+ %, chance"))


def test_a_report_without_an_audit_says_so(report: Path, tmp_path: Path, open_report: Open) -> None:
    page = open_report(write_report(report.parent, tmp_path / "r.html"), "tab=audit")
    expect(page.locator("#audit")).to_contain_text("written without an audit")


@pytest.mark.parametrize("width", [1366, 390])
def test_many_options_do_not_swamp_a_card(report: Path, open_report: Open, width: int) -> None:
    page = open_report(report, width=width, height=768)
    card = page.locator('[data-case="case_000001"]')
    options = card.locator(".option:not(.rest)")
    expect(options).to_have_count(12)
    heights = page.locator(".options").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert heights[0] <= 4 * 40
    card.get_by_role("button", name="A, object 1").click()
    letters = options.locator("b").all_text_contents()
    assert letters == [*"ABCDEFGHIJKL", "Y"], "the right option is shown too"
    card.get_by_role("button", name="13 more").click()
    expect(options).to_have_count(OFFERED)
    expect(card.locator(".rest")).to_have_count(0)
    expect(page.locator('[data-case="case_000005"] .rest')).to_have_count(0)


def test_the_large_view_has_all_options(report: Path, open_report: Open) -> None:
    page = open_report(report, "case=case_000001")
    expect(page.locator("#large .option")).to_have_count(OFFERED)


def test_images_are_enlarged_together(report: Path, open_report: Open) -> None:
    page = open_report(report, "case=case_000002")
    expect(page.locator("#zoom")).to_have_text("100 %")
    expect(page.locator("#smaller")).to_be_disabled()
    pane = page.locator(".pane").first
    height = pane.evaluate("pane => pane.clientHeight")
    for _ in range(2):
        page.keyboard.press("+")
    expect(page.locator("#zoom")).to_have_text("300 %")
    sizes = page.locator(".pane").evaluate_all("all => all.map(p => [p.scrollWidth / p.clientWidth, p.clientHeight])")
    assert all(abs(share - 3) < 0.1 for share, _ in sizes) and abs(sizes[0][1] - height) <= 1
    middle = pane.evaluate("p => (p.scrollLeft + p.clientWidth / 2) / p.scrollWidth")
    assert abs(middle - 0.5) < 0.05
    box = pane.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = pane.evaluate("p => [p.scrollLeft, p.scrollTop]")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y + 30, steps=3)
    page.mouse.up()
    assert pane.evaluate("p => [p.scrollLeft, p.scrollTop]") == [before[0] + 60, before[1] - 30]
    assert len(page.context.pages) == 1, "a picture that was moved is not opened"
    pane.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#large-name")).to_have_text("case_000002")
    page.get_by_role("button", name="Smaller").click()
    expect(page.locator("#zoom")).to_have_text("200 %")
    page.locator("#next").click()
    expect(page.locator("#large-name")).to_have_text("case_000003")
    expect(page.locator("#zoom")).to_have_text("100 %")


def test_ids_are_copied(report: Path, open_report: Open) -> None:
    page = open_report(report)
    page.evaluate("window.setTimeout = () => 0")  # or it would say so for a second and a half only
    button = page.get_by_role("button", name="Copy case_000003")
    button.hover()
    button.click()
    expect(button).to_have_text("copied")
    page.locator("#search").focus()
    page.keyboard.press("Control+V")
    expect(page.locator("#search")).to_have_value("case_000003")
    page = open_report(report, "case=case_000004")
    page.evaluate("window.setTimeout = () => 0")
    page.locator("#large-copy").get_by_role("button").click()
    expect(page.locator("#large-copy button")).to_have_text("copied")


@pytest.mark.parametrize("hash", ["tab=audit", "case=case_000001&answers=1", "answers=1"])
@pytest.mark.parametrize("width", [1366, 390])
def test_nothing_scrolls_sideways(report: Path, open_report: Open, hash: str, width: int) -> None:
    page = open_report(report, hash, width=width, height=768)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.getElementById('large-body').scrollWidth") <= width
