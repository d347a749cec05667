"""Talk with a model about a case, or about pictures and masks of one's own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from colva.data.sft import build_case_text, load_case_images
from colva.processing.chat_templates import Turn
from colva.processing.collator import Conversation
from mmvm_data.cases import prompts
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import Candidate, Case, Frame, Region
from mmvm_data.formats import bench, object_annotations, tsv
from mmvm_data.io import media
from mmvm_data.io.png import read_labels

if TYPE_CHECKING:
    from colva.model.colva import ColvaModel


def find_case(folder: Path) -> Case:
    """The case of a case folder (`match_bench/case_000000`).

    The record of the benchmark that it lies in, when there is one above it; otherwise what the folder's own JSON files
    say, with the published question and no answer known.

    Raises:
        InputError: the folder is no case folder.
        UsageError: the benchmark above it has no such case.
    """
    for above in folder.resolve().parents:
        if not any((above / name).is_file() for name in (tsv.TSV, bench.CASES)):
            continue
        for case in bench.read(above, []):
            if case.id == folder.resolve().name:
                return case
        raise UsageError(f"{above} has no case {folder.resolve().name}")
    return _bare(folder)


def _bare(folder: Path) -> Case:
    drawn = sorted(path.name for path in folder.glob("FRAME[0-9][0-9]*.*") if _is_drawn(path.name))
    if len(drawn) < 2 or "_CAND" not in drawn[-1]:
        raise InputError(folder, "no case folder: expected FRAME00.jpg … FRAME01_CAND.jpg with a JSON each")
    items = [
        object_annotations.read_objects(folder / name, name) for name in (f"{Path(name).stem}.json" for name in drawn)
    ]
    if not all(items):
        raise InputError(folder, "an image has no objects in its JSON")
    frames = [
        Frame(path=tsv.original_name(name), index=k, width=of[0].width, height=of[0].height)
        for k, (name, of) in enumerate(zip(drawn, items, strict=True))
    ]
    candidates = [Candidate(number=int(item.id), region=_named(item.region, str(item.id))) for item in items[-1]]
    return _asked(folder.name, frames, [_named(of[0].region, "query") for of in items[:-1]], candidates).with_root(
        folder
    )


def _is_drawn(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in (".jpg", ".jpeg", ".png") and not stem.endswith("_ORI")


def _named(region: Region, name: str) -> Region:
    return region if region.id else region.model_copy(update={"id": name})


def _asked(name: str, frames: list[Frame], query: list[Region], candidates: list[Candidate]) -> Case:
    return Case(
        id=name,
        frames=tuple(frames),
        query=tuple(query),
        candidates=tuple(sorted(candidates, key=lambda one: one.number)),
        answer=None,
        question=prompts.format_question(),
        options=prompts.build_options([one.number for one in candidates], None),
    )


def case_from_files(images: Sequence[Path], masks_of: Sequence[Path]) -> Case:
    """A case of pictures and masks.

    Args:
        images: two or more; the last one holds the candidates.
        masks_of: a PNG for each, of its picture's size: whatever is not 0 is the query; in the last, each number is a
            candidate (palette or grey levels).

    Raises:
        UsageError: fewer than two pictures, or not a mask for each.
        InputError: a file cannot be read, a mask has another size than its picture, or shows nothing.
    """
    if len(images) < 2 or len(images) != len(masks_of):
        raise UsageError(f"{len(images)} images and {len(masks_of)} masks; expected two or more, and a mask for each")
    root = Path(os.path.commonpath([path.resolve().parent for path in images]))
    frames, regions = [], []
    for k, (image, mask) in enumerate(zip(images, masks_of, strict=True)):
        width, height = media.read_image_size(image)
        frames.append(Frame(path=str(image.resolve().relative_to(root)), index=k, width=width, height=height))
        ids = read_labels(mask, width, height).ids
        if k < len(images) - 1:
            ids = (ids != 0).astype(np.uint8)
        found = masks.encode_labels(ids, [int(one) for one in np.unique(ids) if one])
        if not found:
            raise InputError(mask, "the mask shows nothing: every pixel is 0")
        regions.append({number: Region(id=str(number), mask=rle) for number, rle in found.items()})
    candidates = [Candidate(number=number, region=region) for number, region in regions[-1].items()]
    return _asked("chat", frames, [of[1] for of in regions[:-1]], candidates).with_root(root)


class Chat:
    """A conversation about one case that goes on: each answer becomes part of what is asked next."""

    def __init__(self, model: ColvaModel, case: Case) -> None:
        if case.root is None:
            raise UsageError(f"{case.id}: its pictures lie nowhere that is known")
        self.model = model
        self.case = case
        self.images = load_case_images(case, case.root)
        self.turns: list[Turn] = []

    def ask(self, text: str | None = None, **options: Any) -> str:
        """Ask the case's own question first (text None, or put before one's own words), then anything.

        `options` are transformers' `generate` options, such as a `streamer` and `max_new_tokens`.
        """
        from colva.inference import generate

        style = self.model.config.prompt_style
        if not self.turns:
            own = build_case_text(self.case, style)
            text = own if text is None else own[: own.index(self.case.question)] + text
        elif text is None:
            raise ValueError("the case's question has been asked; say what to ask now")
        self.turns.append(Turn("user", text))
        conversation = Conversation(tuple(self.turns), self.images, self.case.id)
        answer = generate.generate(self.model, [conversation], 1, **options)[0]
        self.turns.append(Turn("assistant", answer))
        return answer
