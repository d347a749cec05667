"""`colva init-tiny`: whole checkpoints of every family at toy size, with a small real tokenizer.

Weights are random, so answers are nonsense; everything else (files, tokens, templates, tiles, positions) is as in the
large ones, and a model runs on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from colva.checkpoints.convert import model_config
from colva.checkpoints.save import new_folder, write_json, write_tensors
from colva.checkpoints.store import in_memory
from colva.checkpoints.view import CONFIG, Checkpoint, expected
from colva.model.backbones import backbone_class
from colva.model.backbones.tiny import tiny_config as tiny_backbone
from colva.model.colva import ColvaModel
from colva.model.config import ColvaConfig
from colva.model.experts import EXPERTS, build, tiny_config
from colva.processing.chat_templates import TEMPLATES
from colva.processing.tokens import OBJECT
from mmvm_data.cases import prompts
from mmvm_data.core.errors import UsageError
from mmvm_data.formats.conversations import WHY

# what the tokenizer learns besides the 256 bytes
_MERGES: Final = 256
# about the pixels a side that a toy expert looks at
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
    """Attributes:
    backbone: name of its toy configuration, see `colva.model.backbones.tiny`.
    template: of the chat.
    tokens: special ones, in their order.
    pad: the token to fill up with.
    begins: a token that each text begins with, or "".
    """

    backbone: str
    template: str
    tokens: tuple[str, ...]
    pad: str = "<|endoftext|>"
    begins: str = ""


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
}


def init_tiny(destination: Path, family: str = "internvl2-phi3", expert: str | None = "radio", seed: int = 0) -> None:
    """Write a toy checkpoint; the same arguments give the same bytes.

    Args:
        destination: a folder that does not exist yet.
        family: a key of FAMILIES.
        expert: a key of `colva.model.experts.EXPERTS`; None or "none" for a model without one.
        seed: of the weights.

    Raises:
        UsageError: an unknown family or expert, or a destination that exists.
    """
    if family not in FAMILIES:
        raise UsageError(f"family {family!r} is not one of {', '.join(FAMILIES)}")
    if expert not in (None, "none", *EXPERTS):
        raise UsageError(f"expert {expert!r} is not one of {', '.join([*EXPERTS, 'none'])}")
    kind = FAMILIES[family]
    tokenizer = tiny_tokenizer(kind)
    config = _config(kind, tokenizer, None if expert == "none" else expert)
    found = Checkpoint(config, {}, destination, "ours", tokenizer=tokenizer)
    model = _random(config, seed)
    state = model.state_dict()
    found.tensors = in_memory({name: state[name] for name in expected(model)})
    with new_folder(destination) as folder:
        write_json(folder / CONFIG, model_config(found))
        tokenizer.save_pretrained(folder)
        write_tensors(folder, found.tensors)


def _config(kind: Family, tokenizer: PreTrainedTokenizerFast, expert: str | None) -> ColvaConfig:
    vocabulary = tokenizer.get_vocab()
    backbone = _backbone(kind, tokenizer)
    fields, side = None, 1024
    if expert is not None:
        fields = {"kind": expert, **tiny_config(expert)}
        with torch.device("meta"):
            stride = build(expert, tiny_config(expert)).stride
        side = round(_EXPERT_SIDE / stride) * stride
    return ColvaConfig(
        backbone_config=backbone,
        expert=fields,
        expert_side=side,
        pictures={"max_tiles": 4} if backbone.model_type == "internvl" else {},
        template=kind.template,
        image_token_id=vocabulary[backbone_class(backbone).image_wrap[1]],
        object_token_id=vocabulary[OBJECT],
    )


def _backbone(kind: Family, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    """The toy configuration with the tokenizer's numbers."""
    vocabulary = tokenizer.get_vocab()
    made = tiny_backbone(kind.backbone, len(tokenizer))
    made.image_token_id = vocabulary[backbone_class(made).image_wrap[1]]
    for name, token in _QWEN_IDS.items():
        if token in vocabulary:
            setattr(made, name, vocabulary[token])
    text = made.get_text_config()
    text.bos_token_id, text.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    text.pad_token_id = tokenizer.pad_token_id
    return made


def _random(config: ColvaConfig, seed: int) -> ColvaModel:
    """A model with weights from a seed and nothing else; matrices that begin as zero are drawn too, so that no part of
    a toy is without effect."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ColvaModel(config).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1 and not bool(parameter.any()):
                _draw(parameter)
    return model


def _draw(parameter: Tensor) -> None:
    nn.init.normal_(parameter, std=0.02)


def tiny_tokenizer(kind: Family) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that has learnt from this project's questions, with a family's special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + _MERGES, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(_sentences(), trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (*kind.tokens, OBJECT)]
    )
    if kind.begins:
        number = tokenizer.token_to_id(kind.begins)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{kind.begins} $A", special_tokens=[(kind.begins, number)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TEMPLATES[kind.template].end,
        pad_token=kind.pad,
        bos_token=kind.begins or None,
        clean_up_tokenization_spaces=False,
    )


def _sentences() -> list[str]:
    """What this project asks and is answered."""
    colors = ("cyan", "red", "yellow", "blue", "green", "magenta")
    asked = [prompts.format_question(kind, color) for kind in ("mask", "box") for color in colors]
    choices = [prompts.format_choices(prompts.build_options(range(1, count + 1), 1)) for count in (2, 4, 8, 12, 24)]
    objects = [f"Objects in Image-{n}: <query object>, <object-{n}>.\nImage-{n}: \n" for n in range(1, 9)]
    return [*asked, *choices, *objects, WHY, *(t.system for t in TEMPLATES.values())]
