"""The first object of each video of the world, as sets of single-object trackers have it, to their specifications."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tests.sets.world import FRAMES, VIDEOS, H, SetWriter, W, WrittenSet, draw_bitmap, tight_box

HIDDEN = 2
"""The frame in which the object of video 1 is not visible."""

Box = tuple[int, int, int, int]


def visible_box(v: int, f: int) -> Box | None:
    return None if v % VIDEOS == 1 and f == HIDDEN else tight_box(v, f, 0)


def video_names(videos: int) -> list[str]:
    """Return name suffixes of sequences, for data sets that have two of each kind."""
    return ["", *map(str, range(1, videos // VIDEOS))]


def format_line(box: Box | None, between: str = ",", absent: str = "0") -> str:
    return between.join(map(str, box)) if box else between.join([absent] * 4)


def write_folders(
    sequence: Callable[[int], str],
    images: str,
    boxes: str,
    between: str = ",",
    absent: str = "0",
    category: str | None = None,
    flags: Sequence[str] = (),
    one_line: bool = False,
) -> SetWriter:
    """Return a writer of one folder per sequence, frames in ``images`` and flags of absence. With flags,
    the box of an absent object is that of its last frame."""

    def write(root: Path, videos: int = VIDEOS) -> WrittenSet:
        written = WrittenSet(root)
        for v in range(videos):
            name = sequence(v)
            lines = []
            for f in range(FRAMES):
                written.frame(f"{name}/{images}{f + 1:08d}.jpg", v, f)
                lines.append(format_line(tight_box(v, f, 0) if flags else visible_box(v, f), between, absent))
                written.expect_region(Path(name).name, f + 1, "1", visible_box(v, f), category)
            written.text(f"{name}/{boxes}", lines)
            absences = [str(int(visible_box(v, f) is None)) for f in range(FRAMES)]
            for k, file in enumerate(flags):
                values = absences if k == 0 else ["0"] * FRAMES
                written.text(f"{name}/{file}", ",".join(values) if one_line else "\n".join(values))
        return written

    return write


lasot = write_folders(
    lambda v: f"person/person-{v}",
    "img/",
    "groundtruth.txt",
    category="person",
    flags=("full_occlusion.txt", "out_of_view.txt"),
    one_line=True,
)
vasttrack = write_folders(lambda v: f"train/Zebra/Zebra-{v}", "imgs/", "Groundtruth.txt", category="Zebra")
utb180 = write_folders(lambda v: f"Video_{v:04d}", "imgs/", "groundtruth_rect.txt", between="   ", absent="0.0")


def got10k(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = write_folders(lambda v: f"train/GOT-10k_Train_{v:06d}", "", "groundtruth.txt", flags=("absence.label",))(
        root, videos
    )
    for v in range(videos):
        name = f"train/GOT-10k_Train_{v:06d}"
        written.text(f"{name}/cover.label", "\n".join(str(8 - f) for f in range(FRAMES)))
        written.text(
            f"{name}/meta_info.ini", "[METAINFO]\nurl: https://x\nobject_class: anteater\nmotion_class: walking\n"
        )
        for objects in written.expected[Path(name).name].values():
            objects.update({track: (shape, "anteater") for track, (shape, _) in objects.items()})
    return written


def otb(root: Path, videos: int = VIDEOS) -> WrittenSet:
    """Car has one object and tabs; Jogging two and commas; Football has a frame more than lines."""
    written = WrittenSet(root)
    for c in video_names(videos):
        car, jogging, football = f"Car{c}", f"Jogging{c}", f"Football{c}"
        for f in range(FRAMES):
            for v, name in enumerate((car, jogging)):
                written.frame(f"{name}/img/{f + 1:04d}.jpg", v, f)
            written.frame(f"{football}/img/{f + 1:04d}.jpg", 0, f)
            written.expect_region(car, f + 1, "1", tight_box(0, f, 0), None)
            for k in (0, 1):
                written.expect_region(jogging, f + 1, str(k + 1), tight_box(1, f, k), None)
            if f < FRAMES - 1:
                written.expect_region(football, f + 1, "1", tight_box(0, f, 1), None)
        written.text(f"{car}/groundtruth_rect.txt", [format_line(tight_box(0, f, 0), "\t") for f in range(FRAMES)])
        for k in (0, 1):
            written.text(
                f"{jogging}/groundtruth_rect.{k + 1}.txt", [format_line(tight_box(1, f, k)) for f in range(FRAMES)]
            )
        written.text(f"{football}/groundtruth_rect.txt", [format_line(tight_box(0, f, 1)) for f in range(FRAMES - 1)])
    return written


def vot(root: Path, videos: int = VIDEOS) -> WrittenSet:
    """Sequences of rectangles, and of polygons."""
    written = WrittenSet(root)
    for c in video_names(videos):
        bag, ball, lines = f"bag{c}", f"ball{c}", []
        for f in range(FRAMES):
            written.frame(f"{bag}/color/{f + 1:08d}.jpg", 0, f)
            written.frame(f"{ball}/{f + 1:08d}.jpg", 1, f)
            written.expect_region(bag, f + 1, "1", tight_box(0, f, 0), None)
            found = visible_box(1, f)
            written.expect_region(ball, f + 1, "1", found, None)
            if found is None:
                lines.append("nan,nan,nan,nan")
            else:
                x, y, w, h = found
                lines.append(f"{x + 2}.00,{y},{x + w},{y + 3},{x + w - 2},{y + h},{x},{y + h - 3}")
        written.text(f"{bag}/groundtruth.txt", [format_line(tight_box(0, f, 0)) for f in range(FRAMES)])
        written.text(f"{ball}/groundtruth.txt", lines)
    return written


def encode_window(mask: np.ndarray, edge: int = 1) -> str:
    """A mask as VOT writes it, in a window a little larger than the object."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return "m0,0,1,1,1"
    y0, x0 = max(rows.min() - edge, 0), max(columns.min() - edge, 0)
    part = mask[y0 : rows.max() + 1 + edge, x0 : columns.max() + 1 + edge]
    runs, value = [0], 0
    for pixel in part.ravel():  # row by row
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return f"m{x0},{y0},{part.shape[1]},{part.shape[0]}," + ",".join(map(str, runs))


def vot_masks(root: Path, videos: int = VIDEOS) -> WrittenSet:
    """Sequences of masks (2020 on) with one object, and with two files (VOTS)."""
    written = WrittenSet(root)
    for c in video_names(videos):
        agility, ants = f"agility{c}", f"ants{c}"
        for f in range(FRAMES):
            for v, name in enumerate((agility, ants)):
                written.frame(f"{name}/color/{f + 1:08d}.jpg", v, f)
                for k in range(v + 1):
                    written.expect_region(
                        name, f + 1, str(k + 1), draw_bitmap(v, f, k) if v or f != HIDDEN else None, None
                    )
        lines = [encode_window(draw_bitmap(0, f, 0)) if f != HIDDEN else "m0,0,1,1,1" for f in range(FRAMES)]
        written.text(f"{agility}/groundtruth.txt", lines)
        for k in range(2):
            lines = [encode_window(draw_bitmap(1, f, k), 3 * k) for f in range(FRAMES)]
            written.text(f"{ants}/groundtruth_object{k + 1}.txt", lines)
    return written


def uav123(root: Path, videos: int = VIDEOS) -> WrittenSet:
    """Whole sequences, and some in two parts of which the first two frames are one and the last two the other."""
    written = WrittenSet(root)
    entry = "struct('name','{}','path','..\\data_seq\\UAV123\\{}\\','startFrame',{},'endFrame',{},'nz',6,'ext','jpg')"
    entries = []
    for c in video_names(videos):
        car, truck = f"car1{c}", f"truck4{c}"
        for f in range(FRAMES):
            for v, name in enumerate((car, truck)):
                written.frame(f"data_seq/UAV123/{name}/{f + 1:06d}.jpg", v, f)
            written.expect_region(car, f + 1, "1", tight_box(0, f, 0), "car")
            written.expect_region(f"{truck}_1" if f < 2 else f"{truck}_2", f + 1, "1", visible_box(1, f), "truck")
        written.text(f"anno/UAV123/{car}.txt", [format_line(tight_box(0, f, 0)) for f in range(FRAMES)])
        written.text(f"anno/UAV123/{truck}_1.txt", [format_line(visible_box(1, f), absent="NaN") for f in range(2)])
        written.text(
            f"anno/UAV123/{truck}_2.txt", [format_line(visible_box(1, f), absent="NaN") for f in range(2, FRAMES)]
        )
        parts = [(car, car, 1, 4), (f"{truck}_1", truck, 1, 2), (f"{truck}_2", truck, 3, 4)]
        entries += [entry.format(*part) for part in parts]
    written.text("configSeqs.m", "seqs={" + ",...\n".join(entries) + "};\n")
    return written


def trackingnet(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    for v in range(videos):
        lines = []
        for f in range(FRAMES):
            written.frame(f"TRAIN_{v}/frames/0-6LB4FqxoE_{v}/{f}.jpg", v, f)
            lines.append(",".join(f"{value:.2f}" for value in tight_box(v, f, 0) or ()))
            written.expect_region(f"0-6LB4FqxoE_{v}", f, "1", tight_box(v, f, 0), None)
        written.text(f"TRAIN_{v}/anno/0-6LB4FqxoE_{v}.txt", lines)
    return written


def videocube(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    for v in range(videos):
        name, split, lines = f"{v:03d}", ("train", "val")[v % VIDEOS], []
        for f in range(FRAMES):
            written.frame(f"data/{split}/{name}/frame_{name}/{f:06d}.jpg", v, f)
            lines.append(format_line(tight_box(v, f, 0)))
            written.expect_region(name, f, "1", visible_box(v, f), None)
        written.text(f"attribute/groundtruth/{name}.txt", lines)
        written.text(f"attribute/absent/{name}.txt", [str(int(visible_box(v, f) is None)) for f in range(FRAMES)])
    return written


def oxuva(root: Path, videos: int = VIDEOS) -> WrittenSet:
    """Even videos with two objects, the second without a line for the last frame; odd ones with one."""
    written = WrittenSet(root)
    lines = ["video_id,object_id,class_id,class_name,contains_cuts,always_visible,frame_num,object_presence,"
             "xmin,xmax,ymin,ymax"]  # fmt: skip
    for v in range(videos):
        for k in range(2 - v % VIDEOS):
            for f in range(FRAMES - k):
                found = visible_box(v, f) if k == 0 else tight_box(v, f, 1)
                x, y, w, h = found or (0, 0, 0, 0)
                corners = ",".join(map(repr, (x / W, (x + w) / W, y / H, (y + h) / H)))
                presence = "present" if found else "absent"
                lines.append(f"vid000{v},obj000{k},2,bird,unknown,false,{30 * f},{presence},{corners}")
                if v % VIDEOS or f < FRAMES - 1:
                    written.expect_region(f"vid000{v}", 30 * f, f"obj000{k}", found, "bird")
        for f in range(FRAMES):
            written.frame(f"images/dev/vid000{v}/{30 * f:06d}.jpeg", v, f)
    written.text("annotations/dev.csv", lines)
    return written
