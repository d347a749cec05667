"""A CoLVA model: drawn images go to the language model, clean images and masks to the vision expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers

from colva.checkpoints.load import load
from colva.data.sft import decode_masks
from colva.evaluation.models.base import DEFAULT_MAX_TOKENS, ModelOptions, Reply, require_limit
from colva.evaluation.models.checkpoint_path import model_digest, model_name
from colva.evaluation.question import Question
from colva.inference import generate
from colva.processing.chat_templates import Turn
from colva.processing.collator import Conversation, ImageInput
from colva.processing.published_eval import MAX_NEW_TOKENS
from colva.processing.tokens import build_prompt_text, format_object_lines
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io import media


class ColvaModelAdapter:
    """A CoLVA model; see `base.ModelAdapter` for the attributes.

    Questions of sets without regions are asked with the drawn images alone. Decoding is greedy. A batch is padded on
    the left; only rounding may differ between batch sizes.
    """

    workers = 1

    def __init__(self, folder: Path, options: ModelOptions) -> None:
        require_limit(options)  # a wrong one is refused before the weights are read
        dtype = None if options.dtype == "auto" else options.dtype
        self._model = load(folder, device=options.device, dtype=dtype)
        if self._model.processor is None:
            raise UsageError(f"model {folder}: has no tokenizer, which questions need")
        self._options = options
        limit = MAX_NEW_TOKENS.get(self._model.config.prompt_layout, DEFAULT_MAX_TOKENS)
        self._max_tokens = require_limit(options, limit)
        self.name = model_name(folder)
        self.batch = options.batch
        self.fingerprint: Mapping[str, Any] = {
            "adapter": "colva",
            "files": model_digest(folder),
            "dtype": str(self._model.dtype),
            "answer_by": options.answer_by,
            "max_tokens": self._max_tokens,
            "transformers": transformers.__version__,
        }

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Return one reply for each question.

        Raises:
            InputError: an image cannot be read, or a mask does not fit its image.
            UsageError: likelihoods are asked for where the choices are not known.
        """
        style, has_objects = self._model.config.prompt_layout, self._model.config.names_objects
        conversations = [make_question_conversation(question, style, has_objects) for question in questions]
        try:
            if self._options.answer_by == "likelihood":
                replies = self._likeliest_options(questions, conversations)
            else:
                replies = self._generate(conversations)
            return self._with_reasons(questions, conversations, replies)
        except ValueError as error:
            raise InputError(questions[0].case, str(error)) from error

    def _likeliest_options(self, questions: Sequence[Question], conversations: Sequence[Conversation]) -> list[Reply]:
        if not all(question.choices for question in questions):
            raise UsageError("`answer_by='likelihood'` needs choices, and the questions have none")
        labels = [list(question.choices) for question in questions]
        rows = generate.score_options(self._model, conversations, labels, self.batch)
        return [
            Reply(row_labels[row.index(max(row))], scores=dict(zip(row_labels, row, strict=True)))
            for row_labels, row in zip(labels, rows, strict=True)
        ]

    def _generate(self, conversations: Sequence[Conversation]) -> list[Reply]:
        generated = generate.generate_replies(self._model, conversations, self.batch, self._max_tokens)
        return [Reply(g.text, truncated=g.truncated, tokens_in=g.tokens_in, tokens_out=g.tokens_out) for g in generated]

    def _with_reasons(
        self, questions: Sequence[Question], conversations: Sequence[Conversation], replies: Sequence[Reply]
    ) -> list[Reply]:
        """Return the replies with those to the second turn, of the questions that have one."""
        asked = [number for number, question in enumerate(questions) if question.why_prompt is not None]
        if not asked:
            return list(replies)
        second_turns = [
            replace(
                conversations[n],
                turns=(
                    *conversations[n].turns,
                    Turn("assistant", replies[n].text),
                    Turn("user", questions[n].why_prompt or ""),
                ),
            )
            for n in asked
        ]
        answered = list(replies)
        for n, why in zip(asked, self._generate(second_turns), strict=True):
            answered[n] = replace(answered[n], why=why.text, truncated=answered[n].truncated or why.truncated)
        return answered


def make_question_conversation(question: Question, style: str = "colva", has_objects: bool = True) -> Conversation:
    """Return a question as a CoLVA model gets it.

    Args:
        question: of a benchmark.
        style: of the prompt, see `colva.processing.tokens.build_prompt_text`.
        has_objects: name the objects of a question with regions by tokens, and give their masks and clean images.

    Raises:
        InputError: an image cannot be read, or the folder of the clean ones is not known.
    """
    case = question.source_case if has_objects else None
    images = []
    for position, path in enumerate(question.images):
        drawn = media.read_image_rgb(path)
        if case is None:
            images.append(ImageInput(drawn))
            continue
        if case.root is None:
            raise InputError(question.case, "the folder of its clean images is not known")
        clean = media.bgr_to_rgb(media.read_frame_bgr(case.root, case.frames[position]))
        images.append(ImageInput(drawn, clean, decode_masks(case, position)))
    lines = "" if case is None else format_object_lines(case, style)
    text = build_prompt_text(len(question.images), lines, question.text, style)
    return Conversation((Turn("user", text),), tuple(images), question.id)


def open_model(name: str, options: ModelOptions) -> ColvaModelAdapter:
    """Open the model in a folder.

    Raises:
        UsageError, InputError: no such model, or a damaged one.
    """
    return ColvaModelAdapter(Path(name), options)
