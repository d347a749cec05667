"""Defaults of sources of still images, by the source's name or by what its files hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.builders import open_source
from mmvm_data.cases.sampling_options import STILL_MIN_CONTRAST, STILL_MIN_SHARE, SamplingOptions
from mmvm_data.pipeline import worker
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.pipeline.source_defaults import with_defaults_before_opening, with_source_defaults
from mmvm_data.recipes.multi_source.single_source import plan_source
from tests.sets.every import write_set
from tests.sets.tool_sets import datumaro

STILL = {"cases_per_video": 1, "min_share": STILL_MIN_SHARE, "min_contrast": STILL_MIN_CONTRAST}
GIVEN = {"cases_per_video": 3, "min_share": 0.0, "min_contrast": 2.0}


def _write(kind: str, root: Path) -> str:
    """Write a set and return the name of its source."""
    if kind == "coco":
        write_set("coco", "", root, 1)
    else:
        datumaro("stills" if kind == "images" else "mask")(root, 1)
    return "coco" if kind == "coco" else "datumaro"


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("coco", {}, STILL),
        ("images", {}, STILL),
        ("images", GIVEN, GIVEN),
        ("tracks", {}, {"cases_per_video": 4}),
    ],
)
def test_a_build_takes_and_records_them(
    tmp_path: Path, kind: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    root = tmp_path / "set"
    name = _write(kind, root)
    build(name, root, tmp_path / "out", BuildOptions(sampling=SamplingOptions(**given)))
    recorded = json.loads((tmp_path / "out/build.json").read_text())["request"]["sampling"]
    assert {key: recorded[key] for key in STILL if key in recorded} == expected


@pytest.mark.parametrize("kind", ["images", "tracks"])
def test_workers_and_plans_take_them_too(tmp_path: Path, kind: str) -> None:
    _write(kind, tmp_path)
    sampling = SamplingOptions()
    expected = with_source_defaults(open_source("datumaro", tmp_path), sampling)
    assert (expected == sampling.with_still_defaults()) == (kind == "images")
    assert with_defaults_before_opening("datumaro", tmp_path, sampling) == expected
    context = worker.init_worker("datumaro", tmp_path, None, tmp_path, sampling, 90)
    assert context.sampling == expected
    [planned] = plan_source("datumaro", tmp_path, BuildOptions(), None, None).sources
    assert planned.sampling == expected
