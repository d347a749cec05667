"""RADIO's published configurations and tensor names to those of `Radio`, and back.

Two layouts exist. A *folder* is what transformers wrote: `radio_model.model.*`, `radio_model.input_conditioner.*` and
`radio_model.summary_idxs`, in a CoLVA checkpoint below `object_tokenizer.`. A *file* is RADIO's own `.pth.tar`: below
`state_dict` (or `state_dict_ema`) the network as `base_model.*` beside `input_conditioner.*` and the teachers' heads,
and `args`, the options of its training run, in place of a configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from mmvm_data.core.errors import InputError, UsageError

RadioLayout = Literal["folder", "file"]

# Width, blocks and heads of the vision transformers by the name in `args.model`.
_VIT: Final = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
    "so400m": (1152, 27, 16),
    "so400m_v2": (1152, 27, 16),
    "giant": (1536, 40, 24),
}
# Width of their MLPs where it is not four times theirs.
_VIT_MLP: Final = {"so400m": 4304, "so400m_v2": 4320}
# Releases since which positions are resized without aligned corners.
_UNALIGNED: Final = re.compile(r"c-radio[-_]v[34]")
_KNOWN_KWARGS: Final = {"embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias", "weight_init"}
_WRAPPERS: Final = ("object_tokenizer.", "module.", "_orig_mod.")


def from_radio_config(radio_config: Mapping[str, Any], file: str = "config.json") -> dict[str, Any]:
    """Return the `config` of a `Radio` for a published configuration.

    Args:
        radio_config: `radio_config` of a CoLVA folder, the config.json of a RADIO folder, or `{"args": vars(args)}`
            of a `.pth.tar`, with the release as its `version` if that is C-RADIOv3 or later.
        file: the file it came from, for messages.

    Raises:
        InputError: a field is missing, or describes a network other than that of `radio.py`.
    """

    def refuse(field: str, reason: str) -> InputError:
        return InputError(file, reason, f"radio_config.{field}")

    args = radio_config.get("args")
    if not isinstance(args, Mapping):
        raise refuse("args", f"expected an object with the options of RADIO's training, found {args!r}")
    match = re.fullmatch(r"vit_(\w+?)_patch(\d+)_(\d+)(_mlpnorm)?", str(args.get("model")))
    if match is None or match[1] not in _VIT:
        raise refuse("args.model", f"expected vit_{{{','.join(_VIT)}}}_patch16_224, found {args.get('model')!r}")
    patch, trained = int(match[2]), int(match[3])
    kwargs = args.get("model_kwargs") or {}
    for name in kwargs:
        if name not in _KNOWN_KWARGS:
            raise refuse(f"args.model_kwargs.{name}", f"expected one of {', '.join(sorted(_KNOWN_KWARGS))}")
    if radio_config.get("patch_size") not in (None, patch):
        raise refuse("patch_size", f"expected {patch} as in args.model, found {radio_config['patch_size']}")
    if radio_config.get("vitdet_window_size") is not None:
        raise refuse("vitdet_window_size", f"windowed attention is not supported: {radio_config['vitdet_window_size']}")
    channels = args.get("in_chans") or (args.get("input_size") or [3])[0]
    if channels != 3:
        raise refuse("args.in_chans", f"expected 3, found {channels}")
    if args.get("spectral_reparam"):
        raise refuse("args.spectral_reparam", "expected false: fold the reparametrised weights in first")
    cpe = args.get("cpe_max_size")
    if not isinstance(cpe, int) or cpe <= 0:
        raise refuse("args.cpe_max_size", f"expected a size in pixels, found {cpe!r}")
    max_size = round(cpe / patch) * patch
    if max_size == trained:
        raise refuse("args.cpe_max_size", f"expected another size than the {trained} in args.model (CPE would be off)")
    teachers = args.get("teachers")
    if not isinstance(teachers, list) or not all(isinstance(t, Mapping) for t in teachers) or not teachers:
        raise refuse("args.teachers", f"expected a list of objects, found {teachers!r}")

    width, depth, heads = _VIT[match[1]]
    width = kwargs.get("embed_dim", width)
    if radio_config.get("feature_normalizer_config") is not None:
        raise refuse("feature_normalizer_config", "normalized features are not supported")
    # teachers of one name share a class token
    first = {str(t.get("name", k)): k for k, t in reversed(list(enumerate(teachers))) if t.get("use_summary", True)}
    class_tokens = len({str(t.get("name", k)) for k, t in enumerate(teachers)})
    class_tokens = class_tokens if args.get("cls_token_per_teacher") else 1
    multiple = args.get("register_multiple") or 0
    return {
        "hidden_size": width,
        "depth": kwargs.get("depth", depth),
        "heads": kwargs.get("num_heads", heads),
        "mlp_size": int(width * kwargs["mlp_ratio"]) if "mlp_ratio" in kwargs else _VIT_MLP.get(match[1], 4 * width),
        "patch_size": patch,
        "max_size": max_size,
        "class_tokens": class_tokens,
        # a whole multiple more when the class tokens alone are one already: the published rule
        "registers": args.get("cpe_num_registers") or (multiple - class_tokens % multiple if multiple else 0),
        "summary_idxs": sorted(first.values()),
        "max_resolution": radio_config.get("max_resolution") or 2048,
        "qkv_bias": kwargs.get("qkv_bias", True),
        "mlp_norm": match[4] is not None,
        "final_norm": bool(args.get("model_norm", False)),
        "align_corners": _UNALIGNED.match(str(radio_config.get("version"))) is None,
    }


def to_radio_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the published configuration of a `Radio`, with the fields that the published code reads.

    Args:
        config: `Radio.config`; `from_radio_config` gives it back.

    Raises:
        UsageError: class tokens for the summary out of order, which a published configuration cannot describe.
    """
    summary = list(config["summary_idxs"])
    if summary != sorted(set(summary)):
        raise UsageError(
            f"expert radio: summary_idxs {summary}: published configurations have them in order, once each"
        )
    shape = config["hidden_size"], config["depth"], config["heads"]
    name = next((name for name, known in _VIT.items() if known == shape), "tiny")
    kwargs: dict[str, Any] = {}
    if _VIT[name] != shape:
        kwargs = dict(zip(("embed_dim", "depth", "num_heads"), shape, strict=True))
    if config["mlp_size"] != _VIT_MLP.get(name, 4 * config["hidden_size"]):
        kwargs["mlp_ratio"] = config["mlp_size"] / config["hidden_size"]
    if not config["qkv_bias"]:
        kwargs["qkv_bias"] = False
    nothing = ("in_chans", "drop_path", "drop_block", "gp", "bn_momentum", "bn_eps")
    args: dict[str, Any] = {
        "model": f"vit_{name}_patch{config['patch_size']}_224{'_mlpnorm' if config['mlp_norm'] else ''}",
        **dict.fromkeys(nothing),
        "input_size": [3, 224, 224],
        "pretrained": False,
        "num_classes": 0,
        "drop": 0.0,
        "torchscript": False,
        "initial_checkpoint": "",
        "model_kwargs": kwargs,
        "cls_token_per_teacher": True,
        "cpe_max_size": config["max_size"],
        "register_multiple": config["class_tokens"] + config["registers"] if config["registers"] else None,
        "spectral_reparam": False,
        "teachers": [{"name": f"t{i}", "use_summary": i in summary} for i in range(config["class_tokens"])],
        "dtype": "float32",
    }
    if config["final_norm"]:
        args["model_norm"] = True
    return {
        "args": args,
        "version": "radio_v2.1" if config["align_corners"] else "c-radio_v4-h",
        "patch_size": config["patch_size"],
        "max_resolution": config["max_resolution"],
        "preferred_resolution": [432, 432],
        "adaptor_names": None,
        "vitdet_window_size": None,
        "architectures": ["RADIOModel"],
    }


def from_published_name(key: str) -> str | None:
    """Return the name in a `Radio` of a tensor of either layout, with or without wrapping prefixes.

    None for tensors that `Radio` does not have: the teachers' heads, adaptors, and unknown ones.
    """
    stripped = True
    while stripped:
        stripped = False
        for prefix in _WRAPPERS:
            if key.startswith(prefix):
                key, stripped = key.removeprefix(prefix), True
    key = key.removeprefix("radio_model.")
    if key == "summary_idxs" or key.startswith("input_conditioner.norm_"):
        return key
    for prefix in ("model.", "base_model."):
        inner = key.removeprefix(prefix)
        if inner != key and re.match(r"(patch_generator|blocks|norm)\.", inner):
            return inner
    return None


def to_published_name(key: str, layout: RadioLayout = "folder") -> str | None:
    """Return the published name of a tensor of a `Radio`; the inverse of `from_published_name`.

    Args:
        key: name in the expert's state dict.
        layout: "folder" gives `radio_model.…` (a CoLVA folder adds `object_tokenizer.`), "file" a `.pth.tar`'s.

    Returns:
        None for `summary_idxs` in a file, which keeps them in `args.teachers`.
    """
    network = key.split(".")[0] in ("patch_generator", "blocks", "norm")
    if layout == "folder":
        return f"radio_model.model.{key}" if network else f"radio_model.{key}"
    if key == "summary_idxs":
        return None
    return f"base_model.{key}" if network else key
