"""Output of the commands: summaries, next steps and the list of sources."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from mmvm_data.builders import SOURCES
from mmvm_data.builders.commands import print_sources
from mmvm_data.io import console
from mmvm_data.pipeline.build import BuildResult
from mmvm_data.recipes.build_output import print_build_summary


def result(out: Path, **other: object) -> BuildResult:
    facts = {"cases": 48, "none_cases": 8, "rejects": 0, "bad_inputs": 0, "videos": 12, "seconds": 2.0}
    return BuildResult(out=out, **(facts | other))  # type: ignore[arg-type]


def next_lines(output: str) -> list[list[str]]:
    return [shlex.split(line.removeprefix("next:"), comments=True) for line in output.splitlines() if "next:" in line]


def test_a_summary_has_counts_the_folder_and_next_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my bench [1]"
    print_build_summary(result(out), 0.1)
    output = capsys.readouterr().out
    assert f"48 cases from 12 videos in 2.0 s (24.0 a second): {out}\n" in output
    assert '"none of the above" in 8 of them' in output
    assert next_lines(output) == [["mmvm-data", "validate", str(out)], ["mmvm-data", "report", str(out)]]


def test_one_case_is_singular_and_no_cases_have_no_next_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_build_summary(result(tmp_path, cases=1, none_cases=0, videos=1, rejects=1), 0.1)
    output = capsys.readouterr().out
    assert "1 case from 1 video " in output and "1 reject, " in output and "none of the above" not in output
    print_build_summary(result(tmp_path, cases=0, none_cases=0), 0.1)
    output = capsys.readouterr().out
    assert "no case came out" in output and "next:" not in output and "may help" not in output
    reasons = (("video cannot be opened", 5), ("no case in 32 pairs of frames, mostly: the query is blurred", 4))
    print_build_summary(result(tmp_path, cases=0, none_cases=0, rejects=9, common_reasons=reasons), 0.1)
    output = capsys.readouterr().out
    assert "another value of --min-sharpness may help" in output and "--proposals" not in output
    reasons = (("no case in 32 pairs of frames, mostly: no further object is clearly visible in both images", 2),)
    print_build_summary(result(tmp_path, cases=0, none_cases=0, rejects=2, common_reasons=reasons), 0.1)
    output = capsys.readouterr().out
    assert "--min-area, --min-side, --max-occlusion may help" in output
    assert "videos of one object each need --proposals, or --min-candidates 1" in output


def test_a_missed_none_share_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_build_summary(result(tmp_path, none_cases=1), 0.25)
    assert "too few objects disappear" in capsys.readouterr().out


def test_next_steps_can_be_typed_when_the_program_is_not_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "bin/mmvm-data"
    there.parent.mkdir()
    there.write_text("#!/bin/sh\n")
    there.chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", [str(there)])
    assert console.program_name() == str(there)
    monkeypatch.setenv("PATH", str(there.parent))
    assert console.program_name() == "mmvm-data"
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert console.program_name() == "mmvm-data"


def test_sources_fit_80_columns_without_splitting_urls_and_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_sources()
    output = capsys.readouterr().out
    assert max(len(line) for line in output.splitlines()) <= 80
    words = output.split()
    assert {spec.page for spec in SOURCES.values() if spec.page} <= set(words)
    assert set(SOURCES) <= set(words)
