"""Experts whose network is one of transformers' own classes, and their published weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from typing_extensions import Self

from colva.model.experts.base import Expert, imagenet_normalize, read_fields
from mmvm_data.core.errors import InputError
from mmvm_data.core.plurals import pluralize


class NativeExpert(Expert):
    """An expert around a transformers model, kept as `model`; images are normalized with ImageNet's mean and deviation.

    `model` has the parameters that the tokens depend on and no others: what only pre-training or a classifier uses
    is left out of it, and so out of the state dict.
    """

    model: PreTrainedModel

    @classmethod
    def native_class(cls, config: PretrainedConfig) -> type[PreTrainedModel]:
        """Return the transformers class of published weights with such a configuration."""
        raise NotImplementedError

    config_classes: ClassVar[tuple[type[PretrainedConfig], ...]]
    """Configurations that `from_pretrained` takes."""

    @classmethod
    def read_native(cls, config: PretrainedConfig) -> dict[str, Any]:
        """Return the fields of a transformers configuration: those of the same name."""
        return {f.name: getattr(config, f.name) for f in dataclasses.fields(cls.Fields) if hasattr(config, f.name)}

    @classmethod
    def from_pretrained(cls, path: str | Path, **fields: Any) -> Self:
        """Return the expert with published weights, in float32.

        Args:
            path: a folder of transformers' layout (config.json, safetensors, sharded or not), or a hub's name for one.
            fields: in place of those of its configuration, for those it does not have (such as `stage`).

        Raises:
            InputError: another kind of network, or a variant of it that the fields cannot describe; missing tensors
                (which would stay random).
            UsageError: an unknown field.
            OSError: transformers' own message for a path that is neither.
        """
        config_dict, _ = PretrainedConfig.get_config_dict(path)
        by_type = {c.model_type: c for c in cls.config_classes}
        found = config_dict.get("model_type")
        if found not in by_type:
            expected = " or ".join(by_type)
            raise InputError(Path(path) / "config.json", f"expected {expected}, found {found!r}", "model_type")
        native = by_type[found].from_dict(config_dict)
        expert = cls(read_fields(cls.kind, cls.Fields, cls.read_native(native) | fields))
        _check_other_fields(native, expert.model.config, set(expert.config), Path(path) / "config.json")
        model, report = cls.native_class(native).from_pretrained(
            path,
            config=native,
            use_safetensors=True,
            dtype="float32",
            output_loading_info=True,
            trust_remote_code=False,
        )
        published = model.state_dict()
        expected = expert.model.state_dict()
        missing = sorted(set(expected) & set(report["missing_keys"]) | set(expected) - set(published))
        if missing:
            raise InputError(path, f"{pluralize(len(missing), 'tensor')} missing, such as {missing[0]}")
        for name, tensor in expected.items():
            if published[name].shape != tensor.shape:
                shapes = f"expected {list(tensor.shape)}, found {list(published[name].shape)}"
                raise InputError(path, shapes, name)
        expert.model.load_state_dict({name: published[name] for name in expected})
        return expert

    def pixels(self, images: Tensor) -> Tensor:
        """Normalised images in the parameters' dtype."""
        return imagenet_normalize(images, self.parameter_dtype())


# Entries of configurations that do not change what a trained network computes in eval mode.
_UNUSED_FIELDS = {
    *("drop_path_rate", "hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"),
    *("classifier_dropout_prob", "initializer_range", "layerscale_value", "semantic_loss_ignore_index"),
    *("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale", "use_mask_token"),
    *("out_features", "out_indices", "stage_names", "num_stages", "apply_layernorm", "reshape_hidden_states"),
    # of networks without a grid of positions; for the others it is a field
    "image_size",
}


def _check_other_fields(
    config: PretrainedConfig, expert_config: PretrainedConfig, fields: set[str], file: Path
) -> None:
    """Raise InputError when a configuration differs from the expert's beyond its fields, such as the activation."""
    expected = expert_config.to_dict()
    skipped = fields | _UNUSED_FIELDS | set(PretrainedConfig().to_dict()) | {"model_type", "transformers_version"}
    for name, value in config.to_dict().items():
        if name in expected and name not in skipped and expected[name] != value:
            raise InputError(file, f"expected {expected[name]!r}, found {value!r}", name)


def as_tokens(maps: Tensor) -> Tensor:
    """`[b, c, h, w]` -> `[b, h * w, c]`."""
    return maps.flatten(2).transpose(1, 2)
