"""One page over a folder: everything in it is listed, linked and drawn; damaged files are named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from click.testing import CliRunner

from colva.cli import main
from colva.evaluation.reports.charts import CURVE_HEIGHT, CURVE_WIDTH, make_curve
from colva.evaluation.reports.overview import find_folders, write_overview
from mmvm_data.core.errors import InputError, UsageError
from tests.colva.evaluation.worlds import folder_of


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder_of(tmp_path / "a bench", 6)
    for name in ("random", "first"):
        words = ["eval", "--bench", str(tmp_path / "a bench"), "--model", name, "--out", str(tmp_path / "runs" / name)]
        assert CliRunner().invoke(main, words).exit_code == 0
    stage = tmp_path / "stage1"
    (stage / "checkpoint-10").mkdir(parents=True)
    lines = [{"step": 0, "eval_loss": 2.0}, {"step": 5, "loss": 1.5}, {"step": 10, "loss": 1.0, "eval_loss": 1.25}]
    (stage / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (stage / "checkpoint-10" / "log.jsonl").write_text("not looked at")
    return tmp_path


def test_everything_is_found_and_every_link_leads_somewhere(place: Path) -> None:
    page = place / "pages" / "index.html"
    page.parent.mkdir()
    overview = write_overview(place, page)
    assert [folder.name for folder in overview.evaluations] == ["first", "random"]
    assert [folder.name for folder in overview.trainings] == ["stage1"]
    assert [folder.name for folder in overview.benchmarks] == ["a bench"]
    text = page.read_text(encoding="utf-8")
    links = re.findall(r'<a href="([^"]+)"', text)
    images = [link for link in links if link.endswith(".jpg")]
    assert len(links) - len(images) == 2
    assert all((page.parent / unquote(link)).is_file() for link in links)
    assert "loss: 1.5 to 1, held out 2 to 1.25" in text


def test_comparisons_and_what_the_audit_found_are_linked(place: Path) -> None:
    runs = [str(place / "runs" / name) for name in ("random", "first")]
    assert CliRunner().invoke(main, ["compare", *runs, "--out", str(place / "comparison.html")]).exit_code == 0
    audit = place / "a bench" / "audit.json"
    for shortcuts, shown in ((["same_size", "largest"], "same size, largest"), ([], "none")):
        audit.write_text(json.dumps({"shortcuts": shortcuts}))
        assert write_overview(place, place / "index.html").comparisons == (place / "comparison.html",)
        text = (place / "index.html").read_text(encoding="utf-8")
        assert f'<a href="a%20bench/audit.json">{shown}</a>' in text
        assert '<a href="comparison.html">' in text
    audit.write_text("{}")
    with pytest.raises(InputError, match=r"audit\.json: shortcuts: the names of baselines"):
        write_overview(place, place / "index.html")


def test_the_command_says_where_the_page_is(place: Path) -> None:
    result = CliRunner().invoke(main, ["overview", str(place)])
    assert result.exit_code == 0 and "index.html" in result.output
    assert (place / "index.html").is_file()


def test_a_log_cut_off_by_a_kill_is_read_and_a_damaged_one_named(place: Path) -> None:
    log = place / "stage1" / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"step": 15, "lo')
    write_overview(place, place / "index.html")
    log.write_text("{\n" + whole)
    with pytest.raises(InputError, match=r"log\.jsonl: line 1: not JSON"):
        write_overview(place, place / "index.html")
    log.write_text('{"loss": 1}\n' + whole)
    with pytest.raises(InputError, match="an object with a step is expected"):
        write_overview(place, place / "index.html")


def test_an_empty_folder_is_no_overview(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no benchmark, training run or evaluation"):
        write_overview(tmp_path, tmp_path / "index.html")
    assert find_folders(tmp_path).trainings == ()


def test_a_curve_stays_inside_its_frame() -> None:
    curve = make_curve("loss", [(0, 0.0), (3, 7.5), (10, 2.5)], [(10, 3.0)])
    points = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", curve.line)
    assert len(points) == 3
    for x, y in (*points, *curve.dots):
        assert 0 <= float(x) <= CURVE_WIDTH and 0 <= float(y) <= CURVE_HEIGHT


def change_scores(place: Path, **intervals: tuple[float, float, float]) -> None:
    """Write value, low and high of some runs, and 0.25 as chance."""
    for name, values in intervals.items():
        path = place / "runs" / name / "scores.json"
        scores = json.loads(path.read_text())
        scores["overall"] |= dict(zip(("value", "low", "high"), values, strict=True))
        path.write_text(json.dumps(scores | {"chance": 0.25}))


def test_evaluations_are_a_ladder_with_a_sentence_and_two_cases(place: Path) -> None:
    runs = [str(place / "runs" / name) for name in ("random", "first")]
    change_scores(place, random=(0.2, 0.1, 0.25), first=(0.9, 0.8, 0.95))
    write_overview(place, place / "index.html")
    text = (place / "index.html").read_text(encoding="utf-8")
    sentence = "first is right in 90.0 % of 6 cases (80.0 to 95.0): above chance (25.0 %), random (20.0 %)."
    assert sentence in text
    table = text[text.index(sentence) :]
    assert table.index(">random<") < table.index(">first<")
    cards = re.findall(r'<article class="card" data-case="([^"]+)" data-wrong="([^"]*)"', text)
    predictions = [json.loads(line) for line in (Path(runs[1]) / "predictions.jsonl").read_text().splitlines()]
    assert 1 <= len(cards) <= 2 and {case for case, _ in cards} <= {prediction["id"] for prediction in predictions}
    # the right one of the best run comes first, the wrong one second
    assert [("1" in wrong.split()) for _, wrong in cards] in ([False, True], [False], [True])
    assert text.count('class="answer ') == 2 * len(cards), "each run's answer is shown"


def test_what_is_not_clearly_better_is_said(place: Path) -> None:
    change_scores(place, random=(0.3, 0.2, 0.4), first=(0.3, 0.2, 0.4))
    write_overview(place, place / "index.html")
    text = (place / "index.html").read_text(encoding="utf-8")
    assert re.search(r"\(20\.0 to 40\.0\): not clearly above chance \(25\.0 %\), \w+ \(30\.0 %\)\.", text)


def test_a_model_that_was_trained_here_is_what_the_sentence_and_the_cases_are_about(place: Path) -> None:
    (place / "random").mkdir()
    (place / "random" / "log.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    change_scores(place, random=(0.5, 0.4, 0.55), first=(0.9, 0.8, 0.95))
    write_overview(place, place / "index.html")
    text = (place / "index.html").read_text(encoding="utf-8")
    sentence = "random is right in 50.0 % of 6 cases (40.0 to 55.0): above chance (25.0 %); below first (90.0 %)."
    assert sentence in text
    answers = re.findall(r'<article class="card".*?</article>', text, re.S)
    assert answers and all(answer.index("first") < answer.index("random") for answer in answers)
