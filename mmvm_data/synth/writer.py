"""Writes generated videos in the layout of YouTube-VOS or YouTube-VIS.

YouTube-VOS (youtube-vos.org, 2018/2019 train set): ``train/JPEGImages/<video>/<frame>.jpg`` and
``train/Annotations/<video>/<frame>.png`` (mode P, object ids) of every fifth frame, ``train/meta.json`` with the
category and the frames of each object. YouTube-VIS (2019/2021): the same JPEGs, and ``train/instances.json`` as COCO
with a list entry for each frame.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator
from typing_extensions import Self

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import options
from mmvm_data.core.version import __version__
from mmvm_data.io import process_pool
from mmvm_data.io.files import atomic_write
from mmvm_data.io.folder_lock import lock_folder
from mmvm_data.io.label_colors import build_label_palette
from mmvm_data.synth.scene import LookAlikes, Scene, plan_next_shot, plan_scene
from mmvm_data.synth.toys import TOYS

FRAME_STEP = 5  # the released sets hold and annotate every fifth frame
MAX_OBJECTS = 2 * len(TOYS)
_SPLIT, _NOTE = "train", "synth.json"
_ID_BITS = 40


@options
class SynthOptions:
    """What to generate.

    Attributes:
        videos: number of videos; video N does not depend on it.
        frames: annotated frames of each video.
        width, height: pixels.
        objects: smallest and largest number of objects of a video.
        look_alikes: "colors": two to four objects of each category, which differ in hue, coat and number plates;
            "patterns": all objects of a video are of one category, proportions and mean color, and differ in the
            patterns of their coats.
        cuts: number of cuts of a video. They divide it into shots of equal length (up to one frame), each from another
            viewpoint, with the objects in other places and another white balance.
        seed: another seed gives other videos.
        layout: "ytvos" or "ytvis".
        quality: of the JPEGs, 1..100.
        workers: processes; they do not change the result.

    Raises:
        OptionError: a value is out of range.
    """

    videos: Annotated[int, Field(ge=1, le=10**7)] = 12
    frames: Annotated[int, Field(ge=1, le=99_999 // FRAME_STEP)] = 20
    width: Annotated[int, Field(ge=128, le=4096)] = 854
    height: Annotated[int, Field(ge=96, le=4096)] = 480
    objects: tuple[int, int] = (3, 9)
    look_alikes: LookAlikes = "colors"
    cuts: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    layout: Literal["ytvis", "ytvos"] = "ytvos"
    quality: Annotated[int, Field(ge=1, le=100)] = 92
    workers: Annotated[int, Field(ge=1, le=1024)] = 1

    @model_validator(mode="after")
    def _check_objects(self) -> Self:
        fewest, most = self.objects
        if not 2 <= fewest <= most <= MAX_OBJECTS:
            raise ValueError(f"objects must be two ascending numbers in [2, {MAX_OBJECTS}], got {self.objects}")
        if self.cuts >= self.frames:
            raise ValueError(f"cuts must be below the number of frames ({self.frames}), got {self.cuts}")
        return self


def generate(
    out: Path, options: SynthOptions | None = None, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write a set of videos under ``out/train``, which appears only when it is complete.

    Args:
        out: folder, created if needed. If it holds the same videos already, nothing is done.
        options: what to generate.
        progress: called with (videos done, videos) after each.

    Returns:
        ``out``.

    Raises:
        UsageError: ``out`` holds something else, or another process is writing there.
        OSError: the disk is full or read-only; what was written is removed.
    """
    options = options or SynthOptions()
    note = _format_note(options)
    if not _is_complete(out, note):
        out.mkdir(parents=True, exist_ok=True)
        with lock_folder(out, "mmvm-data synth", wait_seconds=0):
            if not _is_complete(out, note):  # another process may have been faster
                _write_set(out, options, note, progress)
                return out
    if progress:
        progress(options.videos, options.videos)
    return out


def _write_set(out: Path, options: SynthOptions, note: str, progress: Callable[[int, int], None] | None) -> None:
    stage = out / f".{_SPLIT}.tmp"
    _remove_folder(stage)
    (stage / "JPEGImages").mkdir(parents=True)
    try:
        if options.layout == "ytvos":
            (stage / "Annotations").mkdir()
            _write_meta(stage, _write_videos(stage, options, progress))
        else:
            _write_instances(stage, _write_videos(stage, options, progress))
        with atomic_write(out / _NOTE) as handle:
            handle.write(note)
        stage.rename(out / _SPLIT)
    finally:
        _remove_folder(stage)


def video_id(seed: int, number: int) -> str:
    """Id of a video: ten hexadecimal digits, as in the released sets; no two numbers of one seed have the same."""
    # every step is invertible modulo 2^40, so different numbers give different ids
    wide = (1 << _ID_BITS) - 1
    value = (number * 0x9E3779B97F + (seed + 1) * 0x632BE59BD9) & wide
    for factor in (0xD6E8FEB865, 0xA0761D6479):
        value ^= value >> 19
        value = value * factor & wide
    return f"{value ^ value >> 21:010x}"


def make_scene(number: int, options: SynthOptions) -> Scene:
    """The scene of video ``number``, 0-based, up to its first cut; a function of the options that are not ``videos``,
    ``cuts``, ``layout``, ``quality`` or ``workers``, and of the number alone."""
    random = np.random.Generator(np.random.PCG64([options.seed, number]))
    return plan_scene(options.frames, options.width, options.height, options.objects, random, options.look_alikes)


def make_shots(number: int, options: SynthOptions) -> list[Scene]:
    """The scenes of video ``number`` between its cuts, the one of ``make_scene`` first.

    Each is as long as the video; frame N is that of scene N * (cuts + 1) // frames.
    """
    first = make_scene(number, options)
    streams = (np.random.PCG64([options.seed, number, shot]) for shot in range(1, options.cuts + 1))
    return [first, *(plan_next_shot(first, np.random.Generator(stream)) for stream in streams)]


def _render_frames(shots: Sequence[Scene]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    frames = len(shots[0].camera)
    for number in range(frames):
        yield shots[number * len(shots) // frames].render_frame(number)


@dataclass(frozen=True)
class _VideoRecord:
    """The entries of one video in the index.

    Attributes:
        name: id of the video.
        files: its JPEGs, relative to the folder of all videos.
        size: height and width.
        objects: label -> category, and a mask (or None) for each frame; of objects that are visible at least once.
    """

    name: str
    files: tuple[str, ...]
    size: tuple[int, int]
    objects: dict[int, tuple[str, list[dict[str, Any] | None]]]


def _write_videos(
    stage: Path, options: SynthOptions, progress: Callable[[int, int], None] | None
) -> Iterator[_VideoRecord]:
    """Write the images of each video, and yield its record, in the order of their numbers."""
    work = process_pool.map_ordered(
        range(options.videos), _init_worker, (stage, options), _write_video, options.workers
    )
    for number, record in work:
        if isinstance(record, process_pool.WorkerDied):
            raise record
        if progress:
            progress(number + 1, options.videos)
        yield record


def _init_worker(stage: Path, options: SynthOptions) -> tuple[Path, SynthOptions]:
    cv2.setNumThreads(1)
    return stage, options


def _write_video(context: tuple[Path, SynthOptions], number: int) -> _VideoRecord:
    stage, options = context
    name = video_id(options.seed, number)
    shots = make_shots(number, options)
    toys = shots[0].toys
    image_folder = stage / "JPEGImages" / name
    image_folder.mkdir()
    label_folder = stage / "Annotations" / name if options.layout == "ytvos" else None
    if label_folder:
        label_folder.mkdir()
    masks_by_label: dict[int, list[dict[str, Any] | None]] = {actor.label: [] for actor in toys}
    stems = [f"{FRAME_STEP * k:05d}" for k in range(options.frames)]
    for stem, (image, labels) in zip(stems, _render_frames(shots), strict=True):
        _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, options.quality])
        (image_folder / f"{stem}.jpg").write_bytes(encoded.tobytes())
        if label_folder:
            _write_labels(label_folder / f"{stem}.png", labels)
        regions = masks.encode_labels(labels)
        for label, entries in masks_by_label.items():
            rle = regions.get(label)
            entries.append({"size": list(rle.size), "counts": rle.counts} if rle else None)
    objects = {
        actor.label: (actor.category, masks_by_label[actor.label]) for actor in toys if any(masks_by_label[actor.label])
    }
    files = tuple(f"{name}/{stem}.jpg" for stem in stems)
    return _VideoRecord(name, files, (options.height, options.width), objects)


def _write_labels(path: Path, labels: NDArray[np.uint8]) -> None:
    image = Image.fromarray(labels, mode="L")
    image.putpalette(build_label_palette())
    image.save(path, compress_level=6)


def _write_meta(stage: Path, records: Iterator[_VideoRecord]) -> None:
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


def _write_instances(stage: Path, records: Iterator[_VideoRecord]) -> None:
    """Write the index in the released format. Annotations are written one by one and never all in memory."""
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
        _append_file(parts, handle)
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


def _append_file(parts: Path, handle: IO[str]) -> None:
    with open(parts, encoding="utf-8", newline="") as lines:
        shutil.copyfileobj(lines, handle)


def _is_complete(out: Path, note: str) -> bool:
    """Whether ``out`` holds the requested videos; False for an empty or missing folder.

    Raises:
        UsageError: it holds something else.
    """
    if not (out / _SPLIT).exists():
        return False
    try:
        old_note = (out / _NOTE).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{out}: holds videos that were not generated; choose another folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(out / _NOTE, f"cannot be read: {error}") from error
    if old_note != note:
        raise UsageError(
            f"{out}: holds videos that were generated with other options; delete it or choose another folder"
        )
    return True


def _format_note(options: SynthOptions) -> str:
    """What determines the bytes of a set, as JSON; the number of workers does not."""
    requested = {key: value for key, value in asdict(options).items() if key != "workers"}
    for key in ("cuts", "look_alikes"):  # sets without them keep their note
        if requested[key] == getattr(SynthOptions(), key):
            del requested[key]
    versions = {"mmvm_data": __version__, "numpy": np.__version__, "opencv": cv2.__version__}
    return json.dumps({"options": requested, "versions": versions}, indent=1) + "\n"


def _remove_folder(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
