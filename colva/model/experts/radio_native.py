"""RADIO as transformers has it since version 5 (`model_type: radio`, C-RADIOv4) to `Radio`.

Read without transformers' own class, which older versions do not have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from mmvm_data.core.errors import InputError

_FIXED: Final = {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "num_channels": 3, "use_swiglu_ffn": False}
"""Fields that describe a network that `Radio` cannot be when they have another value."""
_NAMES: Final = (
    (r"embeddings\.patch_projection\.weight", "patch_generator.embedder.weight"),
    (r"embeddings\.position_embedding", "patch_generator.pos_embed"),
    (r"embeddings\.cls_register_token", "patch_generator.cls_token.token"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layer\.(\d+)\.(norm[12]|mlp\.fc[12])\.(\w+)", r"blocks.\1.\2.\3"),
    (r"summary_idxs", "summary_idxs"),
)
_QKV: Final = re.compile(r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(\w+)")


def is_native_radio(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of transformers' own RADIO."""
    return config.get("model_type") == "radio" and not isinstance(config.get("args"), Mapping)


def from_native_config(config: Mapping[str, Any], file: str = "config.json") -> dict[str, Any]:
    """Return the `config` of a `Radio` for transformers' configuration; missing fields have its defaults.

    Raises:
        InputError: a field describes a network other than that of `radio.py`.
    """
    for name, value in _FIXED.items():
        if config.get(name, value) != value:
            raise InputError(file, f"expected {value}, found {config[name]!r}", name)
    width, ratio = config.get("hidden_size", 1280), config.get("mlp_ratio", 4.0)
    for name, value in (("hidden_size", width), ("mlp_ratio", ratio)):
        if type(value) not in (int, float):
            raise InputError(file, f"expected a number, found {value!r:.40}", name)
    summary = config.get("summary_idxs") or [0, 1]
    if not isinstance(summary, list):
        raise InputError(file, f"expected a list, found {summary!r:.40}", "summary_idxs")
    return {
        "hidden_size": width,
        "depth": config.get("num_hidden_layers", 32),
        "heads": config.get("num_attention_heads", 16),
        "mlp_size": int(width * ratio),
        "patch_size": config.get("patch_size", 16),
        "max_size": config.get("max_img_size", 2048),
        "class_tokens": config.get("num_cls_tokens", 3),
        "registers": config.get("num_registers", 7),
        "summary_idxs": summary,
        "max_resolution": config.get("max_img_size", 2048),
        "qkv_bias": config.get("qkv_bias", True),
        "mlp_norm": False,
        "final_norm": False,
        "align_corners": False,
    }


def from_native_name(key: str) -> tuple[str, int | None] | None:
    """Return the name in a `Radio` of a tensor, and which third of it this is (queries, keys, values), if it is one.

    None for tensors that `Radio` does not have.
    """
    key = key.removeprefix("model.")
    match = _QKV.fullmatch(key)
    if match:
        return f"blocks.{match[1]}.attn.qkv.{match[3]}", ("query", "key", "value").index(match[2])
    for pattern, replacement in _NAMES:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(replacement), None
    return None
