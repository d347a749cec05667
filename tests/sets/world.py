"""A small synthetic world, objects with known masks on textured frames, and what a reader must return for it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from pycocotools import mask as coco

W, H = 64, 48
VIDEOS, FRAMES, OBJECTS = 2, 4, 3
CATEGORIES = ("car", "person", "car")

ExpectedRegions = dict[str, dict[int, dict[str, tuple[Any, str | None]]]]
"""Video -> frame number -> track -> (bitmap or box), category."""


class SetWriter(Protocol):
    """A function that writes a data set of ``videos`` videos under ``root``."""

    def __call__(self, root: Path, videos: int = ...) -> WrittenSet: ...


@dataclass
class WrittenSet:
    """A data set on disk: its root, the regions that a reader must return, and its annotation files."""

    root: Path
    expected: ExpectedRegions = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    """Annotation files, which tests corrupt."""
    _folders: set[Path] = field(default_factory=set)

    def make_path(self, path: str) -> Path:
        """Return the path of a file under the root, after creating its folder."""
        file = self.root / path
        if file.parent not in self._folders:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(file.parent)
        return file

    def text(self, path: str, lines: str | Iterable[str]) -> Path:
        """Write a text file of annotations."""
        file = self.make_path(path)
        file.write_text(lines if isinstance(lines, str) else "".join(f"{line}\n" for line in lines))
        self.files.append(file)
        return file

    def json(self, path: str, content: Any) -> Path:
        """Write a JSON file of annotations."""
        return self.text(path, json.dumps(content))

    def png(self, path: str, array: np.ndarray, mode: str | None = None) -> Path:
        """Write a PNG of annotations; mode "P" gives it a palette."""
        file = self.make_path(path)
        file.write_bytes(_encode_png(array.tobytes(), array.shape, array.dtype.str, mode))
        self.files.append(file)
        return file

    def frame(self, path: str, v: int, f: int) -> None:
        """Write the image of a frame."""
        file = self.make_path(path)
        file.write_bytes(encode_image(v % VIDEOS, f, "PNG" if path.endswith(".png") else "JPEG"))

    def expect_region(self, video: str, frame: int, track: str, shape: Any, category: str | None) -> None:
        """Record what a reader must return. An empty bitmap, or None, is an absent object."""
        objects = self.expected.setdefault(video, {}).setdefault(frame, {})
        if shape is not None and np.any(shape):
            objects[track] = shape, category


def list_frames(videos: int) -> list[tuple[int, int]]:
    """Return video number and frame number of every frame."""
    return [(v, f) for v in range(videos) for f in range(FRAMES)]


def draw_bitmap(v: int, f: int, k: int) -> np.ndarray:
    """Return the mask of object ``k``, uint8 [H, W]. The last object of video 0 leaves after two frames; every second
    video is the same."""
    v %= VIDEOS
    bitmap = np.zeros((H, W), np.uint8)
    if not (v == 0 and k == OBJECTS - 1 and f >= 2):
        x, y = 3 + 20 * k + f, 5 + 4 * v + f
        bitmap[y : y + 22, x : x + 15] = 1
        bitmap[y + 4 : y + 7, x + 3 : x + 6] = 0
        bitmap[y + 20 :, x : x + 4] = 0
    return bitmap


def tight_box(v: int, f: int, k: int) -> tuple[int, int, int, int] | None:
    """Return the tight box of object ``k``: x, y, width, height."""
    rows, columns = np.nonzero(draw_bitmap(v, f, k))
    if not len(rows):
        return None
    x, y = int(columns.min()), int(rows.min())
    return x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """Return COCO's compressed RLE, by pycocotools."""
    coded = coco.encode(np.asfortranarray(mask))
    return {"size": list(coded["size"]), "counts": coded["counts"].decode()}


def draw_labels(v: int, f: int, numbers: Iterable[int] = range(1, OBJECTS + 1), dtype: Any = np.uint8) -> np.ndarray:
    """Return the object number of each pixel."""
    bitmap = np.zeros((H, W), dtype)
    for k, number in enumerate(numbers):
        bitmap[draw_bitmap(v, f, k) == 1] = number
    return bitmap


@cache
def _encode_png(data: bytes, shape: tuple[int, ...], dtype: str, mode: str | None) -> bytes:
    array = np.frombuffer(data, dtype).reshape(shape)
    image = Image.fromarray(array, "P") if mode == "P" else Image.fromarray(array)
    if mode == "P":
        image.putpalette(range(256))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@cache
def encode_image(v: int, f: int, form: str = "JPEG", size: tuple[int, int] = (W, H)) -> bytes:
    """Return an encoded image of random texture."""
    rng = np.random.default_rng((v, f))
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(out, form)
    return out.getvalue()
