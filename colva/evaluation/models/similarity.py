"""Models without training: the candidate whose pooled expert features are nearest to the query's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from colva.data.object_cache import fingerprint_weights
from colva.data.sft import decode_masks
from colva.evaluation.models.base import ModelOptions, Reply
from colva.evaluation.question import Question
from colva.evaluation.scoring.extract import NONE
from colva.inference.region_features import DEFAULT_SIDE, object_features, open_expert
from colva.model.experts import Expert
from mmvm_data.cases.prompts import NONE_TEXT
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io import media


class SimilarityModelAdapter:
    """Cosine of pooled expert features of the query and each candidate; see `base.ModelAdapter` for the attributes.

    The query is averaged over the images that show it. "None of the above" is never the answer, since
    a threshold for it would have to be trained.
    """

    workers = 1

    def __init__(self, name: str, expert: Expert, options: ModelOptions, side: int = DEFAULT_SIDE) -> None:
        device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
        self._expert = expert.to(device).eval()
        self._device = device
        self.name = f"similarity:{name}"
        self.batch = options.batch
        self._side = round(side / expert.stride) * expert.stride
        settings = {"kind": expert.kind, "config": expert.config, "side": self._side}
        self.fingerprint: Mapping[str, Any] = {
            "adapter": "similarity",
            "weights": fingerprint_weights(expert.state_dict(), settings),
        }

    @torch.inference_mode()
    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Return the label of the nearest candidate of each question, with the cosines as scores.

        Raises:
            InputError: an image cannot be read, or the regions of a question are not known.
        """
        replies = []
        for question in questions:
            features = self._object_features(question)
            query = F.normalize(torch.cat(features[:-1]), dim=1).mean(dim=0)
            cosines = F.cosine_similarity(features[-1], query[None])
            case = question.source_case
            assert case is not None
            numbers = sorted(candidate.number for candidate in case.candidates)
            by_number = {str(number): float(cosine) for number, cosine in zip(numbers, cosines, strict=True)}
            choices = {label: by_number[text] for label, text in question.choices.items() if text in by_number}
            if not choices:
                raise UsageError(f"{self.name}: question {question.id} does not say what there is to choose from")
            best = max(choices, key=lambda label: choices[label])
            none_labels = [label for label, text in question.choices.items() if label == NONE or text == NONE_TEXT]
            scores = choices | dict.fromkeys(none_labels, -1.0)
            replies.append(Reply(best, scores=scores, why="" if question.why_prompt else None))
        return replies

    def _object_features(self, question: Question) -> list[Tensor]:
        """Return features `[n, c]` of the objects of each image."""
        case = question.source_case
        if case is None or case.root is None:
            raise InputError(question.id, "its regions are not known, so nothing can be compared")
        images = [media.bgr_to_rgb(media.read_frame_bgr(case.root, frame)) for frame in case.frames]
        masks = [decode_masks(case, position) for position in range(len(images))]
        return object_features(self._expert, self._side, images, masks)


def open_model(name: str, options: ModelOptions) -> SimilarityModelAdapter:
    """Open the model of an expert.

    Args:
        name: of the expert, see `colva.inference.region_features.open_expert`.
        options: batch and device.

    Raises:
        UsageError, InputError: no such expert, or no weights for it.
    """
    expert_name, expert, side = open_expert(name)
    return SimilarityModelAdapter(expert_name, expert, options, side)
