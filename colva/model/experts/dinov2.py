"""DINOv2, with or without registers (Oquab et al., arXiv 2304.07193; Darcet et al., arXiv 2309.16588)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PretrainedConfig,
    PreTrainedModel,
)

from colva.model.experts.base import Positive
from colva.model.experts.native import NativeExpert


@dataclass(frozen=True)
class Dinov2Fields:
    """What rebuilds a DINOv2 network, under transformers' names.

    Attributes:
        hidden_size, num_hidden_layers, num_attention_heads, mlp_ratio: of the blocks.
        patch_size: pixels a side of a patch.
        image_size: pixels a side of the trained position grid; other sizes interpolate it.
        use_swiglu_ffn: a gated MLP (giant).
        num_register_tokens: 0 for the first release, 4 for "with registers".
    """

    hidden_size: Positive = 1024
    num_hidden_layers: Positive = 24
    num_attention_heads: Positive = 16
    mlp_ratio: Positive = 4
    patch_size: Positive = 14
    image_size: Positive = 518
    use_swiglu_ffn: bool = False
    num_register_tokens: int = 0

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.num_register_tokens < 0:
            raise ValueError(f"num_register_tokens {self.num_register_tokens}: expected 0 or more")


_SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
_GIANT = {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True}
_REGISTERS = {"num_register_tokens": 4}


class Dinov2(NativeExpert):
    """DINOv2; tokens after the final norm, without class and register tokens."""

    kind = "dinov2"
    Fields = Dinov2Fields
    config_classes = (Dinov2Config, Dinov2WithRegistersConfig)
    TINY: ClassVar[dict[str, Any]] = {
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56},
    }
    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "large": {},
        "small": _SMALL,
        "base": _BASE,
        "giant": _GIANT,
        "large-registers": _REGISTERS,
        "small-registers": _SMALL | _REGISTERS,
        "base-registers": _BASE | _REGISTERS,
        "giant-registers": _GIANT | _REGISTERS,
    }

    def __init__(self, fields: Dinov2Fields) -> None:
        common = {
            "hidden_size": fields.hidden_size,
            "num_hidden_layers": fields.num_hidden_layers,
            "num_attention_heads": fields.num_attention_heads,
            "mlp_ratio": fields.mlp_ratio,
            "patch_size": fields.patch_size,
            "image_size": fields.image_size,
            "use_swiglu_ffn": fields.use_swiglu_ffn,
        }
        model: PreTrainedModel
        if fields.num_register_tokens:
            model = Dinov2WithRegistersModel(
                Dinov2WithRegistersConfig(**common, num_register_tokens=fields.num_register_tokens)
            )
        else:
            model = Dinov2Model(Dinov2Config(**common))
        model.embeddings.mask_token = None  # serves pre-training only
        super().__init__(fields)
        self.hidden_size, self.stride = fields.hidden_size, fields.patch_size
        self.prefix = 1 + fields.num_register_tokens
        self.model = model
        self.eval()

    @classmethod
    def native_class(cls, config: PretrainedConfig) -> type[PreTrainedModel]:
        has_registers = isinstance(config, Dinov2WithRegistersConfig)
        native: type[PreTrainedModel] = Dinov2WithRegistersModel if has_registers else Dinov2Model
        return native

    def encode(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.model(self.pixels(images)).last_hidden_state
        return hidden[:, self.prefix :]
