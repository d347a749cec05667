"""Generated videos on disk, laid out as YouTube-VOS or as YouTube-VIS is released.

YouTube-VOS (youtube-vos.org, 2018/2019 train set): ``train/JPEGImages/<video>/<frame>.jpg`` and
``train/Annotations/<video>/<frame>.png`` (mode P, object ids) of every fifth frame, ``train/meta.json`` with the
category and the frames of each object. YouTube-VIS (2019/2021): the same JPEGs, and ``train/instances.json`` as COCO
with a list entry for each frame.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

import cv2
import numpy as np
from PIL import Image

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.version import __version__
from mmvm_data.io import process_pool
from mmvm_data.io.files import atomic_write
from mmvm_data.synth.scene import Scene, cast
from mmvm_data.synth.toys import TOYS

STEP = 5  # the released sets annotate, and hold, every fifth frame
_SET, _NOTE = "train", "synth.json"
_ID_BITS = 40


@dataclass(frozen=True)
class SynthOptions:
    """What to generate.

    Attributes:
        videos: how many; video N is the same whatever this is.
        frames: annotated frames of each video.
        width, height: pixels.
        objects: fewest and most objects of a video; two to four of each category.
        seed: another seed, another world.
        layout: "ytvos" or "ytvis".
        quality: of the JPEGs, 1..100.
        workers: processes; they do not change the result.
    """

    videos: int = 12
    frames: int = 20
    width: int = 854
    height: int = 480
    objects: tuple[int, int] = (3, 9)
    seed: int = 0
    layout: Literal["ytvis", "ytvos"] = "ytvos"
    quality: int = 92
    workers: int = 1


def generate(
    out: Path, options: SynthOptions | None = None, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write a set of videos under ``out/train``, which appears when all of it is there.

    Args:
        out: folder, made if need be. When it holds the same videos already, nothing is done.
        options: what to generate.
        progress: called with (videos done, videos) after each.

    Returns:
        ``out``.

    Raises:
        UsageError: an option out of range, or ``out`` holds something else.
        OSError: the disk is full or read-only; what was written is removed.
    """
    options = options or SynthOptions()
    _check(options)
    note = _note(options)
    if _there(out, note):
        if progress:
            progress(options.videos, options.videos)
        return out
    stage = out / f".{_SET}.tmp"
    _remove(stage)
    (stage / "JPEGImages").mkdir(parents=True)
    try:
        if options.layout == "ytvos":
            (stage / "Annotations").mkdir()
            _write_meta(stage, _written(stage, options, progress))
        else:
            _write_instances(stage, _written(stage, options, progress))
        with atomic_write(out / _NOTE) as handle:
            handle.write(note)
        stage.rename(out / _SET)
    finally:
        _remove(stage)
    return out


def video_id(seed: int, number: int) -> str:
    """Ten hexadecimal digits that look like a real set's ids; no two numbers of one seed share them."""
    # every step can be undone modulo 2^40, so different numbers stay different
    wide = (1 << _ID_BITS) - 1
    value = (number * 0x9E3779B97F + (seed + 1) * 0x632BE59BD9) & wide
    for factor in (0xD6E8FEB865, 0xA0761D6479):
        value ^= value >> 19
        value = value * factor & wide
    return f"{value ^ value >> 21:010x}"


def scene_of(number: int, options: SynthOptions) -> Scene:
    """The video of that number, 0-based; it depends on the seed, the number, the size, and the counts only."""
    random = np.random.Generator(np.random.PCG64([options.seed, number]))
    return cast(options.frames, options.width, options.height, options.objects, random)


@dataclass(frozen=True)
class _Record:
    """What the index says of one video: (category, a mask or None for each frame) of each object that is ever seen."""

    name: str
    files: tuple[str, ...]
    size: tuple[int, int]
    objects: dict[int, tuple[str, list[dict[str, Any] | None]]]


def _written(stage: Path, options: SynthOptions, progress: Callable[[int, int], None] | None) -> Iterator[_Record]:
    """Write the pictures of each video and give its record, in the order of their numbers."""
    work = process_pool.map_ordered(range(options.videos), _open, (stage, options), _write_video, options.workers)
    for number, record in work:
        if isinstance(record, process_pool.WorkerDied):
            raise record
        if progress:
            progress(number + 1, options.videos)
        yield record


def _open(stage: Path, options: SynthOptions) -> tuple[Path, SynthOptions]:
    cv2.setNumThreads(1)
    return stage, options


def _write_video(shop: tuple[Path, SynthOptions], number: int) -> _Record:
    stage, options = shop
    name = video_id(options.seed, number)
    scene = scene_of(number, options)
    pictures = stage / "JPEGImages" / name
    pictures.mkdir()
    labelled = stage / "Annotations" / name if options.layout == "ytvos" else None
    if labelled:
        labelled.mkdir()
    found: dict[int, list[dict[str, Any] | None]] = {actor.label: [] for actor in scene.toys}
    stems = [f"{STEP * k:05d}" for k in range(options.frames)]
    for stem, (image, labels) in zip(stems, scene.frames(), strict=True):
        _, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, options.quality])
        (pictures / f"{stem}.jpg").write_bytes(coded.tobytes())
        if labelled:
            _write_labels(labelled / f"{stem}.png", labels)
        regions = masks.encode_labels(labels)
        for label, entries in found.items():
            rle = regions.get(label)
            entries.append({"size": list(rle.size), "counts": rle.counts} if rle else None)
    objects = {actor.label: (actor.category, found[actor.label]) for actor in scene.toys if any(found[actor.label])}
    files = tuple(f"{name}/{stem}.jpg" for stem in stems)
    return _Record(name, files, (options.height, options.width), objects)


def _write_labels(path: Path, labels: np.ndarray) -> None:
    picture = Image.fromarray(labels, mode="L")
    picture.putpalette(_palette())
    picture.save(path, compress_level=6)


def _palette() -> list[int]:
    """Colours of the PASCAL VOC and DAVIS label images: the bits of an id, dealt out to red, green and blue in turn
    from the highest down (VOC development kit, ``VOClabelcolormap``)."""
    colors = []
    for label in range(256):
        for channel in range(3):
            colors.append(sum((label >> (3 * k + channel) & 1) << (7 - k) for k in range(3)))
    return colors


def _write_meta(stage: Path, records: Iterator[_Record]) -> None:
    videos = {}
    for record in records:
        stems = [Path(file).stem for file in record.files]
        videos[record.name] = {
            "objects": {
                str(label): {"category": category, "frames": [s for s, m in zip(stems, entries, strict=True) if m]}
                for label, (category, entries) in record.objects.items()
            }
        }
    with atomic_write(stage / "meta.json") as handle:
        json.dump({"videos": dict(sorted(videos.items()))}, handle, indent=1)


def _write_instances(stage: Path, records: Iterator[_Record]) -> None:
    """The index as the released one, its annotations written as they come and never held together."""
    categories = [{"id": k, "name": name, "supercategory": "toy"} for k, name in enumerate(sorted(TOYS), 1)]
    numbers = {category["name"]: category["id"] for category in categories}
    parts = stage / ".annotations"
    videos = []
    with open(parts, "w", encoding="utf-8", newline="") as handle:
        count = 0
        for number, record in enumerate(records, 1):
            height, width = record.size
            size = {"width": width, "height": height, "length": len(record.files)}
            videos.append({"id": number, "file_names": list(record.files), **size})
            for category, entries in record.objects.values():
                count += 1
                handle.write(",\n" if count > 1 else "")
                json.dump(_annotation(count, number, numbers[category], entries, size), handle)
    info = {"description": "Generated videos of toys", "version": __version__}
    with atomic_write(stage / "instances.json") as handle:
        head = json.dumps({"info": info, "licenses": [], "videos": videos, "categories": categories})
        handle.write(head[:-1] + ', "annotations": [\n')
        _append(parts, handle)
        handle.write("\n]}\n")
    parts.unlink()


def _annotation(
    number: int, video: int, category: Any, entries: list[dict[str, Any] | None], size: dict[str, int]
) -> dict[str, Any]:
    regions = [masks.from_counts(m["counts"], m["size"]) if m else None for m in entries]
    return {
        "id": number,
        "video_id": video,
        "category_id": category,
        "iscrowd": 0,
        **size,
        "segmentations": entries,
        "bboxes": [[float(v) for v in masks.bbox(r)] if r else None for r in regions],
        "areas": [masks.area(r) if r else None for r in regions],
    }


def _append(parts: Path, handle: IO) -> None:
    with open(parts, encoding="utf-8", newline="") as lines:
        shutil.copyfileobj(lines, handle)


def _there(out: Path, note: str) -> bool:
    """Whether ``out`` holds just what is asked for; an empty or missing folder does not.

    Raises:
        UsageError: it holds something else.
    """
    if not (out / _SET).exists():
        return False
    try:
        found = (out / _NOTE).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{out}: holds videos that were not generated; choose another folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(out / _NOTE, f"cannot be read: {error}") from error
    if found != note:
        raise UsageError(
            f"{out}: holds videos that were generated with other options; delete it or choose another folder"
        )
    return True


def _note(options: SynthOptions) -> str:
    """What decides the bytes of a set; the number of workers does not."""
    asked = {key: value for key, value in asdict(options).items() if key != "workers"}
    versions = {"mmvm_data": __version__, "numpy": np.__version__, "opencv": cv2.__version__}
    return json.dumps({"options": asked, "versions": versions}, indent=1) + "\n"


def _remove(stage: Path) -> None:
    if stage.exists():
        shutil.rmtree(stage)


def _check(options: SynthOptions) -> None:
    fewest, most = options.objects
    for name, value, low, high in (
        ("videos", options.videos, 1, 10**7),
        ("frames", options.frames, 1, 99_999 // STEP),
        ("width", options.width, 128, 4096),
        ("height", options.height, 96, 4096),
        ("objects", fewest, 2, most),
        ("objects", most, fewest, 2 * len(TOYS)),
        ("seed", options.seed, 0, 2**63 - 1),
        ("quality", options.quality, 1, 100),
        ("workers", options.workers, 1, 1024),
    ):
        if not low <= value <= high:
            raise UsageError(f"--{name} must be from {low} to {high}, got {value}")
    if options.layout not in ("ytvis", "ytvos"):
        raise UsageError(f"--layout must be ytvos or ytvis, got {options.layout!r}")
