"""Each input of the folder ``cases`` does what its EXPECT.md says is right; a new folder fails until it has a check.

The checks here are short and go through the commands or the readers; closer ones lie beside the code that they test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mmvm_data import cli
from mmvm_data.builders import open_source
from mmvm_data.core import masks
from mmvm_data.core.types import Frame, Video
from mmvm_data.formats import bench
from mmvm_data.io import media
from tests.conftest import SHARED
from tests.videos import read_barcode

LOOSE = ("--min-area", "50", "--min-sharpness", "0", "--max-cases", "2")


def build(source: str, root: Path, out: Path, *more: str) -> str:
    words = ["build", "--source", source, "--root", str(root), "--out", str(out), *more]
    return CliRunner().invoke(cli.cli, words).output


def region_ids(video: Video) -> set[str]:
    return {region.id for position in video.annotated for region in video.regions(position)}


def check_boxes_only(folder: Path, tmp_path: Path) -> None:
    assert "annotations have boxes only" in build("coco", folder, tmp_path / "out")


def check_exif(folder: Path, tmp_path: Path) -> None:
    build("frames", folder, tmp_path / "out", *LOOSE)
    for case in bench.read(tmp_path / "out"):
        for region, frame in ((case.query[0], case.frames[0]), (case.candidates[0].region, case.frames[-1])):
            assert region.mask is not None
            with Image.open(tmp_path / "out" / frame.path) as image:
                assert image.getexif().get(0x0112, 1) == 1
                assert image.size[::-1] == region.mask.size
        return
    pytest.fail("no case was built")


def check_16_bit_ids(folder: Path, tmp_path: Path) -> None:
    assert {"254", "255"} <= region_ids(open_source("frames", folder).load("v"))


def check_ten_columns(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "TUD-Campus/gt/gt.txt").read_text().splitlines()
    images = tmp_path / "TUD-Campus/img1"
    images.mkdir(parents=True)
    for number in range(1, max(int(line.split(",")[0]) for line in lines) + 1):
        Image.new("RGB", (640, 480)).save(images / f"{number:06d}.jpg")
    (tmp_path / "TUD-Campus/gt").symlink_to(folder / "TUD-Campus/gt")
    assert region_ids(open_source("mot17", tmp_path).load("TUD-Campus")) == {
        line.split(",")[1].strip() for line in lines
    }


def check_class_minus_1(folder: Path, tmp_path: Path) -> None:
    video = open_source("mot17", folder).load("SEQ-01")
    regions = [region for position in video.annotated for region in video.regions(position)]
    assert regions and {region.category for region in regions} == {None}


def check_nested_folders(folder: Path, tmp_path: Path) -> None:
    assert list(open_source("frames", folder).videos) == ["a", "b"]
    assert list(open_source("frames", folder / "a").videos) == ["a"]


def check_many_objects(folder: Path, tmp_path: Path) -> None:
    """The files hold ten objects; ``builders/test_over_255_objects.py`` draws the 300 that are spoken of."""
    video = open_source("frames", folder).load("aa")
    for position in video.annotated:
        stored = np.asarray(Image.open(folder / f"masks/aa/{Path(video.frames[position].path).stem}.png"))
        areas = {int(region.id): masks.area(region.mask) for region in video.regions(position) if region.mask}
        assert areas == {int(k): int(n) for k, n in zip(*np.unique(stored, return_counts=True), strict=True) if k}
    build("frames", folder, tmp_path / "out", *LOOSE)
    assert json.loads((tmp_path / "out/build.json").read_text())["counts"]["cases"] > 0


def check_reordered_palettes(folder: Path, tmp_path: Path) -> None:
    """The same object has the same color in every frame."""
    video = open_source("frames", folder).load("v")
    colors: dict[str, set[tuple[int, ...]]] = {}
    for position in video.annotated:
        stem = Path(video.frames[position].path).stem
        pixels = np.asarray(Image.open(folder / f"masks/v/{stem}.png").convert("RGB"))
        for region in video.regions(position):
            assert region.mask is not None
            colors.setdefault(region.id, set()).update(
                map(tuple, pixels[masks.decode(region.mask).astype(bool)].tolist())
            )
    assert len(colors) > 1 and all(len(values) == 1 for values in colors.values())
    assert len({min(values) for values in colors.values()}) == len(colors)


def check_video_frames(folder: Path, tmp_path: Path) -> None:
    clips = sorted(path for path in folder.iterdir() if path.suffix != ".md")
    assert len(clips) == 6
    for path in clips:

        def number_of(position: int, name: str = path.name) -> int:
            frame = Frame(path=name, index=position, width=320, height=240, video_frame=position)
            return read_barcode(media.read_frame_bgr(folder, frame))

        first = number_of(0)
        assert [number_of(position) - first for position in (31, 2, 30)] == [31, 2, 30], path.name


CHECKS: Mapping[str, Callable[[Path, Path], None]] = {
    "coco_boxes_only": check_boxes_only,
    "hub_export_exif": check_exif,
    "ids_254_255_16bit": check_16_bit_ids,
    "mot15_ten_columns": check_ten_columns,
    "mot_class_minus1": check_class_minus_1,
    "nested_video_folders": check_nested_folders,
    "over_255_objects": check_many_objects,
    "palette_reordered_by_png_optimizer": check_reordered_palettes,
    "video_wrong_frames": check_video_frames,
}
FOLDERS = sorted({*CHECKS, *(path.parent.name for path in (SHARED / "cases").glob("*/EXPECT.md"))})


@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_expected(name: str, shared_cases: Path, tmp_path: Path) -> None:
    assert name in CHECKS, f"{name} has no check of what its EXPECT.md says"
    CHECKS[name](shared_cases / name, tmp_path)


def test_every_folder_says_what_is_expected(shared_cases: Path) -> None:
    assert [path.name for path in shared_cases.iterdir() if path.is_dir() and not (path / "EXPECT.md").is_file()] == []
