"""The least loss that a frozen head behind a frozen norm allows, whatever the layers before them compute.

The final norm puts every hidden state on an ellipsoid: h = g * u + b with |u|² <= d. So the logits of a frozen head are
bounded, and with them the probability of a token: a random head of small weights can never say any token with
confidence, and LoRA in the layers before it cannot help.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from colva.model.colva import ColvaModel
from mmvm_data.core.errors import UsageError

MAX_BOUND: Final = 0.69
"""Nats. A letter that costs more than log 2 is less likely than all other tokens together."""
_Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
_STEPS: Final = 300
_TOLERANCE: Final = 0.02


def find_final_norm(model: ColvaModel) -> nn.Module:
    """The norm between the last layer and the head.

    Raises:
        ValueError: the text model has none that is known.
    """
    norm = getattr(model.backbone.language_model, "norm", None)
    if not isinstance(norm, nn.Module) or not type(norm).__name__.endswith("Norm"):
        raise ValueError(f"{type(model.backbone.language_model).__name__} has no final norm that is known")
    return norm


def bound_token_losses(model: ColvaModel, token_ids: Sequence[int]) -> dict[int, float]:
    """A lower bound, in nats, of the cross entropy of each token under the model's head and final norm.

    The loss is convex in u, so its least value over the ball |u|² <= d is found by gradient descent. The tangent at a
    point gives a bound that never is too high, and that ends at the least value.

    Args:
        model: only its head and final norm are used.
        token_ids: of the tokens.
    """
    norm, head = find_final_norm(model), model.get_output_embeddings()
    weight, bias = head.get_parameter("weight").detach(), getattr(head, "bias", None)
    scale = norm.get_parameter("weight").detach().float()
    offset = getattr(norm, "bias", None)
    targets = torch.tensor(list(token_ids), device=weight.device)
    constant = torch.zeros(len(weight), device=weight.device)
    if offset is not None:
        constant = constant + (weight @ offset.detach().to(weight.dtype)).float()
    if bias is not None:
        constant = constant + bias.detach().float()
    radius = len(scale) ** 0.5

    def evaluate(points: Tensor) -> tuple[Tensor, Tensor]:
        """Losses `[k]` and their gradients `[k, d]` at points `[k, d]`."""
        logits = ((points * scale).to(weight.dtype) @ weight.T).float() + constant
        losses = torch.logsumexp(logits, dim=1) - logits.gather(1, targets[:, None])[:, 0]
        slopes = logits.softmax(dim=1)
        slopes[torch.arange(len(targets)), targets] -= 1
        return losses, (slopes.to(weight.dtype) @ weight).float() * scale

    with torch.no_grad():
        norms = torch.linalg.vector_norm(weight.float() * scale, dim=1)
        direction = (weight[targets].float() - weight.float().mean(dim=0)) * scale
        start = radius * nn.functional.normalize(direction, dim=1)
        bounds = _minimize(evaluate, start, radius, float(norms.max()) ** 2)
    return dict(zip(token_ids, bounds.tolist(), strict=True))


def _minimize(evaluate: _Objective, start: Tensor, radius: float, curvature: float) -> Tensor:
    """Lower bounds `[k]` of convex functions over a ball, by projected gradient descent with Nesterov's momentum.

    Ends early where a value is small enough to show that the head is no obstacle.

    Args:
        evaluate: values `[k]` and gradients `[k, d]` at points `[k, d]`.
        start: points in the ball.
        radius: of the ball.
        curvature: upper bound of the second derivatives.
    """
    point = previous = start
    bounds = start.new_zeros(len(start))
    momentum = 1.0
    for _ in range(_STEPS):
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = _project(point + (momentum - 1) / following * (point - previous), radius)
        values, gradients = evaluate(ahead)
        # the least value of the tangent over the ball is below that of the function
        gaps = (gradients * ahead).sum(dim=1) + radius * torch.linalg.vector_norm(gradients, dim=1)
        bounds = torch.maximum(bounds, values - gaps)
        if bool(((values - bounds < _TOLERANCE) | (values < MAX_BOUND / 2)).all()):
            break
        previous, point = point, _project(ahead - gradients / max(curvature, 1e-12), radius)
        momentum = following
    return bounds


def _project(points: Tensor, radius: float) -> Tensor:
    norms = torch.linalg.vector_norm(points, dim=1, keepdim=True)
    return points * (radius / norms.clamp(min=radius))


def check_frozen_head(model: ColvaModel, letters: Mapping[str, int], limit: float | None) -> dict[str, float]:
    """Bound the losses of the answer letters, and refuse a run that cannot learn to say them.

    Args:
        model: with what is trained already selected.
        letters: letter -> id of its token.
        limit: highest bound that is accepted, in nats; None accepts any.

    Returns:
        letter -> bound; empty when the head or the final norm is trained, which lifts the bound.

    Raises:
        UsageError: a bound above the limit.
    """
    parts = [model.get_output_embeddings(), find_final_norm(model)]
    if any(parameter.requires_grad for part in parts for parameter in part.parameters()):
        return {}
    by_token = bound_token_losses(model, sorted(set(letters.values())))
    bounds = {letter: round(by_token[token], 4) for letter, token in letters.items()}
    letter, worst = max(bounds.items(), key=lambda item: item[1])
    if limit is not None and worst > limit:
        raise UsageError(
            f"tune: the head and the final norm are frozen, and with them the loss of the answer {letter!r} is at "
            f"least {worst:.2f} nats (a probability of at most {math.exp(-worst):.1%}), whatever the other layers "
            "learn. Train the head too (tune=[head]), or the whole language model (tune=full) if it is not "
            "pretrained; max_loss_bound=null trains anyway"
        )
    return bounds
