"""Speed and memory of reading a large YouTube-VIS-style file, against ``json.load``; prints one JSON object.

A file of 5,000 videos (about 200 MB, the same bytes every time) is made in a temporary folder.

1. Speed: from nothing to the objects of a frame of the first video, over ``json.load`` of the same file; at least 0.3.
2. Memory: peak resident memory of a fresh process that does the one, over that of one that does the other; at most
   0.25.
3. Opened again: the same road with the kept index, over the first reading; at least 10.

Both sides are timed in turn in one process; the file is in the page cache for both.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import emit, machine, peak_mb, seconds
from pycocotools import mask as coco

from mmvm_data.builders.ytvis import open_ytvis
from mmvm_data.core.types import Region

HEIGHT, WIDTH, FRAMES, OBJECTS, SHAPES = 720, 1280, 20, 4, 200
SPEED_LIMIT, MEMORY_LIMIT, AGAIN_LIMIT = 0.3, 0.25, 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "ROOT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        side, root = arguments.child
        kept = whole(Path(root)) if side == "json" else first_case(Path(root), None)
        print(peak_mb())
        del kept
        return
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        emit(measure(Path(scratch), arguments.videos, arguments.runs), arguments.out)


def measure(scratch: Path, videos: int, runs: int) -> dict[str, Any]:
    """All three parts as one record with the limits beside the values; times in seconds, medians over ``runs``."""
    facts = machine()
    root = generate(scratch / "data", videos)
    memory = {side: statistics.median(child(side, root) for _ in range(runs)) for side in ("json", "ours")}
    times: dict[str, list[float]] = {"json": [], "first": [], "again": []}
    cache = scratch / "cache"
    first_case(root, cache)
    for _ in range(runs):
        for part, call in (
            ("json", lambda: whole(root)),
            ("first", lambda: first_case(root, None)),
            ("again", lambda: first_case(root, cache)),
        ):
            gc.collect()
            times[part].append(seconds(call))
    middle = {part: statistics.median(values) for part, values in times.items()}
    speed, share = middle["json"] / middle["first"], memory["ours"] / memory["json"]
    again = middle["first"] / middle["again"]
    return {
        "machine": facts,
        "file": {"videos": videos, "mb": round((root / "train.json").stat().st_size / 1e6, 1)},
        "runs": runs,
        "speed": {
            "json_load_seconds": round(middle["json"], 4),
            "first_case_seconds": round(middle["first"], 4),
            "ratio": round(speed, 3),
            "limit": SPEED_LIMIT,
            "within": speed >= SPEED_LIMIT,
        },
        "memory": {
            "json_load_peak_mb": round(memory["json"], 1),
            "first_case_peak_mb": round(memory["ours"], 1),
            "ratio": round(share, 3),
            "limit": MEMORY_LIMIT,
            "within": share <= MEMORY_LIMIT,
        },
        "opened_again": {
            "first_case_seconds": round(middle["again"], 5),
            "ratio_to_first_reading": round(again, 1),
            "ratio_to_json_load": round(middle["json"] / middle["again"], 1),
            "limit": AGAIN_LIMIT,
            "within": again >= AGAIN_LIMIT,
        },
    }


def whole(root: Path) -> Any:
    """The file as ``json.load`` gives it."""
    with open(root / "train.json", encoding="utf-8") as handle:
        return json.load(handle)


def first_case(root: Path, cache: Path | None) -> tuple[Region, ...]:
    """The objects of the first frame of the first video."""
    source = open_ytvis("ytvis", root, cache)
    return source.load(source.videos[0]).regions(0)


def child(side: str, root: Path) -> float:
    """Peak memory in MB of a fresh process that reads the file in one of the two ways."""
    command = [sys.executable, __file__, "--child", side, str(root)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def generate(root: Path, videos: int) -> Path:
    """Write ``train.json`` and one (empty) frame for it to be found by; the same bytes for the same ``videos``."""
    rng = np.random.default_rng(0)
    shapes = [_shape(rng) for _ in range(SHAPES)]
    frame = root / "train" / "JPEGImages" / _folder(0) / "00000.jpg"
    frame.parent.mkdir(parents=True)
    frame.touch()
    categories = [{"supercategory": "object", "id": k, "name": f"kind {k}"} for k in range(1, 41)]
    with open(root / "train.json", "w", encoding="utf-8") as file:
        file.write(f'{{"info": {{}}, "licenses": [], "categories": {json.dumps(categories)}, "videos": [')
        for v in range(videos):
            names = [f"{_folder(v)}/{5 * f:05d}.jpg" for f in range(FRAMES)]
            entry = {"id": v + 1, "width": WIDTH, "height": HEIGHT, "length": FRAMES, "file_names": names}
            file.write(", " * bool(v) + json.dumps({**entry, "license": 1, "coco_url": "", "flickr_url": ""}))
        file.write('], "annotations": [')
        for k in range(videos * OBJECTS):
            file.write(", " * bool(k) + json.dumps(_annotation(k, rng, shapes)))
        file.write("]}")
    return root


def _folder(video: int) -> str:
    return f"{video:010x}"


def _annotation(
    k: int, rng: np.random.Generator, shapes: list[tuple[dict[str, Any], list[float], int]]
) -> dict[str, Any]:
    picked = [shapes[n] if n < SHAPES else None for n in rng.integers(0, SHAPES * 10 // 9, FRAMES).tolist()]
    return {
        "height": HEIGHT,
        "width": WIDTH,
        "length": 1,
        "category_id": 1 + k % 40,
        "segmentations": [shape and shape[0] for shape in picked],
        "bboxes": [shape and shape[1] for shape in picked],
        "video_id": k // OBJECTS + 1,
        "iscrowd": 0,
        "id": k + 1,
        "areas": [shape and shape[2] for shape in picked],
    }


def _shape(rng: np.random.Generator) -> tuple[dict[str, Any], list[float], int]:
    """A wavy blob as RLE, its box and its area; about 530 characters, as outlines of real objects at 720p."""
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    waves = sum(rng.uniform(0, 0.3) / (k + 1) * np.cos((k + 1) * angle + rng.uniform(0, 6.3)) for k in range(12))
    radius = rng.uniform(30, 200) * (1 + waves)
    x, y = rng.uniform(200, WIDTH - 200), rng.uniform(150, HEIGHT - 150)
    outline = np.stack((x + radius * np.cos(angle), y + radius * np.sin(angle)), axis=1)
    coded = coco.merge(coco.frPyObjects([outline.ravel().tolist()], HEIGHT, WIDTH))
    box, area = coco.toBbox(coded).tolist(), int(coco.area(coded))
    return {"size": [HEIGHT, WIDTH], "counts": coded["counts"].decode()}, box, area


if __name__ == "__main__":
    main()
