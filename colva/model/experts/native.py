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


class NativeExpert(Expert):
    """An expert around a transformers model, kept as `model`; images are normalized with ImageNet's mean and deviation.

    `model` has the parameters that the tokens depend on and no others: what only pre-training or a classifier uses
    is left out of it, and so out of the state dict.
    """

    model: PreTrainedModel

    @classmethod
    def native_class(cls, config: PretrainedConfig) -> type[PreTrainedModel]:
        """The transformers class that holds published weights of such a configuration."""
        raise NotImplementedError

    config_classes: ClassVar[tuple[type[PretrainedConfig], ...]]
    """Configurations that `from_pretrained` takes."""

    @classmethod
    def read_native(cls, config: PretrainedConfig) -> dict[str, Any]:
        """Our fields of a transformers configuration: those of the same name."""
        return {f.name: getattr(config, f.name) for f in dataclasses.fields(cls.Fields) if hasattr(config, f.name)}

    @classmethod
    def from_pretrained(cls, path: str | Path, **fields: Any) -> Self:
        """The expert with published weights, in float32.

        Args:
            path: a folder of transformers' layout (config.json, safetensors, sharded or not), or a hub's name for one.
            fields: in place of those of its configuration, for what it does not say (such as `stage`).

        Raises:
            InputError: another kind of network, or a variant of it that the fields cannot say; tensors missing (a
                random rest would go unnoticed).
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
        _same_otherwise(native, expert.model.config, set(expert.config), Path(path) / "config.json")
        model, report = cls.native_class(native).from_pretrained(
            path, config=native, use_safetensors=True, dtype="float32", output_loading_info=True
        )
        given = model.state_dict()
        wanted = expert.model.state_dict()
        absent = sorted(set(wanted) & set(report["missing_keys"]) | set(wanted) - set(given))
        if absent:
            raise InputError(path, f"{len(absent)} tensors missing, such as {absent[0]}")
        for name, tensor in wanted.items():
            if given[name].shape != tensor.shape:
                shapes = f"expected {list(tensor.shape)}, found {list(given[name].shape)}"
                raise InputError(path, shapes, name)
        expert.model.load_state_dict({name: given[name] for name in wanted})
        return expert

    def pixels(self, images: Tensor) -> Tensor:
        """Normalised images in the parameters' dtype."""
        return imagenet_normalize(images, self.parameter_dtype())


# Entries of configurations that do not change what a trained network computes in eval mode.
_NO_MATTER = {
    *("drop_path_rate", "hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"),
    *("classifier_dropout_prob", "initializer_range", "layerscale_value", "semantic_loss_ignore_index"),
    *("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale", "use_mask_token"),
    *("out_features", "out_indices", "stage_names", "num_stages", "apply_layernorm", "reshape_hidden_states"),
    # of networks without a grid of positions; for the others it is a field
    "image_size",
}


def _same_otherwise(theirs: PretrainedConfig, ours: PretrainedConfig, fields: set[str], file: Path) -> None:
    """Refuse a configuration that differs from the expert's beyond its fields, such as another activation."""
    built = ours.to_dict()
    skipped = fields | _NO_MATTER | set(PretrainedConfig().to_dict()) | {"model_type", "transformers_version"}
    for name, value in theirs.to_dict().items():
        if name in built and name not in skipped and built[name] != value:
            raise InputError(file, f"expected {built[name]!r}, found {value!r}", name)


def as_tokens(maps: Tensor) -> Tensor:
    """`[b, c, h, w]` -> `[b, h * w, c]`."""
    return maps.flatten(2).transpose(1, 2)
