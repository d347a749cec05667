"""RADIO v2.1, C-RADIOv3 and v4: plain vision transformers whose positions are cropped from one large grid.

Ranzinger et al., AM-RADIO, CVPR 2024 (arXiv 2312.06709) and C-RADIOv4 (arXiv 2601.17237); CPE is their "cropped
position embedding". Module names are those of the published state dict below `radio_model.model.`, so that
`radio_names` needs only prefixes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from colva.model.experts.base import Expert, Features, Positive, normalize

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class RadioFields:
    """Settings of a RADIO network.

    Attributes:
        hidden_size, depth, heads: width, number of blocks, attention heads.
        mlp_size: width between the two linear layers of a block's MLP.
        patch_size: pixels a side of a patch.
        max_size: pixels a side of the position grid (`cpe_max_size`), a multiple of `patch_size`.
        class_tokens: one for each teacher.
        registers: further prefix tokens that are dropped.
        summary_idxs: the class tokens that `summary` returns.
        max_resolution: largest height or width of an image.
        qkv_bias: whether queries, keys and values have a bias.
        mlp_norm: whether the MLP normalizes between its layers (the `_mlpnorm` variants).
        final_norm: whether the last block is followed by a LayerNorm (`model_norm`; not so in v2.1).
        align_corners: how the position grid is resized; C-RADIOv3 and v4 do not align corners.
    """

    hidden_size: Positive = 1280
    depth: Positive = 32
    heads: Positive = 16
    mlp_size: Positive = 5120
    patch_size: Positive = 16
    max_size: Positive = 2048
    class_tokens: Positive = 4
    registers: Annotated[int, Field(ge=0)] = 12
    summary_idxs: tuple[int, ...] = (0, 1, 2)
    max_resolution: Positive = 2048
    qkv_bias: bool = True
    mlp_norm: bool = False
    final_norm: bool = False
    align_corners: bool = True

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of heads {self.heads}")
        if self.max_size % self.patch_size:
            raise ValueError(f"max_size {self.max_size} must be a multiple of patch_size {self.patch_size}")
        if any(not 0 <= i < self.class_tokens for i in self.summary_idxs):
            raise ValueError(f"summary_idxs {list(self.summary_idxs)}: expected 0 .. {self.class_tokens - 1}")


class InputConditioner(nn.Module):
    """Normalisation with the mean and deviation that come with the weights: `[3, 1, 1]` each."""

    norm_mean: Tensor
    norm_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("norm_mean", torch.tensor(CLIP_MEAN).view(3, 1, 1))
        self.register_buffer("norm_std", torch.tensor(CLIP_STD).view(3, 1, 1))

    def forward(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        return normalize(images, self.norm_mean, self.norm_std, dtype)


class PrefixTokens(nn.Module):
    """Class tokens, then registers, prepended to the patches: `[b, n, c]` -> `[b, prefix + n, c]`."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(count, width) * width**-0.5)

    def forward(self, patches: Tensor) -> Tensor:
        return torch.cat([self.token.expand(len(patches), -1, -1).to(patches.dtype), patches], dim=1)


class PatchGenerator(nn.Module):
    """Patches, each flattened channel by channel, through one linear layer, plus their positions."""

    def __init__(self, fields: RadioFields) -> None:
        super().__init__()
        width = fields.hidden_size
        self.patch = fields.patch_size
        self.side = fields.max_size // fields.patch_size
        self.align_corners = fields.align_corners
        self.embedder = nn.Linear(3 * self.patch**2, width, bias=False)
        self.pos_embed = nn.Parameter(torch.randn(1, self.side**2, width) * width**-0.5)
        self.cls_token = PrefixTokens(fields.class_tokens + fields.registers, width)

    def forward(self, images: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        grid = height // self.patch, width // self.patch
        # a patch's values are ordered (channel, row, column) and the patches row by row, as the weights expect
        grid_of_patches = images.reshape(count, channels, grid[0], self.patch, grid[1], self.patch)
        patches = grid_of_patches.permute(0, 2, 4, 1, 3, 5).reshape(count, grid[0] * grid[1], -1)
        tokens: Tensor = self.cls_token(self.embedder(patches) + self.positions(*grid))
        return tokens

    def positions(self, rows: int, columns: int) -> Tensor:
        """Return positions `[1, rows * columns, c]` of a grid.

        The rule of the published `ViTPatchGenerator` in eval mode: the square trained grid is resized to a square of
        the longer side (bilinear, in float32), and its upper left part is cropped.
        """
        if (rows, columns) == (self.side, self.side):
            return self.pos_embed
        longer = max(rows, columns)
        grid = self.pos_embed.float().view(1, self.side, self.side, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(longer, longer), mode="bilinear", align_corners=self.align_corners)
        return grid[:, :, :rows, :columns].flatten(2).transpose(1, 2).to(self.pos_embed.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        output: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
        return output


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, width: int, hidden: int, norm: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden) if norm else nn.Identity()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.fc2(self.norm(F.gelu(self.fc1(x))))
        return output


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, fields: RadioFields) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(fields.hidden_size, eps=1e-6)
        self.attn = Attention(fields.hidden_size, fields.heads, fields.qkv_bias)
        self.norm2 = nn.LayerNorm(fields.hidden_size, eps=1e-6)
        self.mlp = Mlp(fields.hidden_size, fields.mlp_size, fields.mlp_norm)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x


class Radio(Expert):
    """RADIO; images of any size in steps of `patch_size`, up to `max_resolution`."""

    kind = "radio"
    Fields = RadioFields
    TINY: ClassVar[dict[str, Any]] = {
        **{"hidden_size": 64, "depth": 2, "heads": 4, "mlp_size": 128, "max_size": 256},
        **{"class_tokens": 3, "registers": 5, "summary_idxs": [0, 1]},
    }
    # The number of tokens before the patches is that of the later releases of the family; a published file's own
    # configuration decides when one is converted (`from_radio_config`).
    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "huge": {},
        "large": {"hidden_size": 1024, "depth": 24, "heads": 16, "mlp_size": 4096, "registers": 4},
        "base": {"hidden_size": 768, "depth": 12, "heads": 12, "mlp_size": 3072, "registers": 4},
        "c-radio_v4-h": {"class_tokens": 3, "registers": 7, "summary_idxs": [0, 1], "align_corners": False},
    }

    summary_idxs: Tensor

    def __init__(self, fields: RadioFields) -> None:
        super().__init__(fields)
        self.hidden_size, self.stride = fields.hidden_size, fields.patch_size
        self.max_resolution = fields.max_resolution
        self.prefix = fields.class_tokens + fields.registers
        self.register_buffer("summary_idxs", torch.tensor(fields.summary_idxs, dtype=torch.int64))
        self.input_conditioner = InputConditioner()
        self.patch_generator = PatchGenerator(fields)
        self.blocks = nn.ModuleList(Block(fields) for _ in range(fields.depth))
        self.norm = nn.LayerNorm(fields.hidden_size, eps=1e-6) if fields.final_norm else nn.Identity()
        self.eval()

    def check(self, images: Tensor) -> None:
        super().check(images)
        if max(images.shape[2:]) > self.max_resolution:
            height, width = images.shape[2:]
            raise ValueError(f"images: {height} x {width} pixels, expected at most {self.max_resolution} a side")

    def encode(self, images: Tensor) -> Tensor:
        return self._encode_with_prefix(images)[:, self.prefix :]

    def summary(self, images: Tensor) -> tuple[Tensor, Features]:
        """Return the class tokens of `summary_idxs`, joined to `[b, len(summary_idxs) * c]`, and the features."""
        self.check(images)
        tokens = self._encode_with_prefix(images)
        grid = images.shape[2] // self.stride, images.shape[3] // self.stride
        return tokens[:, self.summary_idxs].flatten(1), Features(tokens[:, self.prefix :], grid)

    def _encode_with_prefix(self, images: Tensor) -> Tensor:
        x = self.patch_generator(self.input_conditioner(images, self.parameter_dtype()))
        for block in self.blocks:
            x = block(x)
        tokens: Tensor = self.norm(x)
        return tokens
