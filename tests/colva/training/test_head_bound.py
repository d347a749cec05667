from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from colva.checkpoints.init_tiny import init_tiny
from colva.checkpoints.load import load
from colva.model.colva import ColvaModel
from colva.training.head_bound import bound_token_losses, check_frozen_head, find_final_norm
from mmvm_data.core.errors import UsageError

LETTERS = {"A": 65, "B": 66}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ColvaModel:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    init_tiny(folder, "internvl2_5-qwen2", None)
    loaded = load(folder)
    loaded.requires_grad_(False)
    return loaded


def least_loss(model: ColvaModel, token: int) -> float:
    """The least loss over hidden states that gradient descent finds through the real norm and head."""
    norm, head = find_final_norm(model), model.get_output_embeddings()
    hidden = torch.randn(1, head.in_features, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer = torch.optim.Adam([hidden], lr=0.05)
    for _ in range(400):
        loss = F.cross_entropy(head(norm(hidden)), torch.tensor([token]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss)


def test_no_hidden_state_has_a_lower_loss_and_one_comes_close(model: ColvaModel) -> None:
    for token, bound in bound_token_losses(model, [65, 66]).items():
        found = least_loss(model, token)
        assert found - 0.05 < bound <= found + 1e-4
        assert 4 < bound < 6


def test_a_frozen_head_of_small_weights_is_refused_and_a_trained_one_is_not(model: ColvaModel) -> None:
    with pytest.raises(UsageError, match=r"loss of the answer '[AB]' is at least [45]\.\d\d nats .*tune=full"):
        check_frozen_head(model, LETTERS, 0.69)
    assert check_frozen_head(model, LETTERS, None).keys() == LETTERS.keys()
    for part in (model.get_output_embeddings(), find_final_norm(model)):
        part.requires_grad_(True)
        assert check_frozen_head(model, LETTERS, 0.69) == {}
        part.requires_grad_(False)


def test_a_head_of_large_weights_is_no_obstacle(model: ColvaModel) -> None:
    head = model.get_output_embeddings()
    with torch.no_grad():
        head.weight.mul_(50)
        bounds = check_frozen_head(model, LETTERS, 0.69)
        head.weight.div_(50)
    assert max(bounds.values()) < 0.35
