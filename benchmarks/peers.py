"""The product against the plain script that a user would write with pycocotools and OpenCV, step by step.

1. Reading YouTube-VIS: from the annotation file to the bitmap of every object in every frame. The script loads the JSON
   file and decodes each segmentation with pycocotools.
2. Drawing numbered masks, from run lengths: the script decodes each mask, finds its contours and draws with OpenCV.
3. COCO export of a benchmark: the script reads the records, copies each frame's image once and writes the annotations.

Files lie in memory where that is possible, so that 3 is not a measurement of a disk: the product checks each image and
mask and syncs what it wrote, the script does neither.

Times are by the clock and of the processor; on a machine with other work only the second mean something, so the table
has these. All sides run in one thread, OpenCV and BLAS included, and each is called once before it is measured.

Where supervision is installed it does 2 and 3 too, and Datumaro 3, their own way (other pixels, and polygons for masks
of one piece), so their output is not compared. Both read a COCO set and write it again, as they do not read benchmarks.
FiftyOne exports from a database that must be running, so it is left out. That product and script give the same bitmaps,
pixels and annotations is checked first.
Sides take turns in one process, and in being the first of a run; medians are over runs, and ratios above 1
say that the product is faster. Prints one JSON object, and a table for README.md on request.

    python benchmarks/peers.py --table --readme README.md --out benchmarks/results/peers.json
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from common import emit, machine, replace_between, use_one_thread
from draw import decode_all, draw_candidates_plainly, make_mask
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from mmvm_data import open_source
from mmvm_data.cases import render
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core import masks, polygons
from mmvm_data.core import rle as rle_codec
from mmvm_data.core.types import Rle
from mmvm_data.formats import bench, mask_sets
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.synth.writer import SynthOptions, generate

SIZES = {"480p": (854, 480), "1080p": (1920, 1080)}
COUNTS = {"480p": (6, 37), "1080p": (6, 37)}
IN_MEMORY = Path("/dev/shm")
MARKS = ("<!-- peers -->", "<!-- end of peers -->")
PRODUCT, SCRIPT, SUPERVISION, DATUMARO = "product", "script", "supervision", "Datumaro"
LIBRARIES = (SUPERVISION, DATUMARO)

Side = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--table", action="store_true", help="print the table instead of the JSON object")
    parser.add_argument("--readme", type=Path, help="replace the table of this file")
    parser.add_argument("--out", type=Path, help="write the JSON to this file")
    arguments = parser.parse_args()
    use_one_thread()
    cv2.setNumThreads(1)
    facts = machine()
    rows: list[dict[str, Any]] = []
    in_memory = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-", dir=in_memory) as scratch:
        for name, (width, height) in SIZES.items():
            folder = Path(scratch) / name
            options = SynthOptions(
                videos=arguments.videos, frames=arguments.frames, width=width, height=height, layout="ytvis", seed=1
            )
            root = generate(folder / "videos", options)
            rows.append({"step": "read YouTube-VIS", "size": name} | measure_reading(root, arguments.runs))
            for count in COUNTS[name]:
                sides = make_drawing_sides(width, height, count)
                row = {"step": f"draw {count} numbered masks", "size": name}
                rows.append(row | measure(sides, 3 * arguments.runs))
            build("ytvis", root, folder / "bench", BuildOptions(SamplingOptions(seed=1, none_share=0.0)))
            row = {"step": "export to COCO", "size": name}
            rows.append(row | measure_export(folder / "bench", folder / "sets", arguments.runs))
    versions = {"numpy": np.__version__, "opencv": cv2.__version__, **{name: find_version(name) for name in LIBRARIES}}
    record = {"machine": facts | versions, "rows": rows}
    if not arguments.table:
        emit(record, arguments.out)
        return
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    table = format_table(rows)
    print(table)
    if arguments.readme:
        replace_between(arguments.readme, MARKS, table)


def find_version(library: str) -> str | None:
    """The version of a library that does the same step; None where it is not installed."""
    try:
        return importlib.metadata.version(library.lower())
    except importlib.metadata.PackageNotFoundError:
        return None


def measure(sides: dict[str, Side], runs: int) -> dict[str, Any]:
    """Median milliseconds of each side, by the clock and of the processor, and the script's ratio to the product."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    names = list(sides)
    for run in range(-1, runs):  # the first one warms all sides up
        turn = run % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()  # none collects what another one left
            clock, cpu = time.perf_counter(), time.process_time()
            kept = sides[name]()
            taken = time.perf_counter() - clock, time.process_time() - cpu
            del kept
            if run >= 0:
                times[name].append(taken)
    result: dict[str, Any] = {"runs": runs}
    for name, values in times.items():
        clock, cpu = (1000 * median(column) for column in zip(*values, strict=True))
        result[f"{name}_ms"], result[f"{name}_cpu_ms"] = round(clock, 3), round(cpu, 3)
        if name != PRODUCT:
            pairs = list(zip(times[PRODUCT], values, strict=True))
            result[f"{name}_over_product"] = round(median(other[0] / ours[0] for ours, other in pairs), 2)
            result[f"{name}_over_product_cpu"] = round(median(other[1] / ours[1] for ours, other in pairs), 2)
    return result


def measure_reading(root: Path, runs: int) -> dict[str, Any]:
    """Both sides read all bitmaps of a set; one frame's are in memory at a time."""
    pairs = zip(read_with_product(root), read_with_script(root), strict=True)
    for number, (ours, theirs) in enumerate(pairs):
        if ours.keys() != theirs.keys() or any((ours[key] != theirs[key]).any() for key in ours):
            raise SystemExit(f"frame {number}: other objects")
    sides: dict[str, Side] = {
        PRODUCT: lambda: sum(map(len, read_with_product(root))),
        SCRIPT: lambda: sum(map(len, read_with_script(root))),
    }
    return {"masks": sides[SCRIPT]()} | measure(sides, runs)


def read_with_product(root: Path) -> Iterator[dict[str, NDArray[np.uint8]]]:
    """The bitmaps of each frame by the name of their object."""
    rle_codec.clear_cached_spans()  # masks that were decoded before would be found in it
    source = open_source("ytvis", root)
    for name in sorted(source.videos, key=int):
        video = source.load(name)
        for position in video.annotated:
            yield {
                region.id: masks.decode(region.mask) for region in video.regions(position) if region.mask is not None
            }


def read_with_script(root: Path) -> Iterator[dict[str, NDArray[np.uint8]]]:
    content = json.loads((root / "train" / "instances.json").read_text())
    by_video: dict[int, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        by_video.setdefault(annotation["video_id"], []).append(annotation)
    for video in sorted(content["videos"], key=lambda video: int(video["id"])):
        height, width = video["height"], video["width"]
        for position in range(video["length"]):
            frame = {}
            for annotation in by_video.get(video["id"], []):
                segmentation = annotation["segmentations"][position]
                if segmentation is not None:
                    bitmap = decode_segmentation(segmentation, height, width)
                    if bitmap.any():
                        frame[str(annotation["id"])] = bitmap
            yield frame


def decode_segmentation(segmentation: Any, height: int, width: int) -> NDArray[np.uint8]:
    """As `annToMask` of pycocotools."""
    if isinstance(segmentation, list):
        encoded = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        encoded = coco_mask.frPyObjects(segmentation, height, width)
    else:
        encoded = segmentation
    return np.asarray(coco_mask.decode(encoded), np.uint8)


def make_drawing_sides(width: int, height: int, count: int) -> dict[str, Side]:
    rng = np.random.default_rng(count)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    rles = [masks.encode(make_mask(rng, height, width)) for _ in range(count)]
    sides: dict[str, Side] = {
        PRODUCT: partial(draw_with_product, image, rles),
        SCRIPT: partial(draw_with_script, image, rles),
    }
    if (sides[PRODUCT]() != sides[SCRIPT]()).any():
        raise SystemExit(f"{width} x {height}, {count} masks: other pixels")
    if find_version(SUPERVISION):
        sides[SUPERVISION] = partial(draw_with_supervision, image, rles)
    return sides


def draw_with_product(image: NDArray[np.uint8], rles: list[Rle]) -> NDArray[np.uint8]:
    rle_codec.clear_cached_spans()  # masks that were decoded before would be found in it
    drawn = image.copy()
    contours = [polygons.trace_contours(*masks.crop(rle)) for rle in rles]
    render.mark_candidates(drawn, contours, range(1, len(rles) + 1), render.distinct_colors(len(rles) + 1))
    return drawn


def draw_with_script(image: NDArray[np.uint8], rles: list[Rle]) -> NDArray[np.uint8]:
    numbers = list(range(1, len(rles) + 1))
    return draw_candidates_plainly(image, decode_all(rles), numbers, render.distinct_colors(len(rles) + 1))


def draw_with_supervision(image: NDArray[np.uint8], rles: list[Rle]) -> NDArray[np.uint8]:
    """Contours and numbers by supervision's annotators."""
    import supervision

    bitmaps = np.stack(decode_all(rles)).astype(bool)
    detections = supervision.Detections(
        xyxy=supervision.mask_to_xyxy(bitmaps), mask=bitmaps, class_id=np.arange(len(rles))
    )
    drawn = supervision.PolygonAnnotator(thickness=2).annotate(image.copy(), detections)
    labels = [str(number) for number in range(1, len(rles) + 1)]
    annotator = supervision.LabelAnnotator(text_position=supervision.Position.CENTER_OF_MASS)
    return np.asarray(annotator.annotate(drawn, detections, labels), np.uint8)


def measure_export(directory: Path, target: Path, runs: int) -> dict[str, Any]:
    """Both sides write to a folder that is deleted after each run, outside the measured time."""
    numbers = iter(range(10**6))

    def run(write: Callable[[Path, Path], Any]) -> Path:
        folder = target / str(next(numbers))
        write(directory, folder)
        return folder

    ours, theirs = run(export_with_product), run(export_with_script)
    for name in ("annotations/instances_train.json",):
        first, second = (json.loads((folder / name).read_text()) for folder in (ours, theirs))
        if any(first[key] != second[key] for key in ("images", "annotations", "categories")):
            raise SystemExit("export: other annotations")
    files = [sorted(p.relative_to(folder) for p in folder.rglob("*.jpg")) for folder in (ours, theirs)]
    if files[0] != files[1] or any((ours / name).read_bytes() != (theirs / name).read_bytes() for name in files[0]):
        raise SystemExit("export: other images")
    sides: dict[str, Side] = {
        PRODUCT: partial(run, export_with_product),
        SCRIPT: partial(run, export_with_script),
    }
    flat = flatten(theirs, target / "flat")
    for name, export in ((SUPERVISION, export_with_supervision), (DATUMARO, export_with_datumaro)):
        if find_version(name):
            sides[name] = partial(run, partial(export, flat))
    result = {"images": len(files[0])} | measure(sides, runs)
    shutil.rmtree(target)
    return result


def export_with_product(directory: Path, folder: Path) -> None:
    rle_codec.clear_cached_spans()  # as in a process of its own
    mask_sets.write(bench.read(directory), directory, folder, "coco")


def export_with_script(directory: Path, folder: Path) -> None:
    """The same files; of a mask that several cases have, the last one."""
    videos: dict[str, dict[str, dict[str, Any]]] = {}
    for line in (directory / "cases.jsonl").read_text().splitlines():
        case = json.loads(line)
        origin = case["provenance"]
        video = videos.setdefault(origin["video"], {})
        shown = [candidate["region"] for candidate in sorted(case["candidates"], key=lambda item: item["number"])]
        objects = [[(origin["tracks"][0], case["query"][0])], list(zip(origin["tracks"][1:], shown, strict=True))]
        for frame, source, found in zip(case["frames"], origin["frames"], objects, strict=True):
            name = f"{Path(source['path']).stem}.jpg"
            if name not in video:
                (folder / "images" / origin["video"]).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(directory / frame["path"], folder / "images" / origin["video"] / name)
                video[name] = {"index": source["index"], "frame": frame, "regions": {}}
            for track, region in found:
                if coco_mask.area(to_coco(region["mask"])):
                    video[name]["regions"][track] = region
    names = {r["category"] or "object" for v in videos.values() for i in v.values() for r in i["regions"].values()}
    categories = {name: number for number, name in enumerate(sorted(names), 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for video_name, video in videos.items():
        for name, image in sorted(video.items(), key=lambda item: (item[1]["index"], item[0])):
            size = {"width": image["frame"]["width"], "height": image["frame"]["height"]}
            images.append({"id": len(images) + 1, "file_name": f"{video_name}/{name}", **size})
            for track, region in image["regions"].items():
                encoded = to_coco(region["mask"])
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": len(images),
                        "category_id": categories[region["category"] or "object"],
                        "track_id": track,
                        "iscrowd": 0,
                        "segmentation": region["mask"],
                        "bbox": coco_mask.toBbox(encoded).tolist(),
                        "area": float(coco_mask.area(encoded)),
                    }
                )
    named = [{"id": number, "name": name} for name, number in categories.items()]
    (folder / "annotations").mkdir(parents=True)
    content = {"info": {}, "images": images, "annotations": annotations, "categories": named}
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))


def to_coco(mask: dict[str, Any]) -> dict[str, Any]:
    return {"size": mask["size"], "counts": mask["counts"].encode()}


def flatten(written: Path, folder: Path) -> Path:
    """The same set with all images in one folder: supervision writes them by their names alone."""
    file = "annotations/instances_train.json"
    content = json.loads((written / file).read_text())
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for image in content["images"]:
        former, image["file_name"] = image["file_name"], image["file_name"].replace("/", "_")
        shutil.copyfile(written / "images" / former, folder / "images" / image["file_name"])
    (folder / file).write_text(json.dumps(content))
    return folder


def export_with_supervision(written: Path, directory: Path, folder: Path) -> None:
    """Read a COCO set and write it again, since supervision does not read benchmarks."""
    import supervision

    file = written / "annotations" / "instances_train.json"
    data = supervision.DetectionDataset.from_coco(str(written / "images"), str(file), force_masks=True)
    data.as_coco(str(folder / "images"), str(folder / "annotations.json"))


def export_with_datumaro(written: Path, directory: Path, folder: Path) -> None:
    """Read a COCO set and write it again, since Datumaro does not read benchmarks."""
    import datumaro

    data = datumaro.Dataset.import_from(str(written), "coco_instances")
    data.export(str(folder), "coco_instances", save_media=True)


def format_table(rows: list[dict[str, Any]]) -> str:
    """Processor times of the rows as a table in Markdown."""
    others = [name for name in (SCRIPT, *LIBRARIES) if any(f"{name}_ms" in row for row in rows)]
    head = ["step", "size", PRODUCT, *[column for name in others for column in (name, "times as long")]]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [row["step"], row["size"], f"{row[f'{PRODUCT}_cpu_ms']:.1f} ms"]
        for name in others:
            values = (row.get(f"{name}_cpu_ms"), row.get(f"{name}_over_product_cpu"))
            cells += ["", ""] if None in values else [f"{values[0]:.1f} ms", f"{values[1]:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
