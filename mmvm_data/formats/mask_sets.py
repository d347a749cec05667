"""The masks of a benchmark as a data set of its sources' formats, so that masks that people corrected can go back.

``coco``   ``annotations/instances_train.json``, ``images/<video>/<frame>`` (cocodataset.org, "Data format")
``ytvis``  ``train.json``, ``JPEGImages/<video>/<frame>`` (github.com/youtubevos/cocoapi)
``davis``  ``JPEGImages/Full-Resolution/<video>/<frame>``, ``Annotations/…`` as palette PNGs (davischallenge.org)
``cvat``   ``<video>/annotations.xml`` of CVAT for video, ``<video>/images/<frame>``; boxes too (see ``cvat_tracks``)

Videos, frames and objects have their names in the source; a video of a second source under the same name gets that
source's in front, and views of a still image their numbers. Of a mask that several cases have, a fixed one is written,
else an accepted one, else the last. A video has the frames of its cases only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from PIL import Image

from mmvm_data.core import masks
from mmvm_data.core.case_facts import check_masks
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case, Frame, Provenance, Region
from mmvm_data.formats.cvat_tracks import write_tracks
from mmvm_data.io.checked_images import read_frame_image
from mmvm_data.io.files import safe_join
from mmvm_data.io.label_colors import build_label_palette
from mmvm_data.io.staging import staging_folder

MaskForm = Literal["coco", "ytvis", "davis", "cvat"]
_STATES = ("proposed", "accepted", "fixed")
_MAX_IDS = 254
_IMAGES = {
    "coco": "images/{video}",
    "ytvis": "JPEGImages/{video}",
    "davis": "JPEGImages/Full-Resolution/{video}",
    "cvat": "{video}/images",
}
_NAME_OF_FRAME = re.compile(r"frame_\d+", re.ASCII)


@dataclass
class _Image:
    """A frame: its position in the source, size, region and rank of each track, and digest of its file."""

    name: str
    index: int
    size: tuple[int, int]
    regions: dict[str, tuple[int, Region]] = field(default_factory=dict)
    digest: bytes = b""


_Videos = dict[str, dict[str, _Image]]


def write(cases: Iterable[Case], directory: Path, folder: Path, form: MaskForm) -> list[Path]:
    """Write the masks, and the clean images of their frames.

    Args:
        cases: of a build, with provenance. All their masks are in memory.
        directory: the benchmark, which holds their images.
        folder: must not exist, or be empty.
        form: of the set.

    Returns:
        The annotation file, or for ``davis`` the folder of masks, for ``cvat`` the folder of videos.

    Raises:
        UsageError: the folder is not empty.
        InputError: a case does not say where it comes from, an image is missing, a name leaves the folder, cases show
            different images as the same frame, a mask is broken, a DAVIS video has more than 254 objects, or a CVAT or
            YouTube-VIS one has frames of several sizes.
        OutputError: the folder cannot be written.
    """
    try:
        with staging_folder(folder) as staging_dir:
            videos = _collect(cases, directory, staging_dir, _IMAGES[form])
            path = _WRITERS[form](videos, staging_dir)
            return [folder / path.relative_to(staging_dir)]
    except OSError as error:
        raise OutputError(error.filename or folder, error) from error


def _collect(cases: Iterable[Case], directory: Path, folder: Path, pattern: str) -> _Videos:
    """Copy each frame's image once, and collect its regions."""
    videos: dict[str, dict[str, _Image]] = {}
    owners: dict[str, tuple[str, str]] = {}
    for case in cases:
        if case.provenance is None or len(case.provenance.frames) != len(case.frames):
            raise InputError(case.id, "does not say which video and frames it comes from", field="provenance")
        check_masks(case)
        video_name = _video_name(case, case.provenance, owners)
        video = videos.setdefault(video_name, {})
        target = pattern.format(video=video_name)
        for position, (frame, origin) in enumerate(zip(case.frames, case.provenance.frames, strict=True)):
            key = f"{origin.path}\0{origin.index}"
            content = read_frame_image(directory, frame.path, frame, case.id)
            digest = hashlib.sha256(content).digest()
            image = video.get(key)
            if image is None:
                name = _frame_name(origin, PurePosixPath(frame.path).suffix, {other.name for other in video.values()})
                image = video[key] = _Image(name, origin.index, (frame.height, frame.width), digest=digest)
                file = safe_join(folder, f"{target}/{name}", case.id)
                if len(video) == 1:
                    file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            elif digest != image.digest:
                reason = f"shows another image than an earlier case as frame {origin.path} of {case.provenance.video!r}"
                raise InputError(case.id, f"{reason}: export benchmarks of several sets one by one", "provenance")
            rank = _STATES.index(case.review.state) if case.review.state in _STATES else 0
            for track, region in _regions(case, position):
                if rank >= image.regions.get(track, (0, region))[0]:
                    image.regions[track] = (rank, region)
    for video in videos.values():
        for key, image in sorted(video.items(), key=lambda item: (item[1].index, item[1].name)):
            del video[key]
            video[key] = image
    return videos


def _video_name(case: Case, origin: Provenance, owners: dict[str, tuple[str, str]]) -> str:
    """The folder of a video, which ``owners`` gets with its source and name."""
    name, owner = origin.video.replace("/", "_"), (origin.source, origin.video)
    if owners.setdefault(name, owner) == owner:
        return name
    name = f"{origin.source}_{name}"
    if owners.setdefault(name, owner) != owner:
        raise InputError(case.id, f"its video would have the folder {name} of another one", "provenance")
    return name


def _frame_name(origin: Frame, suffix: str, taken: set[str]) -> str:
    """The name of a frame in the source, with its path and number in the source where another has that name."""
    stem = PurePosixPath(origin.path).stem if origin.video_frame is None else f"{origin.index:05d}"
    longer = f"{stem}_{origin.path.replace('/', '_')}"
    stems = chain((stem, longer), (f"{longer}_{number}" for number in count(origin.index)))
    return next(name for stem in stems if (name := f"{stem}{suffix}") not in taken)


def _regions(case: Case, position: int) -> Iterator[tuple[str, Region]]:
    """The regions of an image with their tracks in the source, without those of objects that it does not show."""
    assert case.provenance is not None
    tracks = case.provenance.tracks
    candidates = sorted(case.candidates, key=lambda candidate: candidate.number)
    has_tracks = len(tracks) == 1 + len(candidates)
    if position < len(case.query):
        found = [(tracks[0] if has_tracks else case.query[position].id, case.query[position])]
    else:
        names = tracks[1:] if has_tracks else [candidate.region.id for candidate in candidates]
        found = [(name, candidate.region) for name, candidate in zip(names, candidates, strict=True)]
    return ((track, region) for track, region in found if region.mask is None or masks.has_pixels(region.mask))


_Annotation = tuple[dict[str, Any] | None, list[float], float]
"""Segmentation (None of a box), bbox and area."""


def _annotate(regions: Iterable[Region]) -> Iterator[_Annotation]:
    """Yield the annotation of each region; all are measured in one call."""
    regions = list(regions)
    rles = [region.mask for region in regions if region.mask is not None]
    measured = zip(rles, masks.bboxes(rles).tolist(), masks.areas(rles).tolist(), strict=True)
    for region in regions:
        if region.mask is None:
            assert region.box is not None  # a region has one of the two
            yield None, list(region.box), region.box[2] * region.box[3]
        else:
            rle, box, area = next(measured)
            yield {"size": list(rle.size), "counts": rle.counts}, box, float(area)


def _categories(videos: _Videos) -> dict[str, int]:
    regions = (r for video in videos.values() for image in video.values() for _, r in image.regions.values())
    return {name: k for k, name in enumerate(sorted({region.category or "object" for region in regions}), 1)}


def _write_coco(videos: _Videos, folder: Path) -> Path:
    categories = _categories(videos)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for name, video in videos.items():
        for image in video.values():
            height, width = image.size
            number = len(images) + 1
            images.append({"id": number, "file_name": f"{name}/{image.name}", "width": width, "height": height})
            regions = [region for _, region in image.regions.values()]
            for track, region, (segmentation, box, area) in zip(
                image.regions, regions, _annotate(regions), strict=True
            ):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": categories[region.category or "object"],
                        "track_id": track,
                        "iscrowd": 0,
                        "segmentation": segmentation or [],
                        "bbox": box,
                        "area": area,
                    }
                )
    return _write_json(folder / "annotations/instances_train.json", categories, images=images, annotations=annotations)


def _write_ytvis(videos: _Videos, folder: Path) -> Path:
    categories = _categories(videos)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for name, video in videos.items():
        images = list(video.values())
        _require_one_size(name, images, "a YouTube-VIS video")
        height, width = images[0].size
        files = [f"{name}/{image.name}" for image in images]
        number = len(entries) + 1
        entries.append({"id": number, "file_names": files, "width": width, "height": height, "length": len(images)})
        for track in dict.fromkeys(track for image in images for track in image.regions):
            regions = [image.regions.get(track, (0, None))[1] for image in images]
            annotated = _annotate(region for region in regions if region is not None)
            parts = [(None, None, None) if region is None else next(annotated) for region in regions]
            category = next(region.category or "object" for region in regions if region is not None)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": number,
                    "category_id": categories[category],
                    "track_id": track,
                    "iscrowd": 0,
                    "segmentations": [part[0] for part in parts],
                    "bboxes": [part[1] for part in parts],
                    "areas": [part[2] for part in parts],
                }
            )
    return _write_json(folder / "train.json", categories, videos=entries, annotations=annotations)


def _require_one_size(name: str, images: list[_Image], kind: str) -> None:
    if len({image.size for image in images}) > 1:
        raise InputError(name, f"has frames of several sizes, and those of {kind} have one")


def _write_json(path: Path, categories: dict[str, int], **lists: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    named = [{"id": number, "name": name} for name, number in categories.items()]
    path.write_text(json.dumps({"info": {}, **lists, "categories": named}), encoding="utf-8")
    return path


def _write_davis(videos: _Videos, folder: Path) -> Path:
    target = folder / "Annotations/Full-Resolution"
    for name, video in videos.items():
        tracks = list(dict.fromkeys(track for image in video.values() for track in image.regions))
        if len(tracks) > _MAX_IDS:
            raise InputError(name, f"has {len(tracks)} objects, and a palette PNG holds {_MAX_IDS}")
        is_kept = all(track.isascii() and track.isdigit() and 0 < int(track) <= _MAX_IDS for track in tracks)
        ids = {track: int(track) if is_kept else k for k, track in enumerate(tracks, 1)}
        for image in video.values():
            labels = np.zeros(image.size, np.uint8)
            shown = [(track, region.mask) for track, (_, region) in image.regions.items() if region.mask is not None]
            for track, mask in sorted(shown, key=lambda item: -masks.area(item[1])):  # a smaller one lies over a larger
                labels[masks.decode(mask) != 0] = ids[track]
            file = (target / name / image.name).with_suffix(".png")
            file.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(labels)
            picture.putpalette(build_label_palette())
            picture.save(file)
    target.mkdir(parents=True, exist_ok=True)
    return target


def _write_cvat(videos: _Videos, folder: Path) -> Path:
    for name, video in videos.items():
        images = list(video.values())
        _require_one_size(name, images, "a CVAT task")
        _name_by_order(images, folder / name / "images")
        tracks = dict.fromkeys(track for image in images for track in image.regions)
        regions = {track: [image.regions.get(track, (0, None))[1] for image in images] for track in tracks}
        write_tracks(folder / name / "annotations.xml", name, images[0].size, regions)
    return folder


def _name_by_order(images: list[_Image], folder: Path) -> None:
    """Rename images unless the order of their names is that of the frames, by which CVAT numbers them."""
    names = [image.name for image in images]
    if names == sorted(names) and not any(_NAME_OF_FRAME.match(name) for name in names):
        return
    for image in images:
        (folder / image.name).rename(folder / f".{image.name}")
    for k, image in enumerate(images):
        former, image.name = image.name, f"frame_{k:06d}{PurePosixPath(image.name).suffix}"
        (folder / f".{former}").rename(folder / image.name)


_WRITERS: dict[MaskForm, Callable[[_Videos, Path], Path]] = {
    "coco": _write_coco,
    "ytvis": _write_ytvis,
    "davis": _write_davis,
    "cvat": _write_cvat,
}
