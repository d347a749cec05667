"""Our files of CVAT for video as CVAT imports them, and its interpolation against ours.

With its code where CVAT names a checkout, else by a reader written after its format; and with Datumaro, whose reader
and own format CVAT uses, where DATUMARO_PYTHON names an interpreter that has it.
"""

from __future__ import annotations

import ast
import copy
import json
import os
import random
import shutil
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from mmvm_data import open_source
from mmvm_data.builders.common.cvat_shapes import interpolate, interpolate_polygon
from mmvm_data.core import masks
from mmvm_data.formats import bench, mask_sets
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.synth import SynthOptions, generate
from tests.peers import world

CHECKOUT = os.environ.get("CVAT")
Shapes = dict[tuple[int, str], list[list[float]]]
"""(frame, object) -> outlines."""


class Task(SimpleNamespace):
    """What an import adds tracks to."""

    def add_track(self, track: Any) -> None:
        self.tracks.append(track)

    def add_shape(self, shape: Any) -> None:
        raise AssertionError("a track became a shape")

    @staticmethod
    def Track(**values: Any) -> SimpleNamespace:
        return SimpleNamespace(**values)

    TrackedShape = Attribute = LabeledShape = Track


@pytest.fixture(scope="module")
def cvat() -> dict[str, Any]:
    """Return ``load_anno`` and ``TrackManager`` of a checkout; modules of the server that play no part are empty."""
    if not CHECKOUT:
        pytest.skip("CVAT names no checkout")
    folder = Path(CHECKOUT) / "cvat/apps/dataset_manager"
    kinds = ("rectangle", "polygon", "polyline", "points", "cuboid", "ellipse", "skeleton", "mask")
    stubs: dict[str, dict[str, Any]] = {
        **{key: {} for key in ("cvat", "cvat.apps", "cvat.apps.engine", "cvat.apps.dataset_manager")},
        "cvat.apps.engine.models": {
            "ShapeType": type("ShapeType", (), {kind.upper(): kind for kind in kinds}),
            "DimensionType": type("DimensionType", (), {"DIM_2D": "2d", "DIM_3D": "3d"}),
        },
        "cvat.apps.engine.serializers": {"LabeledDataSerializer": None},
        "cvat.apps.dataset_manager.util": {
            "faster_deepcopy": copy.deepcopy,
            "deepcopy_simple": copy.deepcopy,
            "make_getter_by_frame_for_annotation_stream": None,
        },
        "shapely": {"geometry": None},
    }
    names: dict[str, Any] = {"ElementTree": ElementTree, "np": np}
    with pytest.MonkeyPatch.context() as patched:
        for name, values in stubs.items():
            module = types.ModuleType(name)
            vars(module).update(values)
            patched.setitem(sys.modules, name, module)
        exec(compile((folder / "annotation.py").read_text(), "annotation.py", "exec"), names)
    tree = ast.parse((folder / "formats/cvat.py").read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "load_anno"]
    exec(compile(tree, "cvat.py", "exec"), names)
    return names


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cvat")
    generate(folder / "videos", SynthOptions(videos=2, frames=6, width=200, height=112))
    build("ytvos", folder / "videos", folder / "bench", BuildOptions())
    mask_sets.write(bench.read(folder / "bench"), folder / "bench", folder / "out", "cvat")
    return folder / "out"


def shape(frame: int, kind: str, points: Any, outside: bool = False, rotation: float = 0) -> dict[str, Any]:
    values = {"frame": frame, "type": kind, "points": list(points), "outside": outside, "rotation": rotation}
    return values | {"attributes": [], "keyframe": True, "elements": []}


def interpolated(cvat: dict[str, Any], shapes: list[dict[str, Any]], stop: int) -> dict[int, dict[str, Any]]:
    track = {"id": 0, "frame": shapes[0]["frame"], "shapes": shapes, "attributes": []}
    found = cvat["TrackManager"].get_interpolated_shapes(track, 0, stop, "2d")
    return {item["frame"]: item for item in found if not item["outside"]}


def by_their_code(cvat: dict[str, Any], file: Path, frames: int) -> Shapes:
    task = Task(tracks=[])
    with file.open("rb") as handle:
        cvat["load_anno"](handle, task)
    result: Shapes = {}
    for track in task.tracks:
        shapes = [shape(int(s.frame), s.type, s.points, s.outside) for s in track.shapes]
        name = track.shapes[0].attributes[0].value
        for frame, item in interpolated(cvat, shapes, frames).items():
            result.setdefault((frame, name), []).append(item["points"])
    return result


def by_the_format(file: Path) -> Shapes:
    """Keyframes of every track; ours have one in every frame."""
    result: Shapes = {}
    for track in ElementTree.parse(file).getroot().iter("track"):
        for item in track:
            if item.get("outside") == "0":
                key = int(item.get("frame", "")), item.findtext("attribute") or ""
                points = [float(v) for pair in (item.get("points") or "").split(";") for v in pair.split(",")]
                result.setdefault(key, []).append(points)
    return result


def compare(folder: Path, read: Any) -> None:
    source = open_source("cvat", folder)
    assert source.videos
    for name in source.videos:
        video = source.load(name)
        theirs = read(folder / name / "annotations.xml", len(video.frames))
        ours = {(video.frames[p].index, r.id): r.mask for p in video.annotated for r in video.regions(p)}
        assert ours.keys() == theirs.keys()
        for key, mask in ours.items():
            assert mask is not None
            size = mask.size
            pieces = coco.merge(coco.frPyObjects(theirs[key], *size))
            assert np.array_equal(coco.decode(pieces), masks.decode(mask))


def test_the_format_gives_our_masks(exported: Path) -> None:
    compare(exported, lambda file, frames: by_the_format(file))


def test_cvat_imports_our_masks(cvat: dict[str, Any], exported: Path) -> None:
    compare(exported, lambda file, frames: by_their_code(cvat, file, frames))


def test_datumaro_reads_our_masks_and_we_its_own_format(exported: Path, tmp_path: Path) -> None:
    python = os.environ.get("DATUMARO_PYTHON")
    if not python:
        pytest.skip("DATUMARO_PYTHON names no interpreter")
    shutil.copytree(exported, tmp_path / "in")
    for images in (tmp_path / "in").glob("*/images"):  # it looks for images of the names that CVAT gives them
        for k, file in enumerate(sorted(images.iterdir())):
            Image.open(file).save(images / f"frame_{k:06d}.png")
            file.unlink()
    (tmp_path / "out").mkdir()
    world.run_peer("run_datumaro.py", tmp_path / "in", tmp_path / "out", cwd=tmp_path, python=python)
    read = json.loads((tmp_path / "out/read.json").read_text())

    def outlines(file: Path, frames: int) -> Shapes:
        names = {int(t.get("id", "")): t.findtext(".//attribute") or "" for t in ElementTree.parse(file).iter("track")}
        result: Shapes = {}
        for frame, track, points in read[file.parent.name]:
            result.setdefault((frame, names[track]), []).append(points)
        return result

    compare(tmp_path / "in", outlines)
    for name in read:
        ours = open_source("cvat", tmp_path / "in").load(name)
        source = open_source("datumaro", tmp_path / "out" / name)
        theirs = source.load(source.videos[0])
        assert len(theirs.frames) == len(ours.frames)
        for p in range(len(ours.frames)):
            expected = sorted((region.category, region.mask.counts) for region in ours.regions(p) if region.mask)
            assert sorted((r.category, r.mask.counts) for r in theirs.regions(p) if r.mask) == expected


def test_cvat_interpolates_alike(cvat: dict[str, Any]) -> None:
    rng = random.Random(0)
    for _ in range(300):
        left, right = (
            [(rng.uniform(0, 60), rng.uniform(0, 60)) for _ in range(rng.randrange(3, 15))] for _ in range(2)
        )
        stop = rng.randrange(2, 6)
        flat = [[value for point in outline for value in point] for outline in (left, right)]
        theirs = interpolated(cvat, [shape(0, "polygon", flat[0]), shape(stop, "polygon", flat[1])], stop)
        for frame in range(1, stop):
            ours = interpolate_polygon(left, right, frame / stop)
            assert [v for point in ours for v in point] == pytest.approx(theirs[frame]["points"], abs=1e-9)
        turns = rng.uniform(0, 360), rng.uniform(0, 360)
        boxes = [
            shape(k * stop, "rectangle", [*f[:4]], rotation=r) for k, (f, r) in enumerate(zip(flat, turns, strict=True))
        ]
        theirs = interpolated(cvat, boxes, stop)
        ends = [[(f[0], f[1]), (f[2], f[3]), (r, 0.0)] for f, r in zip(flat, turns, strict=True)]
        for frame in range(1, stop):
            (a, b), (c, d), (rotation, _) = interpolate("box", ends[0], ends[1], frame / stop)
            assert [a, b, c, d] == pytest.approx(theirs[frame]["points"], abs=1e-9)
            assert (rotation - theirs[frame]["rotation"] + 180) % 360 == pytest.approx(180, abs=1e-6)
