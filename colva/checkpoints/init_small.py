"""`colva init-small`: a small multimodal model with pretrained parts, from weights that package registries carry.

A pretrained language model, vision expert and vision tower are joined by new layers: the projector between the tower
and the language model, and CoLVA's adapter. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import InternVLConfig, LlavaConfig, PretrainedConfig, PreTrainedTokenizerFast

from colva.checkpoints.checkpoint import CONFIG, Checkpoint, embedding_name, expected_shapes, module_name
from colva.checkpoints.convert import config_json
from colva.checkpoints.lazy_tensors import wrap_tensors
from colva.checkpoints.package_weights import TextModel, read_smollm2
from colva.checkpoints.save import atomic_folder, write_json, write_tensors
from colva.checkpoints.scratch_text import TEMPLATE, build_scratch_text
from colva.model.backbones import BACKBONES
from colva.model.colva import ColvaModel
from colva.model.config import ColvaConfig
from colva.model.experts import Expert
from colva.model.experts.mobilenetv2 import build_from_torchvision, find_imagenet_weights
from colva.model.vision_tower import ExpertTowerConfig
from colva.processing.tokens import OBJECT
from mmvm_data.core.errors import UsageError


def _build_mobilenet_expert() -> Expert:
    """Six blocks at a stride of 8, which tell small objects apart."""
    return build_from_torchvision(find_imagenet_weights(), blocks=6, output_stride=8)


def _build_mobilenet_tower() -> Expert:
    """Ten blocks at a stride of 16: a tile of 224 pixels is 14 x 14 tokens."""
    return build_from_torchvision(find_imagenet_weights(), blocks=10)


# name -> reader; each raises UsageError when its package is not installed
LANGUAGE_MODELS: Final[dict[str, tuple[Callable[[int], TextModel], str]]] = {
    "smollm2-135m": (lambda seed: read_smollm2(), "smollm2"),
    "scratch": (build_scratch_text, TEMPLATE),
}
EXPERTS: Final[dict[str, Callable[[], Expert]]] = {"mobilenetv2": _build_mobilenet_expert}
VISION_TOWERS: Final[dict[str, Callable[[], Expert]]] = {"mobilenetv2": _build_mobilenet_tower}
FAMILIES: Final = ("internvl", "llava")

# pixels a side of a tile, and of the expert's canvas
TILE: Final = 224
EXPERT_SIDE: Final = 512


def init_small(
    destination: Path,
    llm: str = "smollm2-135m",
    vision: str = "mobilenetv2",
    expert: str = "mobilenetv2",
    family: str = "internvl",
    seed: int = 0,
    tile: int = TILE,
    expert_side: int = EXPERT_SIDE,
) -> None:
    """Write a checkpoint of pretrained parts; the same arguments and packages give the same bytes.

    Args:
        destination: a folder that does not exist yet.
        llm, vision, expert: keys of LANGUAGE_MODELS, VISION_TOWERS and EXPERTS.
        family: `internvl` (tiles, each 7 x 7 tokens by pixel shuffle) or `llava` (one square, 14 x 14 tokens).
        seed: of the new layers.
        tile: pixels a side of a picture's tile (`internvl`) or square (`llava`) for the language model, a multiple of
            32. A tile below 224 is the whole picture; at 32 it is one token.
        expert_side: pixels of the longer side of a picture for the expert, a multiple of 32.

    Raises:
        UsageError: an unknown name, a side that is no multiple of 32, a package that is not installed, or a
            destination that exists.
        InputError: damaged weights.
    """
    choices: tuple[tuple[str, str, Any], ...] = (
        ("llm", llm, LANGUAGE_MODELS),
        ("vision", vision, VISION_TOWERS),
        ("expert", expert, EXPERTS),
        ("family", family, FAMILIES),
    )
    for argument, name, known in choices:
        if name not in known:
            raise UsageError(f"{argument} {name!r} is not one of {', '.join(known)}")
    for argument, side in (("tile", tile), ("expert_side", expert_side)):
        if side <= 0 or side % 32:
            raise UsageError(f"{argument} must be a multiple of 32, got {side}")
    read_text, template = LANGUAGE_MODELS[llm]
    parts = read_text(seed), template, VISION_TOWERS[vision](), EXPERTS[expert]()
    write_small(destination, *parts, family, seed, tile, expert_side)


def write_small(
    destination: Path,
    text: TextModel,
    template: str,
    tower: Expert,
    expert: Expert,
    family: str,
    seed: int = 0,
    tile: int = TILE,
    expert_side: int = EXPERT_SIDE,
) -> None:
    """Join pretrained parts and write the checkpoint; see `init_small`.

    New tokens get the mean of the known embeddings.
    """
    image_token = _add_tokens(text.tokenizer, family)
    config = ColvaConfig(
        backbone_config=_build_backbone_config(text, tower, family, image_token, tile),
        expert={"kind": expert.kind, **expert.config},
        expert_side=expert_side,
        pictures={"max_tiles": 4 if tile >= TILE else 1} if family == "internvl" else {},
        template=template,
        image_token_id=image_token,
        object_token_id=int(text.tokenizer.convert_tokens_to_ids(OBJECT)),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ColvaModel(config)
    model.eval()
    _reset_projector(model, seed)
    state = model.state_dict()
    prefix = module_name(model, model.backbone.language_model)
    _replace(state, prefix, _append_mean_rows(text.tensors, embedding_name(model).removeprefix(f"{prefix}."), config))
    if text.head is not None:
        rows = text.head.new_zeros(len(text.tokenizer) - len(text.head), text.head.shape[1])
        _replace(state, module_name(model, model.get_output_embeddings()), {"weight": torch.cat([text.head, rows])})
    _replace(state, module_name(model, model.backbone.frozen_parts[0]) + ".network", tower.state_dict())
    _replace(state, "expert", expert.state_dict())
    tensors = wrap_tensors({name: state[name] for name in expected_shapes(model)})
    checkpoint = Checkpoint(config, tensors, destination, "colva", tokenizer=text.tokenizer)
    with atomic_folder(destination) as folder:
        write_json(folder / CONFIG, config_json(checkpoint))
        text.tokenizer.save_pretrained(folder)
        write_tensors(folder, tensors)


def _add_tokens(tokenizer: PreTrainedTokenizerFast, family: str) -> int:
    """Add the family's image tokens and `<VPT_CONTEXT>`; returns the id of the image token."""
    wrap = BACKBONES[family].image_wrap
    tokens = [AddedToken(token, special=True, normalized=False) for token in (*wrap, OBJECT) if token]
    tokenizer.add_tokens(tokens, special_tokens=True)
    return int(tokenizer.convert_tokens_to_ids(wrap[1]))


def _build_backbone_config(
    text: TextModel, tower: Expert, family: str, image_token: int, tile: int
) -> PretrainedConfig:
    fields = text.config.to_dict()
    fields["vocab_size"] = len(text.tokenizer)
    vision = ExpertTowerConfig({"kind": tower.kind, **tower.config}, tile)
    cells = tile // tower.stride
    common: dict[str, Any] = {
        "text_config": fields,
        "vision_config": vision,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "tie_word_embeddings": bool(text.config.tie_word_embeddings),
    }
    if family == "internvl":
        return InternVLConfig(image_token_id=image_token, image_seq_length=(cells // 2) ** 2, **common)
    return LlavaConfig(image_token_index=image_token, image_seq_length=cells**2, **common)


def _reset_projector(model: ColvaModel, seed: int) -> None:
    """Give the projector PyTorch's own initial values, as the adapter; those of transformers are too small for keys."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.backbone.frozen_parts[1].modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()


def _append_mean_rows(tensors: Mapping[str, Tensor], embeddings: str, config: ColvaConfig) -> dict[str, Tensor]:
    table = tensors[embeddings]
    rows = config.get_text_config().vocab_size - len(table)
    return {**tensors, embeddings: torch.cat([table, table.mean(dim=0, keepdim=True).expand(rows, -1)])}


def _replace(state: dict[str, Tensor], prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """Put a part's tensors into a state dict; ValueError if they are not exactly those of the part."""
    inner = {name.removeprefix(f"{prefix}."): tensor for name, tensor in state.items() if name.startswith(f"{prefix}.")}
    if {n: t.shape for n, t in inner.items()} != {n: t.shape for n, t in tensors.items()}:
        raise ValueError(f"{prefix}: the weights do not fit the configuration")
    state |= {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}
