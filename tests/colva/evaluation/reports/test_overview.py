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
    assert len(links) == 2
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
