"""The interface of a vision expert: images in [0, 1] to a grid of feature tokens."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn
from typing_extensions import Self

from colva.model.buffers import keep_computed_buffers
from mmvm_data.core.config_values import suggest_name
from mmvm_data.core.errors import UsageError

Positive = Annotated[int, Field(gt=0)]
"""A count or a size in a dataclass of fields."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Bicubic resizing overshoots [0, 1] by up to about 0.3; bytes and normalized images lie further out.
LOWEST, HIGHEST = -0.5, 1.5


@dataclass
class Features:
    """The features of a batch of images of one size.

    Attributes:
        tokens: `[b, h * w, c]`, row by row; the parameters' dtype, or autocast's.
        grid: (h, w), rows and columns of tokens: the image's height and width over the expert's stride.
    """

    tokens: Tensor
    grid: tuple[int, int]


class Expert(nn.Module):
    """A vision expert, always in eval mode: `train()` leaves it deterministic (fixed batch statistics, no dropped
    paths, no random positions), whether its parameters are frozen or not.

    A subclass has a dataclass of its settings (`Fields`), takes an instance of it, sets `hidden_size` and `stride`,
    calls `eval()`, and encodes images that are already checked.

    Attributes:
        kind: its name in `EXPERTS`.
        hidden_size: width c of a token.
        stride: pixels that a token covers along each axis.
        config: the fields as JSON values; `build_expert(kind, config)` builds the same network.
    """

    kind: ClassVar[str]
    Fields: ClassVar[type[Any]]
    TINY: ClassVar[dict[str, Any]]
    """Fields of a toy network."""
    SIZES: ClassVar[dict[str, dict[str, Any]]]
    """Fields of the published networks, by size; the first is the usual one."""

    hidden_size: int
    stride: int
    config: dict[str, Any]

    def __init__(self, fields: Any) -> None:
        super().__init__()
        self.config = to_config(fields)

    def forward(self, images: Tensor, check_values: bool = True) -> Features:
        """Encode images.

        Args:
            images: `[b, 3, H, W]`, RGB in [0, 1], float of any width; H and W multiples of `stride`. The network
                normalizes them itself, in float32 at least.
            check_values: refuse values far outside [0, 1]; images that were bytes need not be checked, for which a
                device is waited for.

        Returns:
            Tokens in the dtype of the parameters (under autocast, as it leaves them), on the images' device.

        Raises:
            TypeError: images are not floating point.
            ValueError: another shape, a size that is not a multiple of the stride, or values far outside [0, 1] (not
                checked inside `torch.compile`, where a graph cannot depend on values).
        """
        self.check(images)
        if check_values and not (torch.compiler.is_compiling() or images.is_meta or not images.numel()):
            self._check_values(images)
        rows, columns = images.shape[2] // self.stride, images.shape[3] // self.stride
        if len(images) == 0:  # which some of the networks cannot reshape
            tokens = images.new_empty((0, rows * columns, self.hidden_size), dtype=self.parameter_dtype())
            return Features(tokens, (rows, columns))
        return Features(self.encode(images), (rows, columns))

    def encode(self, images: Tensor) -> Tensor:
        """Return tokens `[b, h * w, c]` of images that `forward` has checked."""
        raise NotImplementedError

    def check(self, images: Tensor) -> None:
        """Raise the errors of `forward` that do not depend on values."""
        if not images.is_floating_point():
            raise TypeError(f"images: expected floats in [0, 1], found {images.dtype}; divide bytes by 255")
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images: expected [b, 3, H, W], found {list(images.shape)}")
        height, width = images.shape[2:]
        if height < self.stride or width < self.stride or height % self.stride or width % self.stride:
            raise ValueError(
                f"images: {height} x {width} pixels, expected multiples of {self.stride} (nearest: "
                f"{nearest_multiple(height, self.stride)} x {nearest_multiple(width, self.stride)})"
            )

    @staticmethod
    def _check_values(images: Tensor) -> None:
        low, high = (float(v) for v in images.detach().aminmax())
        if not (low >= LOWEST and high <= HIGHEST):  # written so that NaN is refused too
            raise ValueError(f"images: values from {low:.4g} to {high:.4g}, expected [0, 1] before any normalization")

    def train(self, mode: bool = True) -> Expert:
        """Stay in eval mode; see the class."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast; rotary frequencies stay in float32 (see `colva.model.buffers`)."""
        with keep_computed_buffers(self):
            super()._apply(fn, recurse)
        return self

    def parameter_dtype(self) -> torch.dtype:
        """Return the dtype of the parameters."""
        return next(self.parameters()).dtype


def nearest_multiple(size: int, step: int) -> int:
    """Return the multiple of `step` nearest to `size`, at least one step."""
    return max(step, round(size / step) * step)


def to_unit_range(images: Tensor) -> Tensor:
    """Return uint8 pixels as float32 in [0, 1]; floats are returned unchanged."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def normalize(images: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (images - mean) / std for `[b, 3, H, W]` and `[3, 1, 1]`, in float32 or wider, then cast to `dtype`."""
    wide = torch.promote_types(images.dtype, torch.float32)
    return (images.to(wide) - mean.to(wide)).div_(std.to(wide)).to(dtype)


def imagenet_normalize(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Return images in [0, 1] normalized with ImageNet's mean and standard deviation."""
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return normalize(images, mean, std, dtype)


def to_config(fields: Any) -> dict[str, Any]:
    """Return a dataclass of fields as JSON values; the inverse of `read_fields`."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(fields).items()}


def read_fields(kind: str, fields: type[Any], config: dict[str, Any]) -> Any:
    """Return a dataclass of fields from a plain dict.

    Raises:
        UsageError: an unknown field (the message suggests the most similar), a missing one, or a value of another
            type or range.
    """
    known = [f.name for f in dataclasses.fields(fields)]
    for name in config:
        if name not in known:
            raise UsageError(
                f"expert {kind}: unknown field {name!r}{suggest_name(name, known)} (known: {', '.join(known)})"
            )
    try:
        return TypeAdapter(fields).validate_python(config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        value = "" if first["type"] == "missing" else f", found {first['input']!r}"
        reason = re.sub("^Value error, ", "", first["msg"])
        raise UsageError(f"expert {kind}: {f'{where}: ' if where else ''}{reason}{value if where else ''}") from error
