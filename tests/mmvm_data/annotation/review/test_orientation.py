"""Pictures with an orientation tag in a real Label Studio."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from mmvm_data.annotation.review.push import ReviewPushOptions, push
from mmvm_data.pipeline.build import BuildOptions, build
from tests.mmvm_data.annotation.conftest import Studio, tasks_of

pytestmark = [pytest.mark.xdist_group("label-studio"), pytest.mark.slow]


def test_pictures_of_tasks_are_shown_as_their_masks_are_stored(studio: Studio, shared_cases: Path) -> None:
    """The page shows pictures in a browser, which applies an orientation tag; masks do not follow it."""
    folder = studio.files / "rotated"
    build("frames", shared_cases / "hub_export_exif", folder, BuildOptions(max_cases=2))
    client = studio.client()
    first = push(folder, client, folder.name)
    assert (first.created, first.problems) == (2, [])
    for task in tasks_of(client, first.project).values():
        pictures = [task["data"][key] for key in ("drawn1", "drawn2", "original1", "original2")]
        for url in pictures:
            with Image.open(io.BytesIO(studio.request("GET", url).content)) as image:
                assert ImageOps.exif_transpose(image).size == (320, 240)
        shapes = [result for result in task["predictions"][0]["result"] if "original_width" in result]
        assert {(shape["original_width"], shape["original_height"]) for shape in shapes} == {(320, 240)}
    # a file that another tool wrote is left out with its reason, also where the server reads a copy from elsewhere
    original = shared_cases / "hub_export_exif/images/v/00000.jpg"
    (folder / "match_bench/case_000001/FRAME00_ORI.jpg").write_bytes(original.read_bytes())
    for options in (ReviewPushOptions(), ReviewPushOptions(images="https://images.example/rotated")):
        again = push(folder, client, folder.name, options)
        assert [name for name, _ in again.problems] == ["case_000001"]
        assert "orientation tag asks for a rotation" in again.problems[0][1]
