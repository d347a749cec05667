from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colva.losses import matching_hits, object_contrastive_loss


def by_the_formula(anchors, keys, anchor_ids, key_ids, anchor_valid, key_valid) -> tuple[float, int]:
    """The loss as the paper writes it, one anchor and one negative at a time, in double precision."""
    total, count = 0.0, 0
    for a, anchor in enumerate(anchors.double()):
        own = [k for k in range(len(keys)) if key_valid[k] and key_ids[k] == anchor_ids[a]]
        if not anchor_valid[a] or not own:
            continue
        positive = float(anchor @ keys[own[0]].double())
        others = [k for k in range(len(keys)) if key_valid[k] and key_ids[k] != anchor_ids[a]]
        total += math.log1p(sum(math.exp(float(anchor @ keys[k].double()) - positive) for k in others))
        count += 1
    return total, count


def test_equals_the_published_code(parity: Path) -> None:
    arrays = np.load(parity / "contrastive.npz")
    for number, expected in enumerate(json.loads((parity / "contrastive.json").read_text())):

        def of(name: str, number: int = number) -> torch.Tensor:
            return torch.from_numpy(arrays[f"{number}_{name}"])

        ids = [torch.tensor(frame) for frame in expected["ids"]]
        total, count = torch.tensor(0.0), torch.tensor(0)
        for i, j in ((0, 1), (1, 0)):
            loss, anchors = object_contrastive_loss(
                of(f"expert_{i}"), of(f"mllm_{j}"), ids[i], ids[j], of(f"expert_valid_{i}"), of(f"mllm_valid_{j}")
            )
            total, count = total + loss, count + anchors
        assert float(total / count) == pytest.approx(expected["loss"], abs=1e-5)


@given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 2**31))
def test_equals_the_formula(n: int, m: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    anchors, keys = torch.randn(n, 5, generator=rng), torch.randn(m, 5, generator=rng)
    anchor_ids, key_ids = (torch.randperm(9, generator=rng)[:size] for size in (n, m))
    anchor_valid, key_valid = (torch.rand(size, generator=rng) > 0.3 for size in (n, m))
    inputs = (anchors, keys, anchor_ids, key_ids, anchor_valid, key_valid)
    loss, count = object_contrastive_loss(*inputs)
    expected, anchors_in_it = by_the_formula(*inputs)
    assert int(count) == anchors_in_it
    assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_groups_are_pairs_of_their_own() -> None:
    torch.manual_seed(0)
    anchors, keys = torch.randn(7, 4), torch.randn(8, 4)
    ids, key_ids = torch.tensor([0, 1, 2, 0, 1, 2, 3]), torch.tensor([2, 1, 0, 0, 3, 1, 2, 9])
    groups, key_groups = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    yes = torch.ones(8, dtype=torch.bool)
    apart = [
        object_contrastive_loss(
            anchors[groups == g],
            keys[key_groups == g],
            ids[groups == g],
            key_ids[key_groups == g],
            yes[:7][groups == g],
            yes[key_groups == g],
        )
        for g in (0, 1)
    ]
    loss, count = object_contrastive_loss(anchors, keys, ids, key_ids, yes[:7], yes, groups, key_groups)
    assert int(count) == sum(int(part[1]) for part in apart) == 7
    torch.testing.assert_close(loss, apart[0][0] + apart[1][0])


def test_gradients_are_those_of_the_formula_and_finite_without_negatives() -> None:
    torch.manual_seed(1)
    anchors = torch.randn(3, 4, requires_grad=True)
    keys = torch.randn(3, 4)
    ids, yes = torch.arange(3), torch.ones(3, dtype=torch.bool)
    loss, _ = object_contrastive_loss(anchors, keys, ids, ids, yes, yes)
    loss.backward()
    wanted = (torch.softmax(anchors.detach() @ keys.T, dim=1) - torch.eye(3)) @ keys
    torch.testing.assert_close(anchors.grad, wanted)

    alone = torch.randn(1, 4, requires_grad=True)
    loss, count = object_contrastive_loss(alone, keys[:1], ids[:1], ids[:1], yes[:1], yes[:1])
    loss.backward()
    assert (loss.item(), count.item()) == (0.0, 1)
    assert torch.equal(alone.grad, torch.zeros(1, 4))


def test_large_scores_do_not_overflow() -> None:
    anchors = torch.tensor([[300.0, 0.0]])
    keys = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    yes = torch.ones(2, dtype=torch.bool)
    loss, _ = object_contrastive_loss(anchors, keys, torch.tensor([0]), torch.arange(2), yes[:1], yes)
    assert float(loss) == pytest.approx(300.0)


def test_is_float32_under_autocast() -> None:
    torch.manual_seed(2)
    anchors, keys, ids = torch.randn(6, 32), torch.randn(6, 32), torch.arange(6)
    yes = torch.ones(6, dtype=torch.bool)
    plain, _ = object_contrastive_loss(anchors, keys, ids, ids, yes, yes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered, _ = object_contrastive_loss(anchors, keys, ids, ids, yes, yes)
    assert torch.equal(plain, lowered)


def test_compiles() -> None:
    torch.manual_seed(3)
    anchors, keys, ids = torch.randn(6, 8), torch.randn(6, 8), torch.arange(6)
    yes = torch.ones(6, dtype=torch.bool)
    compiled = torch.compile(object_contrastive_loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(anchors, keys, ids, ids, yes, yes)[0], object_contrastive_loss(anchors, keys, ids, ids, yes, yes)[0]
    )


def test_hits_count_anchors_whose_own_key_is_first() -> None:
    anchors = torch.eye(3)
    keys = torch.tensor([[1.0, 0, 0], [0, 0, 5.0], [0, 1.0, 0]])
    ids, key_ids = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2])
    yes = torch.ones(3, dtype=torch.bool)
    hits, count = matching_hits(anchors, keys, ids, key_ids, yes, yes)
    assert (int(hits), int(count)) == (1, 3)
    hits, count = matching_hits(anchors, keys, ids, key_ids, yes, torch.tensor([True, True, False]))
    assert (int(hits), int(count)) == (1, 2)


@given(st.integers(1, 8), st.integers(1, 8), st.booleans(), st.integers(0, 2**31))
def test_hits_and_losses_equal_a_loop_over_anchors(n: int, m: int, with_groups: bool, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    anchors, keys = torch.randn(n, 3, generator=rng), torch.randn(m, 3, generator=rng)
    # an id appears once among the keys of a group
    anchor_groups, key_groups = (torch.randint(2, (size,), generator=rng) for size in (n, m))
    anchor_ids, key_ids = torch.randint(6, (n,), generator=rng), torch.randperm(8, generator=rng)[:m]
    anchor_valid, key_valid = (torch.rand(size, generator=rng) > 0.3 for size in (n, m))
    groups = (anchor_groups, key_groups) if with_groups else ()
    hits = count = 0
    total = 0.0
    for a in range(n):
        candidates = [
            k
            for k in range(m)
            if anchor_valid[a] and key_valid[k] and (not with_groups or anchor_groups[a] == key_groups[k])
        ]
        own = [k for k in candidates if key_ids[k] == anchor_ids[a]]
        if not own:
            continue
        scores = {k: float(anchors[a].double() @ keys[k].double()) for k in candidates}
        count += 1
        hits += max(scores, key=lambda k: scores[k]) == own[0]
        total += math.log(sum(math.exp(score - scores[own[0]]) for score in scores.values()))
    arguments = (anchors, keys, anchor_ids, key_ids, anchor_valid, key_valid, *groups)
    assert tuple(map(int, matching_hits(*arguments))) == (hits, count)
    loss, num_anchors = object_contrastive_loss(*arguments)
    assert int(num_anchors) == count
    assert float(loss) == pytest.approx(total, rel=1e-4, abs=1e-4)
