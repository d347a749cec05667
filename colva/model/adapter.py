"""The adapter that maps expert features to the language model's embedding space."""

from __future__ import annotations

from torch import Tensor, nn


class Adapter(nn.Sequential):
    """LayerNorm(c) -> Linear(c, d) -> GELU -> Linear(d, d), the published `ot_mlp1` (arXiv 2501.04670, section 4).

    Maps `[..., c]` to `[..., d]`. Parameters are named `0`, `1` and `3` as in the published checkpoints.
    """

    def __init__(self, features: int, hidden_size: int) -> None:
        super().__init__(
            nn.LayerNorm(features),
            nn.Linear(features, hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, hidden_size),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map features `[..., c]` to `[..., d]`."""
        for module in self:
            features = module(features)
        return features
