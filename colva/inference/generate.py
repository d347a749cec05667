"""Answers: generated text, or the likelihood of each option, for many conversations at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from colva.processing.collator import Conversation, Processor, Sample

if TYPE_CHECKING:
    from colva.model.colva import ColvaModel


@dataclass(frozen=True)
class Answer:
    """What a model answers.

    Attributes:
        text: the generated text, or the most likely option.
        scores: option -> log likelihood, when likelihood decided; None for generation.
    """

    text: str
    scores: dict[str, float] | None = None


def generate(
    model: ColvaModel,
    conversations: Sequence[Conversation],
    batch_size: int = 8,
    max_new_tokens: int = 256,
    **options: Any,
) -> list[str]:
    """Let the model go on after each conversation's last user turn.

    Args:
        model: with its processor.
        conversations: each ends with a user turn.
        batch_size: conversations at a time; those of like length go together.
        max_new_tokens: at most so many each.
        options: transformers' `generate` options, such as `do_sample`, `streamer`.

    Returns:
        Texts without the end mark, in the order of the conversations.
    """
    processor = _processor(model)
    tokenizer = processor.vocabulary.tokenizer
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False, **stopping(processor), **options}
    answers: dict[int, str] = {}
    for order, samples in _batches(processor, conversations, batch_size):
        batch = _moved(processor.collate(samples, "left"), model)
        batch.pop("labels")
        tokens = model.generate(**(batch | settings))
        for number, row in zip(order, tokens, strict=True):
            answers[number] = tokenizer.decode(row, skip_special_tokens=True).strip()
    return [answers[number] for number in range(len(conversations))]


def stopping(processor: Processor) -> dict[str, Any]:
    """`generate`'s options that end an answer where the chat template does."""
    tokenizer = processor.vocabulary.tokenizer
    ends = {processor.vocabulary.id_of(processor.template.end), tokenizer.eos_token_id} - {None}
    return {"eos_token_id": sorted(ends), "pad_token_id": processor.pad_id}


@torch.no_grad()
def score_options(
    model: ColvaModel,
    conversations: Sequence[Conversation],
    options: Sequence[Sequence[str]],
    batch_size: int = 8,
) -> list[list[float]]:
    """Log likelihood of each option as the assistant's answer, in one forward a batch.

    The prompt is computed once. When each option of a conversation is one token of its own, such as a letter, the
    prompt's last position tells all. Otherwise the options follow the prompt side by side, none seeing another, each
    with the end mark, so that "1" and "12" compare as whole answers.

    Returns:
        For each conversation its scores in the order of its options; within a conversation they are comparable.

    Raises:
        ValueError: a conversation without options, or with an option twice.
    """
    processor = _processor(model)
    for conversation, listed in zip(conversations, options, strict=True):
        if not listed or len(set(listed)) != len(listed):
            raise ValueError(f"{conversation.name}: options {list(listed)} must be there, each once")
    known: dict[str, list[int]] = {}
    for text in {text for listed in options for text in listed}:
        known[text] = processor.vocabulary.answer_ids(text, processor.template)
    scores: dict[int, list[float]] = {}
    for order, samples in _batches(processor, conversations, batch_size):
        answers = [_branches([known[text] for text in options[number]]) for number in order]
        for number, row in zip(order, _score(model, processor, samples, answers), strict=True):
            scores[number] = row
    return [scores[number] for number in range(len(conversations))]


def _branches(answers: list[list[int]]) -> list[list[int]]:
    """The tokens that tell the options apart: one each, without the end mark, if that is enough."""
    first = {answer[0] for answer in answers}
    if len(first) == len(answers) and all(len(answer) == 2 for answer in answers):
        return [answer[:1] for answer in answers]
    return answers


def _score(
    model: ColvaModel, processor: Processor, samples: list[Sample], answers: list[list[list[int]]]
) -> list[list[float]]:
    batch = _moved(processor.collate(samples, "left"), model)
    batch.pop("labels")
    extra = max(sum(len(branch) - 1 for branch in branches) for branches in answers)
    if extra:
        _grow(batch, answers, extra, model.dtype)
    logits = model(**batch, logits_to_keep=extra + 1, use_cache=False).logits
    likely = torch.log_softmax(logits.float(), dim=-1).cpu()
    found = []
    for row, branches in zip(likely, answers, strict=True):
        scores, at = [], 1
        for branch in branches:
            # the prompt's last position gives a branch's first token, and each of its tokens the next one
            places = [0, *range(at, at + len(branch) - 1)]
            scores.append(float(row[places, branch].sum()))
            at += len(branch) - 1
        found.append(scores)
    return found


def _grow(batch: dict[str, Tensor], answers: list[list[list[int]]], extra: int, dtype: torch.dtype) -> None:
    """Append the options to the prompts, each seeing the prompt and itself alone."""
    device = batch["input_ids"].device
    rows, length = batch["input_ids"].shape
    ids = torch.zeros(rows, extra, dtype=torch.int64)
    steps = torch.zeros(rows, extra, dtype=torch.int64)
    owner = torch.full((rows, extra), -1)
    for row, branches in enumerate(answers):
        at = 0
        for number, branch in enumerate(branches):
            size = len(branch) - 1
            ids[row, at : at + size] = torch.tensor(branch[:-1])
            steps[row, at : at + size] = torch.arange(1, size + 1)
            owner[row, at : at + size] = number
            at += size
    ids, steps, owner = ids.to(device), steps.to(device), owner.to(device)
    present = batch["attention_mask"].bool()
    after = torch.ones(length + extra, length + extra, dtype=torch.bool, device=device).tril()
    allowed = after.expand(rows, -1, -1).clone()
    allowed[:, :, :length] &= present[:, None, :]
    allowed[:, length:, length:] &= owner[:, :, None] == owner[:, None, :]
    mask = torch.zeros(rows, 1, length + extra, length + extra, dtype=dtype, device=device)
    batch["attention_mask"] = mask.masked_fill_(~allowed[:, None], torch.finfo(dtype).min)
    positions = batch["position_ids"]
    last = positions.amax(dim=-1, keepdim=True)
    if positions.ndim == 3:
        last = last.amax(dim=0, keepdim=True).expand(3, -1, -1)
    batch["position_ids"] = torch.cat([positions, last + steps], dim=-1)
    batch["input_ids"] = torch.cat([batch["input_ids"], ids], dim=1)


def _batches(
    processor: Processor, conversations: Sequence[Conversation], size: int
) -> Iterator[tuple[list[int], list[Sample]]]:
    """Prepared conversations of like length together, the next batch made ready while the model is at work."""
    # what is shown decides most of the length, and is known before anything is prepared
    weight = [sum(image.image.size for image in d.images) + sum(len(t.text) for t in d.turns) for d in conversations]
    order = sorted(range(len(conversations)), key=lambda number: (weight[number], number))
    chunks = [order[at : at + size] for at in range(0, len(order), size)]

    def ready(chunk: list[int]) -> list[Sample]:
        return [processor.prepare(conversations[number], prompt=True) for number in chunk]

    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(ready, chunk) for chunk in chunks[:1]]
        for number, chunk in enumerate(chunks):
            if number + 1 < len(chunks):
                coming.append(pool.submit(ready, chunks[number + 1]))
            yield chunk, coming.pop(0).result()


def _processor(model: ColvaModel) -> Processor:
    if model.processor is None:
        raise ValueError("the model came without a tokenizer, so it cannot take text: load it from a folder with one")
    processor: Processor = model.processor
    return processor


def _moved(batch: dict[str, Tensor], model: ColvaModel) -> dict[str, Tensor]:
    return {name: value.to(model.device) for name, value in batch.items()}


def restrict_to_letters(processor: Processor, letters: Sequence[str]) -> Callable[[int, Tensor], list[int]]:
    """For `generate`'s `prefix_allowed_tokens_fn`: nothing but one of the letters, then the end mark."""
    first = [processor.vocabulary.answer_ids(letter, processor.template)[0] for letter in letters]
    ends = list(stopping(processor)["eos_token_id"])

    def allowed(_row: int, so_far: Tensor) -> list[int]:
        return ends if len(so_far) and int(so_far[-1]) in first else first

    return allowed
