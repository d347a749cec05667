"""The object contrastive loss of CoLVA's first stage (arXiv 2501.04670, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# instead of minus infinity: a row without any negative then has a zero gradient and not NaN
_MASKED_SCORE = -1e30
IGNORE_INDEX = -100
"""Label of a token that is not learned (PyTorch's `ignore_index`)."""


def object_contrastive_loss(
    anchors: Tensor,
    keys: Tensor,
    anchor_ids: Tensor,
    key_ids: Tensor,
    anchor_valid: Tensor,
    key_valid: Tensor,
    anchor_groups: Tensor | None = None,
    key_groups: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the sum over anchors of `log(1 + sum_n exp(a·k_n - a·k_o))`, o the anchor's object and n every other one.

    Raw dot products, without temperature and normalization, as published. An anchor counts when it is valid and a
    valid key has its id. One call computes one direction; with groups, both directions and any number of frame pairs
    are one call.

    Args:
        anchors: `[n, c]`, pooled adapted expert tokens of the objects of one frame.
        keys: `[m, c]`, pooled frozen embeddings of the objects of the other frame.
        anchor_ids, key_ids: `[n]` and `[m]` integers; the same number is the same object. Within a group an id
            appears once among the keys; of keys that share an anchor's id none is a negative.
        anchor_valid, key_valid: `[n]` and `[m]` bool; objects that cover no token are not valid.
        anchor_groups, key_groups: `[n]` and `[m]` integers, or None for one group. Positive and negatives are keys of
            the anchor's group. For negatives from the whole batch pass no groups, and ids that are unique over the
            batch.

    Returns:
        The sum of losses (float32 scalar; 0 with a zero gradient where nothing matches) and the number of anchors in
        it (int64 scalar). The published loss of a batch is the sum divided by max(number, 1).
    """
    with torch.autocast(anchors.device.type, enabled=False):
        scores = anchors.float() @ keys.float().T
    is_comparable = _comparable_keys(anchor_valid, key_valid, anchor_groups, key_groups)
    is_same = anchor_ids[:, None] == key_ids[None, :]
    positive = is_comparable & is_same
    if scores.shape[1] == 0:
        return scores.sum() * 0.0, positive.sum()
    has_positive, positive_key = positive.max(dim=1)
    key_numbers = torch.arange(scores.shape[1], device=scores.device)
    is_compared = is_comparable & (~is_same | (key_numbers == positive_key[:, None]))
    # log(1 + sum exp(n - o)) is the cross entropy of o among itself and every n: few operations, forward and backward
    masked = scores.masked_fill(~is_compared, _MASKED_SCORE)
    loss = F.cross_entropy(
        masked, positive_key.masked_fill(~has_positive, IGNORE_INDEX), ignore_index=IGNORE_INDEX, reduction="sum"
    )
    return loss, has_positive.sum()


def matching_hits(
    anchors: Tensor,
    keys: Tensor,
    anchor_ids: Tensor,
    key_ids: Tensor,
    anchor_valid: Tensor,
    key_valid: Tensor,
    anchor_groups: Tensor | None = None,
    key_groups: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return how many anchors score their own object highest in their group, and of how many (int64 scalars).

    Arguments and the anchors that count are those of `object_contrastive_loss`.
    """
    scores = anchors.float() @ keys.float().T
    is_comparable = _comparable_keys(anchor_valid, key_valid, anchor_groups, key_groups)
    positive = is_comparable & (anchor_ids[:, None] == key_ids[None, :])
    has_positive = positive.any(dim=1)
    if scores.shape[1] == 0:
        return has_positive.sum(), has_positive.sum()
    best = torch.where(is_comparable, scores, _MASKED_SCORE).argmax(dim=1)
    hits = positive.gather(1, best[:, None]).squeeze(1) & has_positive
    return hits.sum(), has_positive.sum()


def _comparable_keys(
    anchor_valid: Tensor, key_valid: Tensor, anchor_groups: Tensor | None, key_groups: Tensor | None
) -> Tensor:
    """Return which keys each anchor is compared with: bool `[n, m]`."""
    is_comparable = anchor_valid[:, None] & key_valid[None, :]
    if anchor_groups is None or key_groups is None:
        return is_comparable
    return is_comparable & (anchor_groups[:, None] == key_groups[None, :])
