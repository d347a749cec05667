"""Published configurations to `ColvaConfig`, and `ColvaConfig` to the original InternVL layout's.

The original layout is that of InternVL's `configuration_internvl_chat.py`: `vision_config`, `llm_config`, and for CoLVA
`radio_config`. Remote code that a configuration names (`auto_map`) is never used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from transformers import CONFIG_MAPPING, InternVLConfig

from colva.checkpoints.published_names import Layout
from colva.model.config import ColvaConfig
from colva.model.experts.radio_names import from_radio_config, to_radio_config
from colva.processing.chat_templates import TEMPLATES
from mmvm_data.core.errors import InputError

# text models of the original layout, and the class of transformers that each is
TEXT_MODELS: Final = {"phi3": "phi3", "qwen2": "qwen2", "qwen3": "qwen3", "llama": "llama", "internlm2": "llama"}
# families whose transformers folders are supported, and their chat templates
NATIVE_TEMPLATES: Final = {
    "internvl": "internvl2_5",
    "qwen2_vl": "qwen2-vl",
    "qwen2_5_vl": "qwen2-vl",
    "qwen3_vl": "qwen3-vl",
    "llava": "llava-v1",
    "llava_onevision": "qwen2-vl",
}
# fields of `PretrainedConfig.to_dict` that describe the file and not the network
_FILE_FIELDS: Final = {
    *("auto_map", "_name_or_path", "_commit_hash", "architectures", "transformers_version", "torch_dtype", "dtype"),
    *("attn_implementation", "_attn_implementation_internal", "_attn_implementation_autoset"),
}


def detect_layout(published: dict[str, Any], file: Path) -> Layout:
    """Return the layout of a folder by its config.json; InputError when it is of no known layout."""
    model_type = published.get("model_type")
    if model_type == "colva":
        return "colva"
    if "llm_config" in published and "vision_config" in published:
        text = _require_object(published, "llm_config", file).get("model_type")
        return "internlm2" if text == "internlm2" else "internvl"
    if model_type in NATIVE_TEMPLATES:
        return "transformers"
    known = ", ".join(NATIVE_TEMPLATES)
    raise InputError(
        file, f"expected colva, an original InternVL, or one of {known}; found {model_type!r}", "model_type"
    )


def to_colva_config(published: dict[str, Any], file: Path) -> ColvaConfig:
    """Return the CoLVA configuration of a published one, without the token ids, which only a tokenizer has.

    Args:
        published: the content of a config.json.
        file: where it came from, for messages.

    Raises:
        InputError: a field is missing, or has a value that transformers' classes do not support.
    """
    layout = detect_layout(published, file)
    if layout == "colva":
        config: ColvaConfig = _build_config(lambda: ColvaConfig.from_dict(published), file)
        return config
    if layout == "transformers":
        model_type = published["model_type"]
        backbone = _build_config(lambda: CONFIG_MAPPING[model_type].from_dict(published), file)
        return ColvaConfig(backbone_config=backbone, template=NATIVE_TEMPLATES[model_type])
    radio = published.get("radio_config")
    expert = None
    if radio is not None:
        expert = {"kind": "radio", **from_radio_config(_require_object(published, "radio_config", file), str(file))}
    template = published.get("template")
    if template not in TEMPLATES:
        raise InputError(file, f"expected one of {', '.join(TEMPLATES)}, found {template!r}", "template")
    pictures = {
        "max_tiles": int(published.get("max_dynamic_patch", 12)) if published.get("dynamic_image_size", True) else 1,
        "min_tiles": int(published.get("min_dynamic_patch", 1)),
        "thumbnail": bool(published.get("use_thumbnail", True)),
    }
    return ColvaConfig(
        backbone_config=_to_internvl_config(published, file),
        expert=expert,
        pictures=pictures,
        template=template,
        prompt_style="published-eval" if expert else "colva",
    )


def image_options(model_type: str, preprocessor: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return the options of the image processor that a transformers `preprocessor_config.json` sets."""
    size = preprocessor.get("size")
    size = size if isinstance(size, dict) else {}
    if model_type == "internvl":
        is_single_tile = preprocessor.get("crop_to_patches") is False
        named = {
            "max_tiles": 1 if is_single_tile else preprocessor.get("max_patches"),
            "min_tiles": preprocessor.get("min_patches"),
        }
    elif model_type.startswith("qwen"):
        named = {
            "min_pixels": preprocessor.get("min_pixels") or size.get("shortest_edge"),
            "max_pixels": preprocessor.get("max_pixels") or size.get("longest_edge"),
        }
    else:
        named = {}
    kept = {name: value for name, value in named.items() if value is not None}
    return {name: _require_positive_int(kept, name, file) for name in kept}


def _to_internvl_config(published: dict[str, Any], file: Path) -> InternVLConfig:
    vision = _require_object(published, "vision_config", file)
    _check_fixed(published, {"ps_version": "v2", "select_layer": -1}, file)
    _check_fixed(published, {"use_backbone_lora": 0, "use_llm_lora": 0}, file)
    _check_fixed(
        vision, {"num_channels": 3, "drop_path_rate": None, "initializer_factor": None}, file, "vision_config."
    )
    ratio = float(published.get("downsample_ratio", 0.5))
    size = _require_positive_int(published, "force_image_size", file, vision.get("image_size"))
    patch = _require_positive_int(vision, "patch_size", file)
    if size != vision.get("image_size", size):
        raise InputError(
            file, f"expected vision_config.image_size ({vision['image_size']}), found {size}", "force_image_size"
        )
    native_vision = {
        "hidden_size": _require_positive_int(vision, "hidden_size", file),
        "num_hidden_layers": _require_positive_int(vision, "num_hidden_layers", file),
        "num_attention_heads": _require_positive_int(vision, "num_attention_heads", file),
        "intermediate_size": _require_positive_int(vision, "intermediate_size", file),
        "attention_bias": bool(vision.get("qkv_bias", True)),
        "use_qk_norm": bool(vision.get("qk_normalization", False)),
        "hidden_act": vision.get("hidden_act", "gelu"),
        "norm_type": vision.get("norm_type", "layer_norm"),
        "layer_norm_eps": vision.get("layer_norm_eps", 1e-6),
        "hidden_dropout_prob": vision.get("dropout", 0.0),
        "attention_dropout": vision.get("attention_dropout", 0.0),
        "initializer_range": vision.get("initializer_range", 0.02),
        "layer_scale_init_value": vision.get("initializer_factor", 0.1),
        "image_size": [size, size],
        "patch_size": [patch, patch],
    }
    return InternVLConfig(
        vision_config=native_vision,
        text_config=_to_text_config(_require_object(published, "llm_config", file), file),
        downsample_ratio=ratio,
        image_seq_length=int((size // patch * ratio) ** 2),
        tie_word_embeddings=bool(published["llm_config"].get("tie_word_embeddings", False)),
    )


def _to_text_config(llm: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return the fields of transformers' configuration of the text model."""
    kind = llm.get("model_type")
    if kind not in TEXT_MODELS:
        raise InputError(file, f"expected one of {', '.join(TEXT_MODELS)}, found {kind!r}", "llm_config.model_type")
    native = TEXT_MODELS[kind]
    fields = {name: value for name, value in llm.items() if name not in _FILE_FIELDS and name != "model_type"}
    if kind == "internlm2":
        # one flag for queries, keys, values and output, as Llama's
        fields["attention_bias"] = bool(fields.pop("bias", False))
    if kind == "phi3" and (fields.get("rope_scaling") or {}).get("type") == "su":
        fields["rope_scaling"] = fields["rope_scaling"] | {"type": "longrope"}  # its first name for the same rule
    known = set(CONFIG_MAPPING[native]().to_dict())
    kept = {name: value for name, value in fields.items() if name in known}
    config = _build_config(lambda: CONFIG_MAPPING[native](**kept), file, "llm_config")
    for heads in ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size"):
        _require_positive_int(llm, heads, file)
    text_config: dict[str, Any] = config.to_dict()
    return text_config


def to_original_config(config: ColvaConfig, layout: Layout) -> dict[str, Any]:
    """Return the configuration in the original layout.

    A converted folder keeps its published configuration, which is used instead where it still fits.

    Raises:
        ValueError: a part that the original layout cannot describe.
    """
    backbone = config.backbone_config
    if backbone is None or backbone.model_type != "internvl":
        raise ValueError(f"the original InternVL layout cannot hold a {getattr(backbone, 'model_type', None)!r} model")
    vision, text = backbone.vision_config, backbone.text_config.to_dict()
    llm = {name: value for name, value in text.items() if name not in _FILE_FIELDS}
    architecture = {"phi3": "Phi3", "qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama"}.get(text["model_type"])
    if architecture is None:
        raise ValueError(f"the original InternVL layout is not known with a {text['model_type']!r} text model")
    if layout == "internlm2":
        architecture = "InternLM2"
        llm |= {"model_type": "internlm2", "bias": llm.pop("attention_bias")}
        llm.pop("mlp_bias", None)
    llm["architectures"] = [f"{architecture}ForCausalLM"]
    original: dict[str, Any] = {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "vision_config": {
            "model_type": "intern_vit_6b",
            "architectures": ["InternVisionModel"],
            "hidden_size": vision.hidden_size,
            "num_hidden_layers": vision.num_hidden_layers,
            "num_attention_heads": vision.num_attention_heads,
            "intermediate_size": vision.intermediate_size,
            "num_channels": 3,
            "qkv_bias": vision.attention_bias,
            "qk_normalization": vision.use_qk_norm,
            "hidden_act": vision.hidden_act,
            "norm_type": vision.norm_type,
            "layer_norm_eps": vision.layer_norm_eps,
            "dropout": vision.hidden_dropout_prob,
            "attention_dropout": vision.attention_dropout,
            "initializer_range": vision.initializer_range,
            "initializer_factor": vision.layer_scale_init_value,
            "image_size": vision.image_size[0],
            "patch_size": vision.patch_size[0],
        },
        "llm_config": llm,
        "force_image_size": vision.image_size[0],
        "downsample_ratio": backbone.downsample_ratio,
        "select_layer": -1,
        "ps_version": "v2",
        "template": config.template,
        "dynamic_image_size": config.pictures.get("max_tiles", 12) > 1,
        "use_thumbnail": config.pictures.get("thumbnail", True),
        "min_dynamic_patch": config.pictures.get("min_tiles", 1),
        "max_dynamic_patch": config.pictures.get("max_tiles", 12),
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
    }
    if config.expert is not None:
        original["radio_config"] = _to_radio_config(config.expert)
    return original


def _to_radio_config(expert: dict[str, Any]) -> dict[str, Any]:
    fields = dict(expert)
    if fields.pop("kind") != "radio":
        raise ValueError(f"the original layout knows the expert 'radio' only, not {expert['kind']!r}")
    return to_radio_config(fields)


def _require_object(published: dict[str, Any], name: str, file: Path) -> dict[str, Any]:
    part = published.get(name)
    if not isinstance(part, dict):
        raise InputError(file, f"expected an object, found {type(part).__name__}", name)
    return part


def _require_positive_int(fields: dict[str, Any], name: str, file: Path, default: Any = None) -> int:
    value = fields.get(name)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(file, f"expected a positive whole number, found {value!r}", name)
    return value


def _check_fixed(fields: dict[str, Any], expected: dict[str, Any], file: Path, where: str = "") -> None:
    """Raise InputError when a field has another value than the one that is supported; None allows any value."""
    for name, value in expected.items():
        if value is not None and fields.get(name, value) != value:
            raise InputError(file, f"expected {value!r}, found {fields[name]!r}", where + name)


def _build_config(build: Callable[[], Any], file: Path, field: str | None = None) -> Any:
    try:
        return build()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(file, f"transformers cannot use it: {error}", field) from error
