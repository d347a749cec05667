"""One small world, and what a reader of any set made of it must say: objects with known masks on textured frames."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

W, H = 64, 48
VIDEOS, FRAMES, OBJECTS = 2, 4, 3
CATEGORIES = ("car", "person", "car")

Told = dict[str, dict[int, dict[str, tuple[Any, str | None]]]]
"""Video -> frame's number -> track -> (bitmap, or box), category."""


@dataclass
class Made:
    """A set on disk: what is under the root, what it says, and the files that say it."""

    root: Path
    told: Told = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    """Annotations, which tests spoil."""

    def text(self, path: str, lines: str | Iterable[str]) -> Path:
        """Write a text file of annotations."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(lines if isinstance(lines, str) else "".join(f"{line}\n" for line in lines))
        self.files.append(file)
        return file

    def json(self, path: str, content: Any) -> Path:
        """Write a JSON file of annotations."""
        return self.text(path, json.dumps(content))

    def png(self, path: str, array: np.ndarray, mode: str | None = None) -> Path:
        """Write a PNG of annotations; mode "P" gives it a palette."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(array)
        if mode == "P":
            image = Image.fromarray(array, "P")
            image.putpalette(range(256))
        image.save(file)
        self.files.append(file)
        return file

    def frame(self, path: str, v: int, f: int) -> None:
        """Write the picture of a frame."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(v, f, "PNG" if path.endswith(".png") else "JPEG"))

    def say(self, video: str, frame: int, track: str, shape: Any, category: str | None) -> None:
        """Note what a reader must find. A bitmap without a pixel, or None, is an absent object."""
        objects = self.told.setdefault(video, {}).setdefault(frame, {})
        if shape is not None and np.any(shape):
            objects[track] = shape, category


def bitmap(v: int, f: int, k: int) -> np.ndarray:
    """Mask of object ``k``: uint8 [H, W]; the last object of video 0 leaves after two frames."""
    found = np.zeros((H, W), np.uint8)
    if not (v == 0 and k == OBJECTS - 1 and f >= 2):
        x, y = 3 + 20 * k + f, 5 + 4 * v + f
        found[y : y + 22, x : x + 15] = 1
        found[y + 4 : y + 7, x + 3 : x + 6] = 0
        found[y + 20 :, x : x + 4] = 0
    return found


def box(v: int, f: int, k: int) -> tuple[int, int, int, int] | None:
    """Tight box of object ``k``: x, y, width, height."""
    rows, columns = np.nonzero(bitmap(v, f, k))
    if not len(rows):
        return None
    x, y = int(columns.min()), int(rows.min())
    return x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y


def rle(mask: np.ndarray) -> dict[str, Any]:
    """COCO's compressed run lengths, by pycocotools."""
    coded = coco.encode(np.asfortranarray(mask))
    return {"size": list(coded["size"]), "counts": coded["counts"].decode()}


def labels(v: int, f: int, numbers: Iterable[int] = range(1, OBJECTS + 1), dtype: Any = np.uint8) -> np.ndarray:
    """Number of the object of each pixel."""
    found = np.zeros((H, W), dtype)
    for k, number in enumerate(numbers):
        found[bitmap(v, f, k) == 1] = number
    return found


@cache
def picture(v: int, f: int, form: str = "JPEG", size: tuple[int, int] = (W, H)) -> bytes:
    """An encoded picture full of texture."""
    rng = np.random.default_rng((v, f))
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(out, form)
    return out.getvalue()
