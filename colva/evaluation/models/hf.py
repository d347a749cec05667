"""Any image-text-to-text model in a folder that transformers loads natively; no code of the folder is run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText

from colva.evaluation.models.base import ModelOptions, Reply, require_limit
from colva.evaluation.models.checkpoint_path import model_digest, model_name
from colva.evaluation.models.hf_inputs import Message, open_input_maker
from colva.evaluation.question import Question
from colva.model.attention import enable_packed_sdpa
from mmvm_data.core.errors import InputError, UsageError, first_line
from mmvm_data.io import media
from mmvm_data.io.files import path_kind
from mmvm_data.io.pillow import IMAGE_ERRORS

_CUSTOM_GENERATE = "custom_generate"
_DTYPES: Mapping[str, Any] = {
    "auto": "auto",
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class HfModelAdapter:
    """A local model; see ``base.ModelAdapter`` for the attributes.

    Decoding is greedy. A batch is padded on the left; only rounding may differ between batch sizes.

    Args:
        folder: of the model.
        options: batch, device, dtype, tokens, generation or likelihood.

    Raises:
        UsageError: no such model, one that transformers does not know, or one without a processor or a chat template.
    """

    workers = 1

    def __init__(self, folder: Path, options: ModelOptions) -> None:
        self._max_tokens = require_limit(options)
        if not (folder / "config.json").is_file():
            raise UsageError(f"hf:{folder}: expected a folder with config.json")
        if path_kind(folder / _CUSTOM_GENERATE) != "nothing":
            # transformers runs a local one whatever trust_remote_code is
            raise UsageError(f"hf:{folder}: has code in {_CUSTOM_GENERATE}, and no code of a model is run")
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            model: Any = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=_DTYPES[options.dtype], trust_remote_code=False
            )
        except (ValueError, OSError, ImportError) as error:
            raise UsageError(f"hf:{folder}: transformers cannot load it: {first_line(error)}") from error
        self._inputs = open_input_maker(folder, config.model_type)
        device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
        enable_packed_sdpa(model)
        self._model = model.to(device).eval()
        self._options = options
        self._forward_parameters = inspect.signature(model.forward).parameters
        self.name = model_name(folder)
        self.batch = options.batch
        self.fingerprint: Mapping[str, Any] = {
            "adapter": "hf",
            "files": model_digest(folder),
            "dtype": str(model.dtype),
            "answer_by": options.answer_by,
            "max_tokens": self._max_tokens,
            "transformers": transformers.__version__,
        }

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Return one reply for each question, all of them generated in one batch.

        Raises:
            InputError: an image cannot be read.
        """
        images = [[_read_image(path) for path in question.images] for question in questions]
        chats = [_make_chat(question) for question in questions]
        if self._options.answer_by == "likelihood":
            return [self._likeliest_option(q, chat, row) for q, chat, row in zip(questions, chats, images, strict=True)]
        replies = self._generate(chats, images)
        asked = [k for k, question in enumerate(questions) if question.why_prompt is not None]
        if asked:
            second_turns = [_add_turn(chats[k], replies[k].text, questions[k].why_prompt or "") for k in asked]
            for k, reason in zip(asked, self._generate(second_turns, [images[k] for k in asked]), strict=True):
                replies[k] = replace(replies[k], why=reason.text, truncated=replies[k].truncated or reason.truncated)
        return replies

    @torch.inference_mode()
    def _generate(self, chats: Sequence[Sequence[Message]], images: Sequence[Sequence[Image.Image]]) -> list[Reply]:
        texts = [self._inputs.prompt_text(chat) for chat in chats]
        inputs = self._make_tensors(texts, images)
        limit, tokenizer = self._max_tokens, self._inputs.tokenizer
        generated = self._model.generate(
            **inputs,
            max_new_tokens=limit,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=tokenizer.pad_token_id,
            trust_remote_code=False,
        )
        generated = generated[:, inputs["input_ids"].shape[1] :].cpu()
        end_tokens = self._end_tokens()
        replies = []
        for row, prompt_length in zip(generated, inputs["attention_mask"].sum(1).tolist(), strict=True):
            ends = torch.isin(row, end_tokens).nonzero()
            length = int(ends[0]) if len(ends) else len(row)
            text = tokenizer.decode(row[:length], skip_special_tokens=True).strip()
            truncated = not len(ends) and length >= limit
            replies.append(Reply(text, truncated=truncated, tokens_in=prompt_length, tokens_out=length))
        return replies

    @torch.inference_mode()
    def _likeliest_option(self, question: Question, chat: Sequence[Message], images: Sequence[Image.Image]) -> Reply:
        """Return the label with the highest log-likelihood as the continuation of the prompt, the sum over its tokens.

        Labels with the same number of tokens go through the model together, so that nothing is padded and positions
        are those of generation.
        """
        if not question.choices:
            raise UsageError("`answer_by='likelihood'` needs choices, and the questions have none")
        prompt = self._inputs.prompt_text(chat)
        tokenizer = self._inputs.tokenizer
        labels = list(question.choices)
        lengths = {label: len(tokenizer(label, add_special_tokens=False)["input_ids"]) for label in labels}
        scores: dict[str, float] = {}
        for length in sorted(set(lengths.values())):
            group = [label for label in labels if lengths[label] == length]
            for start in range(0, len(group), self.batch):
                batch = group[start : start + self.batch]
                inputs = self._make_tensors([prompt + label for label in batch], [images] * len(batch))
                ids = inputs["input_ids"]
                logits = self._model(**inputs).logits[:, -length - 1 : -1].float()
                likelihoods = logits.log_softmax(-1).gather(-1, ids[:, -length:, None])[..., 0].sum(1)
                scores |= dict(zip(batch, likelihoods.tolist(), strict=True))
        best = max(labels, key=lambda label: scores[label])
        return Reply(best, scores={label: scores[label] for label in labels}, why="" if question.why_prompt else None)

    def _make_tensors(self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]]) -> dict[str, Any]:
        kept = {}
        for name, value in self._inputs.tensors(texts, images).items():
            # many tokenizers return token types that few models take
            if isinstance(value, torch.Tensor) and (name != "token_type_ids" or name in self._forward_parameters):
                kept[name] = value.to(self._model.device, self._model.dtype if value.is_floating_point() else None)
        return kept

    def _end_tokens(self) -> torch.Tensor:
        tokens = self._model.generation_config.eos_token_id
        tokens = self._inputs.tokenizer.eos_token_id if tokens is None else tokens
        return torch.tensor([] if tokens is None else tokens).reshape(-1)


def open_model(name: str, options: ModelOptions) -> HfModelAdapter:
    """Open the model in a folder.

    Raises:
        UsageError: see ``HfModelAdapter``.
    """
    return HfModelAdapter(Path(name), options)


def _make_chat(question: Question) -> list[Message]:
    content = [*({"type": "image"} for _ in question.images), {"type": "text", "text": question.text}]
    return [{"role": "user", "content": content}]


def _add_turn(chat: Sequence[Message], reply: str, prompt: str) -> list[Message]:
    return [
        *chat,
        {"role": "assistant", "content": [{"type": "text", "text": reply}]},
        {"role": "user", "content": [{"type": "text", "text": prompt}]},
    ]


def _read_image(path: Path) -> Image.Image:
    try:
        with Image.open(BytesIO(media.read_image_bytes(path))) as image:
            converted: Image.Image = image.convert("RGB")
            return converted
    except IMAGE_ERRORS as error:
        raise InputError(path, f"image cannot be read: {error}") from error
