"""UAV123, at 30 or 10 frames per second: ``anno/<version>/<sequence>.txt``, ``data_seq/<version>/<folder>/000001.jpg``.

A line is ``x, y, width, height``; NaN where the object is occluded or out of view. Long videos are split into parts:
the frames of ``truck4_1`` and ``truck4_2`` are both in ``truck4``. The first frame of each part is given in
``configSeqs.m``, which is beside ``anno``; without it, parts are assumed to follow each other when their lines fill the
folder exactly, with or without one frame that two neighbors share (truck4: 1 to 577 and 577 to 1261).

Source: ReadMe.txt and configSeqs.m of the data set (cemse.kaust.edu.sa/ivul/uav123).
"""

from __future__ import annotations

import re
from itertools import accumulate
from pathlib import Path

from mmvm_data.builders.common.box_sequences import BoxSequence, ObjectTrack, load_box_sequence
from mmvm_data.builders.common.folders import add_unique
from mmvm_data.builders.common.text_files import read_lines, read_text
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Video
from mmvm_data.io.files import list_names, path_kind, printable_name
from mmvm_data.io.media import IMAGE_SUFFIXES
from mmvm_data.io.read_log import cache_with_reads

VERSIONS = ("UAV123", "UAV123_10fps")
CATEGORIES = {"group": "person", "wakeboard": "person"}
"""Sequences that are not named after their object."""
_PART = re.compile(r"^(.+)_(\d+)$", re.ASCII)
_START = re.compile(r"'name'\s*,\s*'([^']+)'[^)]*?'startFrame'\s*,\s*(\d{1,9})\s*,", re.ASCII)


def open_uav123(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the first of VERSIONS that exists in the root (or in its folder UAV123).

    Raises:
        InputError: none of them exists.
    """
    for base, version in [(base, version) for base in (root, root / "UAV123") for version in VERSIONS]:
        boxes, images = base / "anno" / version, base / "data_seq" / version
        if path_kind(boxes) == path_kind(images) == "folder":
            break
    else:
        raise InputError(root, "folders anno/UAV123 and data_seq/UAV123 (or UAV123_10fps) are expected here")
    files: dict[str, Path] = {}
    rejects: list[Reject] = []
    for file in list_names(boxes, (".txt",)):
        add_unique(name, root, Path(file).stem, boxes / file, files, rejects, "sequences")
    listed_starts = _read_starts(base / "configSeqs.m")
    infer_starts = cache_with_reads(lambda folder: _infer_starts(images / folder, folder, files))

    def load(video: str) -> Video:
        if video not in files:
            raise InputError(root, f"there is no usable video {printable_name(video)!r}")
        folder, start = video, None
        part = _PART.match(video)
        if part and path_kind(images / video) != "folder":
            folder = part[1]
            if path_kind(images / folder) != "folder":
                raise InputError(images / folder, "no frames: the folder is missing")
            start = listed_starts.get(video) or infer_starts(folder).get(video)
            if start is None:
                reason = "the first frame of this part is not known: configSeqs.m is missing, or does not name it"
                raise InputError(files[video], reason)
        object_name = re.sub(r"\d.*", "", folder)
        category = CATEGORIES.get(object_name, object_name) or None
        track = ObjectTrack("1", files[video], start)
        return load_box_sequence(name, root, BoxSequence(video, images / folder, (track,), category))

    return Source(name, root, sorted(files), load, tuple(rejects))


def _read_starts(file: Path) -> dict[str, int]:
    """Return sequence -> number of its first frame; the first mention is used (UAV20L is later in the file)."""
    if path_kind(file) != "file":
        return {}
    starts: dict[str, int] = {}
    for sequence, start in _START.findall(read_text(file)):
        starts.setdefault(sequence, int(start))
    return starts


def _infer_starts(images: Path, folder: str, files: dict[str, Path]) -> dict[str, int]:
    """Return part -> number of its first frame when the lines of all parts fill the folder, else nothing."""
    parts = sorted((int(m[2]), video) for video in files if (m := _PART.match(video)) and m[1] == folder)
    lengths = [len(read_lines(files[video])) for _, video in parts]
    num_frames = len(list_names(images, IMAGE_SUFFIXES))
    for shared in (0, 1):
        ends = list(accumulate(length - shared for length in lengths))
        if ends and ends[-1] + shared == num_frames:
            return {video: 1 + end for (_, video), end in zip(parts, [0, *ends], strict=False)}
    return {}
