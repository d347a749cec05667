"""Finding the source of a folder: which readers fit its layout, and what is missing for those that nearly do."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmvm_data.builders.catalogue import SOURCES
from mmvm_data.builders.common.json_content import SIGNS, JsonKind, holds_key, kind_of_json, list_json_kinds
from mmvm_data.builders.layouts import (
    LAYOUTS,
    UNLIKELY,
    compile_pattern,
    describe_pattern,
    is_particular,
    literal_names,
    preference,
)
from mmvm_data.builders.source import AUTO, Source
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io import remote
from mmvm_data.io.files import is_utf8, list_names, path_kind
from mmvm_data.io.media import VIDEO_SUFFIXES

_DEPTH = 6
_MAX_FOLDERS = 400
_MAX_CHILDREN = 3
"""Folders and files of a kind that are looked at in one folder, beside those with names that layouts have."""
_MAX_VIDEOS = 3
_MAX_NEAR = 5
_JSON_KINDS: dict[str, JsonKind] = {
    **dict.fromkeys(("ytvis", "ytvis2021", "ovis", "lvvis", "uvo"), "ytvis"),
    **dict.fromkeys(("coco", "coco_published", "saco"), "coco"),
    "coco_panoptic": "panoptic",
    "datumaro": "datumaro",
}
"""Sources of one JSON file -> its kind; only files of that kind are opened, since reading an index can take long."""


@dataclass(frozen=True)
class Detection:
    """What was found out about one source and a root.

    Attributes:
        name: of the source.
        fits: whether a video was read.
        videos: number of videos that the reader lists.
        missing: patterns of files that are missing (see ``layouts``); of a source whose files all exist: nothing.
        reason: why no video could be read, or "".
    """

    name: str
    fits: bool
    videos: int = 0
    missing: tuple[str, ...] = ()
    reason: str = ""


def detect_sources(root: str | Path, only: str | None = None) -> list[Detection]:
    """Return the sources that fit a root, the best first, then the closest of the others.

    A few folders and files of each kind are looked at, and readers whose layout exists read up to three videos.

    Args:
        root: a folder, an annotation file, or a URL.
        only: the one source to look at; None: all.

    Raises:
        UsageError: the root cannot be read.
    """
    path = _open_root(root)
    files = [path.name] if path_kind(path) == "file" else _sample_tree(path)
    names = " ".join([path.absolute().parent.name, remote.folder_name(path), *files])
    kinds = _json_kinds(path)
    fitting: list[tuple[int, Detection]] = []
    near: list[tuple[float, int, Detection]] = []
    loose: list[tuple[float, int, Detection]] = []  # only kinds of files are there
    for name in SOURCES:
        if name != only and (only is not None or name == "davis2017"):
            continue  # davis2017 is davis
        rank = preference(name, names)
        if name == "saco":
            rank = 0 if _is_saco(path, files) else UNLIKELY
        if rank >= UNLIKELY and only is None:
            continue
        found, missing = _match_layout(name, path, files)
        if not missing and name in _JSON_KINDS and _JSON_KINDS[name] not in kinds:
            found, missing = [], [f"JSON file with {', '.join(SIGNS[_JSON_KINDS[name]])}"]
        if not missing:
            detection = _try_source(name, path)
            if detection.fits:
                fitting.append((rank, detection))
                continue
            near.append((0.0, rank, detection))
        elif found or only is not None:
            share = len(missing) / len(found + missing)
            is_close = only is not None or any(map(is_particular, found))
            (near if is_close else loose).append((share, rank, Detection(name, False, missing=tuple(missing))))
    fitting.sort(key=lambda item: item[0])
    if not fitting and not near:
        near = loose
    near.sort(key=lambda item: item[:2])
    closest = [item for _, _, item in near[:_MAX_NEAR]]
    if not fitting and only is None and any(name.lower().endswith(".png") for name in files):
        # PNGs may be masks: what the generic reader lacks of its folders' names says how to arrange them
        frames = Detection("frames", False, missing=tuple(_match_layout("frames", path, files)[1]))
        if frames.missing and all(detection.name != "frames" for detection in closest):
            closest = [*closest[: _MAX_NEAR - 1], frames]
    return [item for _, item in fitting] + closest


def choose_source(name: str, root: str | Path) -> str:
    """Return the name of a source; for "auto" that of the source that fits the root best.

    Raises:
        UsageError: no source fits, or the root cannot be read.
    """
    if name != AUTO:
        return name
    detections = detect_sources(root)
    for detection in detections:
        if detection.fits:
            return detection.name
    lines = "".join(f"\n  {detection.name}: {describe_problem(detection)}" for detection in detections)
    near = f"; the closest are{lines}" if lines else ""
    clip = find_clip(root)
    ingest = (
        ""
        if clip is None
        else f"\n`mmvm-data ingest cut {shlex.quote(str(clip))} --out FOLDER` makes a source of a video without masks"
    )
    raise UsageError(f"no source fits {root}{near}{ingest}")


def find_clip(root: str | Path) -> Path | None:
    """Return a video file at or below a root on this machine, which people can draw objects on; None without one."""
    if remote.is_url(root):
        return None
    path = Path(root)
    if path_kind(path) == "file":
        return path if path.suffix.lower() in VIDEO_SUFFIXES else None
    names = (name for name in _sample_tree(path) if PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES)
    return next((path / name for name in names), None)


def describe_problem(detection: Detection) -> str:
    """Return why a source does not fit, in one line."""
    if detection.missing:
        return f"there is no {' and no '.join(map(describe_pattern, detection.missing))}"
    return detection.reason


def _open_root(root: str | Path) -> Path:
    path = remote.open_mirror(str(root)) if remote.is_url(root) else Path(root)
    try:
        path.stat()
    except OSError as error:
        raise UsageError(f"{root}: cannot be read: {error.strerror}") from error
    return path


def _sample_tree(root: Path) -> list[str]:
    """Return paths of some files below a folder: a few of each kind, in a few folders of each folder."""
    known = literal_names()
    files: list[str] = []
    stack = [(root, "", 0)]
    count = 0
    while stack and count < _MAX_FOLDERS:
        folder, prefix, depth = stack.pop(0)
        count += 1
        try:
            folders, names = list_names(folder), list_names(folder, ("",))
        except InputError:
            continue
        is_folder = set(folders)
        kinds: Counter[str] = Counter()
        for name in names:
            suffix = PurePosixPath(name).suffix.lower()
            kinds[suffix] += 1
            if name not in is_folder and (kinds[suffix] <= _MAX_CHILDREN or name in known) and is_utf8(name):
                files.append(prefix + name)
        if depth < _DEPTH:
            chosen = [name for k, name in enumerate(folders) if k < _MAX_CHILDREN or name in known or len(folders) < 12]
            stack += [(folder / name, f"{prefix}{name}/", depth + 1) for name in chosen if is_utf8(name)]
    return files


def _match_layout(name: str, root: Path, files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which patterns of a source's layout have a file and which have none, of the layout that has most."""
    if path_kind(root) == "file":
        patterns = list(LAYOUTS[name][0])
        return (patterns, []) if name in _readers_of_file(root) else ([], patterns)
    matches: list[tuple[list[str], list[str]]] = []
    for layout in LAYOUTS[name]:
        found = [pattern for pattern in layout if any(map(compile_pattern(pattern).fullmatch, files))]
        matches.append((found, [pattern for pattern in layout if pattern not in found]))
    return min(matches, key=lambda match: len(match[1]) / len(match[0] + match[1]))


def _json_kinds(root: Path) -> set[JsonKind]:
    """Return the kinds of the JSON files of a root."""
    if path_kind(root) == "file":
        kind = kind_of_json(root) if root.suffix.lower() == ".json" else None
        return {kind} if kind else set()
    return list_json_kinds(root)


def _readers_of_file(file: Path) -> tuple[str, ...]:
    """Return the sources that may read a root that is a file."""
    if file.suffix.lower() == ".xml":
        return ("cvat",)
    return (*_JSON_KINDS, "burst", "tao") if file.suffix.lower() == ".json" else ()


def _is_saco(root: Path, files: Sequence[str]) -> bool:
    names = [name for name in files if name.lower().endswith(".json")][:20]
    paths = [root] if path_kind(root) == "file" else [root / name for name in names]
    return any(holds_key(path, "text_input") for path in paths)


def _try_source(name: str, root: Path) -> Detection:
    """Open a source and read a frame of its first videos."""
    try:
        source = SOURCES[name].open(name, root)
    except InputError as error:
        return Detection(name, False, reason=str(error))
    reason = _read_first_videos(source)
    if reason is None:
        return Detection(name, True, len(source.videos))
    return Detection(name, False, len(source.videos), reason=reason)


def _read_first_videos(source: Source) -> str | None:
    """Return None when a video has an object in its first annotated frames, else why not."""
    reason = ""
    for video in source.videos[:_MAX_VIDEOS]:
        try:
            loaded = source.load(video)
            if any(loaded.regions(position) for position in loaded.annotated[:_MAX_VIDEOS]):
                return None
            reason = reason or f"video {video} shows no object in its first frames"
        except InputError as error:
            reason = reason or str(error)
    if not reason and source.rejects:
        [(common, _)] = Counter(reject.reason for reject in source.rejects).most_common(1)
        return common
    return reason or "no video exists here"
