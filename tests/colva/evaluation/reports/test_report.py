"""The report, opened in a browser: what it says is what was scored, and nothing in it can break it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Page

from colva.cli import main
from colva.evaluation import runs
from colva.evaluation.ask import ask_questions
from colva.evaluation.models.base import ModelAdapter, ModelOptions, Reply
from colva.evaluation.models.baselines import open_model
from colva.evaluation.question import AskOptions
from colva.evaluation.reports.report import write_report
from colva.evaluation.scoring import published
from colva.evaluation.scoring.compare import compare_runs
from colva.evaluation.scoring.outcomes import ScoredRun
from colva.evaluation.scoring.score_run import score_run
from mmvm_data.formats import bench
from tests.colva.evaluation.worlds import ScriptedModel, folder_of
from tests.pages import Open

EVIL = "</script><script>document.title='broken'</script><img src=x onerror=alert()> & \"B\""


def run(model: ModelAdapter, folder: Path, out: Path, **ask_options: object) -> ScoredRun:
    options_of_run = AskOptions(**ask_options)  # type: ignore[arg-type]
    with runs.open_run(out, runs.run_config(folder, options_of_run, model), overwrite=False):
        ask_questions(model, folder, options_of_run, out)
        return score_run(out)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of a benchmark of 30 cases: ``one`` with planted replies, ``two`` at random."""
    place = tmp_path_factory.mktemp("a world")
    folder = folder_of(place / "b", 30)
    replies = {case.id: Reply(case.letter) for case in bench.read(folder)}
    replies["case_000003"] = Reply(EVIL, why=EVIL)
    replies["case_000004"] = Reply("", error="status 500 <b>")
    replies["case_000005"] = Reply("I cannot. Cannot determine the answer")
    wrong = next(
        o.letter for c in bench.read(folder) if c.id == "case_000006" for o in c.options if o.letter != c.letter
    )
    replies["case_000006"] = Reply(wrong)
    one = run(ScriptedModel(replies, name="one <i>"), folder, place / "one")
    two = run(open_model("random", ModelOptions()), folder, place / "two", num_variants=2)
    write_report([(place / "one", one)], place / "one/report.html", {place / "one": folder})
    both = [(place / "one", one), (place / "two", two)]
    write_report(both, place / "both.html", {f: folder for f, _ in both}, compare_runs([one, two]))
    return place


def shown(page: Page) -> list[str]:
    return page.locator("#gallery .card:visible").evaluate_all("cards => cards.map(c => c.dataset.case)")


def test_the_page_says_what_was_scored(world: Path, open_report: Open) -> None:
    page = open_report(world / "one/report.html")
    summary = json.loads((world / "one" / runs.SCORES).read_text())
    assert page.title() == "one <i> on b"
    totals = page.locator(".totals").inner_text()
    assert f"{100 * summary['overall']['value']:.1f} %" in totals
    assert summary["overall"]["hits"] == 26
    rows = page.locator("section").first.locator("table").first.locator("tbody tr")
    assert rows.count() == 2 + len(published.OVERALL)
    assert rows.nth(0).locator("td").all_inner_texts()[4:8] == ["30", "1", "1", "1"]
    texts = rows.all_inner_texts()
    assert sum("published" in text for text in texts) == len(published.OVERALL)
    page.locator("summary", has_text="what each part of CoLVA adds").click()
    added = page.locator("details[open] tbody tr").all_inner_texts()
    assert [float(text.split()[-1]) for text in added] == list(published.ABLATION.values())
    assert any(re.search(r"GPT-4o\s+published\s+42\.65\s+1,510", text) for text in texts)
    types = page.locator("table", has_text="match type").locator("tbody tr")
    assert types.count() == len(summary["by"]["type"])
    for text, (name, row) in zip(types.all_inner_texts(), summary["by"]["type"].items(), strict=True):
        assert text.split()[0] == name
        assert text.split()[-1] == str(row["n"])
    confusion = page.locator(".confusion")
    total = sum(int(cell) for cell in confusion.locator("td:last-child").all_inner_texts())
    assert total == 30


def test_wrong_answers_are_shown_with_images_and_replies(world: Path, open_report: Open) -> None:
    page = open_report(world / "one/report.html")
    assert shown(page) == ["case_000003", "case_000004", "case_000005", "case_000006"]
    card = page.locator('[data-case="case_000003"]')
    assert card.locator("pre").all_inner_texts() == [EVIL, EVIL]
    images = card.locator("img")
    images.first.scroll_into_view_if_needed()
    assert images.evaluate_all("imgs => Promise.all(imgs.map(i => i.decode().then(() => i.naturalWidth)))") == [80, 80]
    link = card.locator(".pair a").nth(1).get_attribute("href")
    assert (world / "one" / link).resolve().name == "FRAME01_CAND.jpg"
    assert (world / "one" / link).resolve().is_file()
    assert "status 500 <b>" in page.locator('[data-case="case_000004"]').inner_text()
    for why, case in (("unread", 3), ("no reply", 4), ("refused", 5), ("another option", 6)):
        page.select_option("#by-why", why)
        assert shown(page) == [f"case_{case:06d}"]
    page.select_option("#by-why", "")
    page.select_option("#by-type", "CL")
    assert set(shown(page)) < {"case_000003", "case_000004", "case_000005", "case_000006"}


def test_runs_side_by_side(world: Path, open_report: Open) -> None:
    page = open_report(world / "both.html")
    heads = page.locator("h2").all_inner_texts()
    assert "random against one <i>" in heads
    assert "Options moved round, 30 cases, up to 2 times" in page.locator("h3").all_inner_texts()
    every = shown(page)
    page.select_option("#by-run", "0")
    assert len(shown(page)) == 4 < len(every)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_narrow_dark_page_does_not_scroll_sideways(world: Path, open_report: Open) -> None:
    page = open_report(world / "both.html", width=420, scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_missing_images_are_shown_as_missing(world: Path, open_report: Open, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 3)
    scored = run(ScriptedModel({}), folder, tmp_path / "run")
    for image in folder.rglob("FRAME00.jpg"):
        image.unlink()
    write_report([(tmp_path / "run", scored)], tmp_path / "r.html", {tmp_path / "run": folder}, max_cases=1)
    page = open_report(tmp_path / "r.html")
    assert page.locator(".gone").first.inner_text() == "picture missing"
    assert re.search(r": 1 of \d, spread over the benchmark", page.locator("#gallery h2").inner_text())


def test_the_same_run_gives_the_same_page(world: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        result = CliRunner().invoke(
            main, ["compare", str(world / "one"), str(world / "two"), "--out", str(tmp_path / name)]
        )
        assert result.exit_code == 0, result.output
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
