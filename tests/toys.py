"""A toy model of InternVL's kind with a small expert and a real tokenizer, and conversations about random pictures."""

from __future__ import annotations

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import InternVLConfig, PreTrainedTokenizerFast

from colva.model.backbones.internvl import InternVLBackbone
from colva.model.colva import ColvaModel
from colva.model.config import ColvaConfig
from colva.model.experts import tiny_config
from colva.processing.chat_templates import Turn, get_template
from colva.processing.collator import Conversation, ImageInput, Processor
from colva.processing.image_processors import build_image_processor
from colva.processing.tokens import OBJECT, Vocabulary, format_image_lines

MARKS = ["<pad>", "</s>", "<|im_start|>", "<|im_end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]


def tokenizer(*more: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE with the marks of every get_template, and `more` as single tokens."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[*MARKS, *more, OBJECT],
    )
    inner.train_from_iterator(["Here are two images. Which of these objects is the same as the object"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>")


def internvl(text_model: str = "qwen2", seed: int = 0) -> ColvaModel:
    """A toy in eval mode, tied embeddings, with its processor."""
    words = tokenizer(*InternVLBackbone.image_wrap)
    image_id = words.convert_tokens_to_ids("<IMG_CONTEXT>")
    native = InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "image_size": [56, 56],
            "patch_size": [14, 14],
        },
        text_config={
            "model_type": text_model,
            "vocab_size": len(words),
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 64,
            "tie_word_embeddings": True,
            "pad_token_id": 0,
        },
        image_token_id=image_id,
    )
    torch.manual_seed(seed)
    config = ColvaConfig(
        native,
        {"kind": "mobilenetv2", **tiny_config("mobilenetv2")},
        expert_side=128,
        pictures={"max_tiles": 4},
        image_token_id=image_id,
        object_token_id=words.convert_tokens_to_ids(OBJECT),
    )
    model = ColvaModel(config).eval()
    assert model.expert is not None
    with torch.no_grad():  # the initial scale is so small that nothing in a prompt tells answers apart
        for name, weight in model.named_parameters():
            if "language_model" in name and weight.ndim == 2:
                weight.mul_(4)
    model.processor = Processor(
        Vocabulary(words, InternVLBackbone.image_wrap),
        get_template(config.template),
        build_image_processor(native, config.pictures),
        config.expert_side,
        model.expert.stride,
        pad_id=0,
    )
    return model


def conversation(
    sizes: list[tuple[int, int]], objects: list[int], seed: int, answer: str | None = None
) -> Conversation:
    """Pictures of (height, width) with so many objects each, random and seeded; a prompt unless there is an answer."""
    rng = np.random.default_rng(seed)
    pictures = []
    for (height, width), count in zip(sizes, objects, strict=True):
        clean = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        masks = np.zeros((count, height, width), np.uint8)
        for mask in masks:
            y, x = rng.integers(0, height // 2), rng.integers(0, width // 2)
            mask[y : y + height // 2, x : x + width // 2] = 1
        pictures.append(ImageInput(rng.integers(0, 256, clean.shape, dtype=np.uint8), clean, masks))
    text = format_image_lines(len(sizes)) + ", ".join([OBJECT] * sum(objects)) + " Which is the same?"
    turns = [Turn("user", text)] + ([Turn("assistant", answer)] if answer is not None else [])
    return Conversation(tuple(turns), tuple(pictures), f"conversation {seed}")


def conversations(answer: str | None = None) -> list[Conversation]:
    """Two pictures, one, none, eight; objects from none to many."""
    return [
        conversation([(60, 90), (100, 50)], [1, 3], 0, answer),
        conversation([(64, 64)], [0], 1, answer),
        conversation([], [], 2, answer),
        conversation([(40, 70)] * 8, [5, 0, 1, 2, 0, 3, 1, 9], 3, answer),
    ]
