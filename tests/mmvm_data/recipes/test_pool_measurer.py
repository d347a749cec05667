"""Cases that are measured while they are built: the same values as from their files, and only for their own record."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.audit import case_inspector
from mmvm_data.audit.case_inspector import InspectedCase, inspect_cases
from mmvm_data.audit.results import AuditOptions
from mmvm_data.cases import baselines
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.formats import bench
from mmvm_data.formats.tsv import MEASURES
from mmvm_data.io import media
from mmvm_data.pipeline.build import build
from mmvm_data.pipeline.options import BuildOptions
from mmvm_data.recipes.pool_measurer import PoolMeasurerFactory
from tests.worlds import davis, tree

SAMPLING = SamplingOptions(seed=5, min_area=100, cases_per_video=4)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return davis(tmp_path_factory.mktemp("world"), videos=2)


def inspect(folder: Path, with_hashes: bool = False) -> list[dict[str, Any]]:
    """All values of all cases, arrays as bytes."""
    inspected = list(inspect_cases(folder, AuditOptions(), [], True, None, with_hashes))
    return [_as_values(case) for case in inspected]


def _as_values(case: InspectedCase) -> dict[str, Any]:
    values = asdict(case)
    measures = values.pop("measures")
    return values | {"measures": measures._replace(regions=measures.regions.tobytes())}


def refuse(*arguments: object) -> None:
    raise AssertionError("a case was inspected again")


@pytest.mark.parametrize("with_hashes", [False, True])
@pytest.mark.parametrize(("is_jpeg", "side"), [(True, 480), (True, 50), (False, 480), (False, 50)])
def test_values_are_those_of_the_files(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_jpeg: bool, side: int, with_hashes: bool
) -> None:
    """Frames of 160 x 120 are read at half of their size where 50 pixels are enough."""
    monkeypatch.setattr(baselines, "REDUCED_SIDE", side)
    monkeypatch.setattr("mmvm_data.pipeline.measuring.REDUCED_SIDE", side)
    with monkeypatch.context() as patched:
        if not is_jpeg:
            load_frame = media.load_frame
            patched.setattr(media, "load_frame", lambda *given: load_frame(*given)._replace(jpeg=None))
        options = BuildOptions(sampling=SAMPLING, quality=60)
        build("davis", world, tmp_path / "plain", options)
        build("davis", world, tmp_path / "pool", replace(options, measurer_factory=PoolMeasurerFactory(with_hashes)))
    expected = inspect(tmp_path / "plain", with_hashes)
    assert len(expected) == 8 and all(case["measures"].has_colors for case in expected)
    with monkeypatch.context() as patched:
        patched.setattr(case_inspector.CaseInspector, "inspect_case", refuse)
        measured = inspect(tmp_path / "pool", with_hashes)
    assert measured == expected
    assert tree(tmp_path / "pool", leave_out=("build.json", MEASURES)) == tree(tmp_path / "plain")


def test_measures_count_for_their_record_alone(world: Path, tmp_path: Path) -> None:
    build("davis", world, tmp_path / "pool", BuildOptions(sampling=SAMPLING, measurer_factory=PoolMeasurerFactory()))
    folder = tmp_path / "pool"
    before = inspect(folder)
    lines = (folder / bench.CASES).read_text().splitlines()
    first, second, third, fourth = (json.loads(line) for line in lines[:4])
    first["options"][0]["letter"] = "Z"
    second["review"]["state"] = "rejected"
    measures = (folder / MEASURES).read_bytes().splitlines(keepends=True)
    measures[2], measures[3] = b"\0\0\0\n", b"\n"
    (folder / MEASURES).write_bytes(b"".join(measures[:-1]))
    records = [json.dumps(record) for record in (first, second, third, fourth)] + lines[4:]
    (folder / bench.CASES).write_text("\n".join(records) + "\n")
    after = inspect(folder)
    assert [case["id"] for case in after] == [case["id"] for case in before if case["id"] != second["id"]]
    assert after[0]["measures"].letters[0] == "Z"
    assert after[1:] == before[2:]
    assert inspect(folder, with_hashes=True)[-1]["hashes"]  # which were not measured
    (folder / MEASURES).write_bytes(b"".join(reversed(measures)))
    assert inspect(folder) == after


def test_a_resumed_pool_is_measured_as_another(world: Path, tmp_path: Path) -> None:
    options = BuildOptions(sampling=SAMPLING, measurer_factory=PoolMeasurerFactory())

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build("davis", world, tmp_path / "killed", options, progress=stop)
    build("davis", world, tmp_path / "killed", replace(options, existing="resume", workers=2))
    build("davis", world, tmp_path / "whole", options)
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
