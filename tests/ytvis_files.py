"""Small files of the YouTube-VIS format with every form of a mask in them, and what these stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

H, W, FRAMES = 24, 32, 4
FORMS = ("text", "list", "polygons", "null", "empty")


def _bitmap(seed: int) -> np.ndarray:
    bitmap = np.zeros((H, W), np.uint8)
    y, x = 2 + seed % 7, 3 + seed % 11
    bitmap[y : y + 9, x : x + 12] = 1
    bitmap[y + 3 : y + 5, x + 4 : x + 6] = 0
    return bitmap


def _runs(bitmap: np.ndarray) -> list[int]:
    flat = bitmap.T.ravel().tolist()
    runs, last = [0], 0
    for value in flat:
        if value != last:
            runs.append(0)
            last = value
        runs[-1] += 1
    return runs


def segmentation(form: str, seed: int) -> tuple[Any, np.ndarray | None]:
    """One entry and the mask that it stands for, None when nothing is visible."""
    bitmap = _bitmap(seed)
    if form == "text":
        coded = coco.encode(np.asfortranarray(bitmap))
        return {"size": [H, W], "counts": coded["counts"].decode()}, bitmap
    if form == "list":
        return {"counts": _runs(bitmap), "size": [H, W]}, bitmap
    if form == "polygons":
        flat = [[1.5, 2.0, 12.25, 2.0, 12.0, 9.0, 1.0, 9.5], [10, 6, 20, 6, 20, 15, 10, 15]]
        return flat, coco.decode(coco.merge(coco.frPyObjects(flat, H, W)))
    if form == "empty":
        return {"size": [H, W], "counts": coco.encode(np.zeros((H, W), np.uint8, order="F"))["counts"].decode()}, None
    return None, None


def make_content(videos: int = 3, objects: int = 5) -> dict[str, Any]:
    """A file in which every segmentation form occurs, with the keys that published files have beside ours."""
    content: dict[str, Any] = {
        "info": {"description": "é"},
        "licenses": [{"id": 1}],
        "videos": [],
        "categories": [{"id": k, "name": f"kind {k}", "supercategory": "object"} for k in (1, 2)],
        "annotations": [],
    }
    for v in range(videos):
        files = [f"clip{v}/{5 * f:05d}.jpg" for f in range(FRAMES)]
        content["videos"].append(
            {"id": v + 1, "width": W, "height": H, "length": FRAMES, "file_names": files, "license": 1}
        )
        for k in range(objects):
            entries = [segmentation(FORMS[(k + f) % len(FORMS)], v + k + f)[0] for f in range(FRAMES)]
            content["annotations"].append(
                {
                    "id": 10 * v + k,
                    "video_id": v + 1,
                    "category_id": 1 + k % 2,
                    "iscrowd": 0,
                    "segmentations": entries,
                    "bboxes": [None] * FRAMES,
                    "areas": [None] * FRAMES,
                    "length": 1,
                }
            )
    return content


def write_files(root: Path, content: Any, file: str = "train.json", frames: str = "train/JPEGImages") -> Path:
    root.joinpath(file).parent.mkdir(parents=True, exist_ok=True)
    root.joinpath(file).write_text(content if isinstance(content, str) else json.dumps(content))
    videos = content["videos"] if isinstance(content, dict) else make_content()["videos"]
    for name in (name for video in videos for name in video["file_names"]):
        path = root / frames / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.new("RGB", (W, H)).save(path)
    return root
