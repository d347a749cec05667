"""UAV123, at 30 or 10 frames a second: ``anno/<version>/<sequence>.txt``, ``data_seq/<version>/<folder>/000001.jpg``.

A line is ``x, y, width, height``; NaN where the object is hidden or outside. Long videos come in parts: ``truck4_1``
and ``truck4_2`` are both of the frames in ``truck4``. Where a part begins stands in ``configSeqs.m``, which lies beside
``anno``; without it parts are laid end to end when their lines fill the folder exactly, with or without one frame that
two neighbours share (truck4: 1 to 577 and 577 to 1261).

Source: ReadMe.txt and configSeqs.m of the set (cemse.kaust.edu.sa/ivul/uav123).
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

from mmvm_data.builders.common.folders import relative_path
from mmvm_data.builders.common.text_files import read_lines, read_text
from mmvm_data.builders.sot import BoxSequence, ObjectTrack, load_box_sequence
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name
from mmvm_data.io.media import IMAGE_SUFFIXES

VERSIONS = ("UAV123", "UAV123_10fps")
CATEGORIES = {"group": "person", "wakeboard": "person"}
"""Sequences that are not named after their object."""
_PART = re.compile(r"^(.+)_(\d+)$", re.ASCII)
_START = re.compile(r"'name'\s*,\s*'([^']+)'[^)]*?'startFrame'\s*,\s*(\d{1,9})\s*,", re.ASCII)


def open_uav123(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the first of VERSIONS that lies in the root (or in a folder UAV123 of it).

    Raises:
        InputError: none does.
    """
    places = [(base, version) for base in (root, root / "UAV123") for version in VERSIONS]
    for base, version in places:
        if path_kind(base / "anno" / version) == path_kind(base / "data_seq" / version) == "folder":
            break
    else:
        raise InputError(root, "folders anno/UAV123 and data_seq/UAV123 (or UAV123_10fps) are expected here")
    boxes, images = base / "anno" / version, base / "data_seq" / version
    files = {Path(file).stem: boxes / file for file in list_names(boxes, (".txt",)) if is_utf8(file)}
    rejects = [
        Reject(
            name, printable_name(Path(file).stem), -1, "the file's name is not UTF-8", relative_path(root, boxes / file)
        )
        for file in list_names(boxes, (".txt",))
        if not is_utf8(file)
    ]
    starts = _read_starts(base / "configSeqs.m")
    laid = lru_cache(maxsize=None)(lambda folder: _infer_starts(images / folder, folder, files))

    def load(video: str) -> Video:
        if video not in files:
            raise InputError(root, f"there is no usable video {printable_name(video)!r}")
        folder, start = video, None
        part = _PART.match(video)
        if part and path_kind(images / video) != "folder":
            folder = part[1]
            if path_kind(images / folder) != "folder":
                raise InputError(images / folder, "no frames: the folder is missing")
            start = starts.get(video) or laid(folder).get(video)
            if start is None:
                reason = "where this part begins is not known: configSeqs.m is missing, or does not name it"
                raise InputError(files[video], reason)
        kept = re.sub(r"\d.*", "", folder)
        track = ObjectTrack("1", files[video], start)
        return load_box_sequence(
            name, root, BoxSequence(video, images / folder, (track,), CATEGORIES.get(kept, kept) or None)
        )

    return Source(name, root, sorted(files), load, tuple(rejects))


def _read_starts(file: Path) -> dict[str, int]:
    """Sequence -> number of its first frame; the first mention counts (UAV20L comes later in the file)."""
    if path_kind(file) != "file":
        return {}
    found: dict[str, int] = {}
    for sequence, start in _START.findall(read_text(file)):
        found.setdefault(sequence, int(start))
    return found


def _infer_starts(images: Path, folder: str, files: dict[str, Path]) -> dict[str, int]:
    """Number of the first frame of each part, when their lines fill the folder; else nothing."""
    numbered = sorted((int(m[2]), video) for video in files if (m := _PART.match(video)) and m[1] == folder)
    lengths = [len(read_lines(files[video])) for _, video in numbered]
    frames = len(list_names(images, IMAGE_SUFFIXES))
    for shared in (0, 1):
        ends = list(accumulate(length - shared for length in lengths))
        if ends and ends[-1] + shared == frames:
            return {video: 1 + end for (_, video), end in zip(numbered, [0, *ends], strict=False)}
    return {}
