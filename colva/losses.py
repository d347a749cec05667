"""The object contrastive loss of CoLVA's first stage (arXiv 2501.04670, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# in place of minus infinity: a row without any negative then has a zero gradient instead of a NaN
_NOTHING = -1e30
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
    """Sum over anchors of `log(1 + sum_n exp(a·k_n - a·k_o))`, o the anchor's own object and n every other one.

    Raw dot products, no temperature and no normalisation, as published. An anchor counts when it is valid and a valid
    key has its id. One call gives one direction; both directions, and any number of frame pairs, are one call when
    groups tell them apart.

    Args:
        anchors: `[n, c]`, pooled adapted expert tokens of the objects of one frame.
        keys: `[m, c]`, pooled frozen embeddings of the objects of the other frame.
        anchor_ids, key_ids: `[n]` and `[m]` integers; the same number is the same object. Within a group an id
            appears once among the keys; of keys that share an anchor's id none is a negative.
        anchor_valid, key_valid: `[n]` and `[m]` bool; objects that kept no token are not valid.
        anchor_groups, key_groups: `[n]` and `[m]` integers, or None for one group. The positive is sought inside the
            anchor's group and negatives come from there alone. Give ids that are unique over the batch, and no groups,
            to take negatives from the whole batch.

    Returns:
        The sum of losses (float32 scalar; 0 with a gradient of 0 where nothing matches) and the number of anchors in
        it (int64 scalar). The published loss of a batch is the one over the other, with at least 1 below the line.
    """
    with torch.autocast(anchors.device.type, enabled=False):
        scores = anchors.float() @ keys.float().T
    usable = _usable(anchor_valid, key_valid, anchor_groups, key_groups)
    same = anchor_ids[:, None] == key_ids[None, :]
    positive = usable & same
    if scores.shape[1] == 0:
        return scores.sum() * 0.0, positive.sum()
    found, own = positive.max(dim=1)
    numbers = torch.arange(scores.shape[1], device=scores.device)
    compared = usable & (~same | (numbers == own[:, None]))
    # log(1 + sum exp(n - o)) is the cross entropy of o among itself and every n: few operations, forward and backward
    masked = scores.masked_fill(~compared, _NOTHING)
    loss = F.cross_entropy(masked, own.masked_fill(~found, IGNORE_INDEX), ignore_index=IGNORE_INDEX, reduction="sum")
    return loss, found.sum()


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
    """How many anchors score their own object highest among the keys of their group, and of how many (int64 scalars).

    The arguments are those of `object_contrastive_loss`, and so is the choice of the anchors that count.
    """
    scores = anchors.float() @ keys.float().T
    usable = _usable(anchor_valid, key_valid, anchor_groups, key_groups)
    positive = usable & (anchor_ids[:, None] == key_ids[None, :])
    counted = positive.any(dim=1)
    if scores.shape[1] == 0:
        return counted.sum(), counted.sum()
    best = torch.where(usable, scores, _NOTHING).argmax(dim=1)
    hits = positive.gather(1, best[:, None]).squeeze(1) & counted
    return hits.sum(), counted.sum()


def _usable(anchor_valid: Tensor, key_valid: Tensor, anchor_groups: Tensor | None, key_groups: Tensor | None) -> Tensor:
    """Which keys an anchor may be compared with: bool `[n, m]`."""
    usable = anchor_valid[:, None] & key_valid[None, :]
    if anchor_groups is None or key_groups is None:
        return usable
    return usable & (anchor_groups[:, None] == key_groups[None, :])
