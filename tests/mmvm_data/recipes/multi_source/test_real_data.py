"""A recipe over real files of seven kinds of sources: equal bytes however it is built, disjoint splits."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from mmvm_data.formats import bench, sft, tsv, vlmevalkit
from mmvm_data.formats.bench_check import validate
from mmvm_data.formats.open_benchmark import open_benchmark
from mmvm_data.pipeline.options import BuildOptions
from mmvm_data.recipes.multi_source.build import build_recipe
from mmvm_data.recipes.multi_source.recipe import read_recipe
from mmvm_data.synth import SynthOptions, generate
from tests import rays
from tests.e2e.killed_commands import ask
from tests.worlds import tree

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray"), pytest.mark.timeout(1200)]
KILLS = 10
QUOTAS = {"girls": 3, "clip": 3, "stills": 8, "walkers": 4, "masklets": 4, "tracks": 4, "toys": 4}


def write_sav(real: Path, root: Path) -> Path:
    """Real masklets, and real frames of another video in their size, since theirs are not published with them."""
    frames = root / "sav_000001"
    frames.mkdir(parents=True)
    (root / "sav_000001_manual.json").write_bytes((real / "sav_train/sav_000001_manual.json").read_bytes())
    video = cv2.VideoCapture(str(real / "sam2_bedroom_video/bedroom.mp4"))
    for k in range(41):
        cv2.imwrite(str(frames / f"{k:05d}.jpg"), cv2.resize(video.read()[1], (480, 848)))
    video.release()
    return root


def write_ytvis(real: Path, root: Path) -> Path:
    """Real frames and masks of DAVIS as a file of YouTube-VIS, every fourth frame."""
    videos, annotations = [], []
    for number, name in enumerate(("soapbox", "kite-surf"), 1):
        pictures = sorted((real / "davis2016_val/DAVIS/JPEGImages/480p" / name).glob("*.jpg"))[::4]
        entries: list[Any] = []
        for picture in pictures:
            target = root / "train/JPEGImages" / name / picture.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(picture.read_bytes())
            with Image.open(real / f"davis2016_val/DAVIS/Annotations/480p/{name}/{picture.stem}.png") as image:
                bitmap = np.asarray(image) > 0
            encoded = coco.encode(np.asfortranarray(bitmap.astype(np.uint8)))
            entries.append({"size": list(bitmap.shape), "counts": encoded["counts"].decode()})
        height, width = entries[0]["size"]
        files = [f"{name}/{picture.name}" for picture in pictures]
        shape = {"width": width, "height": height, "length": len(files)}
        videos.append({"id": number, "file_names": files} | shape)
        annotations.append(
            {"id": number, "video_id": number, "category_id": 1, "iscrowd": 0, "segmentations": entries}
            | {"bboxes": [None] * len(files), "areas": [None] * len(files)}
        )
    content = {"videos": videos, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (root / "train.json").write_text(json.dumps(content))
    return root


def write_recipe(real: Path, folder: Path) -> Path:
    write_sav(real, folder / "sav")
    write_ytvis(real, folder / "ytvis")
    generate(folder / "toys", SynthOptions(videos=3, frames=6, width=320, height=180))
    roots = {
        "girls": ("davis2017", real / "davis2017_schoolgirls_240p"),
        "clip": ("video", real / "davis2017_schoolgirls_240p"),  # the same pictures, from its mp4
        "stills": ("coco", real / "coco"),
        "walkers": ("mot17", real / "mot17_mini"),
        "masklets": ("sav", folder / "sav"),
        "tracks": ("ytvis", folder / "ytvis"),
        "toys": ("ytvos", folder / "toys"),
    }
    sampling = {"stills": {"cases_per_video": 1}, "tracks": {"min_candidates": 1}}
    sources = [
        {"name": name, "reader": reader, "root": str(root), "quota": QUOTAS[name], "sampling": sampling.get(name, {})}
        for name, (reader, root) in roots.items()
    ]
    splits = {"train": 0.6, "val": 0.2, "test": 0.2}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"sources": sources, "splits": splits, "seed": 1}))
    return path


@pytest.fixture(scope="module")
def recipe(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(realdata.resolve(), tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def whole(recipe: Path) -> Path:
    """The benchmark, built by one command that was not killed; another one was, ten times, and is compared."""
    work = recipe.parent / "kills"
    work.mkdir()
    command = ["mmvm-data", "build", str(recipe), "--out", "OUT", "--resume"]
    result = ask({"kind": "again", "work": str(work), "command": command, "kills": KILLS})
    assert result == {"kills": KILLS, "differs": [], "left": []}
    return work / "whole"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    pytest.importorskip("ray")
    yield from rays.cluster()


def test_two_workers_give_the_same_bytes(recipe: Path, whole: Path, tmp_path: Path) -> None:
    result = build_recipe(read_recipe(recipe), recipe.parent, tmp_path / "out", BuildOptions(workers=2))
    assert result.build.cases == sum(QUOTAS.values()) and not result.shortfalls
    assert tree(tmp_path / "out") == tree(whole)


def test_ray_gives_the_same_bytes(recipe: Path, whole: Path, address: str, tmp_path: Path) -> None:
    options = BuildOptions(engine="ray", ray_address=address)  # each source starts an actor, which takes a second
    build_recipe(read_recipe(recipe), recipe.parent, tmp_path / "out", options)
    assert tree(tmp_path / "out") == tree(whole)


def difference_hash(path: Path, side: int = 12) -> NDArray[np.bool_]:
    """Signs of the differences of neighbors along rows and columns, bool [2 * side * side]."""
    with Image.open(path) as image:
        gray = np.asarray(image.convert("L").resize((side + 1, side + 1), Image.Resampling.BOX), np.int16)
    return np.concatenate([(np.diff(gray, axis=1)[:-1] > 0).ravel(), (np.diff(gray, axis=0)[:, :-1] > 0).ravel()])


def test_splits_share_no_video_and_no_near_duplicate(whole: Path) -> None:
    """Reads the files alone, and hashes pictures in another way than the audit does."""
    videos, hashes = defaultdict(set), defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    for split in sorted(path for path in whole.iterdir() if path.is_dir()):
        for line in (split / "cases.jsonl").read_text().splitlines():
            record = json.loads(line)
            origin = record["provenance"]
            counts[origin["extra"]["recipe_source"]] += 1
            videos[split.name].add((origin["source"], origin["video"]))
            for frame in record["frames"]:
                entry = origin["extra"]["recipe_source"], difference_hash(split / frame["path"])
                hashes[split.name].append(entry)
    assert dict(counts) == QUOTAS and sorted(videos) == ["test", "train", "val"]

    def nearest(a: list[Any], b: list[Any]) -> int:
        return int(min((x != y).sum() for x in a for y in b))

    names = sorted(videos)
    for k, name in enumerate(names):
        for other in names[k + 1 :]:
            assert not videos[name] & videos[other]
            assert nearest([h for _, h in hashes[name]], [h for _, h in hashes[other]]) > 40, (name, other)
    # of 288 bits; the hash does find the pictures that two sources have in common
    (split,) = {name for name, own in hashes.items() if any(source in ("girls", "clip") for source, _ in own)}
    of = {source: [h for name, h in hashes[split] if name == source] for source in ("girls", "clip")}
    assert nearest(of["girls"], of["clip"]) <= 20


def test_every_published_format_loads(whole: Path, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        folder = whole / split
        assert not validate(folder).problems
        cases = list(bench.read(folder))
        assert [case.id for case in open_benchmark(folder)] == [case.id for case in cases]
        os.makedirs(tmp_path / split)
        assert len(list(tsv.read_rows(folder / bench.TSV))) == len(cases)
        vlmevalkit.write(cases, folder, tmp_path / split / "MMVMBench.tsv")
        sft.write(cases, tmp_path / split / "records.json")
        assert len(list(sft.read(tmp_path / split / "records.json", folder))) == len(cases)
