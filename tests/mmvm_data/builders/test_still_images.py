"""SA-1B and COCO on real files: what a view shows of each object is what pycocotools' mask of it becomes."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from mmvm_data.builders import open_source
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core import augment, masks
from mmvm_data.core.errors import InputError
from mmvm_data.formats import bench
from mmvm_data.pipeline.build import BuildOptions, build
from tests.sets import view_sets
from tests.sets.every import write_set
from tests.sets.world import draw_bitmap
from tests.worlds import tree


@pytest.mark.parametrize("name", ["coco", "coco_published"])
def test_real_objects_of_coco_in_their_views(realdata: Path, name: str) -> None:
    theirs = COCO(str(realdata / "coco/annotations/instances_train2017.json"))
    source = open_source(name, realdata / "coco")
    assert source.rejects == ()
    assert set(source.videos) == {str(n) for n in theirs.getImgIds()}
    for video in map(source.load, source.videos[:3]):
        number = int(video.id)
        found = theirs.loadAnns(theirs.getAnnIds([number]))
        image = np.asarray(Image.open(realdata / "coco/train2017" / theirs.imgs[number]["file_name"]).convert("RGB"))
        assert video.order == "views"
        if name == "coco_published":
            assert {(f.width, f.height) for f in video.frames} == {(1024, 1024)}
        for position in (0, 3):
            # the view that the reader drew, found again from its name alone
            drawn = _views(name, video.id, image.shape[1], image.shape[0])[position]
            assert (video.frames[position].width, video.frames[position].height) == drawn.size
            at = augment.map_view_pixels(drawn)
            expected = {}
            for annotation in found:
                moved = augment.warp_masks(at, theirs.annToMask(annotation)[None])[0]
                if not annotation["iscrowd"] and moved.any():
                    expected[str(annotation["id"])] = theirs.cats[annotation["category_id"]]["name"], moved
            regions = {r.id: r for r in video.regions(position)}
            assert set(regions) == set(expected)
            for track, (category, moved) in expected.items():
                mask = regions[track].mask
                assert mask is not None
                assert (masks.decode(mask) == moved).all()
                assert regions[track].category == category
            shown = video.render_frame(position)
            assert shown is not None
            assert (shown == augment.render_view(drawn, np.ascontiguousarray(image[..., ::-1]))).mean() > 0.99


def _views(name: str, video: str, width: int, height: int) -> list[augment.ViewTransform]:
    seed = int.from_bytes(hashlib.sha256(f"{name}\0{video}".encode()).digest(), "big")
    style: augment.ViewKind = "published" if name.endswith("published") else "cropped"
    return augment.sample_views(style, width, height, random.Random(seed), 4)


def test_pairs_of_views_give_complete_cases(realdata: Path, tmp_path: Path) -> None:
    for out in ("a", "b"):
        result = build("coco", realdata / "coco", tmp_path / out, BuildOptions(max_cases=4))
        record = json.loads((tmp_path / out / "build.json").read_text())["request"]["sampling"]
        assert (record["cases_per_video"], record["min_share"], record["min_contrast"]) == (1, 0.005, 12.0)
        assert (result.cases, result.bad_inputs) == (4, 0)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert not bench.validate(tmp_path / "a", deep=True).problems
    cases = list(bench.read(tmp_path / "a"))
    assert len({case.provenance.video for case in cases if case.provenance}) == 4
    for case in cases:
        assert case.provenance is not None
        assert case.provenance.extra == {"views": "cropped augmentations of one image"}
        for region, frame in (
            (case.query[0], case.frames[0]),
            (case.candidates[case.answer - 1].region, case.frames[1]),
        ):
            assert region.mask is not None
            assert masks.area(region.mask) >= 0.005 * frame.width * frame.height
            assert region.extra["visibility"] >= 0.4
        assert case.provenance.gap == 0
        assert len({frame.path for frame in case.provenance.frames}) == 1


def test_the_official_sample_is_read_from_its_file(realdata: Path) -> None:
    root = realdata / "coco_panoptic/sample_data"
    source = open_source("coco", root / "panoptic_coco_detection_format.json")
    assert sorted(source.videos) == ["142238", "439180"]
    assert source.load("142238").frames[0].path == "input_images/000000142238.jpg"
    assert source.load("142238").regions(0)


def test_panoptic_segments_are_the_masks_of_the_official_sample(realdata: Path) -> None:
    """The sample has the same segments as PNGs and, converted by panopticapi, as RLEs."""
    root = realdata / "coco_panoptic/sample_data"
    detection = json.loads((root / "panoptic_coco_detection_format.json").read_text())
    categories = json.loads((root / "panoptic_examples.json").read_text())["categories"]
    things = {c["id"]: c["name"] for c in categories if c["isthing"]}
    for location in (root, root / "panoptic_examples.json"):
        source = open_source("coco_panoptic", location)
        assert sorted(source.videos) == ["142238", "439180"]
        assert source.load_image is not None
        for image in source.videos:
            found = {
                (item.category, masks.decode(item.mask).tobytes()) for item in source.load_image(image).read_objects()
            }
            expected = {
                (things[entry["category_id"]], rle.decode(entry["segmentation"]).tobytes())
                for entry in detection["annotations"]
                if str(entry["image_id"]) == image and entry["category_id"] in things and not entry["iscrowd"]
            }
            assert len(expected) > 5
            assert found == expected


def test_things_of_panoptic_sets_and_phrases_of_saco_are_categories(tmp_path: Path) -> None:
    for source, categories in (("coco_panoptic", {"car"}), ("saco", {"a red car"})):
        write_set(source, "", tmp_path / source)
        opened = open_source(source, tmp_path / source)
        assert opened.load_image is not None
        objects = opened.load_image("0").read_objects()
        assert {item.category for item in objects} == categories
        expected = [draw_bitmap(0, 0, k) for k in range(3)]
        if source == "coco_panoptic":
            for bitmap in expected:
                bitmap[:3] = bitmap[-1] = 0
        assert [masks.decode(item.mask).tolist() for item in objects] == [bitmap.tolist() for bitmap in expected]
    assert list(open_source("saco", tmp_path / "saco").videos) == ["0", "1", "2", "3"]


def test_the_folders_of_saco_veval(tmp_path: Path) -> None:
    write_set("ytvis", "", tmp_path)
    videos = list(open_source("ytvis", tmp_path).videos)
    for old, new in (
        ("train/JPEGImages", "media/saco_sg/JPEGImages_6fps"),
        ("train.json", "annotation/saco_veval.json"),
    ):
        (tmp_path / new).parent.mkdir(parents=True)
        (tmp_path / old).rename(tmp_path / new)
    for location in (tmp_path, tmp_path / "annotation/saco_veval.json"):
        source = open_source("ytvis", location)
        assert list(source.videos) == videos
        assert source.load(videos[0]).frames[0].path.startswith("media/saco_sg/JPEGImages_6fps/")


@pytest.mark.parametrize(("source", "name"), [("coco", "my labels.json"), ("ytvis", "saco_veval_sav_test.json")])
def test_files_of_any_name_are_found_by_what_they_hold(source: str, name: str, tmp_path: Path) -> None:
    write_set(source, "", tmp_path)
    published = {"coco": "annotations/instances_train2017.json", "ytvis": "train.json"}[source]
    videos = list(open_source(source, tmp_path).videos)
    (tmp_path / "gt").mkdir()
    (tmp_path / published).rename(tmp_path / "gt" / name)
    for other in ("results.json", "more.json"):
        (tmp_path / other).write_text('[{"image_id": 1}]')
    assert list(open_source(source, tmp_path).videos) == videos


def test_real_annotations_of_sa1b(realdata: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sa_000000"
    shutil.copytree(realdata / "sa1b_excerpt", folder)
    for file in folder.glob("*.json"):
        size = json.loads(file.read_text())["image"]
        noise = np.random.default_rng(0).integers(0, 255, (size["height"], size["width"], 3), dtype=np.uint8)
        Image.fromarray(noise).save(file.with_suffix(".jpg"))
    source = open_source("sa1b_published", tmp_path)
    assert (sorted(source.videos), source.rejects) == (["sa_3032002", "sa_560"], ())
    for name in source.videos:
        (annotation,) = json.loads((folder / f"{name}.json").read_text())["annotations"]
        video = source.load(name)
        bitmap = rle.decode(annotation["segmentation"])
        drawn = _views("sa1b_published", name, bitmap.shape[1], bitmap.shape[0])
        seen = 0
        for position in video.annotated:
            moved = augment.warp_masks(augment.map_view_pixels(drawn[position]), bitmap[None])[0]
            regions = video.regions(position)
            assert len(regions) == int(moved.any())
            for region in regions:
                assert region.mask is not None
                assert region.id == str(annotation["id"])
                assert (masks.decode(region.mask) == moved).all()
                seen += 1
        assert seen
    sampling = SamplingOptions(min_candidates=1, min_sharpness=0, min_share=0, min_contrast=0)  # of noise
    assert build("sa1b", tmp_path, tmp_path / "b", BuildOptions(sampling=sampling)).cases > 0


def edit_json(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(file: Path) -> None:
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c["image"].update(width=65), r"sa_0\.jpg: image is 64 x 48, the frame is 65 x 48|size \[48, 64\]"),
        (lambda c: c.pop("annotations"), "an object with image and annotations is expected"),
        (lambda c: c["annotations"][1].update(id=100), r"annotations\[1\]: an object with a unique id"),
        (lambda c: c["annotations"][0]["segmentation"].update(counts="xx"), r"annotations\[0\], segmentation\.counts"),
        (lambda c: c["image"].update(height=True), "image, height: an integer"),
    ],
)
def test_faults_of_an_image_of_sa1b(tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str) -> None:
    view_sets.sa1b(tmp_path)
    edit_json(change)(tmp_path / "sa_0.json")
    source = open_source("sa1b", tmp_path)
    with pytest.raises(InputError, match=reason):
        source.load("sa_0").render_frame(0)
    assert source.load("sa_1").regions(0) is not None


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/passwd", "a/../../secret.jpg", "C:\\x.jpg"])
def test_images_of_coco_stay_inside_the_root(tmp_path: Path, path: str) -> None:
    view_sets.coco(tmp_path / "set")
    (tmp_path / "secret.jpg").write_bytes((tmp_path / "set/train2017/000000000000.jpg").read_bytes())
    edit_json(lambda c: c["images"][0].update(file_name=path))(tmp_path / "set/annotations/instances_train2017.json")
    source = open_source("coco", tmp_path / "set")
    with pytest.raises(InputError, match="must be relative and stay inside its root"):
        source.load("0")
    assert source.load("1").regions(0) is not None
