"""Our Parquet files in ``datasets`` of three generations; the variables name interpreters that have one each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmvm_data.cases.prompts import format_choices
from mmvm_data.formats import bench as bench_format
from mmvm_data.formats import hub
from mmvm_data.formats.tsv import drawn_paths
from tests.peers import world

PYTHONS = {"DATASETS_2_PYTHON": "2.", "DATASETS_3_PYTHON": "3.", "DATASETS_5_PYTHON": "5."}


def digest(file: Path) -> list[Any]:
    image = Image.open(file)
    return [*image.size, hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("variable", [pytest.param(name, marks=world.needs(name)) for name in PYTHONS])
def test_it_loads_and_streams_our_rows_and_pixels(bench: Path, tmp_path: Path, variable: str) -> None:
    hub.write(bench_format.read(bench), tmp_path / "hub")
    paths = [tmp_path / "hub", tmp_path / "out.json"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    world.run_peer("run_datasets.py", *paths, cwd=tmp_path, python=world.checkout(variable), env=offline)
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["version"].startswith(PYTHONS[variable])
    expected = []
    for case in bench_format.read(bench):
        cells = [case.id, case.question, format_choices(case.options), case.letter, case.answer]
        cells += [list(case.match_types), case.rationale, [candidate.number for candidate in case.candidates]]
        files = [[bench / frame.path for frame in case.frames], [bench / name for name in drawn_paths(case)]]
        expected.append([*cells, *([digest(file) for file in of] for of in files)])
    assert len(expected) == world.CASES
    assert out["loaded"] == expected
    assert out["streamed"] == expected
