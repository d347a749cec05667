"""Small sources that tests make for themselves."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmvm_data.pipeline import worker
from mmvm_data.pipeline.case_writer import CaseWriter
from mmvm_data.pipeline.options import BuildOptions
from mmvm_data.pipeline.worker import VideoResult, WorkerContext

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128, 0, 128, 128]


def davis(root: Path, videos: int = 3, frames: int = 6, objects: int = 4, size: tuple[int, int] = (120, 160)) -> Path:
    """A DAVIS 2017 tree of textured squares that drift apart; the last object leaves half way."""
    height, width = size
    for v in range(videos):
        rng = np.random.default_rng(v)
        pictures, labels = root / f"JPEGImages/480p/clip{v:03d}", root / f"Annotations/480p/clip{v:03d}"
        pictures.mkdir(parents=True)
        labels.mkdir(parents=True)
        texture = rng.integers(0, 255, (objects, 26, 26, 3), dtype=np.uint8)
        ground = cv2.resize(rng.integers(60, 200, (12, 16, 3), dtype=np.uint8), (width, height))
        start = rng.integers(0, 8, (objects, 2))
        for f in range(frames):
            image, mask = ground.copy(), np.zeros(size, np.uint8)
            for k in range(objects):
                if k == objects - 1 and f >= frames // 2 and objects > 2:
                    continue
                x, y = 4 + (k % 4) * 38 + int(start[k, 0]) % 6, 6 + (k // 4) * 50 + int(start[k, 1]) + f
                image[y : y + 26, x : x + 26] = texture[k]
                mask[y : y + 26, x : x + 26] = k + 1
                mask[y + 10 : y + 13, x + 10 : x + 13] = 0
            cv2.imwrite(str(pictures / f"{f:05d}.jpg"), image)
            picture = Image.fromarray(mask, "P")
            picture.putpalette(PALETTE)
            picture.save(labels / f"{f:05d}.png")
    return root


def note_built_videos(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list to which builds in this process add the ids of the videos whose cases they build, in their order.

    They have no threads: with them, a build that stops has begun with the video after the last one that is done.
    """
    ids: list[str] = []
    build_cases = worker._build_cases

    def note(context: WorkerContext, job: tuple[int, str], writer: CaseWriter) -> VideoResult:
        ids.append(job[1])
        return build_cases(context, job, writer)

    monkeypatch.setattr(worker, "_build_cases", note)
    monkeypatch.setattr(BuildOptions, "num_writer_threads", 0)
    return ids


def tree(folder: Path, leave_out: tuple[str, ...] = ("build.json",)) -> dict[str, bytes]:
    """Every file under a folder by its relative path; ``build.json`` holds times and is left out."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.name not in leave_out}
