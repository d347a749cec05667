"""Commands: documented, helpful, and whole roads through them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pandas as pd
import pytest
from click.testing import CliRunner

from colva.cli import main as colva
from mmvm_data import cli
from mmvm_data.core.errors import UsageError
from mmvm_data.core.types import Review
from mmvm_data.formats import bench, sft
from mmvm_data.formats.revisions import revise
from mmvm_data.io import console
from mmvm_data.io.lazy_group import LazyGroup
from tests.worlds import davis, tree

DOCS = Path(__file__).resolve().parents[2]
COMMANDS = cli.cli.load_commands()


def invoke(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli.cli, [str(a) for a in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    world = davis(folder / "world", videos=4)
    invoke("build", "--source", "davis", "--root", world, "--out", folder / "bench", "--min-area", 100)
    return folder / "bench"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_commands_are_documented_and_have_help(command: str) -> None:
    pages = "".join(p.read_text() for p in [DOCS / "README.md", *sorted((DOCS / "docs").glob("*.md"))])
    assert f"mmvm-data {command}" in pages
    assert COMMANDS[command].help
    invoke(command, "--help")


def test_options_in_the_pages_exist() -> None:
    pages = (DOCS / "docs/dataset-engineer.md").read_text()
    known = {option for command in COMMANDS.values() for p in command.params for option in p.opts}
    assert set(re.findall(r"--[a-z][a-z-]+", pages)) <= known


def test_sources_list_their_layout() -> None:
    facts = json.loads(invoke("sources", "--json"))
    assert {"davis", "davis2016", "ytvos", "mose", "ytvis", "ovis", "lvvis", "uvo", "sav", "mot17", "video"} <= set(
        facts
    )
    assert all(f["layout"] and f["license"] and f["tested_on"] for f in facts.values())
    assert "YouTube-VOS" in invoke("sources")


def test_a_build_is_valid_and_counted(built: Path) -> None:
    assert "no problems" in invoke("validate", built, "--deep")
    assert json.loads(invoke("validate", built, "--json"))["problems"] == []
    counts = json.loads(invoke("stats", built, "--json"))
    assert counts["cases"] == len(list(bench.read(built)))
    assert "cases" in invoke("stats", built)


def test_problems_are_listed_and_the_exit_code_is_one(built: Path, tmp_path: Path) -> None:
    invoke("export", built, "--to", "bench", "--out", tmp_path / "copy")
    (tmp_path / "copy/match_bench/case_000001/FRAME01_ORI.jpg").unlink()
    assert "case_000001" in invoke("validate", tmp_path / "copy", code=1)


def test_a_check_reports_its_progress(built: Path, tmp_path: Path) -> None:
    cases = len(list(bench.read(built)))
    calls: list[tuple[int, int | None]] = []
    bench.validate(built, progress=lambda done, of: calls.append((done, of)))
    assert calls == [(k + 1, cases) for k in range(cases)]
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    (copy / "cases.jsonl").unlink()
    calls.clear()
    bench.validate(copy, progress=lambda done, of: calls.append((done, of)))
    assert calls[-1] == (cases, None)


def test_exports(built: Path, tmp_path: Path) -> None:
    invoke("export", built, "--to", "bench", "--out", tmp_path / "bench")
    assert tree(tmp_path / "bench/match_bench") == tree(built / "match_bench")
    invoke("export", built, "--to", "vlmevalkit", "--out", tmp_path / "vlm")
    table = pd.read_csv(tmp_path / "vlm/mmvm_vlmevalkit.tsv", sep="\t")
    assert len(table) == len(list(bench.read(built)))
    invoke("export", built, "--to", "sft", "--out", tmp_path / "sft")
    records = list(sft.read(tmp_path / "sft/match_records.json"))
    assert len(records) == len(table)
    assert all(c.letter for c in records)
    talks = json.loads((tmp_path / "sft/match_conversations.json").read_text())
    assert all(t["conversations"][0]["value"].startswith("Image-1: <image>\nImage-2: <image>\n") for t in talks)


def test_rejected_cases_are_no_problem_and_are_not_exported(built: Path, tmp_path: Path) -> None:
    invoke("export", built, "--to", "bench", "--out", tmp_path / "copy")
    cases = list(bench.read(tmp_path / "copy"))
    revise(tmp_path / "copy", {cases[0].id: cases[0].model_copy(update={"review": Review(state="rejected")})})
    assert "no problems" in invoke("validate", tmp_path / "copy", "--deep")
    for kind in ("bench", "sft", "vlmevalkit"):
        invoke("export", tmp_path / "copy", "--to", kind, "--out", tmp_path / kind)
    left = [case.id for case in cases[1:]]
    assert [case.id for case in bench.read(tmp_path / "bench")] == left
    assert [record["id"] for record in json.loads((tmp_path / "sft/match_records.json").read_text())] == left
    assert len(pd.read_csv(tmp_path / "vlmevalkit/mmvm_vlmevalkit.tsv", sep="\t")) == len(left)


def test_report_is_one_file(built: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "r.html") in invoke("report", built, "--out", tmp_path / "r.html")
    assert "<script" in (tmp_path / "r.html").read_text()


def test_generated_videos_can_be_built(tmp_path: Path) -> None:
    small = ("--videos", 2, "--frames", 4, "--width", 320, "--height", 180)
    for layout in ("ytvos", "ytvis"):
        output = invoke("synth", tmp_path / layout, "--layout", layout, *small)
        assert f"--source {layout}" in output
        invoke("build", "--source", layout, "--root", tmp_path / layout, "--out", tmp_path / f"{layout}-bench")
        assert "no problems" in invoke("validate", tmp_path / f"{layout}-bench")


def test_an_export_does_not_overwrite_a_benchmark(built: Path, tmp_path: Path) -> None:
    before = tree(built)
    refused = CliRunner().invoke(cli.cli, ["export", str(built), "--to", "bench", "--out", str(built)])
    assert isinstance(refused.exception, UsageError) and "holds a benchmark already" in str(refused.exception)
    assert tree(built) == before
    invoke("export", built, "--to", "bench", "--out", tmp_path / "copy")
    again = CliRunner().invoke(cli.cli, ["export", str(built), "--to", "bench", "--out", str(tmp_path / "copy")])
    assert isinstance(again.exception, UsageError)


def test_videos_that_cannot_be_written_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["mmvm-data", "synth", str(tmp_path / "file/videos"), "--videos", "1"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "cannot write: Not a directory" in capsys.readouterr().err


def test_generated_videos_are_the_same_by_any_number_of_workers(tmp_path: Path) -> None:
    small = ("--videos", 3, "--frames", 3, "--width", 320, "--height", 180, "--objects", 2, 4)
    for workers in (1, 2):
        output = invoke("synth", tmp_path / f"by {workers}", "--workers", workers, *small)
        assert shlex.quote(str(tmp_path / f"by {workers}")) in output
    assert tree(tmp_path / "by 1") == tree(tmp_path / "by 2")


def test_a_folder_without_a_benchmark_is_an_error_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["stats"], ["report"], ["export", "--to", "sft", "--out", str(tmp_path / "o")]):
        monkeypatch.setattr(sys, "argv", ["mmvm-data", *arguments, str(tmp_path)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        output = capsys.readouterr().err
        assert output.startswith("error") and len(output.splitlines()) == 1


def test_short_helps_are_not_truncated() -> None:
    assert "..." not in invoke("--help").split("Commands:")[1]


def test_every_option_has_a_help_text() -> None:
    for name, command in COMMANDS.items():
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{name} {option.name}"


def test_the_version_names_the_program() -> None:
    assert isinstance(cli.cli, click.Group)
    assert "mmvm-data" in invoke("--version")


@pytest.mark.parametrize("program", [cli.cli, colva], ids=["mmvm-data", "colva"])
def test_listed_short_helps_are_those_of_the_commands(program: LazyGroup) -> None:
    listed = {name: entry.short_help for name, entry in program.lazy_commands.items()}
    assert listed == {name: command.get_short_help_str(200) for name, command in program.load_commands().items()}


@pytest.mark.parametrize("module", ["mmvm_data.cli", "colva.cli"])
def test_the_command_line_starts_without_the_libraries_of_its_commands(module: str) -> None:
    heavy = ["cv2", "torch", "transformers", "pydantic", "numpy", "mmvm_data.builders", "mmvm_data.pipeline"]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        console.run_command(cli.cli, "mmvm-data", ["bild"])
    assert stop.value.code == 2
    assert "No such command 'bild'" in capsys.readouterr().err
