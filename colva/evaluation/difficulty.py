"""Cases with fewer candidates: the hardest are kept, numbered and drawn again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases import prompts
from mmvm_data.cases.hardness import rank_candidates
from mmvm_data.cases.visibility import VisibleObject
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Candidate, Case, Region
from mmvm_data.formats.drawing import draw_case_image, encode_jpeg
from mmvm_data.formats.tsv import require_drawn_paths
from mmvm_data.io import media
from mmvm_data.io.files import atomic_write, safe_join

DRAWN_DIR = "drawn"
"""Folder of the drawn images in the cache folder."""


def keep_hardest(case: Case, num_candidates: int, cache_dir: Path) -> tuple[Case, tuple[Path, ...]]:
    """Return the case with fewer candidates, the answer always among them, and its drawn images.

    The others are those most like the query (``cases.hardness``). Candidates are numbered from 1 in the order
    of the old numbers, and the options follow. Only the last image is drawn again.

    Args:
        case: with more candidates than ``num_candidates``, and its ``root``.
        num_candidates: 1 or more.
        cache_dir: gets the drawn image, in a folder that is named by its digest.

    Raises:
        InputError: an image cannot be read, or a mask is empty or does not fit it.
        OutputError: the image cannot be written.
    """
    root = case.root or Path()
    names = require_drawn_paths(case)
    last = media.load_frame(root, case.frames[-1])
    reduced = _reduce_candidates(case, num_candidates, last.bgr)
    encoded = encode_jpeg(draw_case_image(reduced, len(case.frames) - 1, last.bgr))
    path = cache_dir / DRAWN_DIR / f"{case.id}-{hashlib.sha256(encoded).hexdigest()[:16]}" / Path(names[-1]).name
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, "wb") as handle:
                handle.write(encoded)
        except OSError as error:
            raise OutputError(path, error) from error
    return reduced, (*(safe_join(root, name, case.id) for name in names[:-1]), path)


def _reduce_candidates(case: Case, num_candidates: int, last: NDArray[np.uint8]) -> Case:
    """Return the case without its easier candidates; nothing is drawn."""
    position = next((k for k, q in enumerate(case.query) if q.mask is None or masks.area(q.mask)), None)
    if position is None:
        raise InputError(case.id, "the query is empty in every image", field="query")
    first = media.read_frame_bgr(case.root or Path(), case.frames[position])
    query = _measure_region(case, case.query[position], first)
    others = [c for c in case.candidates if c.number != case.answer]
    order = rank_candidates(first, query, last, [_measure_region(case, c.region, last) for c in others])
    numbers_kept = {others[k].number for k in order[: num_candidates - (case.answer is not None)]} | {case.answer}
    kept = [c for c in case.candidates if c.number in numbers_kept]
    answer = next((k for k, c in enumerate(kept, 1) if c.number == case.answer), None)
    numbers = range(1, len(kept) + 1)
    return case.model_copy(
        update={
            "candidates": tuple(Candidate(number=k, region=c.region) for k, c in zip(numbers, kept, strict=True)),
            "answer": answer,
            "options": prompts.build_options(numbers, answer),
        }
    )


def _measure_region(case: Case, region: Region, image: NDArray[np.uint8]) -> VisibleObject:
    rle = masks.region_mask(region, *image.shape[:2])
    if rle.size != image.shape[:2]:
        reason = f"mask of object {region.id!r} is {rle.size}, its image {image.shape[:2]} (height, width)"
        raise InputError(case.id, reason)
    if not (area := masks.area(rle)):
        raise InputError(case.id, f"object {region.id!r} has no pixels")
    return VisibleObject(region, rle, area, masks.bbox(rle))
