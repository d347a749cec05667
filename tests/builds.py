"""Output folders of a build, made by hand: known cases over a few small drawn images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmvm_data.cases import prompts
from mmvm_data.core import masks
from mmvm_data.core.types import Candidate, Case, Frame, Provenance, Region, Review

SOURCES = ("davis", "ytvos", "mot17")
STATES = ("proposed", "proposed", "accepted", "fixed", "rejected")
CATEGORIES = ("person", "dog", "red bus")
WIDTH, HEIGHT = 80, 45
FOLDERS = 8
"""Cases share the images of this many folders."""


def make_case(i: int, **changes: Any) -> Case:
    """Case ``i`` of the sample: every attribute follows from the number; ``changes`` replace attributes.

    Every ninth case is "none of the above"; those of mot17 have boxes; case 5 has three images.
    """
    source = SOURCES[i % 3]
    count = 2 + i % 7
    answer = None if i % 9 == 0 else 1 + (i * 5) % count
    shapes = [(3 + 9 * k, 5 + (i + k) % 20, 4 + k, 6 + i % 13) for k in range(count + 1)]
    regions = [_region(str(k), shape, source == "mot17", CATEGORIES[(i + k) % 3]) for k, shape in enumerate(shapes)]
    images = 3 if i == 5 else 2
    folder = f"match_bench/case_{i % FOLDERS:06d}"
    frames = [Frame(path=f"{folder}/FRAME{n:02d}_ORI.jpg", index=n, width=WIDTH, height=HEIGHT) for n in range(images)]
    gap = 1 + (7 * i) % 40
    origin = Provenance(
        source=source,
        video=f"clip {i % 11}",
        frames=tuple(f.model_copy(update={"path": f"JPEGImages/clip/{f.index}.jpg", "time": 0.5}) for f in frames),
        tracks=tuple(region.id for region in regions),
        seed=3,
        ordinal=i,
        gap=gap,
        look_alikes=i % 4,
        visible=count,
        versions={"mmvm_data": "0"},
    )
    made = Case(
        id=f"case_{i:06d}",
        frames=tuple(frames),
        query=(regions[0],) * (images - 1),
        candidates=tuple(Candidate(number=k, region=regions[k]) for k in range(1, count + 1)),
        answer=answer,
        prompt="box" if source == "mot17" else "mask",
        question=prompts.format_question("box" if source == "mot17" else "mask"),
        options=prompts.build_options(range(1, count + 1), answer),
        match_types=tuple(t for t in range(1, 9) if i % (t + 1) == 0),
        rationale=f"because of mark {i}" if i % 2 else None,
        review=Review(state=STATES[i % 5]),
        provenance=origin,
    )
    return Case.model_validate(made.model_dump() | changes) if changes else made


def write_build(folder: Path, cases: Sequence[Case], rejects: Sequence[dict[str, Any]] = ()) -> Path:
    """Write ``cases.jsonl``, ``rejects.jsonl``, ``build.json`` and the images that the cases share."""
    rng = np.random.default_rng(0)
    for k in range(FOLDERS):
        place = folder / f"match_bench/case_{k:06d}"
        place.mkdir(parents=True)
        for name in ("FRAME00", "FRAME01_CAND", "FRAME00_ORI", "FRAME01_ORI"):
            picture = cv2.resize(rng.integers(0, 255, (9, 16, 3), dtype=np.uint8), (WIDTH, HEIGHT))
            cv2.imwrite(str(place / f"{name}.jpg"), picture)
    (folder / "match_bench/case_000005/FRAME02_CAND.jpg").write_bytes(
        (folder / "match_bench/case_000005/FRAME01_CAND.jpg").read_bytes()
    )
    lines = "".join(case.model_dump_json() + "\n" for case in cases)
    (folder / "cases.jsonl").write_text(lines, encoding="utf-8")
    (folder / "rejects.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rejects), encoding="utf-8")
    build = {"options": {"seed": 3, "note": "<b>x</b>"}, "counts": {"cases": len(cases)}}
    (folder / "build.json").write_text(json.dumps(build), encoding="utf-8")
    return folder


def make_reject(i: int, reason: str = "frame 3 has 4 objects, 2 are needed") -> dict[str, Any]:
    """One line of ``rejects.jsonl``."""
    return {"source": "davis", "video": f"clip {i}", "ordinal": i - 1, "reason": reason, "file": "a/b.png", "field": ""}


def _region(name: str, shape: tuple[int, int, int, int], as_box: bool, category: str) -> Region:
    if as_box:
        return Region(id=name, box=shape, category=category)
    return Region(id=name, mask=masks.from_box(shape, HEIGHT, WIDTH), category=category)
