"""The loss of the next token in chunks of target tokens, so that their logits never exist at once.

A batch of 6,500 targets over 152,000 tokens has logits of 3.7 GiB in float32, and as much again for their softmax and
for their gradient. Here the head runs on some targets at a time, and the gradient of their loss is computed at once:
nothing of a chunk is kept but the gradient of its hidden states (and the sum of that of the head's weights, if they are
trained). So there is no recomputation, and about the same number of operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MAX_LOGITS = 2**27
"""Logits of one chunk: 512 MiB in float32, 882 target tokens over 152,000."""

_Forward = Callable[[Tensor], Tensor]
_Outputs = tuple[Tensor, Tensor]


def next_token_loss(
    head: nn.Module, hidden: Tensor, targets: Tensor, chunk_size: int, logit_targets: Tensor | None = None
) -> _Outputs:
    """Return the cross entropy of target tokens, summed (float32 scalar), and the logits of some of them.

    The same value and gradients as those of `F.cross_entropy(head(hidden).float(), targets, reduction="sum")`.

    Args:
        head: hidden states to logits; any module. It is called once, so that hooks which gather sharded weights
            (DeepSpeed, FSDP) surround all chunks.
        hidden: `[n, d]`, the states that predict the targets.
        targets: `[n]` int64.
        chunk_size: targets whose logits exist at a time.
        logit_targets: `[k]` int64, numbers of targets whose logits `[k, vocabulary]` (float32) are returned too; None
            for none of them.
    """

    def run(forward: _Forward, states: Tensor) -> _Outputs:
        trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
        needs_grad = torch.is_grad_enabled() and (states.requires_grad or bool(trained))
        loss: Tensor = _ChunkedLoss.apply(forward, chunk_size, needs_grad, targets, states, *trained)
        chosen = states[:0] if logit_targets is None else states.index_select(0, logit_targets)
        return loss, forward(chosen).float()

    return _call_in_place_of_forward(head, run, hidden)


def _call_in_place_of_forward(
    module: nn.Module, run: Callable[[_Forward, Tensor], _Outputs], inputs: Tensor
) -> _Outputs:
    """Call a module, hooks included, with `run(forward, inputs)` in place of its `forward`."""
    own = module.__dict__.get("forward")  # set where another library has wrapped it
    forward = module.forward
    module.forward = lambda states: run(forward, states)
    try:
        outputs: _Outputs = module(inputs)
        return outputs
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


class _ChunkedLoss(torch.autograd.Function):
    """The summed loss; gradients are computed in the forward pass and scaled in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        head: _Forward,
        chunk_size: int,
        needs_grad: bool,
        targets: Tensor,
        hidden: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        wanted = (*((hidden,) if hidden.requires_grad else ()), *weights) if needs_grad else ()
        sums = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights] if needs_grad else []
        parts: list[Tensor] = []
        for start in range(0, len(hidden), chunk_size):
            states = hidden[start : start + chunk_size].detach().requires_grad_(hidden.requires_grad)
            with torch.set_grad_enabled(bool(wanted)):
                logits = head(states)
            labels = targets[start : start + chunk_size, None]
            log_probabilities = torch.log_softmax(logits.detach().float(), dim=1)
            total -= log_probabilities.gather(1, labels).sum()
            if wanted:
                slopes = log_probabilities.exp_()
                slopes.scatter_add_(1, labels, torch.full_like(labels, -1, dtype=slopes.dtype))
                inputs = (*((states,) if hidden.requires_grad else ()), *weights)
                gradients = list(torch.autograd.grad(logits, inputs, slopes.to(logits.dtype)))
                if hidden.requires_grad:
                    parts.append(gradients.pop(0))
                for total_gradient, gradient in zip(sums, gradients, strict=True):
                    total_gradient += gradient
        ctx.has_hidden = hidden.requires_grad
        if wanted:
            of_hidden = [torch.cat(parts) if parts else torch.zeros_like(hidden)] if hidden.requires_grad else []
            ctx.save_for_backward(*of_hidden, *sums)
            ctx.dtypes = [tensor.dtype for tensor in (*of_hidden, *weights)]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [
            (gradient * scale).to(dtype) for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        of_hidden = gradients.pop(0) if ctx.has_hidden else None
        return None, None, None, None, of_hidden, *gradients
