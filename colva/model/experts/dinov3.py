"""DINOv3's vision transformers: patches of 16 with rotary positions (Siméoni et al., arXiv 2508.10104)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from transformers import DINOv3ViTConfig, DINOv3ViTModel, PretrainedConfig, PreTrainedModel
from typing_extensions import Self

from colva.model.experts.base import Positive
from colva.model.experts.native import NativeExpert


@dataclass(frozen=True)
class Dinov3Fields:
    """What rebuilds a DINOv3 network, under transformers' names.

    Attributes:
        hidden_size, intermediate_size, num_hidden_layers, num_attention_heads: of the blocks.
        patch_size: pixels a side of a patch.
        num_register_tokens: tokens beside the class token that are dropped.
        use_gated_mlp, hidden_act: the MLP; the "plus" sizes gate it with SiLU.
        query_bias, key_bias, value_bias, proj_bias, mlp_bias: which projections have a bias.
        layer_norm_eps, rope_theta: of the norms, and the base period of the rotary positions.
    """

    hidden_size: Positive = 1024
    intermediate_size: Positive = 4096
    num_hidden_layers: Positive = 24
    num_attention_heads: Positive = 16
    patch_size: Positive = 16
    num_register_tokens: Annotated[int, Field(ge=0)] = 4
    use_gated_mlp: bool = False
    hidden_act: str = "gelu"
    query_bias: bool = True
    key_bias: bool = False
    value_bias: bool = True
    proj_bias: bool = True
    mlp_bias: bool = True
    layer_norm_eps: float = 1e-5
    rope_theta: float = 100.0

    def __post_init__(self) -> None:
        if self.hidden_size % (4 * self.num_attention_heads):
            heads = self.num_attention_heads
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of 4 x num_attention_heads {heads}")


_SMALL = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6}
_GATED = {"use_gated_mlp": True, "hidden_act": "silu"}


class Dinov3(NativeExpert):
    """DINOv3 ViT; tokens after the final norm, without class and register tokens."""

    kind = "dinov3"
    Fields = Dinov3Fields
    config_classes = (DINOv3ViTConfig,)
    TINY: ClassVar[dict[str, Any]] = {
        **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    }
    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "large": {},
        "small": _SMALL,
        "small-plus": _SMALL | _GATED,
        "base": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
        "huge-plus": {
            **{"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20},
            **_GATED,
        },
        "7b": {
            **{"hidden_size": 4096, "intermediate_size": 8192, "num_hidden_layers": 40, "num_attention_heads": 32},
            **_GATED,
            **{"query_bias": False, "value_bias": False},
        },
    }

    def __init__(self, fields: Dinov3Fields) -> None:
        model = DINOv3ViTModel(DINOv3ViTConfig(**asdict(fields)))
        model.embeddings.mask_token = None  # serves pre-training only
        super().__init__(fields)
        self.hidden_size, self.stride = fields.hidden_size, fields.patch_size
        self.prefix = 1 + fields.num_register_tokens
        self.model = model
        self.eval()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast, then compute the rotary frequencies again: they are not in the state dict, and `to_empty`
        leaves them uninitialized.
        """
        super()._apply(fn, recurse)
        rope = self.model.rope_embeddings
        exponents = torch.arange(0, 1, 4 / rope.head_dim, dtype=torch.float32, device=rope.inv_freq.device)
        rope.inv_freq = 1 / rope.base**exponents
        return self

    @classmethod
    def native_class(cls, config: PretrainedConfig) -> type[PreTrainedModel]:
        native: type[PreTrainedModel] = DINOv3ViTModel
        return native

    def encode(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.model(self.pixels(images)).last_hidden_state
        return hidden[:, self.prefix :]
