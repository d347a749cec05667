"""Pipes and devices where files are expected: no command waits for them or reads them for ever."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.annotation.labelstudio.client import Project
from mmvm_data.annotation.review import push
from mmvm_data.core.errors import InputError
from tests.colva.evaluation.worlds import folder_of
from tests.fuzz import trial
from tests.fuzz.trial import run_words
from tests.worlds import davis

SECONDS = 20
FRAME = "match_bench/case_000000/FRAME00.jpg"
CLEAN = "match_bench/case_000000/FRAME01_ORI.jpg"
FORMS = ("bench", "vlmevalkit", "sft", "hub", "webdataset")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS: dict[str, Callable[[Path], None]] = {"pipe": make_pipe, "device": make_device}


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "HANG_SECONDS", SECONDS)


@pytest.fixture(params=KINDS)
def replace(request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    def replace_file(path: Path) -> Path:
        path.unlink(missing_ok=True)
        KINDS[request.param](path)
        return path

    return replace_file


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipes")
    folder_of(folder / "b", 3)
    davis(folder / "s", videos=2, frames=3, size=(60, 160))
    return folder


@pytest.fixture
def inputs(originals: Path, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "inputs"
    shutil.copytree(originals, folder)
    yield folder
    shutil.rmtree(folder)


def run(program: str, *words: object) -> str:
    """Run a command; what it must not do, a hang among it, fails."""
    _, problem, stderr, *_ = run_words(program, [str(word) for word in words])
    assert not problem, problem
    return stderr


@pytest.mark.parametrize("folder", ["JPEGImages", "Annotations"])
def test_a_frame_or_a_mask_of_a_source(
    inputs: Path, tmp_path: Path, replace: Callable[[Path], Path], folder: str
) -> None:
    path = replace(sorted((inputs / "s" / folder).rglob("*.*"))[0])
    words = ("--source", "davis", "--root", inputs / "s", "--out", tmp_path / "out", "--min-area", 50)
    run("mmvm-data", "build", *words)
    rejects = (tmp_path / "out/rejects.jsonl").read_text()
    assert path.name in rejects and "regular file" in rejects
    assert len((tmp_path / "out/cases.jsonl").read_text()) > 0, "other videos are built"


@pytest.mark.parametrize("name", [FRAME, CLEAN, "cases.jsonl", "build.json", "rejects.jsonl"])
@pytest.mark.parametrize(
    "command", ["validate --deep", "stats", "report", "audit --workers 1", "cues", "rationale", "diff"], ids=str
)
def test_a_file_of_a_benchmark(inputs: Path, replace: Callable[[Path], Path], command: str, name: str) -> None:
    replace(inputs / "b" / name)
    name, *options = command.split()
    run("mmvm-data", name, inputs / "b", *options, *([inputs / "b"] if name == "diff" else []))


@pytest.mark.parametrize("name", [FRAME, CLEAN])
@pytest.mark.parametrize("form", FORMS)
def test_an_image_of_an_export(
    inputs: Path, tmp_path: Path, replace: Callable[[Path], Path], form: str, name: str
) -> None:
    if form == "hub":
        pytest.importorskip("pyarrow")
    replace(inputs / "b" / name)
    run("mmvm-data", "export", inputs / "b", "--to", form, "--out", tmp_path / "out")


@pytest.mark.parametrize("name", [FRAME, "cases.jsonl"])
def test_a_file_of_an_evaluated_benchmark(
    inputs: Path, tmp_path: Path, replace: Callable[[Path], Path], name: str
) -> None:
    replace(inputs / "b" / name)
    run("colva", "eval", "--bench", inputs / "b", "--model", "largest", "--out", tmp_path / "run")


def test_an_export_that_is_pulled(inputs: Path, replace: Callable[[Path], Path]) -> None:
    stderr = run("mmvm-data", "review", "pull", inputs / "b", "--export", replace(inputs / "export.json"))
    assert stderr.startswith("error: ") and "export.json" in stderr


@pytest.mark.parametrize("name", [FRAME, CLEAN])
def test_an_image_that_is_pushed(
    inputs: Path, replace: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    problems = []

    def push_each(client: Any, project: Any, key: str, items: Any, build: Any, **_: Any) -> None:
        for case_id, case in items:
            try:
                build(case)
            except InputError as error:
                problems.append((case_id, str(error)))

    monkeypatch.setattr(push, "ensure_project", lambda *_: Project(1, "x", ""))
    monkeypatch.setattr(push, "connect_images", lambda *_: None)
    monkeypatch.setattr(push, "serve_folder", lambda *_: None)
    monkeypatch.setattr(push, "push_tasks", push_each)
    replace(inputs / "b" / name)
    push.push(inputs / "b", None, "x")  # type: ignore[arg-type]
    ((case_id, reason),) = problems
    assert case_id == "case_000000" and Path(name).name in reason
