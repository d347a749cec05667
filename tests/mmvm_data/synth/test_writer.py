"""Generated sets on disk: genuine layouts, the same bytes each time, whole or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from mmvm_data.builders.palette import open_ytvos
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.synth import SynthOptions, generate, make_scene, make_shots, video_id, writer

SMALL = {"videos": 3, "frames": 8, "width": 256, "height": 144, "seed": 4}


@pytest.fixture(scope="module")
def ytvos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("ytvos"), SynthOptions(**SMALL))


@pytest.fixture(scope="module")
def ytvis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("ytvis"), SynthOptions(layout="ytvis", **SMALL))


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def labels_of(root: Path, video: str, frame: str) -> np.ndarray:
    return np.asarray(Image.open(root / "train" / "Annotations" / video / f"{frame}.png"))


def test_layout_is_that_of_youtube_vos(ytvos: Path):
    train = ytvos / "train"
    assert sorted(path.name for path in train.iterdir()) == ["Annotations", "JPEGImages", "meta.json"]
    videos = sorted(path.name for path in (train / "JPEGImages").iterdir())
    assert videos == sorted(video_id(4, number) for number in range(3))
    assert videos == sorted(path.name for path in (train / "Annotations").iterdir())
    stems = [f"{5 * k:05d}" for k in range(8)]
    for video in videos:
        assert sorted(path.name for path in (train / "JPEGImages" / video).iterdir()) == [f"{s}.jpg" for s in stems]
        assert sorted(path.name for path in (train / "Annotations" / video).iterdir()) == [f"{s}.png" for s in stems]
        with Image.open(train / "Annotations" / video / "00005.png") as picture:
            assert picture.mode == "P"
            assert picture.size == (256, 144)
        with Image.open(train / "JPEGImages" / video / "00005.jpg") as picture:
            assert (picture.format, picture.size) == ("JPEG", (256, 144))


def test_meta_agrees_with_the_label_images(ytvos: Path):
    meta = json.loads((ytvos / "train" / "meta.json").read_text())
    assert list(meta) == ["videos"]
    assert list(meta["videos"]) == sorted(meta["videos"])
    for number in range(3):
        video = video_id(4, number)
        objects = meta["videos"][video]["objects"]
        found: dict[str, list[str]] = {}
        for k in range(8):
            for label in np.unique(labels_of(ytvos, video, f"{5 * k:05d}")):
                if label:
                    found.setdefault(str(label), []).append(f"{5 * k:05d}")
        assert {label: entry["frames"] for label, entry in objects.items()} == found
        cast = {str(actor.label): actor.category for actor in make_scene(number, SynthOptions(**SMALL)).toys}
        assert {label: entry["category"] for label, entry in objects.items()} == {label: cast[label] for label in found}


def test_pictures_are_the_scenes(ytvos: Path):
    scene = make_scene(1, SynthOptions(**SMALL))
    image, labels = scene.render_frame(3)
    video = video_id(4, 1)
    assert (labels_of(ytvos, video, "00015") == labels).all()
    stored = cv2.imread(str(ytvos / "train" / "JPEGImages" / video / "00015.jpg"))[..., ::-1]
    assert np.abs(stored.astype(int) - image.astype(int)).mean() < 4


def test_the_reader_of_youtube_vos_takes_it(ytvos: Path):
    source = open_ytvos("ytvos", ytvos)
    assert source.rejects == ()
    assert list(source.videos) == sorted(video_id(4, number) for number in range(3))
    video = source.load(video_id(4, 0))
    assert [frame.index for frame in video.frames] == [5 * k for k in range(8)]
    assert list(video.annotated) == list(range(8))
    labels = labels_of(ytvos, video.id, "00010")
    regions = video.regions(2)
    assert {region.id for region in regions} == {str(v) for v in np.unique(labels) if v}
    for region in regions:
        assert region.mask is not None
        assert region.category
        assert (
            coco.decode({"size": list(region.mask.size), "counts": region.mask.counts}) == (labels == int(region.id))
        ).all()


def test_youtube_vis_holds_the_same_masks(ytvos: Path, ytvis: Path):
    index = json.loads((ytvis / "train" / "instances.json").read_text())
    categories = {entry["id"]: entry["name"] for entry in index["categories"]}
    meta = json.loads((ytvos / "train" / "meta.json").read_text())["videos"]
    assert [entry["id"] for entry in index["annotations"]] == list(range(1, len(index["annotations"]) + 1))
    seen: dict[str, list[str]] = {}
    for entry in index["annotations"]:
        video = next(v for v in index["videos"] if v["id"] == entry["video_id"])
        name = video["file_names"][0].split("/")[0]
        assert (video["width"], video["height"], video["length"]) == (256, 144, 8)
        assert video["file_names"] == [f"{name}/{5 * k:05d}.jpg" for k in range(8)]
        assert entry["iscrowd"] == 0
        frames = [video["file_names"][k].split("/")[1][:-4] for k, rle in enumerate(entry["segmentations"]) if rle]
        # objects come in the order of their labels, and a label that is never seen is in neither layout
        label = sorted(meta[name]["objects"], key=int)[len(seen.setdefault(name, []))]
        seen[name].append(label)
        assert meta[name]["objects"][label] == {"category": categories[entry["category_id"]], "frames": frames}
        for k, rle in enumerate(entry["segmentations"]):
            mask = labels_of(ytvos, name, f"{5 * k:05d}") == int(label)
            if rle is None:
                assert not mask.any()
                assert entry["bboxes"][k] is None
                assert entry["areas"][k] is None
            else:
                assert (coco.decode(rle) == mask).all()
                assert entry["areas"][k] == int(mask.sum())
                assert entry["bboxes"][k] == coco.toBbox(rle).tolist()
    assert {name: sorted(labels) for name, labels in seen.items()} == {n: sorted(v["objects"]) for n, v in meta.items()}
    for video in index["videos"]:
        for file in video["file_names"]:
            picture = Path("train", "JPEGImages", *file.split("/"))
            assert (ytvis / picture).read_bytes() == (ytvos / picture).read_bytes()


def test_two_workers_write_the_same_bytes(ytvos: Path, tmp_path: Path):
    seen = []
    generate(tmp_path, SynthOptions(workers=2, **SMALL), lambda done, of: seen.append((done, of)))
    assert tree(tmp_path) == tree(ytvos)
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(("cuts", "starts"), [(3, [0, 2, 4, 6]), (2, [0, 3, 6]), (7, list(range(8)))])
def test_cuts_divide_a_video_into_shots_the_first_of_which_is_the_video_without_cuts(
    ytvos: Path, tmp_path: Path, cuts: int, starts: list[int]
):
    options = SynthOptions(**{**SMALL, "videos": 1}, cuts=cuts)
    generate(tmp_path, options)
    name = video_id(options.seed, 0)
    shots = make_shots(0, options)
    assert len(shots) == cuts + 1
    for k in range(options.frames):
        shot = sum(start <= k for start in starts) - 1
        assert (labels_of(tmp_path, name, f"{5 * k:05d}") == shots[shot].render_frame(k)[1]).all()
    for k in range(starts[1]):
        file = Path("train", "JPEGImages", name, f"{5 * k:05d}.jpg")
        assert (tmp_path / file).read_bytes() == (ytvos / file).read_bytes()
    note = json.loads((tmp_path / "synth.json").read_text())["options"]
    plain = json.loads((ytvos / "synth.json").read_text())["options"]
    assert note == plain | {"cuts": cuts, "videos": 1}  # a set without cuts keeps its note
    with pytest.raises(UsageError, match="other options"):
        generate(tmp_path, SynthOptions(**{**SMALL, "videos": 1}))


def test_asked_again_it_does_nothing_and_with_other_options_it_refuses(ytvos: Path):
    before = {path: path.stat().st_mtime_ns for path in ytvos.rglob("*")}
    seen = []
    generate(ytvos, SynthOptions(workers=2, **SMALL), lambda done, of: seen.append((done, of)))
    assert seen == [(3, 3)]
    with pytest.raises(UsageError, match="other options"):
        generate(ytvos, SynthOptions(**{**SMALL, "seed": 5}))
    assert {path: path.stat().st_mtime_ns for path in ytvos.rglob("*")} == before


def test_a_set_that_was_not_generated_is_left_alone(tmp_path: Path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "meta.json").write_text("mine")
    with pytest.raises(UsageError, match="not generated"):
        generate(tmp_path, SynthOptions(**SMALL))
    assert tree(tmp_path) == {"train/meta.json": b"mine"}


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, labels: np.ndarray) -> None:
        if path.name == "00010.png":
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(b"")

    monkeypatch.setattr(writer, "_write_labels", full)
    with pytest.raises(OSError, match="No space"):
        generate(tmp_path, SynthOptions(**SMALL))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_cleared_away(ytvos: Path, tmp_path: Path):
    (tmp_path / ".train.tmp" / "JPEGImages" / "0123456789").mkdir(parents=True)
    generate(tmp_path, SynthOptions(**SMALL))
    assert tree(tmp_path) == tree(ytvos)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"videos": 0}, r"videos must be in \[1, 10000000\], got 0"),
        ({"frames": 0}, "frames must be in"),
        ({"width": 20}, r"width must be in \[128, 4096\], got 20"),
        ({"width": "320"}, "width must be an integer, got '320'"),
        ({"height": 9000}, "height must be in"),
        ({"objects": (1, 4)}, "objects must be two ascending numbers"),
        ({"objects": (5, 4)}, "objects must be two ascending numbers"),
        ({"objects": (3, 99)}, r"objects must be two ascending numbers in \[2, 26\], got \(3, 99\)"),
        ({"seed": -1}, "seed must be in"),
        ({"quality": 0}, "quality must be in"),
        ({"workers": 0}, "workers must be in"),
        ({"layout": "coco"}, "layout must be 'ytvis' or 'ytvos', got 'coco'"),
        ({"cuts": -1}, "cuts must be"),
        ({"cuts": 8, "frames": 8}, r"cuts must be below the number of frames \(8\), got 8"),
        ({"look_alikes": "shapes"}, "look_alikes must be 'colors' or 'patterns', got 'shapes'"),
        ({"length": 9}, "length is an unknown option"),
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any], message: str):
    with pytest.raises(OptionError, match=f"^{message}"):
        SynthOptions(**wrong)


@given(seed=st.integers(0, 2**40), numbers=st.lists(st.integers(0, 10**7), min_size=2, max_size=50, unique=True))
def test_ids_look_real_and_never_collide(seed: int, numbers: list[int]):
    ids = [video_id(seed, number) for number in numbers]
    assert len(set(ids)) == len(ids)
    assert all(len(name) == 10 and set(name) <= set("0123456789abcdef") for name in ids)


def test_one_frame_and_the_largest_cast(tmp_path: Path):
    generate(tmp_path, SynthOptions(videos=1, frames=1, width=128, height=96, objects=(26, 26)))
    meta = json.loads((tmp_path / "train" / "meta.json").read_text())
    objects = meta["videos"][video_id(0, 0)]["objects"]
    assert 2 <= len(objects) <= 26
    assert all(entry["frames"] == ["00000"] for entry in objects.values())
