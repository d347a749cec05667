"""`colva init-tiny`: whole checkpoints of every family at toy size, with a small real tokenizer.

Weights are random, so answers are nonsense; everything else (files, tokens, templates, tiles, positions) is as in the
large ones, and a model runs on one core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PretrainedConfig, PreTrainedTokenizerFast

from colva.checkpoints.store import in_memory
from colva.checkpoints.view import CONFIG, Checkpoint, expected
from colva.checkpoints.writing import new_folder, write_json, write_tensors
from colva.convert import model_config
from colva.data.templates import TEMPLATES
from colva.data.tokens import OBJECT
from colva.model.backbones import backbone_class
from colva.model.colva import ColvaModel
from colva.model.config import ColvaConfig
from colva.model.experts import EXPERTS, build, tiny_config
from mmvm_data.cases import prompts
from mmvm_data.errors import UsageError
from mmvm_data.formats.conversations import WHY

_WIDTH: Final = 48
_LAYERS: Final = 2
_HEADS: Final = 4
# what the tokenizer learns besides the 256 bytes
_MERGES: Final = 256
# about the pixels a side that a toy expert looks at
_EXPERT_SIDE: Final = 224

_INTERNVL_TOKENS: Final = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
_QWEN_TOKENS: Final = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
_CHATML: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LLAMA: Final = ("<unk>", "<s>", "</s>")

Ids = Callable[[str], int]


@dataclass(frozen=True)
class Family:
    """Attributes:
    config: makes the native configuration, given the size of the vocabulary and a token's number.
    template: of the chat.
    tokens: special ones, in their order.
    pad: the token to fill up with.
    begins: a token that each text begins with, or "".
    pictures: options of the picture preparation.
    """

    config: Callable[[int, Ids], PretrainedConfig]
    template: str
    tokens: tuple[str, ...]
    pad: str
    begins: str = ""
    pictures: tuple[tuple[str, Any], ...] = ()


def _text(kind: str, vocabulary: int, **more: Any) -> dict[str, Any]:
    fields = {
        "model_type": kind,
        "vocab_size": vocabulary,
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _HEADS // 2,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
        # ids of the published configurations, which lie outside a toy vocabulary
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
    }
    return fields | more


def _internvl(text: str, **more: Any) -> Callable[[int, Ids], PretrainedConfig]:
    def make(vocabulary: int, token: Ids) -> PretrainedConfig:
        return CONFIG_MAPPING["internvl"](
            vision_config={
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": _LAYERS,
                "num_attention_heads": _HEADS,
                "attention_bias": True,
                "image_size": [56, 56],
                "patch_size": [14, 14],
            },
            text_config=_text(text, vocabulary, **more),
            image_token_id=token("<IMG_CONTEXT>"),
            image_seq_length=4,
        )

    return make


def _qwen(kind: str, text: str, vision: dict[str, Any], **more: Any) -> Callable[[int, Ids], PretrainedConfig]:
    def make(vocabulary: int, token: Ids) -> PretrainedConfig:
        rope = {"type": "default", "mrope_section": [2, 2, 2]}
        return CONFIG_MAPPING[kind](
            vision_config=vision,
            text_config=_text(text, vocabulary, rope_scaling=rope, **more),
            image_token_id=token("<|image_pad|>"),
            video_token_id=token("<|video_pad|>"),
            vision_start_token_id=token("<|vision_start|>"),
            vision_end_token_id=token("<|vision_end|>"),
        )

    return make


def _llava(vocabulary: int, token: Ids) -> PretrainedConfig:
    return CONFIG_MAPPING["llava"](
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "projection_dim": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": _HEADS,
            "image_size": 56,
            "patch_size": 14,
        },
        text_config=_text("llama", vocabulary),
        image_token_index=token("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )


_QWEN2_VISION: Final = {"depth": 2, "embed_dim": 32, "num_heads": 4, "mlp_ratio": 2, "hidden_size": _WIDTH}
_QWEN25_VISION: Final = {
    **{"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": _WIDTH},
    **{"fullatt_block_indexes": [1], "window_size": 56},
}
_QWEN3_VISION: Final = {
    **{"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": _WIDTH},
    **{"num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
}
_TILES: Final = (("max_tiles", 4),)

FAMILIES: Final[dict[str, Family]] = {
    "internvl2-phi3": Family(
        _internvl("phi3", num_key_value_heads=_HEADS),
        "phi3-chat",
        (*_LLAMA, "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", *_INTERNVL_TOKENS),
        "<|endoftext|>",
        pictures=_TILES,
    ),
    "internvl2-internlm2": Family(
        _internvl("llama"),
        "internlm2-chat",
        (*_LLAMA, "<|im_start|>", "<|im_end|>", *_INTERNVL_TOKENS),
        "</s>",
        begins="<s>",
        pictures=_TILES,
    ),
    "internvl2_5-qwen2": Family(
        _internvl("qwen2"), "internvl2_5", (*_CHATML, *_INTERNVL_TOKENS), "<|endoftext|>", pictures=_TILES
    ),
    "internvl3-qwen2": Family(
        _internvl("qwen2"), "internvl2_5", (*_CHATML, *_INTERNVL_TOKENS), "<|endoftext|>", pictures=_TILES
    ),
    "internvl3_5-qwen3": Family(
        _internvl("qwen3", head_dim=12), "internvl2_5", (*_CHATML, *_INTERNVL_TOKENS), "<|endoftext|>", pictures=_TILES
    ),
    "qwen2-vl": Family(
        _qwen("qwen2_vl", "qwen2_vl_text", _QWEN2_VISION), "qwen2-vl", (*_CHATML, *_QWEN_TOKENS), "<|endoftext|>"
    ),
    "qwen2_5-vl": Family(
        _qwen("qwen2_5_vl", "qwen2_5_vl_text", _QWEN25_VISION), "qwen2-vl", (*_CHATML, *_QWEN_TOKENS), "<|endoftext|>"
    ),
    "qwen3-vl": Family(
        _qwen("qwen3_vl", "qwen3_vl_text", _QWEN3_VISION, head_dim=12),
        "qwen3-vl",
        (*_CHATML, *_QWEN_TOKENS),
        "<|endoftext|>",
    ),
    "llava-1.5": Family(_llava, "llava-v1", (*_LLAMA, "<pad>", "<image>"), "<pad>", begins="<s>"),
}


def init_tiny(
    destination: Path, family: str = "internvl2-phi3", expert: str | None = "radio", seed: int = 0
) -> None:
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
    backbone = kind.config(len(tokenizer), vocabulary.__getitem__)
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
        pictures=dict(kind.pictures),
        template=kind.template,
        image_token_id=vocabulary[backbone_class(backbone).image_wrap[1]],
        object_token_id=vocabulary[OBJECT],
    )


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
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*kind.tokens, OBJECT)])
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
    asked = [prompts.question(kind, color) for kind in ("mask", "box") for color in colors]
    choices = [prompts.choices_text(prompts.options(range(1, count + 1), 1)) for count in (2, 4, 8, 12, 24)]
    objects = [f"Objects in Image-{n}: <query object>, <object-{n}>.\nImage-{n}: \n" for n in range(1, 9)]
    return [*asked, *choices, *objects, WHY, *(t.system for t in TEMPLATES.values())]
