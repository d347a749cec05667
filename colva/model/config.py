"""The configuration of a CoLVA model, stored as config.json as in transformers."""

from __future__ import annotations

from types import NoneType
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from colva.model.token_grid import THRESHOLD
from colva.model.vision_tower import ExpertTowerConfig


class ColvaConfig(PretrainedConfig):
    """Configuration of a `ColvaModel`.

    Args:
        backbone_config: the native configuration of the multimodal language model (a dict with `model_type`, or an
            object).
        expert: `{"kind": ..., ...}`, see `colva.model.experts`; None for a model without object tokens of its own.
        expert_side: pixels a side of the experts' canvas (1024 as published).
        pictures: options of the family's image processor, such as `{"max_tiles": 12}`.
        template: name of the chat template (`colva.processing.chat_templates`).
        image_token_id, object_token_id: ids of the image token and of `<VPT_CONTEXT>`; None when the checkpoint has no
            tokenizer and they were not given.
        mask_threshold: an object covers the tokens where its mask's bilinear sample is above this (0.55 as published).
        prompt_style: `colva`, or `published-eval` for the released checkpoints: text and images to the letter and to
            the pixel as the published evaluation prepares them.
        use_object_tokens: questions name objects by tokens where there is an expert; false for a model that was trained
            on the drawn images alone (`data.use_object_tokens: false` of stage 2).

    Raises:
        ValueError: a value of another type.
    """

    model_type = "colva"
    has_no_defaults_at_init = True

    def __init__(
        self,
        backbone_config: PretrainedConfig | dict[str, Any] | None = None,
        expert: dict[str, Any] | None = None,
        expert_side: int = 1024,
        pictures: dict[str, Any] | None = None,
        template: str = "internvl2_5",
        image_token_id: int | None = None,
        object_token_id: int | None = None,
        mask_threshold: float = THRESHOLD,
        prompt_style: str = "colva",
        use_object_tokens: bool = True,
        **kwargs: Any,
    ) -> None:
        _check_fields(
            {
                "expert": (expert, (dict, NoneType)),
                "expert_side": (expert_side, (int,)),
                "pictures": (pictures, (dict, NoneType)),
                "template": (template, (str,)),
                "image_token_id": (image_token_id, (int, NoneType)),
                "object_token_id": (object_token_id, (int, NoneType)),
                "mask_threshold": (mask_threshold, (int, float)),
                "prompt_style": (prompt_style, (str,)),
                "use_object_tokens": (use_object_tokens, (bool,)),
            }
        )
        # Any: None only while transformers compares a configuration with its defaults
        self.backbone_config: Any = _to_native_config(backbone_config)
        self.expert = expert
        self.expert_side = expert_side
        self.pictures = pictures or {}
        self.template = template
        self.image_token_id = image_token_id
        self.object_token_id = object_token_id
        self.mask_threshold = mask_threshold
        self.prompt_style = prompt_style
        self.use_object_tokens = use_object_tokens
        if self.backbone_config is not None:
            kwargs.setdefault("tie_word_embeddings", bool(self.backbone_config.get_text_config().tie_word_embeddings))
        super().__init__(**kwargs)

    @property
    def prompt_layout(self) -> str:
        """The prompt style with the family where it depends on it: the published evaluation has two."""
        is_qwen = self.backbone_config is not None and self.backbone_config.model_type.startswith("qwen")
        return (
            f"{self.prompt_style}-qwen2-vl" if is_qwen and self.prompt_style == "published-eval" else self.prompt_style
        )

    @property
    def names_objects(self) -> bool:
        """Whether questions name objects by tokens: there is an expert, and the model was trained with them."""
        return self.use_object_tokens and self.expert is not None

    @property
    def fill_empty(self) -> bool:
        """Whether an object that covers no token gets the nearest one; the released models were trained on zeros."""
        return self.prompt_style == "colva"

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PretrainedConfig:
        """Return the language model's configuration, which transformers' caches and generation read."""
        if self.backbone_config is None:
            return self
        return self.backbone_config.get_text_config()

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON values."""
        fields: dict[str, Any] = super().to_dict()
        if self.backbone_config is not None:
            fields["backbone_config"] = self.backbone_config.to_dict()
        return fields


def _check_fields(fields: dict[str, tuple[Any, tuple[type, ...]]]) -> None:
    """Refuse values of other types than each field has; True and False are no numbers."""
    for name, (value, types) in fields.items():
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            words = " or ".join("null" if kind is NoneType else kind.__name__ for kind in types)
            raise ValueError(f"{name}: expected {words}, found {value!r:.40}")


def _to_native_config(config: PretrainedConfig | dict[str, Any] | None) -> PretrainedConfig | None:
    if not isinstance(config, dict):
        return config
    fields = dict(config)
    kind = fields.pop("model_type", None)
    if kind not in CONFIG_MAPPING:
        raise ValueError(f"backbone_config.model_type: {kind!r} is not a model that transformers has")
    vision = fields.get("vision_config")
    if isinstance(vision, dict) and vision.get("model_type") == ExpertTowerConfig.model_type:
        # transformers' InternVL takes any dict for InternViT's
        fields["vision_config"] = ExpertTowerConfig(**vision)
    return CONFIG_MAPPING[kind](**fields)
