"""MobileSAM (Zhang et al., arXiv 2306.14289): clicks and boxes -> a mask, fast enough for a CPU.

The image encoder is TinyViT-5M (Wu et al., arXiv 2207.10666), written here; the prompt encoder and the mask decoder are
those of SAM (Kirillov et al., arXiv 2304.02643), in transformers' classes. The weights are a file of tensors as the
authors publish it (``mobile_sam.pt``); it is read weights-only.

An image is resized to 1024 pixels on its longer side, normalized by ImageNet's mean and standard deviation, and padded
with zeros to the right and below.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.core.types import Box

SIZE: Final = 1024
_MEAN: Final = (123.675, 116.28, 103.53)
_STD: Final = (58.395, 57.12, 57.375)
_DIMS: Final = (64, 128, 160, 320)
_DEPTHS: Final = (2, 2, 6, 2)
_HEADS: Final = (2, 4, 5, 10)
_WINDOWS: Final = (7, 7, 14, 7)
_SIZES: Final = (256, 128, 64, 64)
"""Tokens on a side in each stage; the last one is not downsampled."""

_RENAMED: Final = (
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", "shared_image_embedding.positional_embedding"),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"(output_hypernetworks_mlps\.\d+|iou_prediction_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(output_hypernetworks_mlps\.\d+|iou_prediction_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(output_hypernetworks_mlps\.\d+|iou_prediction_head)\.layers\.2\.", r"\1.proj_out."),
    (r"\.norm", ".layer_norm"),
)
"""Names of SAM's published weights -> those of transformers' classes, in this order."""


class _ConvNorm(nn.Sequential):
    def __init__(self, dim_in: int, dim_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(dim_in, dim_out, kernel, stride, kernel // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(dim_out))


class _PatchEmbed(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(_ConvNorm(3, dim // 2, 3, 2), nn.GELU(), _ConvNorm(dim // 2, dim, 3, 2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.seq(images)  # type: ignore[no-any-return]


class _MBConv(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(dim, 4 * dim)
        self.conv2 = _ConvNorm(4 * dim, 4 * dim, 3, groups=4 * dim)
        self.conv3 = _ConvNorm(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.gelu(self.conv2(functional.gelu(self.conv1(x))))
        return functional.gelu(x + self.conv3(inner))


class _PatchMerging(nn.Module):
    """A map [b, c, h, w] -> [b, c', h', w'], halved but for the last stage."""

    def __init__(self, dim_in: int, dim_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(dim_in, dim_out)
        self.conv2 = _ConvNorm(dim_out, dim_out, 3, stride, groups=dim_out)
        self.conv3 = _ConvNorm(dim_out, dim_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv3(functional.gelu(self.conv2(functional.gelu(self.conv1(x)))))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    """Self-attention in windows [b, n, c], with a learned bias for each distance between two tokens."""

    attention_bias_idxs: torch.Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self._heads, self._dim = heads, dim // heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        points = list(itertools.product(range(window), repeat=2))
        numbers: dict[tuple[int, int], int] = {}
        indices = [
            numbers.setdefault((abs(a[0] - b[0]), abs(a[1] - b[1])), len(numbers)) for a in points for b in points
        ]
        self.attention_biases = nn.Parameter(torch.zeros(heads, len(numbers)))
        size = len(points)
        self.register_buffer("attention_bias_idxs", torch.tensor(indices).view(size, size), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, count, _ = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, count, self._heads, 3 * self._dim)
        query, key, value = (part.transpose(1, 2) for part in qkv.split(self._dim, dim=3))
        bias = self.attention_biases[:, self.attention_bias_idxs]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, -1))  # type: ignore[no-any-return]


class _Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(self.norm(x))))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Attention in windows, a convolution of 3 x 3, and an MLP, on a map [b, h, w, c]."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self._window = window
        self.attn = _Attention(dim, heads, window)
        self.mlp = _Mlp(dim)
        self.local_conv = _ConvNorm(dim, dim, 3, groups=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, height, width, dim = x.shape
        window = self._window
        below, right = -height % window, -width % window
        padded = functional.pad(x, (0, 0, 0, right, 0, below))
        rows, columns = (height + below) // window, (width + right) // window
        parts = padded.view(batch, rows, window, columns, window, dim).transpose(2, 3)
        mixed = self.attn(parts.reshape(-1, window * window, dim))
        mixed = mixed.view(batch, rows, columns, window, window, dim).transpose(2, 3)
        x = x + mixed.reshape(batch, height + below, width + right, dim)[:, :height, :width]
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.mlp(x)  # type: ignore[no-any-return]


class _Stage(nn.Module):
    """Blocks, of convolutions in the first stage, and what makes the map smaller; [b, c, h, w] -> [b, c', h', w']."""

    def __init__(self, blocks: list[nn.Module], merging: _PatchMerging | None) -> None:
        super().__init__()
        self._has_attention = isinstance(blocks[0], _Block)
        self.blocks = nn.ModuleList(blocks)
        self.downsample = merging

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 2, 3, 1) if self._has_attention else x
        for block in self.blocks:
            x = block(x)
        x = x.permute(0, 3, 1, 2) if self._has_attention else x
        return x if self.downsample is None else self.downsample(x)


class _ChannelNorm(nn.Module):
    """Layer normalization over the channels of a map [b, c, h, w]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, correction=0, keepdim=True) + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class TinyVit(nn.Module):
    """The image encoder: images [b, 3, 1024, 1024] -> embeddings [b, 256, 64, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed(_DIMS[0])
        stages = []
        for k, (dim, depth) in enumerate(zip(_DIMS, _DEPTHS, strict=True)):
            blocks: list[nn.Module] = [
                _MBConv(dim) if k == 0 else _Block(dim, _HEADS[k], _WINDOWS[k]) for _ in range(depth)
            ]
            is_last = k == len(_DIMS) - 1
            merging = None if is_last else _PatchMerging(dim, _DIMS[k + 1], _SIZES[k] // _SIZES[k + 1])
            stages.append(_Stage(blocks, merging))
        self.layers = nn.ModuleList(stages)
        dim = _DIMS[-1]
        self.neck = nn.Sequential(
            nn.Conv2d(dim, 256, 1, bias=False),
            _ChannelNorm(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            _ChannelNorm(256),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(images)
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Embedding:
    """An image as the decoder sees it.

    Attributes:
        features: [1, 256, 64, 64].
        height, width: of the image, in pixels.
    """

    features: torch.Tensor
    height: int
    width: int

    @property
    def scale(self) -> float:
        """Pixels of the encoder's input over those of the image."""
        return SIZE / max(self.height, self.width)


class MobileSam:
    """Masks for prompts.

    Args:
        weights: ``mobile_sam.pt``.
        device: of torch; None for a GPU when there is one.

    Raises:
        InputError: the file does not hold these weights.
        OptionError: torch cannot use ``device``.
        UsageError: transformers is not installed.
    """

    def __init__(self, weights: Path, device: str | None = None) -> None:
        try:
            from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamVisionConfig
        except ImportError as error:
            raise UsageError("MobileSAM needs transformers: pip install 'mmvm-data[train]'") from error
        # transformers' own image encoder is as small as it can be, and not used
        vision = SamVisionConfig(hidden_size=8, num_hidden_layers=0, num_attention_heads=1, mlp_dim=8)
        decoder = SamMaskDecoderConfig(layer_norm_eps=1e-5)  # as published; transformers' default is 1e-6
        self._sam: Any = SamModel(SamConfig(vision_config=vision, mask_decoder_config=decoder)).eval()
        self._encoder = TinyVit().eval()
        _load_weights(weights, self._encoder, self._sam)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._sam.to(self._device)
            self._encoder.to(self._device)
        except (RuntimeError, AssertionError) as error:  # torch says AssertionError where it was built without CUDA
            raise OptionError("device", f"must be a device that torch can use, got {device!r}") from error

    def embed(self, bgr: NDArray[np.uint8]) -> Embedding:
        """Encode an image, uint8 [h, w, 3], blue first."""
        height, width = bgr.shape[:2]
        scale = SIZE / max(height, width)
        size = int(width * scale + 0.5), int(height * scale + 0.5)
        rgb = cv2.cvtColor(
            cv2.resize(bgr, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB
        )
        pixels = (rgb.astype(np.float32) - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)
        square = np.zeros((SIZE, SIZE, 3), np.float32)
        square[: size[1], : size[0]] = pixels
        with torch.inference_mode():
            features = self._encoder(torch.from_numpy(square).permute(2, 0, 1)[None].to(self._device))
        return Embedding(features, height, width)

    def features(self, image: Embedding) -> NDArray[np.float32]:
        """Features of an encoded image, [256, 64, 64] over the encoder's square, each cell of length 1."""
        cells: NDArray[np.float32] = torch.nn.functional.normalize(image.features[0], dim=0).cpu().numpy()
        return cells

    def segment(
        self,
        image: Embedding,
        box: Box | None = None,
        clicks: Sequence[tuple[float, float]] = (),
        others: Sequence[tuple[float, float]] = (),
        logits: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
        """Three masks for one object, from its part to the whole.

        Args:
            image: from ``embed``.
            box: x, y, width, height in pixels.
            clicks, others: x and y in pixels, on the object and beside it. Without a box, one click at least.
            logits: of an earlier mask, [256, 256] over the encoder's square.

        Returns:
            masks [3, h, w], their IoU as the model estimates it [3], and their logits [3, 256, 256].
        """
        scale = image.scale
        points = [(x * scale, y * scale, 1) for x, y in clicks] + [(x * scale, y * scale, 0) for x, y in others]
        prompts: dict[str, torch.Tensor] = {}
        if points:
            prompts["input_points"] = torch.tensor([[[point[:2] for point in points]]], dtype=torch.float32)
            prompts["input_labels"] = torch.tensor([[[point[2] for point in points]]])
        if box is not None:
            x, y, width, height = (value * scale for value in box)
            prompts["input_boxes"] = torch.tensor([[[x, y, x + width, y + height]]], dtype=torch.float32)
        if logits is not None:
            prompts["input_masks"] = torch.from_numpy(np.ascontiguousarray(logits))[None, None].float()
        prompts = {name: value.to(self._device) for name, value in prompts.items()}
        with torch.inference_mode():
            found = self._sam(image_embeddings=image.features, **prompts, multimask_output=True)
            low = found.pred_masks[0]  # [1, 3, 256, 256]
            square = functional.interpolate(low, (SIZE, SIZE), mode="bilinear", align_corners=False)
            inner = square[..., : round(image.height * scale), : round(image.width * scale)]
            masks = functional.interpolate(inner, (image.height, image.width), mode="bilinear", align_corners=False)
        return (
            (masks[0] > 0).cpu().numpy(),
            found.iou_scores[0, 0].float().cpu().numpy(),
            low[0].float().cpu().numpy(),
        )


def _load_weights(path: Path, encoder: TinyVit, sam: Any) -> None:
    """Put the published weights into the two parts.

    Raises:
        InputError: the file cannot be read, or lacks some of them.
    """
    import pickle

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise InputError(path, f"weights of MobileSAM cannot be read: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(path, "expected a file of tensors by name, as mobile_sam.pt is")
    own, shared = {}, {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        if part == "image_encoder":
            if not rest.startswith(("head.", "norm_head.")):  # of the classifier that it was distilled from
                own[rest] = value
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        shared[name] = value
    if (positions := shared.get("shared_image_embedding.positional_embedding")) is not None:
        shared["prompt_encoder.shared_embedding.positional_embedding"] = positions
    try:
        lacking, unknown = encoder.load_state_dict(own, strict=False)
        missing, more = sam.load_state_dict(shared, strict=False)
    except RuntimeError as error:  # shapes
        raise InputError(path, f"weights of another model: {' '.join(str(error).split())[:200]}") from error
    lacking = [*lacking, *(name for name in missing if not name.startswith("vision_encoder."))]
    if lacking or unknown or more:
        reason = f"lacks {lacking[0]}" if lacking else f"has {[*unknown, *more][0]} besides"
        raise InputError(path, f"weights of another model: it {reason}")
