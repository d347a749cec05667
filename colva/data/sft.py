"""Cases as conversations with images and objects."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from colva.data.object_cache import image_digest, object_key
from colva.data.prompt_variants import DEFAULT_VARIANT, PromptVariant
from colva.processing.chat_templates import Turn
from colva.processing.collator import Conversation, ImageInput
from colva.processing.tokens import build_case_text, build_object_text, is_query_visible
from mmvm_data.cases import prompts, render
from mmvm_data.core import masks as rle_masks
from mmvm_data.core.case_facts import check_masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Candidate, Case, Frame, Region
from mmvm_data.formats import drawing
from mmvm_data.formats.conversations import WHY
from mmvm_data.formats.tsv import drawn_paths
from mmvm_data.io import media

EmbeddingLookup = Callable[[Sequence[bytes]], Tensor]
"""Object keys (`colva.data.object_cache.object_key`) to embeddings `[n, d]`; KeyError when a key is unknown."""


def load_case_images(case: Case, root: Path, object_tokens: bool = True) -> tuple[ImageInput, ...]:
    """The images of a case: drawn ones for the language model, clean ones with masks for the expert.

    The drawn images are the files of the case folder, which every evaluation shows; a case without them is drawn here.

    Raises:
        InputError: an image cannot be read, or image or mask differ from the size in the case.
    """
    images = []
    names = drawn_paths(case)
    if not all((root / name).is_file() for name in names):
        names = []
    for position, frame in enumerate(case.frames):
        clean = media.read_frame_bgr(root, frame)
        if names:
            drawn = media.read_frame_bgr(root, frame.model_copy(update={"path": names[position]}))
        else:
            drawn = drawing.draw_case_image(case, position, clean)
        masks = decode_masks(case, position) if object_tokens else None
        images.append(ImageInput(media.bgr_to_rgb(drawn), media.bgr_to_rgb(clean), masks))
    return tuple(images)


def decode_masks(case: Case, position: int) -> NDArray[np.uint8]:
    """The masks of an image's objects in the order of their tokens: uint8 `[n, H, W]`; boxes are filled.

    Raises:
        InputError: a mask is of another size than the image, or broken.
    """
    check_masks(case, position)
    frame = case.frames[position]
    size = (frame.height, frame.width)
    bitmaps = [rle_masks.decode(rle_masks.region_mask(region, *size)) for region in list_regions(case, position)]
    return np.stack(bitmaps) if bitmaps else np.zeros((0, *size), np.uint8)


def list_regions(case: Case, position: int) -> list[Region]:
    """The objects of an image in the order of their tokens: the query if it is visible, or the candidates by number."""
    if position < len(case.query):
        return [case.query[position]] if is_query_visible(case, position) else []
    return [candidate.region for candidate in sorted(case.candidates, key=lambda candidate: candidate.number)]


def build_case_conversation(
    case: Case, root: Path, style: str = "colva", with_answer: bool = False, object_tokens: bool = True
) -> Conversation:
    """A case as a conversation: the prompt, optionally with its answer (and its rationale in a second turn).

    Args:
        case: of a benchmark or a build.
        root: folder that the paths of its frames are relative to.
        style: of the prompt, see `format_object_lines`.
        with_answer: add the assistant's turns.
        object_tokens: name the objects and give their masks; otherwise the question relies on the drawn images alone.
    """
    turns = [Turn("user", build_case_text(case, style, object_tokens))]
    if with_answer:
        turns.append(Turn("assistant", case.letter))
        if case.rationale:
            turns += [Turn("user", WHY), Turn("assistant", case.rationale)]
    return Conversation(tuple(turns), load_case_images(case, root, object_tokens), case.id)


@dataclass(frozen=True)
class CasePrompt:
    """A case as one epoch of training asks about it.

    Attributes:
        case: with the numbers, the question and the options of this epoch.
        variant: how it is asked.
        palette: RGB in [0, 1] of the candidates in the order of their numbers, and a spare; None: the benchmark's.
        with_reason: the reason is asked for and trained on too.
        objects_only: the question has object tokens and choices alone (see `build_object_text`), and no image is shown.
    """

    case: Case
    variant: PromptVariant = DEFAULT_VARIANT
    palette: tuple[tuple[float, float, float], ...] | None = None
    with_reason: bool = False
    objects_only: bool = False

    def build_turns(self, style: str = "colva", object_tokens: bool = True) -> tuple[Turn, ...]:
        """The turns of the conversation, with the answer.

        Args:
            style: of the prompt, see `build_case_text`.
            object_tokens: name the objects by tokens.
        """
        if self.objects_only:
            return Turn("user", build_object_text(self.case)), Turn("assistant", self.case.letter)
        turns = [Turn("user", build_case_text(self.case, style, object_tokens)), Turn("assistant", self.case.letter)]
        if self.with_reason and self.case.rationale:
            turns += [Turn("user", self.variant.reason_question), Turn("assistant", self.case.rationale)]
        return tuple(turns)


def make_case_prompt(
    case: Case,
    variant: PromptVariant = DEFAULT_VARIANT,
    rng: random.Random | None = None,
    with_reason: bool = True,
    renumber: bool = True,
    recolor: bool = True,
) -> CasePrompt:
    """A prompt about a case in one of the training variants.

    Args:
        case: as read from its file.
        variant: wording, color, with or without marks.
        rng: draws new numbers and colors for the candidates; None keeps them.
        with_reason: train on the reason too, where there is one.
        renumber: draw numbers. They are kept when the reason is trained on and mentions them.
        recolor: draw colors.

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
        mentions_numbers = case.rationale is not None and any(letter.isdigit() for letter in case.rationale)
        if renumber and not (with_reason and mentions_numbers):
            new_numbers = rng.sample(numbers, len(numbers))
            answer = None if answer is None else new_numbers[numbers.index(answer)]
            renumbered = zip(new_numbers, (candidate.region for candidate in case.candidates), strict=True)
            changes["candidates"] = tuple(
                Candidate(number=number, region=region)
                for number, region in sorted(renumbered, key=lambda pair: pair[0])
            )
        if recolor:
            colors = render.distinct_colors(len(numbers) + 1)
            palette = (*rng.sample(colors[:-1], len(numbers)), colors[-1])
    changes |= {"answer": answer, "options": prompts.build_options(numbers, answer)}
    return CasePrompt(case.model_copy(update=changes), variant, palette, with_reason)


def ask_about_copy(case: Case, rng: random.Random) -> Case:
    """The same question about one of the offered candidates: the query is that very object of the last image."""
    number = rng.choice([option.number for option in case.options if option.number is not None])
    region = next(candidate.region for candidate in case.candidates if candidate.number == number)
    frames = (case.frames[-1],) * len(case.frames)
    return case.model_copy(update={"frames": frames, "query": (region,) * len(case.query), "answer": number})


def build_prompt_conversation(
    prompt: CasePrompt,
    root: Path,
    lookup: EmbeddingLookup | None = None,
    object_tokens: bool = True,
    style: str = "colva",
) -> Conversation:
    """A training prompt as a conversation with its images.

    Args:
        prompt: see `make_case_prompt`.
        root: folder of the case's images.
        lookup: reads object embeddings from a cache; None gives masks and clean images for the expert.
        object_tokens: name the objects by tokens; otherwise the question relies on the drawn images alone.
        style: of the prompt, see `format_object_lines`.

    Raises:
        InputError: an image cannot be read, a mask is empty or not of its image's size, an object is not cached.
    """
    case = prompt.case
    loaded = [load_clean_image(root, frame) for frame in case.frames]
    for position in range(len(loaded)):
        _check_objects(case, position)
    images = []
    for position, (bgr, digest) in enumerate(loaded):
        drawn = None if prompt.objects_only else bgr
        if drawn is not None and not prompt.variant.clean:
            drawn = drawing.draw_case_image(case, position, bgr, prompt.variant.color, prompt.palette)
        shown = None if drawn is None else media.bgr_to_rgb(drawn)
        regions = list_regions(case, position) if object_tokens else []
        rles = [rle_masks.region_mask(region, bgr.shape[0], bgr.shape[1]) for region in regions]
        if lookup is None:
            masks = np.stack([rle_masks.decode(rle) for rle in rles]) if rles else None
            images.append(ImageInput(shown, media.bgr_to_rgb(bgr) if rles else None, masks))
            continue
        try:
            embeddings = lookup([object_key(digest, rle) for rle in rles]) if rles else None
        except KeyError as error:
            reason = f"its objects are not in the cache ({error.args[0]}); was the image changed?"
            raise InputError(root / case.frames[position].path, reason) from error
        images.append(ImageInput(shown, object_embeddings=embeddings))
    return Conversation(prompt.build_turns(style, object_tokens), tuple(images), case.id)


def load_clean_image(root: Path, frame: Frame) -> tuple[NDArray[np.uint8], bytes]:
    """An image (uint8 `[h, w, 3]`, BGR) and the digest that its objects are cached under.

    The digest is of the file's bytes for a JPEG, otherwise of the pixels.

    Raises:
        InputError: see `mmvm_data.io.media.load_frame`.
    """
    pixels = media.load_frame(root, frame)
    return pixels.bgr, image_digest(pixels.bgr.tobytes() if pixels.jpeg is None else pixels.jpeg)


def _check_objects(case: Case, position: int) -> None:
    """Refuse masks that are empty, broken or of another size; the message has no candidate numbers, as these vary."""
    check_masks(case, position)
    frame = case.frames[position]
    for region in list_regions(case, position):
        if not rle_masks.area(rle_masks.region_mask(region, frame.height, frame.width)):
            raise InputError(case.id, f"object {region.id!r} has no pixels", field=f"image {position + 1}")
