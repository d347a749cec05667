"""Cases to write and read: of a real video, and drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmvm_data.cases import prompts
from mmvm_data.core import masks
from mmvm_data.core.types import Candidate, Case, Frame, Provenance, Region

SCHOOLGIRLS = "davis2017_schoolgirls_240p"


def _labels(root: Path, number: int) -> np.ndarray:
    return np.asarray(Image.open(root / f"Annotations/240p/schoolgirls/{number:05d}.png"))


def _region(rle: masks.Rle, label: int, prompt: str) -> Region:
    if prompt == "mask":
        return Region(id=str(label), mask=rle, category="girl" if label < 5 else None)
    x, y, w, h = masks.bbox(rle)
    return Region(id=str(label), box=(x - 0.25, y + 0.5, w + 1.5, h + 0.75))


@pytest.fixture(scope="session")
def schoolgirls(realdata: Path) -> Callable[..., Case]:
    """Makes a case of the real DAVIS video; its root is ``realdata / SCHOOLGIRLS``."""
    root = realdata / SCHOOLGIRLS

    def make(
        name: str = "case_000000", numbers: tuple[int, ...] = (0, 20), prompt: str = "mask", gone: bool = False
    ) -> Case:
        frames = []
        for number in numbers:
            path = f"JPEGImages/240p/schoolgirls/{number:05d}.jpg"
            width, height = Image.open(root / path).size
            frames.append(Frame(path=path, index=number, width=width, height=height))
        shown = [masks.encode_labels(_labels(root, number)) for number in numbers]
        query = sorted(set.intersection(*map(set, shown)))[1]
        last = {label: rle for label, rle in shown[-1].items() if not (gone and label == query)}
        candidates = tuple(
            Candidate(number=n, region=_region(last[label], label, prompt)) for n, label in enumerate(sorted(last), 1)
        )
        answer = next((c.number for c in candidates if c.region.id == str(query)), None)
        return Case(
            id=name,
            frames=tuple(frames),
            query=tuple(_region(found[query], query, prompt) for found in shown[:-1]),
            candidates=candidates,
            answer=answer,
            prompt=prompt,
            question=prompts.format_question(prompt),
            options=prompts.build_options([c.number for c in candidates], answer),
            match_types=(1, 5) if not gone else (),
            rationale="She wears the same bag.\nNobody else does." if not gone else None,
            provenance=Provenance(
                source="davis",
                video="schoolgirls",
                frames=tuple(frames),
                seed=3,
                ordinal=len(numbers),
                tracks=(str(query), *(c.region.id for c in candidates)),
                gap=numbers[-1] - numbers[0],
            ),
        )

    return make


@pytest.fixture
def cases(schoolgirls: Callable[..., Case]) -> list[Case]:
    """Masks, boxes, three images, and one whose query has gone."""
    return [
        schoolgirls(),
        schoolgirls("case_000001", (5, 40), "box"),
        schoolgirls("case_000002", (0, 10, 30)),
        schoolgirls("case_000003", (0, 25), gone=True),
    ]


@pytest.fixture
def root(realdata: Path) -> Path:
    """What the frames of ``cases`` are relative to."""
    return realdata / SCHOOLGIRLS


@pytest.fixture
def png_root(root: Path, tmp_path: Path, cases: list[Case]) -> Path:
    """The same images as PNG files under the same names, so that originals have to be encoded."""
    for case in cases:
        for frame in case.frames:
            target = tmp_path / "png" / frame.path
            target.parent.mkdir(parents=True, exist_ok=True)
            _, data = cv2.imencode(".png", cv2.imread(str(root / frame.path)))
            target.write_bytes(data.tobytes())
    return tmp_path / "png"
