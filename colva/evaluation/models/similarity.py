"""Players without training: the candidate whose pooled expert features are nearest to the query's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from colva.data.cache import fingerprint
from colva.data.sft import masks_at
from colva.evaluation.models.base import PlayerOptions, Reply
from colva.evaluation.question import Question
from colva.evaluation.scoring.extract import NONE
from colva.inference.region_features import SIDE, object_features, open_expert
from colva.model.experts import Expert
from mmvm_data.cases.prompts import NONE_TEXT
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io import media


class SimilarityPlayer:
    """Cosine of pooled expert features between the query and each candidate; see `player.Player` for the attributes.

    The query is averaged over the images that show it. "None of the above" is never the answer: nothing is learnt, so
    no threshold could be.
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
        pictures = [media.bgr_to_rgb(media.read_frame_bgr(record.root, frame)) for frame in record.frames]
        masks = [masks_at(record, position) for position in range(len(pictures))]
        return object_features(self._expert, self._side, pictures, masks)


def open_player(name: str, options: PlayerOptions) -> SimilarityPlayer:
    """The player of an expert.

    Args:
        name: of the expert, see `colva.inference.region_features.open_expert`.
        options: batch and device.

    Raises:
        UsageError, InputError: no such expert, or no weights for it.
    """
    called, expert, side = open_expert(name)
    return SimilarityPlayer(called, expert, options, side)
