"""Cases to conversations with marked pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from colva.data.collate import Dialogue, Marked
from colva.data.templates import Turn
from colva.data.tokens import image_lines, object_lines, query_seen
from mmvm_data import masks as rle_masks
from mmvm_data import media
from mmvm_data.cases import prompts
from mmvm_data.formats import drawing
from mmvm_data.formats.conversations import WHY
from mmvm_data.formats.tsv import drawn_paths
from mmvm_data.types import Case, Region


def case_text(case: Case, style: str = "colva", objects: bool = True) -> str:
    """What is asked about a case: the pictures, the objects (unless left out), the question, the choices."""
    lines = object_lines(case, style) if objects else ""
    return image_lines(len(case.frames)) + lines + case.question + prompts.choices_text(case.options)


def case_pictures(case: Case, root: Path, objects: bool = True) -> tuple[Marked, ...]:
    """The pictures of a case: as drawn for the language model, clean and with their masks for the expert.

    The drawn ones are the files of its case folder, as every evaluation shows them; a case in no folder is drawn here.

    Raises:
        InputError: a picture cannot be read, or has not the size that the case says; a mask is not of that size.
    """
    found = []
    names = drawn_paths(case)
    for position, frame in enumerate(case.frames):
        clean = media.read_bgr(root, frame)
        if names:
            shown = media.read_bgr(root, frame.model_copy(update={"path": names[position]}))
        else:
            shown = drawing.draw(case, position, clean)
        found.append(Marked(_rgb(shown), _rgb(clean), masks_at(case, position) if objects else None))
    return tuple(found)


def masks_at(case: Case, position: int) -> np.ndarray:
    """The masks of a picture's objects in the order of their tokens, uint8 `[n, H, W]`; boxes are filled."""
    frame = case.frames[position]
    size = (frame.height, frame.width)
    found = [rle_masks.decode(drawing.mask_of(region, *size)) for region in regions_at(case, position)]
    return np.stack(found) if found else np.zeros((0, *size), np.uint8)


def regions_at(case: Case, position: int) -> list[Region]:
    """The objects of a picture in the order of their tokens: the query if it is seen, or the candidates by number."""
    if position < len(case.query):
        return [case.query[position]] if query_seen(case, position) else []
    return [candidate.region for candidate in sorted(case.candidates, key=lambda one: one.number)]


def case_dialogue(
    case: Case, root: Path, style: str = "colva", answered: bool = False, objects: bool = True
) -> Dialogue:
    """A case as a conversation: a prompt, or with its answer (and its rationale, asked for in a second turn).

    Args:
        case: read from a benchmark or a build.
        root: folder that its frames' paths are relative to.
        style: of the prompt, see `object_lines`.
        answered: add what the assistant says.
        objects: name the objects and give their masks; without, the question stands on the drawn pictures alone.
    """
    turns = [Turn("user", case_text(case, style, objects))]
    if answered:
        turns.append(Turn("assistant", case.letter))
        if case.rationale:
            turns += [Turn("user", WHY), Turn("assistant", case.rationale)]
    return Dialogue(tuple(turns), case_pictures(case, root, objects), case.id)


def _rgb(bgr: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bgr[:, :, ::-1])
