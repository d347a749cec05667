"""ConvNeXt V2 up to a chosen stage (Woo et al., arXiv 2301.00808)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import ConvNextV2Config, ConvNextV2Model, PretrainedConfig, PreTrainedModel

from colva.model.experts.base import Positive
from colva.model.experts.native import NativeExpert, as_tokens


@dataclass(frozen=True)
class ConvNextV2Fields:
    """What rebuilds a ConvNeXt V2, under transformers' names.

    Attributes:
        hidden_sizes, depths: width and number of blocks of every stage.
        patch_size: pixels a side that the stem joins; each stage after the first halves the grid again.
        stage: the stage whose output the tokens are, 1 ..; 0 is the last. Later stages are not built.
    """

    hidden_sizes: tuple[Positive, ...] = (192, 384, 768, 1536)
    depths: tuple[Positive, ...] = (3, 3, 27, 3)
    patch_size: Positive = 4
    stage: int = 0

    def __post_init__(self) -> None:
        if not self.depths or len(self.hidden_sizes) != len(self.depths):
            raise ValueError(f"{len(self.hidden_sizes)} hidden_sizes and {len(self.depths)} depths: expected as many")
        if not 0 <= self.stage <= len(self.depths):
            raise ValueError(f"stage {self.stage}: expected 1 .. {len(self.depths)}, or 0 for the last")


class ConvNextV2(NativeExpert):
    """ConvNeXt V2; tokens are the feature map of one stage, not normalized."""

    kind = "convnextv2"
    Fields = ConvNextV2Fields
    config_classes = (ConvNextV2Config,)
    TINY: ClassVar[dict[str, Any]] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "large": {},
        "atto": {"hidden_sizes": [40, 80, 160, 320], "depths": [2, 2, 6, 2]},
        "femto": {"hidden_sizes": [48, 96, 192, 384], "depths": [2, 2, 6, 2]},
        "pico": {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 6, 2]},
        "nano": {"hidden_sizes": [80, 160, 320, 640], "depths": [2, 2, 8, 2]},
        "tiny": {"hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3]},
        "base": {"hidden_sizes": [128, 256, 512, 1024]},
        "huge": {"hidden_sizes": [352, 704, 1408, 2816]},
    }

    def __init__(self, fields: ConvNextV2Fields) -> None:
        stages = fields.stage or len(fields.depths)
        model = ConvNextV2Model(
            ConvNextV2Config(
                num_stages=stages,
                hidden_sizes=list(fields.hidden_sizes[:stages]),
                depths=list(fields.depths[:stages]),
                patch_size=fields.patch_size,
            )
        )
        model.layernorm = nn.Identity()  # of the pooled vector, which is not used
        super().__init__(fields)
        self.hidden_size, self.stride = fields.hidden_sizes[stages - 1], fields.patch_size * 2 ** (stages - 1)
        self.model = model
        self.eval()

    @classmethod
    def native_class(cls, config: PretrainedConfig) -> type[PreTrainedModel]:
        native: type[PreTrainedModel] = ConvNextV2Model
        return native

    def encode(self, images: Tensor) -> Tensor:
        return as_tokens(self.model(self.pixels(images)).last_hidden_state)
