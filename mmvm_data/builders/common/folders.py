"""What the readers of folders share: listing entries, walking, and the frames of a folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame
from mmvm_data.io.files import is_utf8, list_names, printable_name
from mmvm_data.io.media import IMAGE_SUFFIXES, read_bytes, read_image_size

_NUMBER = re.compile(r"(\d+)$", re.ASCII)


def list_subfolders(source: str, root: Path, folder: Path) -> tuple[list[str], list[Reject]]:
    """Sorted names of the folders in ``folder``, and a reject for each entry that ought to be one but cannot be used.

    Args:
        source: name of the source, for the rejects.
        root: root of the source, for the rejects.
        folder: an existing folder.

    Raises:
        InputError: ``folder`` cannot be read.
    """
    found = list_names(folder)
    folders = set(found)
    rejects = []
    for name in list_names(folder, ("",)):
        if name not in folders and os.path.islink(folder / name) and not os.path.isfile(folder / name):
            reason = "the link leads nowhere, or back to itself"
            rejects.append(Reject(source, printable_name(name), -1, reason, relative_path(root, folder / name)))
        elif name in folders and not is_utf8(name):
            reason = "the folder's name is not UTF-8"
            rejects.append(Reject(source, printable_name(name), -1, reason, relative_path(root, folder / name)))
    return [name for name in found if is_utf8(name)], rejects


def walk_folders(
    source: str, root: Path, depth: int, rejects: list[Reject], enter: Callable[[Path], bool] = lambda _: True
) -> Iterator[Path]:
    """``root`` and the folders below it, in sorted order. Links are followed, but not back to a folder they lie in.

    Args:
        source: name of the source, for the rejects.
        root: where to begin.
        depth: how many levels below ``root`` to go.
        rejects: gets a line for each folder that cannot be entered.
        enter: whether to go into a folder.

    Raises:
        InputError: ``root`` itself cannot be read.
    """
    real_root = root.resolve()
    stack: list[tuple[Path, Path, frozenset[Path], int]] = [(root, real_root, frozenset((real_root,)), depth)]
    while stack:
        folder, real_folder, above, left = stack.pop()
        try:
            children, seen = list_subfolders(source, root, folder)
        except InputError as error:
            if folder == root:
                raise
            rejects.append(reject_from_error(source, root, folder.name, error))
            continue
        rejects += seen
        below = []
        for name in children if left else ():
            child = folder / name
            # to resolve a path costs a call for each of its parts, and only a link leads elsewhere
            real = child.resolve() if os.path.islink(child) else real_folder / name
            if real in above:
                reason = "the link leads back to a folder that it lies in"
                rejects.append(Reject(source, name, -1, reason, relative_path(root, child)))
            elif enter(child):
                below.append((child, real, above | {real}, left - 1))
        stack.extend(reversed(below))
        yield folder


def reject_from_error(source: str, root: Path, video: str, error: InputError) -> Reject:
    """The reject of a whole video for an error about a file below ``root``."""
    return Reject(
        source, printable_name(video), -1, error.reason, relative_path(root, Path(error.file)), error.field or ""
    )


def list_frames(root: Path, folder: Path, fps: float | None = None) -> tuple[Frame, ...]:
    """The image files of a folder as frames, in time order.

    Names that end in different numbers are ordered by them and the numbers become ``Frame.index``; other names are
    ordered as text and counted from 0. The size is that of the first frame; pixels of another size are found when they
    are decoded.

    Args:
        root: folder that the paths are relative to.
        folder: where the images lie, inside ``root``.
        fps: numbers a second, for ``Frame.time``.

    Raises:
        InputError: no images, a name that is not UTF-8, two images of one name, or a first image without a header.
    """
    files = list_names(folder, IMAGE_SUFFIXES)
    if not files:
        raise InputError(folder, "the folder holds no images")
    by_stem: dict[str, str] = {}
    for file in files:
        if not is_utf8(file):
            raise InputError(printable_name(folder / file), "the file's name is not UTF-8")
        other = by_stem.setdefault(Path(file).stem, file)
        if other != file:
            raise InputError(folder, f"two images have one name: {other} and {file}")
    numbers = [trailing_number(stem) for stem in by_stem]
    if None in numbers or len(set(numbers)) != len(numbers):
        ordered = list(enumerate(files))
    else:
        ordered = sorted((n, file) for n, file in zip(numbers, by_stem.values(), strict=True) if n is not None)
    width, height = read_image_size(folder / ordered[0][1])
    prefix = relative_path(root, folder)
    return tuple(
        Frame(
            path=f"{prefix}/{file}" if prefix else file,
            index=index,
            width=width,
            height=height,
            time=index / fps if fps else None,
        )
        for index, file in ordered
    )


def read_json_without_frames(file: Path) -> Any:
    """As ``read_json``, but lists under ``frames`` are dropped: in the index of YouTube-VOS they are most of the
    file, and the PNGs say the same."""
    return _json(file, lambda key, value: key != "frames" or not isinstance(value, list))


def read_json(file: Path) -> Any:
    """A whole JSON file, for files of one video or one small index.

    Raises:
        InputError: the file is missing, not JSON, or an object of it has a key twice.
    """
    return _json(file, lambda key, value: True)


def _json(file: Path, keep: Callable[[str, Any], bool]) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise InputError(file, "the key is there twice in one object", field=twice)
        return {key: value for key, value in pairs if keep(key, value)}

    try:
        return json.loads(read_bytes(file), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InputError(file, f"not valid JSON: {error}") from error


def trailing_number(stem: str) -> int | None:
    """The number that a file name (without its ending) ends in, or None."""
    found = _NUMBER.search(stem)
    return int(found.group()) if found and len(found.group()) < 16 else None


def relative_path(root: Path, path: Path) -> str:
    """``path`` below ``root``, "/"-separated and printable; "" for the root itself."""
    text = path.relative_to(root).as_posix()
    return "" if text == "." else printable_name(text)


def require_two_frames(folder: Path, annotated: tuple[int, ...]) -> tuple[int, ...]:
    """``annotated`` itself.

    Raises:
        InputError: a case needs two annotated frames, and there are fewer.
    """
    if len(annotated) < 2:
        raise InputError(folder, f"only {len(annotated)} annotated frame(s); two are needed")
    return annotated
