"""Cases to conversations with marked pictures."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from colva.data.cache import object_key, picture_digest
from colva.data.prompt_variants import PLAIN, Variant
from colva.processing.chat_templates import Turn
from colva.processing.collator import Conversation, ImageInput
from colva.processing.tokens import format_image_lines, format_object_lines, is_query_visible
from mmvm_data.cases import prompts, render
from mmvm_data.core import masks as rle_masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Candidate, Case, Frame, Region, Rle
from mmvm_data.formats import drawing
from mmvm_data.formats.conversations import WHY
from mmvm_data.formats.tsv import drawn_paths
from mmvm_data.io import media

Lookup = Callable[[Sequence[bytes]], Tensor]
"""Keys of objects (`colva.data.cache.object_key`) to their embeddings `[n, d]`; KeyError when one is not there."""


def case_text(case: Case, style: str = "colva", objects: bool = True) -> str:
    """What is asked about a case: the pictures, the objects (unless left out), the question, the choices."""
    lines = format_object_lines(case, style) if objects else ""
    return format_image_lines(len(case.frames)) + lines + case.question + prompts.format_choices(case.options)


def case_pictures(case: Case, root: Path, objects: bool = True) -> tuple[ImageInput, ...]:
    """The pictures of a case: as drawn for the language model, clean and with their masks for the expert.

    The drawn ones are the files of its case folder, as every evaluation shows them; a case that has none is drawn here.

    Raises:
        InputError: a picture cannot be read, or has not the size that the case says; a mask is not of that size.
    """
    found = []
    names = drawn_paths(case)
    if not all((root / name).is_file() for name in names):
        names = []
    for position, frame in enumerate(case.frames):
        clean = media.read_frame_bgr(root, frame)
        if names:
            shown = media.read_frame_bgr(root, frame.model_copy(update={"path": names[position]}))
        else:
            shown = drawing.draw_case_image(case, position, clean)
        found.append(
            ImageInput(media.bgr_to_rgb(shown), media.bgr_to_rgb(clean), masks_at(case, position) if objects else None)
        )
    return tuple(found)


def masks_at(case: Case, position: int) -> np.ndarray:
    """The masks of a picture's objects in the order of their tokens, uint8 `[n, H, W]`; boxes are filled."""
    frame = case.frames[position]
    size = (frame.height, frame.width)
    found = [rle_masks.decode(drawing.region_mask(region, *size)) for region in regions_at(case, position)]
    return np.stack(found) if found else np.zeros((0, *size), np.uint8)


def regions_at(case: Case, position: int) -> list[Region]:
    """The objects of a picture in the order of their tokens: the query if it is seen, or the candidates by number."""
    if position < len(case.query):
        return [case.query[position]] if is_query_visible(case, position) else []
    return [candidate.region for candidate in sorted(case.candidates, key=lambda one: one.number)]


def case_dialogue(
    case: Case, root: Path, style: str = "colva", answered: bool = False, objects: bool = True
) -> Conversation:
    """A case as a conversation: a prompt, or with its answer (and its rationale, asked for in a second turn).

    Args:
        case: read from a benchmark or a build.
        root: folder that its frames' paths are relative to.
        style: of the prompt, see `format_object_lines`.
        answered: add what the assistant says.
        objects: name the objects and give their masks; without, the question stands on the drawn pictures alone.
    """
    turns = [Turn("user", case_text(case, style, objects))]
    if answered:
        turns.append(Turn("assistant", case.letter))
        if case.rationale:
            turns += [Turn("user", WHY), Turn("assistant", case.rationale)]
    return Conversation(tuple(turns), case_pictures(case, root, objects), case.id)


@dataclass(frozen=True)
class Asked:
    """A case as one epoch of training asks about it.

    Attributes:
        case: with the numbers, the question and the options of this time.
        variant: how it is asked.
        palette: RGB in 0..1 of the candidates in the order of their numbers, and a spare; None: the benchmark's.
        why: the reason is asked for and learnt too.
    """

    case: Case
    variant: Variant = PLAIN
    palette: tuple[tuple[float, float, float], ...] | None = None
    why: bool = False

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What is said, with the answer."""
        turns = [Turn("user", case_text(self.case)), Turn("assistant", self.case.letter)]
        if self.why and self.case.rationale:
            turns += [Turn("user", self.variant.reason), Turn("assistant", self.case.rationale)]
        return tuple(turns)


def ask(case: Case, variant: Variant = PLAIN, rng: random.Random | None = None, why: bool = True) -> Asked:
    """Ask about a case in one of the ways of training.

    Args:
        case: as read.
        variant: wording, colour, with or without marks.
        rng: gives the candidates other numbers and colours; None keeps them. Numbers stay when a reason that is to be
            learnt speaks of them.
        why: learn the reason too, where there is one.

    Raises:
        InputError: no image shows the query.
    """
    if not any(is_query_visible(case, position) for position in range(len(case.query))):
        raise InputError(case.id, "no image shows the query")
    changes: dict[str, object] = {"question": variant.question(case.prompt)}
    palette = None
    numbers = [candidate.number for candidate in case.candidates]
    answer = case.answer
    if rng is not None:
        spoken = why and case.rationale is not None and any(letter.isdigit() for letter in case.rationale)
        if not spoken:
            others = rng.sample(numbers, len(numbers))
            answer = None if answer is None else others[numbers.index(answer)]
            renumbered = zip(others, (candidate.region for candidate in case.candidates), strict=True)
            changes["candidates"] = tuple(
                Candidate(number=number, region=region) for number, region in sorted(renumbered, key=lambda one: one[0])
            )
        colors = render.distinct_colors(len(numbers) + 1)
        palette = (*rng.sample(colors[:-1], len(numbers)), colors[-1])
    changes |= {"answer": answer, "options": prompts.build_options(numbers, answer)}
    return Asked(case.model_copy(update=changes), variant, palette, why)


def asked_dialogue(
    asked: Asked, root: Path, lookup: Lookup | None = None, objects: bool = True, style: str = "colva"
) -> Conversation:
    """The conversation with its pictures.

    Args:
        asked: see `ask`.
        root: folder of the case's pictures.
        lookup: gives objects from a cache; None gives masks and clean pictures for the expert.
        objects: name the objects at all; without, the question stands on the drawn pictures alone.
        style: of the prompt, see `format_object_lines`.

    Raises:
        InputError: a picture cannot be read, a mask is empty or not of its picture's size, an object is not cached.
    """
    case = asked.case
    loaded = [clean_picture(root, frame) for frame in case.frames]
    for position, (bgr, _) in enumerate(loaded):
        _check_masks(case, position, bgr)
    pictures = []
    for position, (bgr, digest) in enumerate(loaded):
        shown = bgr
        if not asked.variant.clean:
            shown = drawing.draw_case_image(case, position, bgr, asked.variant.color, asked.palette)
        regions = regions_at(case, position) if objects else []
        rles = [drawing.region_mask(region, *bgr.shape[:2]) for region in regions]
        if lookup is None:
            masks = np.stack([rle_masks.decode(rle) for rle in rles]) if rles else None
            pictures.append(ImageInput(media.bgr_to_rgb(shown), media.bgr_to_rgb(bgr) if rles else None, masks))
            continue
        try:
            found = lookup([object_key(digest, rle) for rle in rles]) if rles else None
        except KeyError as error:
            reason = f"its objects are not in the cache ({error.args[0]}); was the picture changed?"
            raise InputError(root / case.frames[position].path, reason) from error
        pictures.append(ImageInput(media.bgr_to_rgb(shown), object_embeddings=found))
    turns = asked.turns
    if not objects:
        turns = (Turn("user", case_text(case, objects=False)), *turns[1:])
    elif style != "colva":
        turns = (Turn("user", case_text(case, style)), *turns[1:])
    return Conversation(turns, tuple(pictures), case.id)


def clean_picture(root: Path, frame: Frame) -> tuple[np.ndarray, bytes]:
    """A picture (uint8 `[h, w, 3]`, blue first) and the digest that its objects are cached under: of the file's bytes
    when it is a JPEG, else of its pixels.

    Raises:
        InputError: see `mmvm_data.io.media.load`.
    """
    pixels = media.load_frame(root, frame)
    return pixels.bgr, picture_digest(pixels.bgr.tobytes() if pixels.jpeg is None else pixels.jpeg)


def objects_of(case: Case, position: int, size: tuple[int, int]) -> list[Rle]:
    """The masks of a picture's objects in the order of their tokens; `size` is its (height, width)."""
    return [drawing.region_mask(region, *size) for region in regions_at(case, position)]


def _check_masks(case: Case, position: int, bgr: np.ndarray) -> None:
    """Refuse masks that are empty or of another size, in words that name no number, as numbers vary."""
    size = (bgr.shape[0], bgr.shape[1])
    for region, rle in zip(regions_at(case, position), objects_of(case, position, size), strict=True):
        if rle.size != size:
            reason = f"mask of object {region.id!r} is {rle.size}, the image {size} (height, width)"
            raise InputError(case.id, reason, field=f"image {position + 1}")
        if not rle_masks.area(rle):
            raise InputError(case.id, f"object {region.id!r} has no pixels", field=f"image {position + 1}")
