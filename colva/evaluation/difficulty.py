"""A case with fewer candidates: the hardest are kept, numbered and drawn anew."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from mmvm_data.cases import prompts
from mmvm_data.cases.hardness import rank_candidates
from mmvm_data.cases.visibility import VisibleObject
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Candidate, Case, Region
from mmvm_data.formats.drawing import draw_case_image, encode_jpeg, region_mask
from mmvm_data.formats.tsv import drawn_paths
from mmvm_data.io import media
from mmvm_data.io.files import atomic_write, safe_join

FOLDER = "drawn"


def at_level(case: Case, keep: int, into: Path) -> tuple[Case, tuple[Path, ...]]:
    """The case with so many candidates, the answer always among them, and its drawn images.

    The others are those most like the query (``cases.hardness``). Numbers are given anew from 1 in the order of the old
    ones, and the options follow. Only the last image is drawn anew.

    Args:
        case: with more candidates than ``keep``, and its ``root``.
        keep: candidates, 1 or more.
        into: gets the drawn image under a name that follows from what is drawn.

    Raises:
        InputError: an image cannot be read, or a mask is empty or does not fit it.
        OutputError: the image cannot be written.
    """
    root = case.root or Path()
    names = drawn_paths(case)
    if not names:
        raise InputError(case.id, f"its images lie in no case folder: {case.frames[0].path}")
    last = media.load_frame(root, case.frames[-1])
    reduced = _reduced(case, keep, last.bgr)
    drawn = encode_jpeg(draw_case_image(reduced, len(case.frames) - 1, last.bgr))
    path = into / FOLDER / f"{case.id}-{hashlib.sha256(drawn).hexdigest()[:16]}" / Path(names[-1]).name
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, "wb") as handle:
                handle.write(drawn)
        except OSError as error:
            raise OutputError(path, error) from error
    return reduced, (*(safe_join(root, name, case.id) for name in names[:-1]), path)


def _reduced(case: Case, keep: int, last: np.ndarray) -> Case:
    """The case without its easier candidates; nothing is drawn."""
    shown = next((k for k, q in enumerate(case.query) if q.mask is None or masks.area(q.mask)), None)
    if shown is None:
        raise InputError(case.id, "the query is empty in every image", field="query")
    first = media.read_frame_bgr(case.root or Path(), case.frames[shown])
    query = _seen(case, case.query[shown], first)
    others = [c for c in case.candidates if c.number != case.answer]
    order = rank_candidates(first, query, last, [_seen(case, c.region, last) for c in others])
    kept = {others[k].number for k in order[: keep - (case.answer is not None)]} | {case.answer}
    left = [c for c in case.candidates if c.number in kept]
    answer = next((k for k, c in enumerate(left, 1) if c.number == case.answer), None)
    numbers = range(1, len(left) + 1)
    return case.model_copy(
        update={
            "candidates": tuple(Candidate(number=k, region=c.region) for k, c in zip(numbers, left, strict=True)),
            "answer": answer,
            "options": prompts.build_options(numbers, answer),
        }
    )


def _seen(case: Case, region: Region, image: np.ndarray) -> VisibleObject:
    rle = region_mask(region, *image.shape[:2])
    if rle.size != image.shape[:2]:
        reason = f"mask of object {region.id!r} is {rle.size}, its image {image.shape[:2]} (height, width)"
        raise InputError(case.id, reason)
    if not (area := masks.area(rle)):
        raise InputError(case.id, f"object {region.id!r} has no pixels")
    return VisibleObject(region, rle, area, masks.bbox(rle))
