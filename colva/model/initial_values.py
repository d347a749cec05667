"""Initial values of language models that are trained from scratch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_RESIDUAL_OUTPUTS = ("o_proj", "down_proj")
"""Projections whose output is added to the residual stream, in all text models here."""


@torch.no_grad()
def init_fan_in(text: PreTrainedModel, head: nn.Module, seed: int) -> None:
    """Draw the weights of a language model so that activations keep their scale whatever the width.

    Linear layers get a deviation of 1 / sqrt(inputs) and embeddings of 1. The outputs of attention and of the
    feed-forward part are also divided by sqrt(2 * layers), as in GPT-2 (Radford et al., 2019, section 2.3), because
    the residual stream is the sum of so many of them. With the 0.02 of transformers a narrow model starts with nearly
    constant attention and learns late. Biases are set to 0, and norms to 1.

    Args:
        text: the decoder; is modified.
        head: its head; is modified unless it shares the weight of the embeddings.
        seed: of the values.
    """
    generator = torch.Generator().manual_seed(seed)
    embeddings = text.get_input_embeddings()
    num_layers = int(text.config.num_hidden_layers)
    modules = [*text.named_modules(), ("head", head)]
    for name, module in modules:
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Linear):
            deviation = module.in_features**-0.5
            if name.rpartition(".")[2] in _RESIDUAL_OUTPUTS:
                deviation /= (2 * num_layers) ** 0.5
            if weight is not embeddings.weight:
                _draw_normal(module.weight, deviation, generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            _draw_normal(module.weight, 1.0, generator)
        elif type(module).__name__.endswith("Norm") and weight is not None:
            weight.fill_(1.0)


def _draw_normal(weight: Tensor, deviation: float, generator: torch.Generator) -> None:
    weight.copy_(torch.randn(weight.shape, generator=generator) * deviation)
