from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from colva.checkpoints.init_tiny import init_tiny
from colva.checkpoints.load import load
from colva.losses import IGNORE_INDEX
from colva.model import colva as colva_module
from colva.model.token_loss import next_token_loss

TARGETS, WIDTH, VOCABULARY = 23, 16, 50


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements of a float tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                self.elements = max(self.elements, tensor.numel())
        return result


def plain_loss(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(head(hidden).float(), targets, reduction="sum")


def draw(dtype: torch.dtype = torch.float32) -> tuple[nn.Linear, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(1)
    head = nn.Linear(WIDTH, VOCABULARY).to(dtype)
    hidden = torch.randn(TARGETS, WIDTH, generator=generator).to(dtype).requires_grad_()
    return head, hidden, torch.randint(VOCABULARY, (TARGETS,), generator=generator)


@pytest.mark.parametrize("chunk_size", [1, 7, 23, 100])
@pytest.mark.parametrize("trained", ["hidden", "head", "both"])
def test_value_and_gradients_are_those_of_the_plain_loss(chunk_size: int, trained: str) -> None:
    head, hidden, targets = draw()
    head.requires_grad_(trained != "hidden")
    hidden.requires_grad_(trained != "head")
    wanted = [tensor for tensor in (hidden, *head.parameters()) if tensor.requires_grad]
    plain = plain_loss(head, hidden, targets)
    expected = torch.autograd.grad(plain / 7, wanted)
    loss, _ = next_token_loss(head, hidden, targets, chunk_size)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(loss / 7, wanted), expected, atol=1e-6, rtol=1e-6)


def test_in_bfloat16_and_under_autocast() -> None:
    head, hidden, targets = draw(torch.bfloat16)
    expected = torch.autograd.grad(plain_loss(head, hidden, targets), (hidden, head.weight))
    found = torch.autograd.grad(next_token_loss(head, hidden, targets, 5)[0], (hidden, head.weight))
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)
    head, hidden, targets = draw()
    with torch.autocast("cpu", torch.bfloat16):
        expected = torch.autograd.grad(plain_loss(head, hidden, targets), (hidden, head.weight))
        found = torch.autograd.grad(next_token_loss(head, hidden, targets, 5)[0], (hidden, head.weight))
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)


def test_without_targets_there_is_no_loss_and_a_gradient_of_zero() -> None:
    head, hidden, targets = draw()
    loss, _ = next_token_loss(head, hidden[:0], targets[:0], 4)
    gradients = torch.autograd.grad(loss, (hidden, head.weight))
    assert float(loss.detach()) == 0 and not any(gradient.any() for gradient in gradients)


def test_without_gradients_nothing_is_stored() -> None:
    head, hidden, targets = draw()
    with torch.no_grad():
        loss, _ = next_token_loss(head, hidden, targets, 4)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, plain_loss(head, hidden, targets).detach())


def test_logits_of_some_targets() -> None:
    head, hidden, targets = draw()
    wanted = torch.tensor([3, 3, 20])
    _, logits = next_token_loss(head, hidden, targets, 4, wanted)
    torch.testing.assert_close(logits, head(hidden)[wanted])
    assert next_token_loss(head, hidden, targets, 4)[1].shape == (0, VOCABULARY)


def test_hooks_surround_all_chunks_and_the_head_is_as_before() -> None:
    head, hidden, targets = draw()
    calls: list[str] = []
    head.register_forward_pre_hook(lambda *_: calls.append("gather"))
    head.register_forward_hook(lambda *_: calls.append("release"))
    next_token_loss(head, hidden, targets, 4)[0].backward()
    assert calls == ["gather", "release"] and "forward" not in head.__dict__
    wrapped: Callable[[Tensor], Tensor] = lambda states: nn.Linear.forward(head, states)  # noqa: E731
    head.forward = wrapped  # type: ignore[method-assign]
    next_token_loss(head, hidden, targets, 4)
    assert head.__dict__["forward"] is wrapped


@pytest.mark.parametrize("family", ["internvl2-phi3", "qwen2-vl"])
def test_a_model_never_has_the_logits_of_all_targets(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_tiny(tmp_path / "model", family, None)
    model = load(tmp_path / "model")
    model.requires_grad_(False)
    model.get_output_embeddings().requires_grad_(True)
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.randint(200, (2, 300), generator=torch.Generator().manual_seed(0))
    labels = ids.masked_fill(ids % 3 == 0, IGNORE_INDEX)
    hidden = model.backbone.decode(model.backbone.embed(ids), attention_mask=torch.ones_like(ids)).last_hidden_state
    twin = copy.deepcopy(model.get_output_embeddings())
    is_target = labels[:, 1:] != IGNORE_INDEX
    plain = plain_loss(twin, hidden[:, :-1][is_target], labels[:, 1:][is_target]) / is_target.sum()
    plain.backward()
    monkeypatch.setattr(colva_module, "MAX_LOGITS", 10 * vocabulary)
    with LargestTensor() as largest:
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
    assert largest.elements < 300 * vocabulary  # there are about 400 targets
    torch.testing.assert_close(loss, plain, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(model.get_output_embeddings().weight.grad, twin.weight.grad, atol=1e-6, rtol=1e-5)
