"""Any image-text-to-text model in a folder that transformers loads natively; no code of the folder is run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText

from colva.evaluation.models.base import PlayerOptions, Reply
from colva.evaluation.models.checkpoint_path import digest_of_folder, name_of_folder
from colva.evaluation.models.hf_inputs import Message, open_inputs
from colva.evaluation.question import Question
from colva.model.attention import enable_packed_sdpa
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io import media

_DTYPES: Mapping[str, Any] = {
    "auto": "auto",
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class HfPlayer:
    """A local model; see ``player.Player`` for the attributes.

    Decoding is greedy. A batch is padded on the left; rounding may differ between sizes of batches, nothing else does.

    Args:
        folder: of the model.
        options: batch, device, type of numbers, tokens, generation or likelihood.

    Raises:
        UsageError: no such model, or one that transformers does not know, or without a processor or a chat template.
    """

    workers = 1

    def __init__(self, folder: Path, options: PlayerOptions) -> None:
        if not (folder / "config.json").is_file():
            raise UsageError(f"--model hf:{folder}: expected a folder with config.json")
        try:
            config = AutoConfig.from_pretrained(folder)
            model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=_DTYPES[options.dtype])
        except (ValueError, OSError, ImportError) as error:
            raise UsageError(
                f"--model hf:{folder}: transformers cannot load it: {str(error).splitlines()[0]}"
            ) from error
        self._inputs = open_inputs(folder, config.model_type)
        device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
        enable_packed_sdpa(model)
        self._model = model.to(device).eval()
        self._options = options
        self._taken = inspect.signature(model.forward).parameters
        self.name = name_of_folder(folder)
        self.batch = options.batch
        self.fingerprint: Mapping[str, Any] = {
            "player": "hf",
            "files": digest_of_folder(folder),
            "dtype": str(model.dtype),
            "by": options.by,
            "max_tokens": options.max_tokens,
            "transformers": transformers.__version__,
        }

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply a question, all of them in one batch.

        Raises:
            InputError: an image cannot be read.
        """
        images = [[_open(path) for path in question.images] for question in questions]
        chats = [_chat(question) for question in questions]
        if self._options.by == "likelihood":
            return [self._likeliest(q, chat, row) for q, chat, row in zip(questions, chats, images, strict=True)]
        first = self._generate(chats, images)
        again = [k for k, question in enumerate(questions) if question.why is not None]
        whys: dict[int, str] = {}
        if again:
            longer = [_longer(chats[k], first[k].text, questions[k].why or "") for k in again]
            whys = {k: r.text for k, r in zip(again, self._generate(longer, [images[k] for k in again]), strict=True)}
        return [
            Reply(r.text, why=whys.get(k), cut=r.cut, tokens_in=r.tokens_in, tokens_out=r.tokens_out)
            for k, r in enumerate(first)
        ]

    @torch.inference_mode()
    def _generate(self, chats: Sequence[Sequence[Message]], images: Sequence[Sequence[Image.Image]]) -> list[Reply]:
        texts = [self._inputs.text_of(chat) for chat in chats]
        given = self._tensors(texts, images)
        limit, tokenizer = self._options.max_tokens, self._inputs.tokenizer
        made = self._model.generate(
            **given,
            max_new_tokens=limit,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=tokenizer.pad_token_id,
        )
        made = made[:, given["input_ids"].shape[1] :].cpu()
        ends = self._ends()
        replies = []
        for row, asked in zip(made, given["attention_mask"].sum(1).tolist(), strict=True):
            stopped = torch.isin(row, ends).nonzero()
            length = int(stopped[0]) if len(stopped) else len(row)
            text = tokenizer.decode(row[:length], skip_special_tokens=True).strip()
            replies.append(Reply(text, cut=not len(stopped) and length >= limit, tokens_in=asked, tokens_out=length))
        return replies

    @torch.inference_mode()
    def _likeliest(self, question: Question, chat: Sequence[Message], images: Sequence[Image.Image]) -> Reply:
        """Log-likelihood of each label as the whole continuation of the prompt, the sum over its tokens.

        Labels of as many tokens go through the model together, so that nothing is padded and positions are those of
        generation.
        """
        if not question.choices:
            raise UsageError("--by likelihood: the questions do not say what there is to choose from")
        prompt = self._inputs.text_of(chat)
        tokenizer = self._inputs.tokenizer
        labels = list(question.choices)
        lengths = {label: len(tokenizer(label, add_special_tokens=False)["input_ids"]) for label in labels}
        scores: dict[str, float] = {}
        for length in sorted(set(lengths.values())):
            group = [label for label in labels if lengths[label] == length]
            for start in range(0, len(group), self.batch):
                part = group[start : start + self.batch]
                given = self._tensors([prompt + label for label in part], [images] * len(part))
                ids = given["input_ids"]
                logits = self._model(**given).logits[:, -length - 1 : -1].float()
                taken = logits.log_softmax(-1).gather(-1, ids[:, -length:, None])[..., 0].sum(1)
                scores |= dict(zip(part, taken.tolist(), strict=True))
        best = max(labels, key=lambda label: scores[label])
        return Reply(best, scores={label: scores[label] for label in labels}, why="" if question.why else None)

    def _tensors(self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]]) -> dict[str, Any]:
        given = self._inputs.tensors(texts, images)
        kept = {}
        for name, value in given.items():
            # many tokenizers give token types that few models take
            if isinstance(value, torch.Tensor) and (name != "token_type_ids" or name in self._taken):
                kept[name] = value.to(self._model.device, self._model.dtype if value.is_floating_point() else None)
        return kept

    def _ends(self) -> torch.Tensor:
        ends = self._model.generation_config.eos_token_id
        ends = self._inputs.tokenizer.eos_token_id if ends is None else ends
        return torch.tensor([] if ends is None else ends).reshape(-1)


def open_player(name: str, options: PlayerOptions) -> HfPlayer:
    """The model in a folder.

    Raises:
        UsageError: see ``HfPlayer``.
    """
    return HfPlayer(Path(name), options)


def _chat(question: Question) -> list[Message]:
    content = [*({"type": "image"} for _ in question.images), {"type": "text", "text": question.text}]
    return [{"role": "user", "content": content}]


def _longer(chat: Sequence[Message], said: str, why: str) -> list[Message]:
    return [
        *chat,
        {"role": "assistant", "content": [{"type": "text", "text": said}]},
        {"role": "user", "content": [{"type": "text", "text": why}]},
    ]


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except media.IMAGE_ERRORS as error:
        raise InputError(path, f"image cannot be read: {error}") from error
