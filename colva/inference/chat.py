"""Chat with a model about a case, or about images and masks of the user."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from colva.data.sft import load_case_images
from colva.inference import generate
from colva.model.colva import ColvaModel
from colva.processing.chat_templates import Turn
from colva.processing.collator import Conversation
from colva.processing.tokens import build_case_text, build_prompt_text, format_object_lines, plain_text
from mmvm_data.cases import prompts
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Candidate, Case, Frame, Region
from mmvm_data.formats import bench, object_annotations, tsv
from mmvm_data.io import media
from mmvm_data.io.files import real_path
from mmvm_data.io.png import read_labels


def find_case(folder: Path) -> Case:
    """Return the case of a case folder (`match_bench/case_000000`).

    The case is read from the benchmark around the folder if there is one. Otherwise it is built from the folder's own
    JSON files, with the published question and without an answer.

    Raises:
        InputError: the folder is not a case folder.
        UsageError: the benchmark above it has no such case.
    """
    for above in folder.resolve().parents:
        if not any((above / name).is_file() for name in (tsv.TSV, bench.CASES)):
            continue
        for case in bench.read(above, []):
            if case.id == folder.resolve().name:
                return case
        raise UsageError(f"{above} has no case {folder.resolve().name}")
    return _build_case_from_folder(folder)


def _build_case_from_folder(folder: Path) -> Case:
    drawn = sorted(path.name for path in folder.glob("FRAME[0-9][0-9]*.*") if _is_drawn(path.name))
    if len(drawn) < 2 or "_CAND" not in drawn[-1]:
        raise InputError(folder, "not a case folder: expected FRAME00.jpg … FRAME01_CAND.jpg with a JSON each")
    items = [
        object_annotations.read_objects(folder / name, name) for name in (f"{Path(name).stem}.json" for name in drawn)
    ]
    if not all(items):
        raise InputError(folder, "an image has no objects in its JSON")
    frames = [
        Frame(path=tsv.original_name(name), index=k, width=frame_items[0].width, height=frame_items[0].height)
        for k, (name, frame_items) in enumerate(zip(drawn, items, strict=True))
    ]
    queries = [_with_id(frame_items[0].region, "query") for frame_items in items[:-1]]
    candidates = [Candidate(number=int(item.id), region=_with_id(item.region, str(item.id))) for item in items[-1]]
    return _build_case(folder.name, frames, queries, candidates).with_root(folder)


def _is_drawn(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in (".jpg", ".jpeg", ".png") and not stem.endswith("_ORI")


def _with_id(region: Region, name: str) -> Region:
    return region if region.id else region.model_copy(update={"id": name})


def _build_case(name: str, frames: list[Frame], query: list[Region], candidates: list[Candidate]) -> Case:
    return Case(
        id=name,
        frames=tuple(frames),
        query=tuple(query),
        candidates=tuple(sorted(candidates, key=lambda candidate: candidate.number)),
        answer=None,
        question=prompts.format_question(),
        options=prompts.build_options([candidate.number for candidate in candidates], None),
    )


def case_from_files(images: Sequence[Path], mask_files: Sequence[Path]) -> Case:
    """Build a case from images and masks.

    Args:
        images: two or more; the last one holds the candidates.
        mask_files: a PNG for each image, of its size: pixels that are not 0 are the query; in the last, each number
            is a candidate (palette or gray levels).

    Raises:
        UsageError: fewer than two images, or not a mask for each.
        InputError: a file cannot be read, a mask has another size than its image, or is empty.
    """
    if len(images) < 2 or len(images) != len(mask_files):
        raise UsageError(f"{len(images)} images and {len(mask_files)} masks; expected two or more, and a mask for each")
    root = Path(os.path.commonpath([real_path(path).parent for path in images]))
    frames, regions = [], []
    for k, (image, mask) in enumerate(zip(images, mask_files, strict=True)):
        width, height = media.read_image_size(image)
        frames.append(Frame(path=str(real_path(image).relative_to(root)), index=k, width=width, height=height))
        ids = read_labels(mask, width, height).ids
        if k < len(images) - 1:
            ids = (ids != 0).astype(np.uint8)
        rles = masks.encode_labels(ids, [int(number) for number in np.unique(ids) if number])
        if not rles:
            raise InputError(mask, "the mask is empty: every pixel is 0")
        regions.append({number: Region(id=str(number), mask=rle) for number, rle in rles.items()})
    candidates = [Candidate(number=number, region=region) for number, region in regions[-1].items()]
    return _build_case("chat", frames, [of[1] for of in regions[:-1]], candidates).with_root(root)


class Chat:
    """A multi-turn conversation about one case: each reply becomes part of the next prompt.

    Attributes:
        model, case, images: what is asked, and about what.
        turns: of the conversation so far.
        is_truncated: the last reply ended at the limit of tokens.

    Raises:
        UsageError: the folder of the case's images is not known.
    """

    def __init__(self, model: ColvaModel, case: Case) -> None:
        if case.root is None:
            raise UsageError(f"{case.id}: the folder of its images is not known")
        self.model = model
        self.case = case
        self.images = load_case_images(case, case.root, model.config.names_objects)
        self.turns: list[Turn] = []
        self.is_truncated = False

    def ask(self, text: str | None = None, **options: Any) -> str:
        """Ask a question and return the reply.

        Args:
            text: the question. In the first turn None is the case's own question, and a text replaces it after the
                lines that name the images and objects.
            options: of transformers' `generate`, such as a `streamer` and `max_new_tokens`.

        Raises:
            ValueError: no text after the first turn.
        """
        style = self.model.config.prompt_layout
        if not self.turns:
            if text is None:
                text = build_case_text(self.case, style, self.model.config.names_objects)
            else:
                lines = format_object_lines(self.case, style) if self.model.config.names_objects else ""
                text = build_prompt_text(len(self.case.frames), lines, text, style)
        elif text is None:
            raise ValueError("text must be given after the first turn, got None")
        else:
            text = plain_text(text)
        self.turns.append(Turn("user", text))
        conversation = Conversation(tuple(self.turns), self.images, self.case.id)
        reply = generate.generate_replies(self.model, [conversation], 1, **options)[0]
        self.turns.append(Turn("assistant", reply.text))
        self.is_truncated = reply.truncated
        return reply.text
