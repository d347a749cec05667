"""Answers to correspondence cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from colva.data.sft import build_case_conversation
from colva.inference import generate
from colva.inference.generate import Answer
from colva.model.colva import ColvaModel
from mmvm_data.core.types import Case

AnswerBy = Literal["generation", "likelihood"]


def answer_cases(
    model: ColvaModel,
    cases: Sequence[Case],
    root: str | Path | None = None,
    answer_by: AnswerBy = "likelihood",
    batch_size: int = 8,
    **options: Any,
) -> list[Answer]:
    """Answer correspondence cases.

    Args:
        model: with its processor.
        cases: read from a benchmark or a build.
        root: folder that their image paths are relative to; by default each case's own.
        answer_by: `likelihood` scores the letter of every option in one forward; `generation` generates text.
        batch_size: cases at a time.
        options: for `generation`, those of transformers' `generate`.

    Returns:
        For each case, in order: the most likely letter with the log likelihood of each, or the generated text.

    Raises:
        ValueError: another word for `answer_by`, a case without a known root, a model without a tokenizer.
    """
    if answer_by not in ("generation", "likelihood"):
        raise ValueError(f"answer_by must be 'generation' or 'likelihood', got {answer_by!r}")
    conversations = [
        build_case_conversation(
            case, _image_root(case, root), model.config.prompt_layout, object_tokens=model.config.names_objects
        )
        for case in cases
    ]
    if answer_by == "generation":
        replies = generate.generate_replies(model, conversations, batch_size, **options)
        return [Answer(reply.text, truncated=reply.truncated) for reply in replies]
    letters = [[option.letter for option in case.options] for case in cases]
    rows = generate.score_options(model, conversations, letters, batch_size)
    return [
        Answer(case_letters[row.index(max(row))], dict(zip(case_letters, row, strict=True)))
        for case_letters, row in zip(letters, rows, strict=True)
    ]


def _image_root(case: Case, root: str | Path | None) -> Path:
    folder = Path(root) if root is not None else case.root
    if folder is None:
        raise ValueError(f"{case.id}: give the folder of its images (root=)")
    return folder
