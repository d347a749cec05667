"""The files of a folder of clips that were cut.

clips/<clip>.json                 what was cut, and how: a ``Clip``
frames/<clip>/shot000/000123.jpg  the frames, named by their 0-based number in the clip, at its size
tracks/<clip>/shot000.json        what people drew: a ``Video`` (see ``builders.tracks``), written by the pull
annotation/history.jsonl          every annotation that was pulled
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from mmvm_data.builders.tracks import CLIPS, TRACKS
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame, FrozenModel
from mmvm_data.io.files import list_names, path_kind, safe_join
from mmvm_data.io.media import read_bytes

FRAMES: Final = "frames"


class Shot(FrozenModel):
    """Frames of one shot.

    Attributes:
        first, last: of the shot, 0-based numbers in the clip.
        frames: those that were picked; paths relative to the folder.
    """

    first: int
    last: int
    frames: tuple[Frame, ...]


class SkippedShot(FrozenModel):
    """A shot that gets no task, and why."""

    first: int
    last: int
    reason: str


class Clip(FrozenModel):
    """A clip that was cut.

    Attributes:
        name: of the file, without its ending.
        sha256: of the file, in hexadecimal.
        options: of ``cut.CutOptions``.
    """

    version: Literal[1] = 1
    name: str
    sha256: str
    options: dict[str, Any]
    shots: tuple[Shot, ...]
    left_out: tuple[SkippedShot, ...] = ()


def clip_path(directory: Path, name: str) -> Path:
    """Path of the record of a clip."""
    return safe_join(directory / CLIPS, f"{name}.json", name)


def tracks_path(directory: Path, shot: str) -> Path:
    """Path of the tracks of a shot (``<clip>/shot000``)."""
    return safe_join(directory / TRACKS, f"{shot}.json", shot)


def read_clip(path: Path) -> Clip:
    """The record of a clip.

    Raises:
        InputError: it is missing or broken.
    """
    try:
        return Clip.model_validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(path, first["msg"], ".".join(map(str, first["loc"]))) from error


def iter_shots(directory: Path) -> Iterator[tuple[str, Shot]]:
    """Every shot of a folder under its name, ``<clip>/shot000``, clips in the order of their names.

    Raises:
        InputError: no clip was cut into this folder, or a record is broken.
    """
    folder = directory / CLIPS
    if path_kind(folder) != "folder" or not list_names(folder, (".json",)):
        raise InputError(directory, "no clips were cut into this folder (mmvm-data ingest cut)")
    for file in list_names(folder, (".json",)):
        clip = read_clip(folder / file)
        for number, shot in enumerate(clip.shots):
            yield f"{clip.name}/shot{number:03d}", shot
