"""A disk that becomes full while a command writes: one line with the name of what cannot be written, exit code 2."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mmvm_data.formats import bench
from tests.colva.evaluation.worlds import folder_of
from tests.fuzz.trial import check_output, run_words

FORMS = ("bench", "vlmevalkit", "sft", "hub", "webdataset")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("full") / "b", 6)


def run_limited(words: list[str], limit: int, result: Path) -> tuple[int | None, str, str]:
    """Run a command in a process whose files may not grow beyond ``limit`` bytes, as on a disk without room."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            os.write(writing, json.dumps(run_words("mmvm-data", words)[:3]).encode()[:60_000])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        code, problem, stderr = json.loads(answer.read())
    os.waitpid(child, 0)
    return code, problem, stderr


@pytest.mark.parametrize("limit", [0, 1000, 2000])
@pytest.mark.parametrize("form", FORMS)
def test_export(folder: Path, tmp_path: Path, form: str, limit: int) -> None:
    if form == "hub":
        pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    words = ["export", str(folder), "--to", form, "--out", str(out)]
    code, problem, stderr = run_limited(words, limit, tmp_path)
    assert (code, problem) == (2, ""), stderr
    assert stderr.startswith(f"error: {out}")
    assert "File too large" in stderr or "cannot write" in stderr
    if form in ("hub", "webdataset"):  # written beside their place as a whole
        assert not [path.name for path in tmp_path.rglob("*") if path.is_file()], "what was begun is removed"


def test_a_full_disk_under_the_output_itself(folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mmvm_data.cli", "stats", str(folder)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert check_output(2, done.stderr) == "", done.stderr
    assert "No space left on device" in done.stderr


def test_an_error_that_no_command_expects_names_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error", "/data/x.bin")

    monkeypatch.setattr(bench, "validate", fail)
    code, problem, stderr, *_ = run_words("mmvm-data", ["validate", str(folder)])
    assert (code, problem) == (2, "")
    assert stderr == "error: /data/x.bin: Input/output error\n"


def test_characters_that_an_encoding_lacks_do_not_stop_a_command(folder: Path, tmp_path: Path) -> None:
    lines = (folder / bench.CASES).read_text().splitlines()
    record = json.loads(lines[0])
    record["provenance"]["source"] = "\udcff\x1b[31m"
    (tmp_path / bench.CASES).write_text(json.dumps(record) + "\n")
    code, problem, stderr, *_ = run_words("mmvm-data", ["stats", str(tmp_path)])
    assert not problem, stderr
    assert code in (0, 2)
