"""A convolutional vision tower for small models, in place of InternViT or CLIP.

Registered with transformers, so that its native InternVL and LLaVA build it from `vision_config`. It has no class
token: the native configuration must say `vision_feature_select_strategy="full"` and `vision_feature_layer=-1`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, InternVLVisionConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from colva.model.experts import build_expert
from colva.model.experts.base import IMAGENET_MEAN, IMAGENET_STD


class ExpertTowerConfig(InternVLVisionConfig):
    """Configuration of an `ExpertTower`; a subclass of InternVL's, which its configuration asks for.

    Args:
        tower: `{"kind": ..., ...}` as of an expert, see `colva.model.experts`.
        image_size: pixels a side of a tile; the width and the stride of the tokens follow from `tower`.
    """

    model_type = "colva_expert_tower"

    def __init__(self, tower: dict[str, Any] | None = None, image_size: Any = 224, **kwargs: Any) -> None:
        tower = tower or {"kind": "mobilenetv2"}
        fields = dict(tower)
        with torch.device("meta"):
            expert = build_expert(fields.pop("kind"), fields)
        kwargs |= {"hidden_size": expert.hidden_size, "patch_size": expert.stride}
        super().__init__(image_size=image_size, **kwargs)
        self.tower = tower


class ExpertTower(PreTrainedModel):
    """A vision expert's network behind the call of a vision tower."""

    config_class = ExpertTowerConfig
    main_input_name = "pixel_values"
    base_model_prefix = ""

    def __init__(self, config: ExpertTowerConfig) -> None:
        super().__init__(config)
        fields = dict(config.tower)
        self.network = build_expert(fields.pop("kind"), fields)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the network's own initial values."""

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        """Return tokens `[b, n, c]` of images normalized with ImageNet's mean and standard deviation."""
        mean, std = (
            pixel_values.new_tensor(v, dtype=torch.float32).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD)
        )
        tokens = self.network(pixel_values.float() * std + mean).tokens.contiguous()
        return BaseModelOutput(last_hidden_state=tokens, hidden_states=(tokens,))


AutoConfig.register(ExpertTowerConfig.model_type, ExpertTowerConfig)
AutoModel.register(ExpertTowerConfig, ExpertTower)
