"""Masks of a build in the formats of its sources, read by pycocotools and by our own readers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mmvm_data import open_source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, Region, Review
from mmvm_data.formats import bench, mask_sets, sft, webdataset
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.synth import SynthOptions, generate

FORMS = get_args(mask_sets.MaskForm)
Found = dict[tuple[str, int, str], np.ndarray]
"""(video, frame, track) -> bitmap."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    generate(folder / "videos", SynthOptions(videos=2, frames=6, width=200, height=112))
    build("ytvos", folder / "videos", folder / "bench", BuildOptions())
    return folder / "bench"


def expected(cases: list[Case]) -> Found:
    found = {}
    for case in cases:
        origin = case.provenance
        assert origin is not None
        frames = [frame.index for frame in origin.frames]
        for frame, region in zip(frames, case.query, strict=False):
            found[origin.video, frame, origin.tracks[0]] = region.mask
        for track, candidate in zip(origin.tracks[1:], case.candidates, strict=True):
            found[origin.video, frames[-1], track] = candidate.region.mask
    return {key: masks.decode(mask) for key, mask in found.items() if mask is not None and masks.area(mask)}


def test_pycocotools_reads_the_masks(built: Path, tmp_path: Path) -> None:
    cases = list(bench.read(built))
    [path] = mask_sets.write(cases, built, tmp_path / "coco", "coco")
    coco = COCO(str(path))
    found = {}
    for annotation in coco.dataset["annotations"]:
        image = coco.imgs[annotation["image_id"]]
        video, name = image["file_name"].split("/")
        assert (tmp_path / "coco/images" / video / name).is_file()
        bitmap = coco.annToMask(annotation)
        assert annotation["area"] == bitmap.sum()
        found[video, int(Path(name).stem), annotation["track_id"]] = bitmap
    compare(found, expected(cases), cases)


@pytest.mark.parametrize(("form", "source"), [("ytvis", "ytvis"), ("davis", "davis"), ("cvat", "cvat")])
def test_our_readers_find_the_masks(built: Path, tmp_path: Path, form: mask_sets.MaskForm, source: str) -> None:
    cases = list(bench.read(built))
    mask_sets.write(cases, built, tmp_path / form, form)
    opened = open_source(source, tmp_path / form)
    count = 0
    wanted = sorted(bitmap.tobytes() for bitmap in expected(cases).values())
    read = []
    for name in opened.videos:
        video = opened.load(name)
        for position in video.annotated:
            for region in video.regions(position):
                assert region.mask is not None
                read.append(masks.decode(region.mask).tobytes())
                count += 1
    assert count == len(wanted) and sorted(read) == wanted


def compare(found: Found, wanted: Found, cases: list[Case]) -> None:
    index = {
        (case.provenance.video, frame.index): int(Path(frame.path).stem)
        for case in cases
        if case.provenance
        for frame in case.provenance.frames
    }
    moved = {(video, index[video, frame], track): bitmap for (video, frame, track), bitmap in wanted.items()}
    assert found.keys() == moved.keys()
    assert all(np.array_equal(found[key], bitmap) for key, bitmap in moved.items())


def test_a_fixed_mask_is_written(built: Path, tmp_path: Path) -> None:
    cases = list(bench.read(built))
    first = next(case for case in cases if case.query[0].mask is not None)
    bitmap = np.zeros(masks.decode(first.query[0].mask).shape, np.uint8)
    bitmap[3:9, 4:20] = 1
    region = first.query[0].model_copy(update={"mask": masks.encode(bitmap)})
    fixed = first.model_copy(update={"query": (region, *first.query[1:]), "review": Review(state="fixed")})
    everything = [fixed.with_root(built), *cases]
    [path] = mask_sets.write(everything, built, tmp_path / "coco", "coco")
    coco = COCO(str(path))
    assert sum(np.array_equal(coco.annToMask(item), bitmap) for item in coco.dataset["annotations"]) == 1


def test_cvat_keeps_names_pieces_and_holes(tmp_path: Path) -> None:
    """Objects of two pieces, one with a hole, and boxes, in frames whose names are out of order."""
    shape = (60, 80)
    bitmaps = [np.zeros(shape, np.uint8) for _ in range(3)]
    bitmaps[0][5:20, 5:30] = bitmaps[1][30:50, 40:70] = bitmaps[2][2:9, 60:79] = 1
    bitmaps[0][30:40, 5:9], bitmaps[1][35:40, 45:60] = 1, 0
    for prompt in ("mask", "box"):
        regions = [
            {"box": (3.25, 4 + k, 10, 12.5)} if prompt == "box" else {"mask": masks.encode(bitmap)}
            for k, bitmap in enumerate(bitmaps)
        ]
        frames = {}
        for k, (name, region) in enumerate(zip(("9.jpg", "10.jpg"), regions[:2], strict=True)):
            track = Region(id="x", category='a "b" & <c>', **region)
            frames[name] = mask_sets._Image(name, 9 + k, shape, {"red/one": (0, track)})
        frames["10.jpg"].regions["2"] = (0, Region(id="y", **regions[2]))
        folder = tmp_path / prompt
        (folder / "v/images").mkdir(parents=True)
        for name in frames:
            Image.new("RGB", shape[::-1]).save(folder / "v/images" / name)
        mask_sets._write_cvat({"v": frames}, folder)
        video = open_source("cvat", folder).load("v")
        assert [frame.path for frame in video.frames] == [f"v/images/frame_00000{k}.jpg" for k in (0, 1)]
        assert (video.prompt, video.annotated) == (prompt, (0, 1))
        found = [{r.id: r for r in video.regions(p)} for p in (0, 1)]
        assert [sorted(f) for f in found] == [["red/one"], ["2", "red/one"]]
        assert (found[0]["red/one"].category, found[1]["2"].category) == ('a "b" & <c>', "object")
        for region, expected in ((found[0]["red/one"], 0), (found[1]["red/one"], 1), (found[1]["2"], 2)):
            assert (region.mask, region.box) == (regions[expected].get("mask"), regions[expected].get("box"))


def test_a_case_without_provenance_is_named(built: Path, tmp_path: Path) -> None:
    case = next(bench.read(built)).model_copy(update={"provenance": None})
    with pytest.raises(InputError, match="does not say which video"):
        mask_sets.write([case], built, tmp_path / "coco", "coco")
    assert not (tmp_path / "coco").exists()


def break_mask(case: Case, folder: Path) -> Case:
    """The case with a mask of 16 pixels that claims the size of its image."""
    mask = masks.encode(np.ones((4, 4), np.uint8)).model_copy(update={"size": case.query[0].mask.size})
    query = (case.query[0].model_copy(update={"mask": mask}), *case.query[1:])
    return case.model_copy(update={"query": query}).with_root(folder)


Export = Callable[[Case, Path, Path], object]


@pytest.mark.parametrize(
    "export",
    [
        *(partial(lambda case, root, out, form: mask_sets.write([case], root, out, form), form=f) for f in FORMS),
        lambda case, root, out: sft.write([case], out.with_suffix(".json")),
        lambda case, root, out: webdataset.write([case], out, root),
    ],
    ids=[*FORMS, "sft", "webdataset"],
)
def test_no_export_takes_a_broken_mask(export: Export, built: Path, tmp_path: Path) -> None:
    case = next(case for case in bench.read(built) if case.query[0].mask is not None)
    with pytest.raises(InputError, match=rf"{case.id}.*mask of object .*runs cover 16 pixels"):
        export(break_mask(case, built), built, tmp_path / "out")


def relocate(case: Case, **changes: object) -> Case:
    """A case with other provenance."""
    assert case.provenance is not None
    return case.model_copy(update={"provenance": case.provenance.model_copy(update=changes)})


def test_views_of_one_image_have_files_of_their_own(built: Path, tmp_path: Path) -> None:
    """Three frames with one path, as views of a still image have, each with its own pixels and masks."""
    first, second = sample_with_other_frames(list(bench.read(built)))
    assert first.provenance is not None and second.provenance is not None
    origins = [
        frame.model_copy(update={"path": "train/7.jpg", "index": k})
        for k, frame in enumerate((*first.provenance.frames, second.provenance.frames[1]))
    ]
    moved = [relocate(first, video="7", frames=tuple(origins[:2]))]
    moved.append(relocate(second, video="7", frames=(origins[0], origins[2])))
    moved[1] = moved[1].model_copy(
        update={"frames": (first.frames[0], second.frames[1]), "query": first.query, "review": first.review}
    )
    [path] = mask_sets.write(moved, built, tmp_path / "coco", "coco")
    names = [image["file_name"] for image in COCO(str(path)).dataset["images"]]
    assert len(names) == len(set(names)) == 3
    written = {(tmp_path / "coco/images" / name).read_bytes() for name in names}
    assert written == {(built / frame.path).read_bytes() for case in moved for frame in case.frames}


def test_videos_of_two_sources_with_one_name_stay_apart(built: Path, tmp_path: Path) -> None:
    first, second = sample_with_other_frames(list(bench.read(built)))
    assert first.provenance is not None
    name, frames = first.provenance.video, first.provenance.frames
    other = relocate(second, source="other", video=name, frames=frames)
    [path] = mask_sets.write([first, other], built, tmp_path / "coco", "coco")
    files = [image["file_name"] for image in COCO(str(path)).dataset["images"]]
    assert {file.split("/")[0] for file in files} == {name, f"other_{name}"} and len(files) == 4
    with pytest.raises(InputError, match=f"{second.id}: provenance: shows another image than an earlier case"):
        mask_sets.write([first, relocate(second, video=name, frames=frames)], built, tmp_path / "same", "coco")


def sample_with_other_frames(cases: list[Case]) -> tuple[Case, Case]:
    """Two cases that share no image."""
    first = cases[0]
    shown = {(first.provenance.video, frame.index) for frame in first.provenance.frames}  # type: ignore[union-attr]
    for case in cases[1:]:
        assert case.provenance is not None
        if not shown & {(case.provenance.video, frame.index) for frame in case.provenance.frames}:
            return first, case
    raise AssertionError("all cases share images")


@pytest.mark.parametrize("form", ["ytvis", "cvat"])
def test_frames_of_several_sizes_are_refused_where_a_video_has_one(
    built: Path, tmp_path: Path, form: mask_sets.MaskForm
) -> None:
    shapes = (20, 30), (24, 30)
    frames = {}
    for k, shape in enumerate(shapes):
        region = Region(id="1", mask=masks.encode(np.ones(shape, np.uint8)))
        frames[f"{k}.jpg"] = mask_sets._Image(f"{k}.jpg", k, shape, {"1": (0, region)})
    with pytest.raises(InputError, match="v: has frames of several sizes"):
        mask_sets._WRITERS[form]({"v": frames}, tmp_path)
