"""The world of ``world`` as sets of video segmentation and of tracking many objects, to their specifications."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tests.sets.world import (
    CATEGORIES,
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
    list_frames,
    tight_box,
)


def davis(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    for v, f in list_frames(videos):
        written.frame(f"JPEGImages/480p/clip{v}/{f:05d}.jpg", v, f)
        written.png(f"Annotations/480p/clip{v}/{f:05d}.png", draw_labels(v, f), "P")
        for k in range(OBJECTS):
            written.expect_region(f"clip{v}", f, str(k + 1), draw_bitmap(v, f, k), None)
    return written


def davis2016(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    for v, f in list_frames(videos):
        written.frame(f"JPEGImages/480p/clip{v}/{f:05d}.jpg", v, f)
        written.png(f"Annotations/480p/clip{v}/{f:05d}.png", 255 * draw_bitmap(v, f, 0))
        written.expect_region(f"clip{v}", f, "1", draw_bitmap(v, f, 0), None)
    return written


def write_pairs(images: str, marks: str) -> SetWriter:
    def write(root: Path, videos: int = VIDEOS) -> WrittenSet:
        written = WrittenSet(root)
        for v, f in list_frames(videos):
            written.frame(f"{images}/clip{v}/{f:05d}.jpg", v, f)
            written.png(f"{marks}/clip{v}/{f:05d}.png", draw_labels(v, f), "P")
            for k in range(OBJECTS):
                written.expect_region(f"clip{v}", f, str(k + 1), draw_bitmap(v, f, k), None)
        return written

    return write


def ytvos(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    listed = {}
    for v, f in list_frames(videos):
        written.frame(f"train/JPEGImages/clip{v}/{5 * f:05d}.jpg", v, f)
        written.png(f"train/Annotations/clip{v}/{5 * f:05d}.png", draw_labels(v, f), "P")
        objects = {str(k + 1): {"category": CATEGORIES[k], "frames": [f"{f:05d}"]} for k in range(OBJECTS)}
        listed[f"clip{v}"] = {"objects": objects}
        for k in range(OBJECTS):
            written.expect_region(f"clip{v}", 5 * f, str(k + 1), draw_bitmap(v, f, k), CATEGORIES[k])
    written.json("train/meta.json", {"videos": listed})
    return written


def ytvis(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    names = sorted(set(CATEGORIES))
    content: dict = {"videos": [], "annotations": [], "categories": [{"id": k, "name": n} for k, n in enumerate(names)]}
    for v in range(videos):
        files = [f"clip{v}/{f:05d}.jpg" for f in range(FRAMES)]
        content["videos"].append({"id": v, "width": W, "height": H, "length": FRAMES, "file_names": files})
        for k in range(OBJECTS):
            entries = [encode_rle(m) if (m := draw_bitmap(v, f, k)).any() else None for f in range(FRAMES)]
            track = {"id": 10 * v + k, "video_id": v, "category_id": names.index(CATEGORIES[k]), "iscrowd": 0}
            content["annotations"].append(track | {"segmentations": entries})
    for v, f in list_frames(videos):
        written.frame(f"train/JPEGImages/clip{v}/{f:05d}.jpg", v, f)
        for k in range(OBJECTS):
            written.expect_region(str(v), f, str(10 * v + k), draw_bitmap(v, f, k), CATEGORIES[k])
    written.json("train.json", content)
    return written


def sav(made_by: str, prefix: str) -> SetWriter:
    def write(root: Path, videos: int = VIDEOS) -> WrittenSet:
        written = WrittenSet(root)
        for v, f in list_frames(videos):
            written.frame(f"sav_{v:06d}/{4 * f:05d}.jpg", v, f)
            for k in range(OBJECTS):
                written.expect_region(f"sav_{v:06d}", 4 * f, f"{prefix}{k}", draw_bitmap(v, f, k), None)
        for v in range(videos):
            rows = [[encode_rle(draw_bitmap(v, f, k)) for k in range(OBJECTS)] for f in range(FRAMES)]
            written.json(f"sav_{v:06d}_{made_by}.json", {"masklet_id": list(range(OBJECTS)), "masklet": rows})
        return written

    return write


def mot(category: str, origin: int) -> SetWriter:
    def write(root: Path, videos: int = VIDEOS) -> WrittenSet:
        written = WrittenSet(root)
        for v in range(videos):
            lines = []
            for f in range(FRAMES):
                written.frame(f"train/MOT17-0{v}/img1/{f + 1:06d}.jpg", v, f)
                written.expected.setdefault(f"MOT17-0{v}", {}).setdefault(f + 1, {})
                for k in range(OBJECTS):
                    if found := tight_box(v, f, k):
                        x, y, w, h = found
                        lines.append(f"{f + 1},{k},{x + origin},{y + origin},{w},{h},1,1,0.75")
                        written.expect_region(f"MOT17-0{v}", f + 1, str(k), found, category)
            written.text(f"train/MOT17-0{v}/gt/gt.txt", lines)
            info = f"[Sequence]\nimDir=img1\nframeRate=25\nseqLength=600\nimWidth={W}\nimHeight={H}\n"
            written.text(f"train/MOT17-0{v}/seqinfo.ini", info)
        return written

    return write


def mot_columns(count: int) -> SetWriter:
    """Return a writer of boxes in ``count`` columns, 7 to 10; of 9: with names of classes, of 8: of unknown classes."""

    def write(root: Path, videos: int = VIDEOS) -> WrittenSet:
        written = WrittenSet(root)
        names = sorted(set(CATEGORIES))
        for v in range(videos):
            lines = []
            for f in range(FRAMES):
                written.frame(f"clip{v}/img1/{f + 1:06d}.jpg", v, f)
                written.expected.setdefault(f"clip{v}", {}).setdefault(f + 1, {})
                for k in range(OBJECTS):
                    if found := tight_box(v, f, k):
                        number = names.index(CATEGORIES[k]) + 1
                        rest = {7: [], 8: [-1], 9: [number, -1], 10: [-1, -1, -1]}[count]
                        lines.append(",".join(map(str, [f + 1, k, *found, 1, *rest])))
                        written.expect_region(f"clip{v}", f + 1, str(k), found, CATEGORIES[k] if count == 9 else None)
            written.text(f"clip{v}/gt/gt.txt", lines)
            if count == 9:
                written.text(f"clip{v}/gt/labels.txt", names)
        return written

    return write


def video(root: Path, videos: int = 1) -> WrittenSet:
    written = WrittenSet(root)
    for v in range(videos):
        name = f"clip{v}" if v else "clip"
        writer = cv2.VideoWriter(str(root / f"{name}.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (W, H))
        for f in range(FRAMES):
            writer.write(np.asarray(cv2.imdecode(np.frombuffer(encode_image(0, f), np.uint8), cv2.IMREAD_COLOR)))
            written.png(f"masks/{name}/{f:05d}.png", draw_labels(0, f), "P")
            for k in range(OBJECTS):
                written.expect_region(name, f, str(k + 1), draw_bitmap(0, f, k), None)
        writer.release()
    return written


def burst(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    names = sorted(set(CATEGORIES))
    sequences = []
    for v in range(videos):
        segmentations = []
        for f in range(FRAMES):
            objects = {}
            for k in range(OBJECTS):
                if draw_bitmap(v, f, k).any():
                    objects[str(k + 1)] = {
                        "rle": encode_rle(draw_bitmap(v, f, k))["counts"],
                        "is_gt": k == 0,
                        "score": 0.9,
                    }
                written.expect_region(f"LaSOT/clip{v}", 6 * f + 1, str(k + 1), draw_bitmap(v, f, k), CATEGORIES[k])
            segmentations.append(objects)
        every = [f"frame{n:04d}.jpg" for n in range(1, 6 * FRAMES + 1)]
        for f in range(FRAMES):
            written.frame(f"frames/train/LaSOT/clip{v}/frame{6 * f + 1:04d}.jpg", v, f)
        sequences.append(
            {
                "width": W,
                "height": H,
                "id": v,
                "seq_name": f"clip{v}",
                "dataset": "LaSOT",
                "fps": 6,
                "all_image_paths": every,
                "annotated_image_paths": every[::6],
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [],
                "track_category_ids": {str(k + 1): names.index(CATEGORIES[k]) + 5 for k in range(OBJECTS)},
                "segmentations": segmentations,
            }
        )
    categories = [{"id": k + 5, "name": n, "synset": f"{n}.n.01"} for k, n in enumerate(names)]
    written.json("train/train.json", {"sequences": sequences, "categories": categories, "split": "train"})
    return written


def tao(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    names = sorted(set(CATEGORIES))
    content: dict = {
        "videos": [{"id": v, "name": f"train/YFCC100M/v{v}", "width": W, "height": H} for v in range(videos)],
        "annotations": [],
        "tracks": [
            {"id": 10 * v + k, "category_id": names.index(CATEGORIES[k]), "video_id": v}
            for v in range(videos)
            for k in range(OBJECTS)
        ],
        "images": [],
        "info": {},
        "categories": [{"id": k, "name": n, "synset": "x"} for k, n in enumerate(names)],
        "licenses": [],
    }
    for v, f in list_frames(videos):
        file, image = f"train/YFCC100M/v{v}/frame{30 * f + 1:04d}.jpg", 100 * v + f
        written.frame(f"frames/{file}", v, f)
        entry = {"id": image, "video_id": v, "file_name": file, "width": W, "height": H, "frame_index": 30 * f}
        content["images"].append(entry)
        for k in range(OBJECTS):
            if found := tight_box(v, f, k):
                category = names.index(CATEGORIES[k])
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]),
                        "image_id": image,
                        "track_id": 10 * v + k,
                        "video_id": v,
                        "category_id": category,
                        "bbox": list(found),
                        "area": found[2] * found[3],
                        "iscrowd": 0,
                        "segmentation": [],
                    }
                )
            written.expect_region(str(v), 30 * f, str(10 * v + k), found, CATEGORIES[k])
    content["images"].reverse()
    written.json("annotations/train.json", content)
    return written


def vipseg(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    numbers = (6100, 6101, 300)
    names = {61: "person", 3: "door"}
    for v, f in list_frames(videos):
        written.frame(f"imgs/clip{v}/{3 * f + 7:08d}.jpg", v, f)
        masks = draw_labels(v, f, numbers, np.uint16)
        masks[masks == 0] = 13
        masks[0] = 0
        masks[1] = 124
        written.png(f"panomasks/clip{v}/{3 * f + 7:08d}.png", masks)
        for k, number in enumerate(numbers):
            written.expect_region(f"clip{v}", 3 * f + 7, str(number), draw_bitmap(v, f, k), names[number // 100])
    listed = [{"id": n - 1, "name": names.get(n, f"stuff {n}"), "isthing": int(n in names)} for n in range(1, 125)]
    written.json("panoVIPSeg_categories.json", listed)
    return written


MOTS_IDS = (1001, 2003, 1002)
MOTS_CLASSES = {1: "car", 2: "pedestrian"}


def mots(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    for v in range(videos):
        lines = []
        for f in range(FRAMES):
            written.frame(f"train/MOTS20-0{v}/img1/{f + 1:06d}.jpg", v, f)
            for k, track in enumerate(MOTS_IDS):
                if draw_bitmap(v, f, k).any():
                    lines.append(
                        f"{f + 1} {track} {track // 1000} {H} {W} {encode_rle(draw_bitmap(v, f, k))['counts']}"
                    )
                written.expect_region(
                    f"MOTS20-0{v}", f + 1, str(track), draw_bitmap(v, f, k), MOTS_CLASSES[track // 1000]
                )
            ignored = np.zeros((H, W), np.uint8)
            ignored[:2] = 1
            lines.append(f"{f + 1} 10000 10 {H} {W} {encode_rle(ignored)['counts']}")
        written.text(f"train/MOTS20-0{v}/gt/gt.txt", lines)
    return written


def kitti_mots(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    for v, f in list_frames(videos):
        written.frame(f"training/image_02/{v:04d}/{f:06d}.png", v, f)
        masks = draw_labels(v, f, MOTS_IDS, np.uint16)
        masks[0] = 10000
        written.png(f"training/instances/{v:04d}/{f:06d}.png", masks)
        for k, track in enumerate(MOTS_IDS):
            written.expect_region(f"{v:04d}", f, str(track), draw_bitmap(v, f, k), MOTS_CLASSES[track // 1000])
    return written


def bdd100k(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    for v in range(videos):
        name, frames = f"b1c66a42-6f7d68c{v}", []
        for f in range(FRAMES):
            written.frame(f"images/track/train/{name}/{name}-{f + 1:07d}.jpg", v, f)
            found = []
            for k in range(OBJECTS):
                if corners := tight_box(v, f, k):
                    x, y, w, h = corners
                    category = "pedestrian" if CATEGORIES[k] == "person" else CATEGORIES[k]
                    found.append(
                        {
                            "id": f"{k:08d}",
                            "category": category,
                            "attributes": {"occluded": k == 1, "truncated": False, "crowd": False},
                            "box2d": {"x1": x, "y1": y, "x2": x + w - 1, "y2": y + h - 1},
                        }
                    )
                    written.expect_region(name, f + 1, f"{k:08d}", corners, category)
            around = {"x1": 0, "y1": 0, "x2": 9, "y2": 9}
            found.append({"id": "90", "category": "other vehicle", "attributes": {}, "box2d": around})
            found.append({"id": "91", "category": "car", "attributes": {"crowd": True}, "box2d": around})
            frames.append({"name": f"{name}-{f + 1:07d}.jpg", "videoName": name, "frameIndex": f, "labels": found})
        written.json(f"labels/box_track_20/train/{name}.json", frames)
    return written


def bdd100k_seg(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    numbers = {"car": 3, "person": 1}
    for v, f in list_frames(videos):
        name = f"b1c66a42-6f7d68c{v}"
        written.frame(f"images/seg_track_20/train/{name}/{name}-{f + 1:07d}.jpg", v, f)
        pixels = np.zeros((H, W, 4), np.uint8)
        pixels[:2] = (3, 2, 9, 9)
        for k in range(OBJECTS):
            mask = draw_bitmap(v, f, k)
            pixels[mask == 1] = (numbers[CATEGORIES[k]], 4 * (k == 1), k, 200 + k)
            category = "pedestrian" if CATEGORIES[k] == "person" else CATEGORIES[k]
            written.expect_region(name, f + 1, str(256 * k + 200 + k), mask, category)
        written.png(f"labels/seg_track_20/bitmasks/train/{name}/{name}-{f + 1:07d}.png", pixels)
    return written


def bdd100k_rle(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    for v in range(videos):
        name, frames = f"b1c66a42-6f7d68c{v}", []
        for f in range(FRAMES):
            written.frame(f"images/seg_track_20/train/{name}/{name}-{f + 1:07d}.jpg", v, f)
            found = []
            for k in range(OBJECTS):
                category = "pedestrian" if CATEGORIES[k] == "person" else CATEGORIES[k]
                found.append({"id": str(k), "category": category, "rle": encode_rle(draw_bitmap(v, f, k))})
                written.expect_region(name, f + 1, str(k), draw_bitmap(v, f, k), category)
            frames.append({"name": f"{name}-{f + 1:07d}.jpg", "labels": found})
        written.json(f"labels/seg_track_20/rles/train/{name}.json", {"frames": frames})
    return written
