"""A CoLVA folder as a player: drawn pictures to the language model, clean ones and masks to the expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import transformers

from colva.checkpoints.load import load
from colva.data.sft import masks_at
from colva.evaluation.models.base import PlayerOptions, Reply
from colva.evaluation.models.checkpoint_path import digest_of_folder, name_of_folder
from colva.evaluation.question import Question
from colva.inference import generate
from colva.processing.chat_templates import Turn
from colva.processing.collator import Conversation, ImageInput
from colva.processing.tokens import format_image_lines, format_object_lines
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io import media


class ColvaPlayer:
    """A CoLVA model; see `player.Player` for the attributes.

    Questions of sets without regions are asked on the drawn pictures alone. Decoding is greedy. A batch is padded on
    the left; rounding may differ between sizes of batches, nothing else does.
    """

    workers = 1

    def __init__(self, folder: Path, options: PlayerOptions) -> None:
        dtype = None if options.dtype == "auto" else options.dtype
        self._model = load(folder, device=options.device, dtype=dtype)
        if self._model.processor is None:
            raise UsageError(f"--model {folder}: it came without a tokenizer, so it cannot be asked anything")
        self._options = options
        self.name = name_of_folder(folder)
        self.batch = options.batch
        self.fingerprint: Mapping[str, Any] = {
            "player": "colva",
            "files": digest_of_folder(folder),
            "dtype": str(self._model.dtype),
            "by": options.by,
            "max_tokens": options.max_tokens,
            "transformers": transformers.__version__,
        }

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply a question.

        Raises:
            InputError: an image cannot be read, or a mask does not fit its image.
            UsageError: likelihoods are wanted where the choices are not known.
        """
        dialogues = [self._dialogue(question) for question in questions]
        try:
            if self._options.by == "likelihood":
                first = self._likeliest(questions, dialogues)
            else:
                first = [Reply(text) for text in self._generate(dialogues)]
            return self._reasons(questions, dialogues, first)
        except ValueError as error:
            raise InputError(questions[0].case, str(error)) from error

    def _likeliest(self, questions: Sequence[Question], dialogues: Sequence[Conversation]) -> list[Reply]:
        if not all(question.choices for question in questions):
            raise UsageError("--by likelihood: the questions do not say what there is to choose from")
        labels = [list(question.choices) for question in questions]
        rows = generate.score_options(self._model, dialogues, labels, self.batch)
        return [
            Reply(listed[row.index(max(row))], scores=dict(zip(listed, row, strict=True)))
            for listed, row in zip(labels, rows, strict=True)
        ]

    def _generate(self, dialogues: Sequence[Conversation]) -> list[str]:
        return generate.generate(self._model, dialogues, self.batch, self._options.max_tokens)

    def _reasons(
        self, questions: Sequence[Question], dialogues: Sequence[Conversation], first: Sequence[Reply]
    ) -> list[Reply]:
        """The second turn of the questions that have one."""
        asked = [number for number, question in enumerate(questions) if question.why is not None]
        if not asked:
            return list(first)
        longer = [
            Conversation(
                (*dialogues[n].turns, Turn("assistant", first[n].text), Turn("user", questions[n].why or "")),
                dialogues[n].images,
                dialogues[n].name,
            )
            for n in asked
        ]
        whys = dict(zip(asked, self._generate(longer), strict=True))
        return [Reply(reply.text, reply.scores, whys.get(number)) for number, reply in enumerate(first)]

    def _dialogue(self, question: Question) -> Conversation:
        record = question.record
        style = self._model.config.prompt_style
        objects = record is not None and self._model.expert is not None
        pictures = []
        for position, path in enumerate(question.images):
            shown = media.read_image_rgb(path)
            if not objects:
                pictures.append(ImageInput(shown))
                continue
            assert record is not None
            if record.root is None:
                raise InputError(question.case, "it is not known where its clean images lie")
            clean = media.bgr_to_rgb(media.read_frame_bgr(record.root, record.frames[position]))
            pictures.append(ImageInput(shown, clean, masks_at(record, position)))
        lines = format_object_lines(record, style) if objects and record is not None else ""
        text = format_image_lines(len(question.images)) + lines + question.text
        return Conversation((Turn("user", text),), tuple(pictures), question.id)


def open_player(name: str, options: PlayerOptions) -> ColvaPlayer:
    """The model in a folder.

    Raises:
        UsageError, InputError: no such model, or a damaged one.
    """
    return ColvaPlayer(Path(name), options)
