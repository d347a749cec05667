"""A command line of one source: what it would give, its recipe, and what it prints at its end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from mmvm_data.cli import cli
from mmvm_data.core.errors import UsageError
from mmvm_data.formats import bench
from tests.worlds import davis, tree
from tests.ytvis_files import make_content, write_files

SMALL = ["--min-area", "50", "--min-side", "5"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return davis(tmp_path / "DAVIS", videos=4, frames=5)


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["build", *map(str, words)])


def source(*words: object) -> list[object]:
    return ["--source", "davis", "--root", "DAVIS", *SMALL, *words]


def records(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    for record in found:
        record["provenance"]["extra"].pop("recipe_source", None)
    return found


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--max-cases", "5", "--seed", "7", "--max-gap", "0", "--quality", "80", "--none-share", "0.5"],
        ["--max-cases", "500", "--candidates", "4", "--cases-per-video", "2"],
        ["--variants", "--frame-rate", "12", "--min-seconds", "0.1", "--look-alikes", "any"],
    ],
    ids=["defaults", "limit", "limit above all", "variants"],
)
def test_the_saved_recipe_gives_the_same_cases(world: Path, tmp_path: Path, options: list[str]) -> None:
    done = run(*source(*options), "--out", "one", "--save-recipe", "recipes/r.yaml")
    assert "recipes/r.yaml: cannot write" in str(done.exception) and not (tmp_path / "one").exists()
    (tmp_path / "recipes").mkdir()
    done = run(*source(*options), "--out", "one", "--save-recipe", "recipes/r.yaml")
    assert done.exit_code == 0, done.output
    again = run("recipes/r.yaml", "--out", "two")
    assert again.exit_code == 0, again.output
    one, two = tmp_path / "one", tmp_path / "two"
    assert tree(one / bench.FOLDER) == tree(two / bench.FOLDER)
    assert (one / bench.TSV).read_bytes() == (two / bench.TSV).read_bytes()
    assert records(one) == records(two)
    assert yaml.safe_load((tmp_path / "recipes/r.yaml").read_text())["sources"][0]["root"] == "../DAVIS"


@pytest.mark.slow
def test_a_resistant_build_and_its_recipe_choose_the_same_cases(world: Path, tmp_path: Path) -> None:
    options = ["--resist", "--pool-factor", "2", "--max-cases", "6"]
    single = run(*source(*options), "--out", "one", "--save-recipe", "r.yaml")
    recipe = run("r.yaml", "--out", "two")
    assert single.exit_code == recipe.exit_code == 0
    printed = [done.output.partition("Cases by source")[0].splitlines() for done in (single, recipe)]
    shared = [[line for line in lines if " in " not in line and "rejects" not in line] for lines in printed]
    assert shared[0] == shared[1] and any("nearest_place" in line for line in shared[0])
    assert re.search(r"\| nearest_place \| \d+\.\d% \| \d+\.\d% \(", (tmp_path / "two/README.md").read_text())
    ordinals = [
        [(r["provenance"]["video"], r["provenance"]["ordinal"]) for r in records(tmp_path / name)]
        for name in ("one", "two")
    ]
    assert ordinals[0] == ordinals[1] and len(ordinals[0]) == 6


def test_another_recipe_is_not_replaced(world: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    assert run(*source(), "--out", "one", "--save-recipe", "r.yaml").exit_code == 0
    text = recipe.read_text()
    assert run(*source(), "--out", "one", "--resume", "--save-recipe", "r.yaml").exit_code == 0
    done = run(*source("--seed", "4"), "--out", "two", "--save-recipe", "r.yaml")
    assert isinstance(done.exception, UsageError) and "holds something else" in str(done.exception)
    assert recipe.read_text() == text and not (tmp_path / "two").exists()
    assert run(*source("--seed", "4"), "--out", "two", "--overwrite", "--save-recipe", "r.yaml").exit_code == 0
    assert yaml.safe_load(recipe.read_text())["seed"] == 4
    done = run("r.yaml", "--out", "three", "--save-recipe", "s.yaml")
    assert "--save-recipe must not be used with a recipe" in str(done.exception)


def test_a_dry_run_says_what_would_come_and_writes_nothing(world: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    done = run(*source("--max-cases", "500", "--cases-per-video", "2"), "--dry-run")
    assert done.exit_code == 0, done.output
    row = next(line for line in done.output.splitlines() if "davis" in line)
    assert [word for word in row.replace("│", " ").split() if word.isdigit()] == ["4", "500", "8", "8"]
    assert "source 'davis': 500 wanted, about 8 cases expected" in done.output
    facts = json.loads(run(*source("--max-cases", "500", "--cases-per-video", "2"), "--dry-run", "--json").stdout)
    assert facts["expected"] == 8 and facts["sources"][0]["wanted"] == 500 and len(facts["cannot_be_met"]) == 1
    both = run(*source(), "--dry-run", "--save-recipe", "r.yaml")
    assert both.exit_code == 2 and "writes nothing" in both.output
    assert tree(tmp_path) == before
    built = run(*source("--cases-per-video", "2"), "--out", "one")
    assert "8 cases from 4 videos" in built.output


def test_the_index_of_an_earlier_build_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "Y", make_content())
    words = ["--source", "ytvis", "--root", "Y", "--min-area", "20", "--min-side", "2", "--min-sharpness", "0"]
    assert run(*words, "--out", "one", "--save-recipe", "r.yaml").exit_code in (0, 3)
    (index,) = (tmp_path / ".one.index").iterdir()
    from mmvm_data.builders import ytvis

    def refuse(*_: object) -> None:
        raise AssertionError("the file is parsed again")

    monkeypatch.setattr(ytvis, "build_ytvis_index", refuse)
    stamp = index.stat().st_mtime_ns
    assert run(*words, "--out", "one", "--dry-run").exit_code == 0
    assert run("r.yaml", "--out", "one", "--dry-run").exit_code == 0
    assert isinstance(run(*words, "--dry-run").exception, AssertionError)
    assert run("r.yaml", "--out", "one", "--overwrite").exit_code in (0, 3)
    assert index.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("splits", [False, True])
def test_the_summary_as_json(world: Path, tmp_path: Path, splits: bool) -> None:
    words: list[object] = source("--none-share", "0.5")
    if splits:
        (tmp_path / "r.yaml").write_text(
            "sources: [{name: d, reader: davis, root: DAVIS}]\n"
            "sampling: {min_area: 50, min_side: 5}\nsplits: {train: 0.5, test: 0.5}\n"
        )
        words = ["r.yaml"]
    done = run(*words, "--out", "one", "--json", "--quiet")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["cases"] == 16 and summary["videos"] == 4 and summary["out"] == "one"
    name = "d" if splits else "davis"
    card = summary["card"]
    assert card["sources"][name]["cases"] == 16 and card["sources"][name]["videos"] == 4
    assert sum(card["difficulty"].values()) == 16 and card["sources"][name]["none"] == summary["none_cases"]
    assert card["audit"] == {"played": 16, "shortcuts": [], "summary": card["audit"]["summary"]}
    assert card["audit"]["summary"].startswith("too few videos to judge: 4")
    assert sum(summary["splits"].values()) == (16 if splits else 0)
    assert run(*words, "--out", "two", "--quiet").output == ""
    again = json.loads(run(*words, "--out", "one", "--resume", "--json").stdout)
    assert again["already_done"] and again["card"] is None and again["cases"] == 16


@pytest.mark.parametrize("splits", [False, True])
def test_no_case_is_exit_code_3_with_what_may_help(world: Path, tmp_path: Path, splits: bool) -> None:
    words = source("--min-sharpness", "100000")
    if splits:
        (tmp_path / "r.yaml").write_text(
            "sources: [{name: d, reader: davis, root: DAVIS}]\n"
            "sampling: {min_sharpness: 100000}\nsplits: {train: 0.5, test: 0.5}\n"
        )
        words = ["r.yaml"]
    done = run(*words, "--out", "one")
    assert done.exit_code == 3 and "another value of --min-sharpness may help" in done.stdout, done.output
    assert "--proposals" not in done.output
    done = run(*words, "--out", "two", "--json", "--quiet")
    assert done.exit_code == 3 and json.loads(done.stdout)["options_that_may_help"] == ["--min-sharpness"]
    done = run(*words, "--out", "three", "--quiet")
    assert done.exit_code == 3 and done.stdout == ""
    assert re.match(r"4 x no case in .* blurred\nno case came out: .*--min-sharpness may help\n$", done.stderr)
    dry = json.loads(run(*words, "--dry-run", "--json").stdout)
    assert dry["expected"] == 0 and dry["sources"][0]["at_most"] == 16


def test_the_card_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    davis(tmp_path / "DAVIS", videos=12, frames=5)
    done = run(*source("--cases-per-video", "3"), "--out", "one")
    lines = done.output.splitlines()
    row = next(line for line in lines if line.replace("│", " ").split()[:1] == ["davis"])
    assert row.replace("│", " ").split()[1:3] == ["36", "12"]
    (audit,) = [line for line in lines if line.startswith("audit: ")]
    assert re.search(r"blind baselines beat chance: nearest place \d+% \(chance \d+%\)", audit)
    steps = [line.split()[2] for line in lines if line.startswith("next: ")]
    assert steps == ["validate", "report", "audit"]
    (tmp_path / "r.yaml").write_text(
        "sources: [{name: d, reader: davis, root: DAVIS}]\nsampling: {min_area: 50, min_side: 5}\n"
        "splits: {train: 0.5, test: 0.5}\nreview: {overlap: 2, annotators: [ann, bob]}\n"
    )
    lines = run("r.yaml", "--out", "two").output.splitlines()
    steps = [line.partition("  #")[0].rstrip() for line in lines if line.startswith("next: ")]
    assert steps[0] == "next: mmvm-data validate two/train"
    assert steps[-1] == "next: mmvm-data review push two/train --overlap 2 --annotators ann,bob"
