"""Generated answers, and the likelihood of each option as the answer, for many conversations at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from colva.model.colva import ColvaModel
from colva.processing import published_eval
from colva.processing.collator import Conversation, Processor, Sample


@dataclass(frozen=True)
class Answer:
    """The answer of a model.

    Attributes:
        text: the generated text, or the most likely option.
        scores: option -> log likelihood; None for a generated text.
        truncated: the generated text ended at the limit of tokens.
    """

    text: str
    scores: dict[str, float] | None = None
    truncated: bool = False


@dataclass(frozen=True)
class GeneratedReply:
    """A generated reply.

    Attributes:
        text: without the end mark.
        truncated: it ended at the limit of tokens, without an end mark.
        tokens_in, tokens_out: of the prompt, and of the reply without its end mark.
    """

    text: str
    truncated: bool
    tokens_in: int
    tokens_out: int


def generate(
    model: ColvaModel,
    conversations: Sequence[Conversation],
    batch_size: int = 8,
    max_new_tokens: int = 256,
    **options: Any,
) -> list[str]:
    """Return the text of the generated reply to each conversation, see `generate_replies`."""
    return [reply.text for reply in generate_replies(model, conversations, batch_size, max_new_tokens, **options)]


def generate_replies(
    model: ColvaModel,
    conversations: Sequence[Conversation],
    batch_size: int = 8,
    max_new_tokens: int = 256,
    **options: Any,
) -> list[GeneratedReply]:
    """Return the generated reply to each conversation, in order.

    Args:
        model: with its processor.
        conversations: each ends with a user turn.
        batch_size: conversations at a time; those of similar length are batched together.
        max_new_tokens: limit of each reply.
        options: transformers' `generate` options, such as `do_sample`, `streamer`.

    Raises:
        ValueError: the model has no tokenizer, or a conversation cannot be prepared.
    """
    processor = _require_processor(model)
    tokenizer = processor.vocabulary.tokenizer
    settings: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "do_sample": False,
        **stop_options(processor),
        **options,
    }
    replies: dict[int, GeneratedReply] = {}
    for indices, samples in _iterate_batches(processor, conversations, batch_size):
        batch = _move_to_device(processor.collate(samples, "left"), model)
        batch.pop("labels")
        tokens = model.generate(**(batch | settings)).cpu()
        is_end = torch.isin(tokens, torch.tensor(settings["eos_token_id"]))
        for index, sample, row, row_ends in zip(indices, samples, tokens, is_end, strict=True):
            ends = row_ends.nonzero()
            length = int(ends[0]) if len(ends) else len(row)
            read = read_tokens(processor.prompt_style, row[:length], bool(len(ends)))
            text = tokenizer.decode(read, skip_special_tokens=True).strip()
            truncated = not len(ends) and length >= max_new_tokens
            replies[index] = GeneratedReply(text, truncated, len(sample), length)
    return [replies[index] for index in range(len(conversations))]


def stop_options(processor: Processor) -> dict[str, Any]:
    """Return the options of `generate` that stop at the end mark of the chat template."""
    tokenizer = processor.vocabulary.tokenizer
    end_id = processor.vocabulary.token_id(processor.template.end)
    # the published evaluation of InternVL2 stops at the template's mark alone, and that of Qwen2-VL at both of its own
    others = {
        published_eval.INTERNVL: None,
        published_eval.QWEN2_VL: processor.vocabulary.token_id("<|endoftext|>"),
    }
    end_ids = {end_id, others.get(processor.prompt_style, tokenizer.eos_token_id)} - {None}
    return {"eos_token_id": sorted(end_ids or {tokenizer.eos_token_id} - {None}), "pad_token_id": processor.pad_id}


def read_tokens(prompt_style: str, tokens: Tensor, has_end: bool) -> Tensor:
    """Return the tokens of a reply that are read: all, or in the published evaluation of Qwen2-VL the last ones.

    Args:
        prompt_style: of the processor.
        tokens: as generated, without the end mark.
        has_end: whether the model ended the reply; the mark counts there.
    """
    limit = published_eval.READ_TOKENS.get(prompt_style)
    return tokens if limit is None else tokens[-(limit - has_end) :]


def restrict_to_letters(processor: Processor, letters: Sequence[str]) -> Callable[[int, Tensor], list[int]]:
    """Return a `prefix_allowed_tokens_fn` for `generate`: one of the letters, then the end mark."""
    letter_ids = [processor.vocabulary.answer_ids(letter, processor.template)[0] for letter in letters]
    end_ids = list(stop_options(processor)["eos_token_id"])

    def allowed_tokens(_row: int, generated: Tensor) -> list[int]:
        return end_ids if len(generated) and int(generated[-1]) in letter_ids else letter_ids

    return allowed_tokens


@torch.no_grad()
def score_options(
    model: ColvaModel,
    conversations: Sequence[Conversation],
    options: Sequence[Sequence[str]],
    batch_size: int = 8,
) -> list[list[float]]:
    """Return the log likelihood of each option as the assistant's answer, in one forward a batch.

    The prompt is computed once. When each option of a conversation is a different single token, such as a letter, the
    logits at the prompt's last position are enough. Otherwise the options follow the prompt side by side, masked from
    each other, each with the end mark, so that "1" and "12" compare as complete answers.

    Args:
        model: with its processor.
        conversations: each ends with a user turn.
        options: of each conversation.
        batch_size: conversations at a time.

    Returns:
        For each conversation its scores in the order of its options. Scores compare within a conversation only.

    Raises:
        ValueError: the model has no tokenizer, or a conversation has no options or one twice.
    """
    processor = _require_processor(model)
    for conversation, texts in zip(conversations, options, strict=True):
        if not texts or len(set(texts)) != len(texts):
            raise ValueError(f"{conversation.name}: options {list(texts)} must not be empty or repeat an option")
    token_ids: dict[str, list[int]] = {}
    for text in {text for texts in options for text in texts}:
        token_ids[text] = processor.vocabulary.answer_ids(text, processor.template)
    scores: dict[int, list[float]] = {}
    for indices, samples in _iterate_batches(processor, conversations, batch_size):
        answers = [_shorten_answers([token_ids[text] for text in options[index]]) for index in indices]
        for index, row in zip(indices, _score_batch(model, processor, samples, answers), strict=True):
            scores[index] = row
    return [scores[index] for index in range(len(conversations))]


def _shorten_answers(answers: list[list[int]]) -> list[list[int]]:
    """Return the first token of each answer if these differ and only the end mark follows; else the answers."""
    first_tokens = {answer[0] for answer in answers}
    if len(first_tokens) == len(answers) and all(len(answer) == 2 for answer in answers):
        return [answer[:1] for answer in answers]
    return answers


def _score_batch(
    model: ColvaModel, processor: Processor, samples: list[Sample], answers: list[list[list[int]]]
) -> list[list[float]]:
    """Return the log likelihoods of the answers (token ids) of each sample."""
    batch = _move_to_device(processor.collate(samples, "left"), model)
    batch.pop("labels")
    extra = max(sum(len(answer) - 1 for answer in row_answers) for row_answers in answers)
    if extra:
        _append_answers(batch, answers, extra, model.dtype)
    logits = model(**batch, logits_to_keep=extra + 1, use_cache=False).logits
    log_probs = torch.log_softmax(logits.float(), dim=-1).cpu()
    rows = []
    for row, row_answers in zip(log_probs, answers, strict=True):
        scores, start = [], 1
        for answer in row_answers:
            # the prompt's last position predicts an answer's first token, and each of its tokens the next one
            positions = [0, *range(start, start + len(answer) - 1)]
            scores.append(float(row[positions, answer].sum()))
            start += len(answer) - 1
        rows.append(scores)
    return rows


def _append_answers(batch: dict[str, Tensor], answers: list[list[list[int]]], extra: int, dtype: torch.dtype) -> None:
    """Append the answers to the prompts of a batch in place; each attends to the prompt and to itself only."""
    device = batch["input_ids"].device
    rows, length = batch["input_ids"].shape
    ids = torch.zeros(rows, extra, dtype=torch.int64)
    steps = torch.zeros(rows, extra, dtype=torch.int64)
    owner = torch.full((rows, extra), -1)
    for row, row_answers in enumerate(answers):
        start = 0
        for number, answer in enumerate(row_answers):
            end = start + len(answer) - 1
            ids[row, start:end] = torch.tensor(answer[:-1])
            steps[row, start:end] = torch.arange(1, len(answer))
            owner[row, start:end] = number
            start = end
    ids, steps, owner = ids.to(device), steps.to(device), owner.to(device)
    is_token = batch["attention_mask"].bool()
    causal = torch.ones(length + extra, length + extra, dtype=torch.bool, device=device).tril()
    allowed = causal.expand(rows, -1, -1).clone()
    allowed[:, :, :length] &= is_token[:, None, :]
    allowed[:, length:, length:] &= owner[:, :, None] == owner[:, None, :]
    mask = torch.zeros(rows, 1, length + extra, length + extra, dtype=dtype, device=device)
    batch["attention_mask"] = mask.masked_fill_(~allowed[:, None], torch.finfo(dtype).min)
    positions = batch["position_ids"]
    last = positions.amax(dim=-1, keepdim=True)
    if positions.ndim == 3:
        last = last.amax(dim=0, keepdim=True).expand(3, -1, -1)
    batch["position_ids"] = torch.cat([positions, last + steps], dim=-1)
    batch["input_ids"] = torch.cat([batch["input_ids"], ids], dim=1)


def _iterate_batches(
    processor: Processor, conversations: Sequence[Conversation], size: int
) -> Iterator[tuple[list[int], list[Sample]]]:
    """Yield prepared conversations of similar length with their indices; the next batch is prepared in a thread."""
    # the images decide most of the length, and their sizes are known before anything is prepared
    weights = [
        sum(0 if image.image is None else image.image.size for image in conversation.images)
        + sum(len(turn.text) for turn in conversation.turns)
        for conversation in conversations
    ]
    order = sorted(range(len(conversations)), key=lambda index: (weights[index], index))
    batches = [order[start : start + size] for start in range(0, len(order), size)]

    def prepare(indices: list[int]) -> list[Sample]:
        return [processor.prepare(conversations[index], prompt=True) for index in indices]

    with ThreadPoolExecutor(1) as pool:
        pending = [pool.submit(prepare, indices) for indices in batches[:1]]
        for number, indices in enumerate(batches):
            if number + 1 < len(batches):
                pending.append(pool.submit(prepare, batches[number + 1]))
            yield indices, pending.pop(0).result()


def _require_processor(model: ColvaModel) -> Processor:
    if model.processor is None:
        raise ValueError("the model has no tokenizer, so it cannot take text: load it from a folder with one")
    processor: Processor = model.processor
    return processor


def _move_to_device(batch: dict[str, Tensor], model: ColvaModel) -> dict[str, Tensor]:
    return {name: value.to(model.device) for name, value in batch.items()}
