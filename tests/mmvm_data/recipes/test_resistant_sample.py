"""``sample --resist``: the chosen cases as a benchmark, the scores beside it, refusals before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from mmvm_data.cli import cli
from mmvm_data.core.errors import InputError
from mmvm_data.core.options import OptionError
from mmvm_data.formats import bench
from mmvm_data.recipes.resistant_sample import sample_resistant
from tests.builds import HEIGHT, WIDTH, make_case


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """40 cases with images in their own folders."""
    folder = tmp_path / "pool"
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    encoded = cv2.imencode(".jpg", image)[1].tobytes()
    lines = []
    for i in range(40):
        case = make_case(i)
        own = f"match_bench/{case.id}"
        frames = tuple(f.model_copy(update={"path": f"{own}/FRAME{f.index:02d}_ORI.jpg"}) for f in case.frames)
        (folder / own).mkdir(parents=True)
        for frame in frames:
            (folder / frame.path).write_bytes(encoded)
        lines.append(case.model_copy(update={"frames": frames}).model_dump_json())
    (folder / bench.CASES).write_text("\n".join(lines) + "\n")
    return folder


def test_chosen_cases_are_a_benchmark_with_their_scores(pool: Path, tmp_path: Path) -> None:
    words = ["sample", str(pool), "--n", "9", "--resist", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    originals = {case.id: case for case in bench.read(pool)}
    chosen = list(bench.read(tmp_path / "out"))
    assert len(chosen) == 9 and all(case == originals[case.id] for case in chosen)
    assert all(case.review.state != "rejected" for case in chosen)
    options = json.loads((tmp_path / "out/derived.json").read_text())["options"]
    assert options["resist"]["cases"] == 9
    names = {entry["chosen"]["baseline"] for entry in options["resist"]["baselines"]}
    assert {"first", "largest", "nearest_place", "nearest_color", "same_size", "size_rank", "place_rank"} <= names
    sample_resistant(pool, tmp_path / "again", 9, workers=2)
    for name in ("cases.jsonl", "derived.json", bench.TSV):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_what_cannot_be_chosen_is_refused(pool: Path, tmp_path: Path) -> None:
    usable = sum(case.review.state != "rejected" for case in bench.read(pool))
    with pytest.raises(OptionError, match=rf"n must be in 1\.\.{usable}, the number of cases of .*pool, got 99"):
        sample_resistant(pool, tmp_path / "out", 99)
    words = ["sample", str(pool), "--n", "3", "--resist", "--balance", "source", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, words)
    assert isinstance(done.exception, OptionError) and "must not be used with `resist`" in str(done.exception)
    first = next(iter(bench.read(pool)))
    (pool / first.frames[0].path).unlink()
    with pytest.raises(InputError, match="1 case cannot be read"):
        sample_resistant(pool, tmp_path / "out", 9)
    assert not (tmp_path / "out").exists()
