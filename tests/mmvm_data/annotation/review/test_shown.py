"""Wide images on the screen: marks are as large as in a small image, and the benchmark's files stay."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mmvm_data.annotation.review import shown
from mmvm_data.annotation.review.task import build_task
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from tests.mmvm_data.annotation.review.grids import write_grids
from tests.worlds import tree

SIZES = shown.PageSizes((160, 90), (320, 180))
"""A page that shows images of 640 x 360 at half their size, and those with the query at a quarter."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_grids(tmp_path / "bench", (6,))
    return tmp_path / "bench"


def the_case(folder: Path) -> Case:
    (case,) = bench.read(folder)
    return case


def number_rows(image: NDArray[np.uint8] | None) -> int:
    """Height of the third number, white on orange on a dark square, in an image of 320 pixels."""
    assert image is not None
    return int((image[10:34, 66:92].min(axis=2) > 140).any(axis=1).sum())


def cyan_columns(path: Path, size: tuple[int, int]) -> int:
    """How many pixels of the row through the query's middle are cyan at a size."""
    image = cv2.imread(str(path))
    assert image is not None
    row = cv2.resize(image, size, interpolation=cv2.INTER_AREA)[42 * size[1] // 360].astype(int)
    return int(((row[:, 0] > 150) & (row[:, 1] > 150) & (row[:, 2] < 90)).sum())


def test_marks_keep_their_size_on_the_screen(folder: Path) -> None:
    before, case = tree(folder), the_case(folder)
    images = shown.draw_shown_images(folder, case, SIZES)
    assert sorted(images) == [0, 1]
    after = tree(folder)
    assert {name for name in after if after.get(name) != before.get(name)} == set(images.values())
    files = [folder / "match_bench/case_000000/FRAME01_CAND.jpg", folder / images[1]]
    published, magnified = (cv2.imread(str(file)) for file in files)
    assert published is not None and magnified is not None and magnified.shape == published.shape
    rows = [number_rows(cv2.resize(i, (320, 180), interpolation=cv2.INTER_AREA)) for i in (published, magnified)]  # type: ignore[arg-type]
    assert rows[1] > 1.5 * rows[0]
    query = [folder / "match_bench/case_000000/FRAME00.jpg", folder / images[0]]
    assert cyan_columns(query[0], (160, 90)) < cyan_columns(query[1], (160, 90))
    data = build_task(case, str, 2, shown=images)["data"]
    assert (data["drawn1"], data["drawn2"]) == (images[0], images[1])
    assert data["original2"] == "match_bench/case_000000/FRAME01_ORI.jpg"


def test_only_the_newest_state_of_a_case_is_kept(folder: Path) -> None:
    case = the_case(folder)
    first = shown.draw_shown_images(folder, case, SIZES)
    times = {name: (folder / name).stat().st_mtime_ns for name in first.values()}
    assert shown.draw_shown_images(folder, case, SIZES) == first
    assert {name: (folder / name).stat().st_mtime_ns for name in first.values()} == times
    changed = case.model_copy(update={"candidates": case.candidates[:-1]})
    second = shown.draw_shown_images(folder, changed, SIZES)
    assert not (folder / first[1]).exists()
    assert len(list((folder / shown.SHOWN / case.id).iterdir())) == 2
    assert second[1] != first[1]


def test_images_that_fit_are_shown_as_published(folder: Path) -> None:
    case = the_case(folder)
    assert shown.draw_shown_images(folder, case, shown.PageSizes((300, 600), (600, 600))) == {}
    assert list(shown.draw_shown_images(folder, case, shown.PageSizes((300, 600), (500, 600)))) == [1]
    assert list(shown.draw_shown_images(folder, case, shown.PageSizes((640, 120), (640, 360)))) == [0]  # less high


def test_numbers_on_light_colors_get_a_dark_edge(tmp_path: Path) -> None:
    """White on the ninth color has a contrast of 1.16."""
    write_grids(tmp_path / "light", (9,))
    case, page = the_case(tmp_path / "light"), shown.PageSizes((640, 640), (640, 640))
    images = shown.draw_shown_images(tmp_path / "light", case, page)
    assert list(images) == [1]
    files = [tmp_path / "light/match_bench/case_000000/FRAME01_CAND.jpg", tmp_path / "light" / images[1]]
    darkest = []
    for file in files:
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        x, y = 10 + 8 * 62, 20  # the ninth square, drawn in one bright color; its label lies in the middle
        label = image[y + 14 : y + 32, x + 15 : x + 30]
        assert label.max() > 230
        darkest.append(int(label.min()))
    assert darkest[1] < 90 < darkest[0]
