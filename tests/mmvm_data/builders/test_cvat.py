"""CVAT for video: interpolation by CVAT's rule, what counts as annotated, and where frames are."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmvm_data.builders.common.cvat_shapes import interpolate_polygon
from mmvm_data.builders.cvat import open_cvat
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Region, Video
from tests.sets.tool_sets import cvat_file, cvat_mask, cvat_meta, cvat_shape, cvat_track
from tests.sets.world import H, W

SQUARE = ((10, 10), (30, 10), (30, 30), (10, 30))


def box(frame: int, x: float, y: float, width: float = 10, height: float = 8, **more: object) -> str:
    return cvat_shape("box", frame, xtl=x, ytl=y, xbr=x + width, ybr=y + height, **more)  # type: ignore[arg-type]


def polygon(frame: int, points: object, **more: object) -> str:
    return cvat_shape("polygon", frame, points=";".join(f"{x},{y}" for x, y in points), **more)  # type: ignore


def write(root: Path, *tracks: str, meta: str = "", frames: int = 6, folder: str = "images") -> Path:
    images = root / folder
    images.mkdir(parents=True, exist_ok=True)
    for f in range(frames):
        Image.new("RGB", (W, H)).save(images / f"frame_{f:06d}.png")
    (root / "annotations.xml").write_text(cvat_file(tracks, meta or cvat_meta(frames)))
    return root


def load(root: Path) -> Video:
    source = open_cvat("cvat", root)
    [name] = source.videos
    return source.load(name)


def regions(video: Video, number: int) -> dict[str, Region]:
    positions = {video.frames[p].index: p for p in video.annotated}
    return {region.id: region for region in video.regions(positions[number])}


def test_boxes_move_linearly_between_keyframes_and_stay_after_the_last(tmp_path: Path) -> None:
    track = cvat_track(7, "car", [box(1, 10, 10), box(3, 14, 12, 20)])
    video = load(write(tmp_path / "clip", track))
    assert (video.id, video.prompt, video.annotated) == ("clip", "box", tuple(range(6)))
    found = [regions(video, f) for f in range(6)]
    boxes = [f["7"].box if f else None for f in found]
    assert boxes == [None, (10, 10, 10, 8), (12, 11, 15, 8), *[(14, 12, 20, 8)] * 3]
    assert {f["7"].category for f in found if f} == {"car"}


def test_an_object_is_absent_from_an_outside_shape_to_the_next_shape(tmp_path: Path) -> None:
    track = cvat_track(0, "car", [box(0, 10, 10), box(2, 20, 10, outside=True), box(4, 30, 10)])
    video = load(write(tmp_path, track))
    found = [regions(video, f) for f in range(6)]
    assert [f["0"].box[0] if f and f["0"].box else None for f in found] == [10, 15, None, None, 30, 30]


def test_shapes_that_are_no_keyframes_are_read_as_they_are(tmp_path: Path) -> None:
    """A dump lists every frame; what CVAT shows in it is not computed again."""
    track = cvat_track(0, "car", [box(0, 10, 10), box(1, 11.25, 10, keyframe=False), box(2, 20, 10)])
    assert regions(load(write(tmp_path, track)), 1)["0"].box == (11.25, 10, 10, 8)


def test_boxes_turn_along_the_shorter_arc(tmp_path: Path) -> None:
    shapes = [box(f, 20, 20, 10, 4, rotation=angle) for f, angle in ((0, 350), (4, 10), (5, 90))]
    video = load(write(tmp_path, cvat_track(0, "car", shapes)))
    assert regions(video, 2)["0"].box == pytest.approx((20, 20, 10, 4))
    assert regions(video, 5)["0"].box == pytest.approx((23, 17, 4, 10))
    for frame, degrees in ((1, 5), (3, 5), (4, 10)):
        corner = 5 * math.cos(math.radians(degrees)) + 2 * math.sin(math.radians(degrees))
        assert regions(video, frame)["0"].box[0] == pytest.approx(25 - corner)  # type: ignore[index]


def test_polygons_of_equal_outlines_move_point_by_point() -> None:
    moved = [(x + 6, y + 2) for x, y in SQUARE]
    assert interpolate_polygon(SQUARE, moved, 0.5) == [(x + 3, y + 1) for x, y in SQUARE]
    assert interpolate_polygon(SQUARE, moved, 0) == list(SQUARE)
    turned = [*SQUARE[1:], SQUARE[0]]  # another first corner is another correspondence
    assert interpolate_polygon(SQUARE, turned, 0.5) == [(20, 10), (30, 20), (20, 30), (10, 20)]


def test_added_points_of_polygons_split_off_their_nearest_point() -> None:
    """The second outline has one corner more, in an edge. The values are those of CVAT itself."""
    right = [(10, 10), (20, 4), (30, 10), (30, 30), (10, 30)]
    assert interpolate_polygon(SQUARE, right, 0.5) == [(10, 10), (25, 7), (30, 10), (30, 30), (10, 30)]
    assert interpolate_polygon(right, SQUARE, 0.5) == [(10, 10), (25, 7), (30, 10), (30, 30), (10, 30)]


def test_polygon_tracks_give_masks_and_absent_ones_none(tmp_path: Path) -> None:
    moved = [(x + 4, y) for x, y in SQUARE]
    track = cvat_track(0, "car", [polygon(0, SQUARE), polygon(2, moved), polygon(4, moved, outside=True)])
    video = load(write(tmp_path, track))
    assert video.prompt == "mask"
    mask = regions(video, 1)["0"].mask
    assert mask is not None
    assert masks.bbox(mask) == (12, 10, 20, 20)
    assert masks.area(mask) == 400
    assert [bool(regions(video, f)) for f in range(6)] == [True, True, True, True, False, False]


def test_masks_are_not_interpolated_and_frames_without_them_are_not_annotated(tmp_path: Path) -> None:
    bitmap = np.zeros((H, W), np.uint8)
    bitmap[5:15, 7:30] = np.random.default_rng(0).integers(0, 2, (10, 23))
    bitmap[5, 7] = bitmap[14, 29] = bitmap[14, 7] = 1
    shapes = [cvat_mask(0, bitmap), cvat_mask(3, bitmap), cvat_mask(4, bitmap, outside=True)]
    video = load(write(tmp_path, cvat_track(0, "car", shapes)))
    assert [video.frames[p].index for p in video.annotated] == [0, 3, 4, 5]
    mask = regions(video, 3)["0"].mask
    assert mask is not None and np.array_equal(masks.decode(mask), bitmap)
    assert not regions(video, 5)
    write(tmp_path, cvat_track(0, "car", shapes[:2]), cvat_track(1, "car", [polygon(0, SQUARE), cvat_mask(2, bitmap)]))
    with pytest.raises(InputError, match=r"only 1 annotated frame"):  # polygons do not become masks either
        load(tmp_path)


def test_ellipses_are_masks(tmp_path: Path) -> None:
    shapes = [cvat_shape("ellipse", f, cx=20 + f, cy=20, rx=12, ry=6, rotation=90) for f in (0, 4)]
    mask = regions(load(write(tmp_path, cvat_track(0, "car", shapes))), 2)["0"].mask
    assert mask is not None
    assert masks.area(mask) == pytest.approx(math.pi * 72, rel=0.03)
    x, y, width, height = masks.bbox(mask)
    assert (x + width / 2, y + height / 2) == pytest.approx((22, 20), abs=1)
    assert height > width


def test_parts_of_one_object(tmp_path: Path) -> None:
    parts = [[(x + 25 * k, y) for x, y in SQUARE] for k in range(2)]
    tracks = [cvat_track(k, "car", [polygon(0, p)], ' group_id="3"') for k, p in enumerate(parts)]
    video = load(write(tmp_path, *tracks, cvat_track(2, "bus", [polygon(0, SQUARE)], ' group_id="3"')))
    found = regions(video, 2)
    assert sorted(found) == ["group 3 bus", "group 3 car"]
    assert found["group 3 car"].mask is not None and masks.area(found["group 3 car"].mask) == 800
    named = '<attribute name="track_id">blue one</attribute></polygon>'
    tracks = [cvat_track(k, "car", [polygon(0, p).replace("</polygon>", named)]) for k, p in enumerate(parts)]
    assert list(regions(load(write(tmp_path, *tracks)), 0)) == ["blue one"]


def test_a_box_makes_a_video_one_of_boxes(tmp_path: Path) -> None:
    tracks = [cvat_track(0, "car", [box(0, 10, 10)]), cvat_track(1, "car", [polygon(0, SQUARE)])]
    video = load(write(tmp_path, *tracks))
    assert video.prompt == "box"
    assert {key: region.box for key, region in regions(video, 1).items()} == {
        "0": (10, 10, 10, 8),
        "1": (10, 10, 20, 20),
    }


def test_frames_of_a_video_file_and_a_step(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "x.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (W, H))
    for _ in range(12):
        writer.write(np.zeros((H, W, 3), np.uint8))
    writer.release()
    meta = cvat_meta(4, more="<frame_filter>step=3</frame_filter><source>x.mp4</source>").replace(
        "<start_frame>0</start_frame><stop_frame>3</stop_frame>",
        "<start_frame>1</start_frame><stop_frame>10</stop_frame>",
    )
    (tmp_path / "annotations.xml").write_text(cvat_file([cvat_track(0, "car", [box(1, 10, 10), box(7, 16, 10)])], meta))
    video = load(tmp_path)
    assert len(video.frames) == 12 and video.frames[4].video_frame == 4
    assert [video.frames[p].index for p in video.annotated] == [1, 4, 7, 10]
    assert regions(video, 4)["0"].box == (13, 10, 10, 8)
    (tmp_path / "annotations.xml").rename(tmp_path / "x.xml")
    assert load(tmp_path).id == "x"
    assert load(tmp_path / "x.xml").id == "x"
    (tmp_path / "x.mp4").unlink()
    with pytest.raises(InputError, match=r"x\.xml: no frames: a folder images or the video file x\.mp4 is expected"):
        load(tmp_path)


def test_images_of_other_names_are_the_frames_in_order(tmp_path: Path) -> None:
    write(tmp_path, cvat_track(0, "car", [box(0, 10, 10), box(2, 30, 10)]), frames=3)
    for old, new in zip(range(3), ("b_900.png", "a_901.png", "c_902.png"), strict=True):
        (tmp_path / f"images/frame_{old:06d}.png").rename(tmp_path / "images" / new)
    video = load(tmp_path)
    paths = {frame.path: frame.index for frame in video.frames}
    assert paths == {"images/a_901.png": 0, "images/b_900.png": 1, "images/c_902.png": 2}
    Image.new("RGB", (W, H)).save(tmp_path / "images/d.png")
    with pytest.raises(InputError, match=r"images: 4 images for 3 frames"):
        load(tmp_path)


def test_a_job_is_a_part_of_the_frames(tmp_path: Path) -> None:
    track = cvat_track(0, "car", [box(3, 10, 10), box(5, 30, 10)])
    meta = (
        cvat_meta(4, kind="job").replace("<start_frame>0", "<start_frame>3").replace("<stop_frame>3", "<stop_frame>6")
    )
    assert load(write(tmp_path, track, meta=meta, frames=8)).annotated == (3, 4, 5, 6)
    meta = cvat_meta(3, kind="job")  # what it says is not about its shapes
    assert load(write(tmp_path, track, meta=meta, frames=8)).annotated == (3, 4, 5)


def test_frames_of_a_project_are_numbered_on_within_a_subset(tmp_path: Path) -> None:
    """The second task begins at frame 2 and has every third frame, so the third one is 2 + 3 * 4 numbers behind."""
    step = "<frame_filter>step=3</frame_filter>"
    metas = [
        cvat_meta(6, task="1", name="a", more="<subset>train</subset>"),
        cvat_meta(4, task="2", name="b", more=f"<subset>val</subset>{step}")
        .replace("<start_frame>0</start_frame>", "<start_frame>2</start_frame>")
        .replace("<stop_frame>3</stop_frame>", "<stop_frame>11</stop_frame>"),
        cvat_meta(6, task="3", name="c", more="<subset>val</subset>"),
    ]
    tracks = [
        cvat_track(0, "car", [box(1, 10, 10)], ' task_id="1"'),
        cvat_track(1, "car", [box(2, 10, 10), box(8, 16, 10)], ' task_id="2"'),
        cvat_track(2, "car", [box(14, 10, 10), box(18, 30, 10)], ' task_id="3"'),
    ]
    write(tmp_path, *tracks, meta=f"<project><tasks>{''.join(metas)}</tasks></project>", folder="images/train")
    (tmp_path / "images/val").mkdir()
    for number in (2, 5, 8, 11, *range(14, 20)):
        Image.new("RGB", (W, H)).save(tmp_path / f"images/val/frame_{number:06d}.png")
    source = open_cvat("cvat", tmp_path)
    a, b, c = (source.load(name) for name in source.videos)
    assert [[f.index for f in video.frames] for video in (a, b, c)] == [[*range(6)], [2, 5, 8, 11], [*range(6)]]
    assert c.frames[2].path == "images/val/frame_000016.png"
    assert [len(video.annotated) for video in (a, b, c)] == [6, 4, 6]
    assert (regions(b, 5)["1"].box, regions(c, 2)["2"].box) == ((13, 10, 10, 8), (20, 10, 10, 8))
    assert not regions(a, 0)


def test_tasks_of_a_project_that_have_one_name(tmp_path: Path) -> None:
    tasks = "".join(cvat_meta(6, task=str(k), name="same") for k in (4, 5))
    tracks = [cvat_track(k, "car", [box(0, 10 * k, 10)], f' task_id="{k + 4}"') for k in (0, 1)]
    write(tmp_path, *tracks, meta=f"<project><name>p</name>{tasks}</project>", folder="images/same")
    source = open_cvat("cvat", tmp_path)
    assert list(source.videos) == [f"{tmp_path.name}/same 4", f"{tmp_path.name}/same 5"]
    assert [regions(source.load(video), 0) for video in source.videos][1]["1"].box == (10, 10, 10, 8)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<annotations>", "<!DOCTYPE x [<!ENTITY a 'b'>]><annotations>", "line 2: a document type declaration"),
        ("</annotations>", "", "not valid XML: no element found"),
        ("utf-8", "utf-99", "not valid XML: unknown encoding"),
        ("<meta>", "<a>" * 101, "nested more than 100 levels deep"),
        ('frame="0"', 'frame="-1"', "frame: an integer from 0 is expected, found '-1'"),
        ('xtl="10"', 'xtl="nan"', "track 0, frame 0, xtl: a number is expected, found 'nan'"),
        ('xbr="20"', 'xbr="2"', "track 0, frame 0: xbr and ybr are too small: 2, 18"),
        ("<width>64", "<width>99", "frames are of 99 x 48, but the first has 64 x 48"),
        ('frame="2"', 'frame="0"', "track 0: frame 0 has two shapes"),
        ("box ", "cuboid ", r"not valid XML: mismatched tag"),
        ("<size>6", "<size>-6", "meta, size: an integer from 0 is expected, found '-6'"),
    ],
)
def test_faults_are_named(tmp_path: Path, old: str, new: str, reason: str) -> None:
    write(tmp_path, cvat_track(0, "car", [box(0, 10, 10), box(2, 30, 10)]))
    file = tmp_path / "annotations.xml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    source = open_cvat("cvat", tmp_path)
    if source.rejects:
        [reject] = source.rejects
        found = f"{reject.field}: {reject.reason}"
    else:
        with pytest.raises(InputError) as caught:
            regions(source.load(source.videos[0]), 0)
        found = str(caught.value)
    assert reason in found


def test_other_files_and_shapes(tmp_path: Path) -> None:
    (tmp_path / "voc.xml").write_text("<annotation><object/></annotation>")
    with pytest.raises(InputError, match=r"no annotations\.xml of CVAT for video exists here"):
        open_cvat("cvat", tmp_path)
    write(tmp_path, cvat_track(0, "car", [cvat_shape("polyline", 0, points="1,1;2,2")]))
    source = open_cvat("cvat", tmp_path)
    with pytest.raises(InputError, match=r"no track of boxes, polygons, masks or ellipses \(found polyline\)"):
        source.load(source.videos[0])
    (tmp_path / "annotations.xml").write_text(cvat_file(['<image id="0" name="a.png"></image>']))
    with pytest.raises(InputError, match="CVAT for images"):
        open_cvat("cvat", tmp_path).load(source.videos[0])
