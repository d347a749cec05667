"""`colva init-tiny`: complete checkpoints of every family at toy size, with a small real tokenizer.

Weights are random, so answers are nonsense; everything else (files, tokens, templates, tiles, positions) is as in the
large ones, and a model runs on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from colva.checkpoints.checkpoint import CONFIG, Checkpoint, expected_shapes
from colva.checkpoints.convert import config_json
from colva.checkpoints.lazy_tensors import wrap_tensors
from colva.checkpoints.save import atomic_folder, write_json, write_tensors
from colva.model.backbones import backbone_class
from colva.model.backbones.tiny import tiny_config as tiny_backbone
from colva.model.colva import ColvaModel
from colva.model.config import ColvaConfig
from colva.model.experts import EXPERTS, build_expert, tiny_config
from colva.model.initial_values import init_fan_in
from colva.processing.chat_templates import TEMPLATES
from colva.processing.tokens import OBJECT
from mmvm_data.cases import prompts
from mmvm_data.core.errors import UsageError
from mmvm_data.formats.conversations import WHY

# tokens that the tokenizer learns besides the 256 bytes
_MERGES: Final = 256
# pixels a side of a toy expert's canvas, about
_EXPERT_SIDE: Final = 224

_INTERNVL_TOKENS: Final = (
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<quad>",
    "</quad>",
    "<ref>",
    "</ref>",
    "<box>",
    "</box>",
)
_QWEN_TOKENS: Final = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
_QWEN_IDS: Final = {
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
_CHATML: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LLAMA: Final = ("<unk>", "<s>", "</s>")


@dataclass(frozen=True)
class Family:
    """A model family at toy size.

    Attributes:
        backbone: name of its toy configuration, see `colva.model.backbones.tiny`.
        template: name of the chat template.
        tokens: special tokens, in order.
        pad: the padding token.
        bos: a token that each text begins with, or "".
    """

    backbone: str
    template: str
    tokens: tuple[str, ...]
    pad: str = "<|endoftext|>"
    bos: str = ""


_PHI3: Final = (*_LLAMA, "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", *_INTERNVL_TOKENS)
_INTERNLM2: Final = (*_LLAMA, "<|im_start|>", "<|im_end|>", *_INTERNVL_TOKENS)

FAMILIES: Final[dict[str, Family]] = {
    "internvl2-phi3": Family("internvl-phi3", "phi3-chat", _PHI3),
    "internvl2-internlm2": Family("internvl-llama", "internlm2-chat", _INTERNLM2, "</s>", "<s>"),
    "internvl2_5-qwen2": Family("internvl-qwen2", "internvl2_5", (*_CHATML, *_INTERNVL_TOKENS)),
    "internvl3_5-qwen3": Family("internvl-qwen3", "internvl2_5", (*_CHATML, *_INTERNVL_TOKENS)),
    "qwen2-vl": Family("qwen2_vl", "qwen2-vl", (*_CHATML, *_QWEN_TOKENS)),
    "qwen2_5-vl": Family("qwen2_5_vl", "qwen2-vl", (*_CHATML, *_QWEN_TOKENS)),
    "qwen3-vl": Family("qwen3_vl", "qwen3-vl", (*_CHATML, *_QWEN_TOKENS)),
    "llava-1.5": Family("llava", "llava-v1", (*_LLAMA, "<pad>", "<image>"), "<pad>", "<s>"),
    "llava-onevision": Family("llava_onevision", "qwen2-vl", (*_CHATML, "<image>", "<video>")),
}


INITS: Final = ("transformers", "fan-in")


def init_tiny(
    destination: Path,
    family: str = "internvl2-phi3",
    expert: str | None = "radio",
    seed: int = 0,
    init: str = "transformers",
) -> None:
    """Write a toy checkpoint; the same arguments give the same bytes.

    Args:
        destination: a folder that does not exist yet.
        family: a key of FAMILIES.
        expert: a key of `colva.model.experts.EXPERTS`; None or "none" for a model without one.
        seed: of the weights.
        init: initial values of the language model: `transformers`, its own; or `fan-in`, for a model that is to be
            trained from scratch (see `colva.model.initial_values`).

    Raises:
        UsageError: an unknown family, expert or `init`, or a destination that exists.
    """
    if family not in FAMILIES:
        raise UsageError(f"family {family!r} is not one of {', '.join(FAMILIES)}")
    if expert not in (None, "none", *EXPERTS):
        raise UsageError(f"expert {expert!r} is not one of {', '.join([*EXPERTS, 'none'])}")
    if init not in INITS:
        raise UsageError(f"init {init!r} is not one of {', '.join(INITS)}")
    tokenizer = build_tiny_tokenizer(FAMILIES[family])
    config = _build_config(FAMILIES[family], tokenizer, None if expert == "none" else expert)
    model = _build_random_model(config, seed)
    if init == "fan-in":
        init_fan_in(model.backbone.language_model, model.get_output_embeddings(), seed)
    state = model.state_dict()
    tensors = wrap_tensors({name: state[name] for name in expected_shapes(model)})
    checkpoint = Checkpoint(config, tensors, destination, "colva", tokenizer=tokenizer)
    with atomic_folder(destination) as folder:
        write_json(folder / CONFIG, config_json(checkpoint))
        tokenizer.save_pretrained(folder)
        write_tensors(folder, tensors)


def _build_config(family: Family, tokenizer: PreTrainedTokenizerFast, expert: str | None) -> ColvaConfig:
    vocabulary = tokenizer.get_vocab()
    backbone = _build_backbone_config(family, tokenizer)
    fields, side = None, 1024
    if expert is not None:
        fields = {"kind": expert, **tiny_config(expert)}
        with torch.device("meta"):
            stride = build_expert(expert, tiny_config(expert)).stride
        side = round(_EXPERT_SIDE / stride) * stride
    return ColvaConfig(
        backbone_config=backbone,
        expert=fields,
        expert_side=side,
        pictures={"max_tiles": 4} if backbone.model_type == "internvl" else {},
        template=family.template,
        image_token_id=vocabulary[backbone_class(backbone).image_wrap[1]],
        object_token_id=vocabulary[OBJECT],
    )


def _build_backbone_config(family: Family, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    """Return the toy configuration with the token ids of a tokenizer."""
    vocabulary = tokenizer.get_vocab()
    config = tiny_backbone(family.backbone, len(tokenizer))
    config.image_token_id = vocabulary[backbone_class(config).image_wrap[1]]
    for name, token in _QWEN_IDS.items():
        if token in vocabulary:
            setattr(config, name, vocabulary[token])
    text = config.get_text_config()
    text.bos_token_id, text.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    text.pad_token_id = tokenizer.pad_token_id
    return config


def _build_random_model(config: ColvaConfig, seed: int) -> ColvaModel:
    """Return a model with weights from a seed.

    Matrices that are initialized to zero are drawn too, so that every part of a toy model has an effect.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ColvaModel(config)
        model.eval()
        for parameter in model.parameters():
            if parameter.ndim > 1 and not bool(parameter.any()):
                nn.init.normal_(parameter, std=0.02)
    return model


def build_tiny_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on this project's questions, with a family's special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + _MERGES, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(_training_sentences(), trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (*family.tokens, OBJECT)]
    )
    if family.bos:
        bos_id = tokenizer.token_to_id(family.bos)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[(family.bos, bos_id)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TEMPLATES[family.template].end,
        pad_token=family.pad,
        bos_token=family.bos or None,
        clean_up_tokenization_spaces=False,
    )


def _training_sentences() -> list[str]:
    """Return questions, choices and object lines of this project."""
    colors = ("cyan", "red", "yellow", "blue", "green", "magenta")
    questions = [prompts.format_question(kind, color) for kind in ("mask", "box") for color in colors]
    choices = [prompts.format_choices(prompts.build_options(range(1, count + 1), 1)) for count in (2, 4, 8, 12, 24)]
    objects = [f"Objects in Image-{n}: <query object>, <object-{n}>.\nImage-{n}: \n" for n in range(1, 9)]
    return [*questions, *choices, *objects, WHY, *(t.system for t in TEMPLATES.values())]
