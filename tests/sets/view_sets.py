"""The world as views: cameras at one instant, stills with masks, crops of people."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.sets.world import (
    FRAMES,
    OBJECTS,
    VIDEOS,
    H,
    SetWriter,
    W,
    WrittenSet,
    draw_bitmap,
    draw_labels,
    encode_image,
    encode_rle,
    tight_box,
)

CAMERAS = 3


def multiview(digits: int) -> SetWriter:
    """Frame ``f`` of video 0 as camera ``f`` sees it; all instants are alike."""

    def write(root: Path, videos: int = VIDEOS) -> WrittenSet:
        written = WrittenSet(root)
        for instant in range(0, 5 * videos, 5):
            stem, people = f"{instant:0{digits}d}", []
            for k in range(OBJECTS):
                views = []
                for c in range(CAMERAS):
                    found = tight_box(0, c, k)
                    x, y, w, h = found or (-1, -1, 0, 0)
                    corners = {"xmin": x, "ymin": y, "xmax": x + w, "ymax": y + h}
                    views.append({"viewNum": c, **corners})
                    written.expect_region(stem, c + 1, str(7 + k), found, "person")
                people.append({"personID": 7 + k, "positionID": 456826, "views": views})
            for c in range(CAMERAS):
                written.frame(f"Image_subsets/C{c + 1}/{stem}.png", 0, c)
            written.json(f"annotations_positions/{stem}.json", people)
        return written

    return write


def sa1b(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    for v in range(videos):
        written.frame(f"sa_{v}.jpg", v, 0)
        image = {"image_id": v, "width": W, "height": H, "file_name": f"sa_{v}.jpg"}
        annotations = [
            {
                "id": 100 + k,
                "segmentation": encode_rle(draw_bitmap(v, 0, k)),
                "bbox": list(tight_box(v, 0, k) or ()),
                "predicted_iou": 0.9,
            }
            for k in range(OBJECTS)
        ]
        written.json(f"sa_{v}.json", {"image": image, "annotations": annotations})
    return written


def coco(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    content: dict = {"info": {}, "images": [], "annotations": [], "categories": [{"id": 1, "name": "car"}]}
    for v in range(videos):
        written.frame(f"train2017/{v:012d}.jpg", v, 0)
        content["images"].append({"id": v, "file_name": f"{v:012d}.jpg", "width": W, "height": H})
        for k in range(OBJECTS):
            x, y, w, h = tight_box(v, 0, k) or (0, 0, 0, 0)
            outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            entry = {"id": 10 * v + k, "image_id": v, "category_id": 1, "iscrowd": 0, "bbox": [x, y, w, h]}
            content["annotations"].append(entry | {"segmentation": outline if k else encode_rle(draw_bitmap(v, 0, k))})
        crowd = {"counts": [0, W * H], "size": [H, W]}
        entry = {"id": 10 * v + 9, "image_id": v, "category_id": 1, "iscrowd": 1}
        content["annotations"].append(entry | {"segmentation": crowd})
    written.json("annotations/instances_train2017.json", content)
    return written


def panoptic(root: Path, videos: int = VIDEOS) -> WrittenSet:
    """A file that only its content tells, segments of things and of stuff, and a crowd."""
    written = WrittenSet(root)
    categories = [{"id": 1, "name": "car", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}]
    content: dict = {"info": {}, "images": [], "annotations": [], "categories": categories}
    for v in range(videos):
        written.frame(f"images/{v}.jpg", v, 0)
        content["images"].append({"id": v, "file_name": f"{v}.jpg", "width": W, "height": H})
        numbers = [70_000 + k for k in range(OBJECTS)]
        labels = draw_labels(v, 0, numbers, np.int64)
        labels[:3], labels[-1] = 300, 5
        written.png(f"segments/{v}.png", np.stack([labels >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8))
        infos = [{"id": number, "category_id": 1, "iscrowd": 0} for number in numbers]
        infos += [{"id": 300, "category_id": 2, "iscrowd": 0}, {"id": 5, "category_id": 1, "iscrowd": 1}]
        content["annotations"].append({"image_id": v, "file_name": f"{v}.png", "segments_info": infos})
    written.json("labels/segments.json", content)
    return written


def saco(root: Path, videos: int = VIDEOS) -> WrittenSet:
    """Two noun phrases for each image; the second has no object."""
    written = WrittenSet(root)
    content: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "object"}]}
    for v in range(videos):
        written.frame(f"images/{v}.jpg", v, 0)
        for phrase in ("a red car", "nothing"):
            number = len(content["images"])
            image = {"id": number, "file_name": f"{v}.jpg", "text_input": phrase, "width": W, "height": H}
            content["images"].append(image | {"is_instance_exhaustive": 1})
            for k in range(OBJECTS if phrase != "nothing" else 0):
                entry = {
                    "id": 10 * v + k,
                    "image_id": number,
                    "category_id": 1,
                    "is_crowd": 0,
                    "bbox": [0.1, 0.1, 0.2, 0.2],
                }
                content["annotations"].append(entry | {"segmentation": encode_rle(draw_bitmap(v, 0, k))})
    written.json("gold_attributes.json", content)
    return written


def market(root: Path, videos: int = VIDEOS) -> WrittenSet:
    """Nine people (or as many as are asked for) with a crop from each of three cameras, one with a single crop, and
    crops of nobody."""
    written = WrittenSet(root)
    folder = root / "bounding_box_train"
    folder.mkdir(parents=True)
    for person in range(2, 11 if videos == VIDEOS else videos + 2):
        for camera in range(1, 4):
            file = folder / f"{person:04d}_c{camera}s1_{camera:06d}_01.jpg"
            file.write_bytes(encode_image(person % 11, camera, size=(16, 32)))
    for name in ("0099_c1s1_000001_01", "-1_c1s1_000001_01", "0000_c2s1_000001_01"):
        (folder / f"{name}.jpg").write_bytes(encode_image(0, 0, size=(16, 32)))
    written.files += sorted(folder.iterdir())
    return written


def reid_list(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    lines = []
    for person in range(4 if videos == VIDEOS else videos):
        for f in range(FRAMES):
            name = f"MOT17-05-FRCNN_{person:06d}/{f:06d}.jpg"
            file = root / "imgs" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_image(person % 11, f, size=(16, 32)))
            lines.append(f"{name} {person}")
    written.text("ann.txt", lines)
    return written
