"""Vision experts behind one interface: images in [0, 1] -> a grid of feature tokens."""

from __future__ import annotations

from typing import Any, Final

from colva.model.experts.base import Expert, Features, read_fields, to_config
from colva.model.experts.convnextv2 import ConvNextV2
from colva.model.experts.dinov2 import Dinov2
from colva.model.experts.dinov3 import Dinov3
from colva.model.experts.mobilenetv2 import MobileNetV2
from colva.model.experts.radio import Radio
from mmvm_data.core.config_values import suggest_name
from mmvm_data.core.errors import UsageError

__all__ = ["EXPERTS", "Expert", "Features", "build_expert", "default_config", "tiny_config"]

EXPERTS: Final[dict[str, type[Expert]]] = {
    expert.kind: expert for expert in (Radio, Dinov2, Dinov3, ConvNextV2, MobileNetV2)
}


def build_expert(kind: str, config: dict[str, Any]) -> Expert:
    """Return a new expert with random weights (seeded by torch's generator), in eval mode.

    Args:
        kind: a key of EXPERTS.
        config: its fields, such as another expert's `config`; missing fields have the usual published size.

    Raises:
        UsageError: an unknown kind or field (the message suggests the most similar), or a value that does not fit.
    """
    expert_class = _expert_class(kind)
    return expert_class(read_fields(kind, expert_class.Fields, config))


def tiny_config(kind: str) -> dict[str, Any]:
    """Return the complete config of a toy expert, for tests and `init-tiny`.

    Raises:
        UsageError: an unknown kind.
    """
    return _complete_config(kind, _expert_class(kind).TINY)


def default_config(kind: str, size: str | None = None) -> dict[str, Any]:
    """Return the complete config of a published expert.

    Args:
        kind: a key of EXPERTS.
        size: a key of its SIZES; None is the usual one (RADIO v2.1 ViT-H/16, DINOv2 and DINOv3 ViT-L, ConvNeXt V2 L,
            MobileNetV2 1.0).

    Raises:
        UsageError: an unknown kind or size.
    """
    sizes = _expert_class(kind).SIZES
    if size is None:
        size = next(iter(sizes))
    if size not in sizes:
        raise UsageError(
            f"expert {kind}: unknown size {size!r}{suggest_name(size, list(sizes))} (known: {', '.join(sizes)})"
        )
    return _complete_config(kind, sizes[size])


def _expert_class(kind: str) -> type[Expert]:
    if kind not in EXPERTS:
        raise UsageError(f"unknown expert {kind!r}{suggest_name(kind, list(EXPERTS))} (known: {', '.join(EXPERTS)})")
    return EXPERTS[kind]


def _complete_config(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return to_config(read_fields(kind, _expert_class(kind).Fields, config))
