"""Players without training: the candidate whose pooled expert features are nearest to the query's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from colva.checkpoints.experts import is_expert, read_expert
from colva.data.cache import fingerprint
from colva.data.sft import masks_at
from colva.data.tiling import expert_canvas
from colva.evaluation.extract import NONE
from colva.evaluation.player import PlayerOptions, Reply
from colva.evaluation.question import Question
from colva.model import load
from colva.model.experts import Expert, build
from colva.model.pooling import pool_objects
from mmvm_data import media
from mmvm_data.cases.prompts import NONE_TEXT
from mmvm_data.errors import InputError, UsageError

SIDE = 1024


class SimilarityPlayer:
    """Cosine of pooled expert features between the query and each candidate; see `player.Player` for the attributes.

    An object that covers no token by the threshold gets the one token that it covers most. The query is averaged over
    the images that show it. "None of the above" is never the answer: nothing is learnt, so no threshold could be.
    """

    workers = 1

    def __init__(self, name: str, expert: Expert, options: PlayerOptions, side: int = SIDE) -> None:
        device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
        self._expert = expert.to(device).eval()
        self._device = device
        self.name = f"similarity:{name}"
        self.batch = options.batch
        self._side = round(side / expert.stride) * expert.stride
        settings = {"kind": expert.kind, "config": expert.config, "side": self._side}
        self.fingerprint: Mapping[str, Any] = {
            "player": "similarity",
            "weights": fingerprint(expert.state_dict(), settings),
        }

    @torch.inference_mode()
    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """The label of the nearest candidate of each question, with the cosines as scores.

        Raises:
            InputError: an image cannot be read, or the regions of a question are not known.
        """
        replies = []
        for question in questions:
            objects = self._objects(question)
            query = F.normalize(torch.cat(objects[:-1]), dim=1).mean(dim=0)
            cosines = F.cosine_similarity(objects[-1], query[None])
            record = question.record
            assert record is not None
            numbers = sorted(candidate.number for candidate in record.candidates)
            scores = {str(number): float(cosine) for number, cosine in zip(numbers, cosines, strict=True)}
            offered = {label: scores[text] for label, text in question.choices.items() if text in scores}
            if not offered:
                raise UsageError(f"{self.name}: question {question.id} does not say what there is to choose from")
            best = max(offered, key=lambda label: offered[label])
            least = {label: -1.0 for label, text in question.choices.items() if label == NONE or text == NONE_TEXT}
            replies.append(Reply(best, scores=offered | least, why="" if question.why else None))
        return replies

    def _objects(self, question: Question) -> list[Tensor]:
        """Features `[n, c]` of the objects of each image."""
        record = question.record
        if record is None or record.root is None:
            raise InputError(question.id, "its regions are not known, so nothing can be compared")
        canvases, cells = [], []
        for position, frame in enumerate(record.frames):
            clean = media.rgb(media.read_bgr(record.root, frame))
            canvas, geometry = expert_canvas(clean, self._side, self._expert.stride)
            masks = torch.from_numpy(masks_at(record, position))
            kept = geometry.cells(masks)
            for row in (~kept.any(dim=1)).nonzero().flatten().tolist():
                kept[row] = _most_covered(masks[row], geometry.grids[0].tokens, frame.width, frame.height)
            canvases.append(canvas)
            cells.append(kept)
        tokens = self._expert(torch.stack(canvases).to(self._device).float() / 255).tokens
        images = torch.repeat_interleave(torch.arange(len(cells)), torch.tensor([len(kept) for kept in cells]))
        features = pool_objects(tokens, torch.cat(cells).to(self._device), images.to(self._device))[0].float().cpu()
        return list(features.split([len(kept) for kept in cells]))


def _most_covered(mask: Tensor, tokens: int, width: int, height: int) -> Tensor:
    """The one token of a square canvas on which most of a mask lies: bool `[tokens]`."""
    cells = round(tokens**0.5)
    y, x = mask.nonzero(as_tuple=True)
    longest = max(width, height)
    at = (y * cells // longest) * cells + x * cells // longest
    found = torch.zeros(tokens, dtype=torch.bool)
    if len(at):
        found[torch.bincount(at, minlength=tokens).argmax()] = True
    return found


def open_player(name: str, options: PlayerOptions) -> SimilarityPlayer:
    """The player of an expert.

    Args:
        name: `mobilenetv2` for ImageNet weights of a package, or a folder or file with an expert's weights, of any
            layout that `colva.checkpoints.experts.read_expert` knows, or a CoLVA folder, for its expert.
        options: batch and device.

    Raises:
        UsageError, InputError: no such expert, or no weights for it.
    """
    if Path(name, "config.json").is_file() and not is_expert(Path(name)):
        model = load(name)
        if model.expert is None:
            raise UsageError(f"--model similarity:{name}: this model has no expert")
        return SimilarityPlayer(Path(name).name, model.expert, options, model.config.expert_side)
    found = read_expert(name)
    fields = dict(found.config)
    expert = build(fields.pop("kind"), fields)
    expert.load_state_dict({key: stored.read() for key, stored in found.tensors.items()})
    return SimilarityPlayer(name if found.config["kind"] == name else Path(name).name, expert, options)
