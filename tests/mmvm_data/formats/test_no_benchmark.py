"""Folders that hold benchmarks, or none: every command says which folder it wants instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mmvm_data.cli import cli
from mmvm_data.core.errors import InputError
from mmvm_data.formats import bench
from mmvm_data.formats.bench_check import validate
from mmvm_data.formats.open_benchmark import open_benchmark
from tests.builds import make_case, write_build

COMMANDS = (
    "export FOLDER --to sft --out OUT",
    "export FOLDER --to coco --out OUT",
    "report FOLDER",
    "audit FOLDER",
    "stats FOLDER",
    "diff FOLDER FOLDER",
    "cues FOLDER",
    "rationale FOLDER",
    "import FOLDER",
    "merge FOLDER --out OUT",
    "sample FOLDER --n 1 --out OUT",
)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splits")
    for k, name in enumerate(("train", "test")):
        write_build(folder / name, [make_case(k)])
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_of_splits_is_no_benchmark(command: str, splits: Path, tmp_path: Path) -> None:
    words = [{"FOLDER": str(splits), "OUT": str(tmp_path / "out")}.get(word, word) for word in command.split()]
    error = CliRunner().invoke(cli, words).exception
    assert isinstance(error, InputError), error
    assert str(error).startswith(f"{splits}: holds no benchmark, neither cases.jsonl nor mllm_match_eval_full.tsv: ")
    assert str(error).endswith("expected one of the benchmarks in it, test, train")
    assert not (tmp_path / "out").exists()


def test_other_readers(splits: Path, tmp_path: Path) -> None:
    hint = "expected one of the benchmarks in it, test, train"
    for read in (lambda: list(bench.read(splits)), lambda: open_benchmark(splits)):
        with pytest.raises(InputError, match=hint):
            read()
    (problem,) = validate(splits).problems
    assert hint in problem.what
    with pytest.raises(InputError, match="expected the output of a build"):
        list(bench.read(tmp_path))
    (tmp_path / "match_bench").mkdir()
    with pytest.raises(InputError, match="an unfinished build"):
        list(bench.read(tmp_path))
