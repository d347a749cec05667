"""Packing: several conversations per row, planned from their lengths alone and separated by their positions.

A row holds whole conversations one after the other, each with positions that start at 0. No conversation attends to
another: with SDPA each segment is attended to separately (`colva.model.attention`), with flash attention transformers
finds the boundaries in the positions. Models with 3-D rotary positions (Qwen-VL) get plain positions as a first axis
for that purpose.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from colva.losses import IGNORE_INDEX
from colva.processing.collator import Sample, join_images

PACKING_WINDOW = 4096
"""Conversations that are packed together: few enough that a row is a random draw, enough to fill rows."""


@dataclass(frozen=True)
class PackingPlan:
    """Which conversations share a row.

    Attributes:
        order: int64 `[n]`, numbers of conversations, row after row.
        starts: int64 `[rows + 1]`, where each row starts in `order`.
        too_long: int64, numbers of conversations that fit no row, ascending.
        num_tokens: tokens in all rows.
        max_length: tokens that fit into a row.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    too_long: NDArray[np.int64]
    num_tokens: int
    max_length: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def row(self, number: int) -> list[int]:
        """The conversations of a row."""
        return [int(index) for index in self.order[self.starts[number] : self.starts[number + 1]]]

    @property
    def padding_share(self) -> float:
        """Share of padding when each row is padded to `max_length`, in [0, 1]."""
        return 1 - self.num_tokens / (len(self) * self.max_length) if len(self) else 0.0


def plan_packing(
    lengths: ArrayLike, max_length: int, seed: int, epoch: int = 0, window: int = PACKING_WINDOW
) -> PackingPlan:
    """Pack conversations of given lengths into rows of at most `max_length` tokens.

    Conversations are shuffled by seed and epoch; then, window by window, the longest first, each goes into the fullest
    row in which it fits (best fit decreasing). Rows with space left are offered to the next window; at last the rows
    are shuffled. The same arguments give the same plan everywhere. A million conversations take some seconds.

    Args:
        lengths: `[n]` integers, 1 or more; 0 or less leaves a conversation out.
        max_length: tokens of a row.
        seed, epoch: of the order.
        window: see `PACKING_WINDOW`.

    Raises:
        ValueError: max_length is not positive.
    """
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}")
    sizes: NDArray[np.int64] = np.asarray(lengths, dtype=np.int64)
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(len(sizes))
    is_usable = (sizes[shuffled] > 0) & (sizes[shuffled] <= max_length)
    too_long = np.flatnonzero(sizes > max_length)
    usable = shuffled[is_usable]
    rows: list[list[int]] = []
    open_rows = _OpenRows()
    for start in range(0, len(usable), window):
        part = usable[start : start + window]
        for number in part[np.argsort(-sizes[part], kind="stable")].tolist():
            size = int(sizes[number])
            row = open_rows.take(size)
            if row is None:
                row = len(rows)
                rows.append([])
                open_rows.add(row, max_length)
                row = open_rows.take(size)
                assert row is not None
            rows[row].append(number)
        open_rows.close_fullest(keep=window // 16)
    chosen = [rows[int(number)] for number in rng.permutation(len(rows))]
    order = np.fromiter((number for row in chosen for number in row), dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in chosen], dtype=np.int64)]).astype(np.int64)
    return PackingPlan(order, starts, too_long, int(sizes[usable].sum()), max_length)


class _OpenRows:
    """Rows by the number of tokens that still fit; the fullest row that fits is found in a few operations."""

    def __init__(self) -> None:
        # bit k is set when some row has space for exactly k tokens; a kilobyte for rows of 8192 tokens
        self.space_bits = 0
        self.rows: dict[int, list[int]] = {}

    def add(self, row: int, space: int) -> None:
        """Add a row with space for so many tokens."""
        heap = self.rows.setdefault(space, [])
        heapq.heappush(heap, row)
        self.space_bits |= 1 << space

    def take(self, size: int) -> int | None:
        """Put `size` tokens into the row with the least space that holds them; its number, or None."""
        enough = self.space_bits >> size
        if not enough:
            return None
        space = size + (enough & -enough).bit_length() - 1
        row = heapq.heappop(self.rows[space])
        if not self.rows[space]:
            del self.rows[space]
            self.space_bits ^= 1 << space
        if space > size:
            self.add(row, space - size)
        return row

    def close_fullest(self, keep: int) -> None:
        """Keep only the rows with the most space open, so that a row spans few windows."""
        by_space = sorted(
            ((space, row) for space, rows in self.rows.items() for row in rows), key=lambda pair: (-pair[0], pair[1])
        )
        self.rows.clear()
        self.space_bits = 0
        for space, row in by_space[:keep]:
            self.add(row, space)


def collate_packed(rows: Sequence[Sequence[Sample]], max_length: int | None = None, pad_id: int = 0) -> dict[str, Any]:
    """Join rows of conversations into a batch for `ColvaModel.forward`, without an attention mask.

    Args:
        rows: the samples of each row; a row's tokens must fit.
        max_length: pad every row to this length; None pads to the longest.
        pad_id: token of the padding, which is never a target.

    Returns:
        `input_ids`, `labels` `[rows, t]` and `position_ids` (`[rows, t]`, or `[4, rows, t]` for 3-D positions, plain
        ones first), the images and objects of all samples in order, and `segments`: for each row the lengths of its
        conversations and last that of its padding. The first token of each conversation is never a target.

    Raises:
        ValueError: a row is longer than max_length, or empty.
    """
    lengths = [sum(len(sample) for sample in row) for row in rows]
    target = max(lengths) if max_length is None else max_length
    if not all(0 < length <= target for length in lengths):
        raise ValueError(f"rows of {min(lengths)} to {max(lengths)} tokens for rows of {target}")
    ids = torch.full((len(rows), target), pad_id, dtype=torch.int64)
    labels = torch.full((len(rows), target), IGNORE_INDEX, dtype=torch.int64)
    axes = rows[0][0].position_ids.ndim
    spatial = torch.zeros(3, len(rows), target, dtype=torch.int64) if axes == 2 else None
    plain = torch.zeros(len(rows), target, dtype=torch.int64)
    for number, row in enumerate(rows):
        start = 0
        for sample in row:
            end = start + len(sample)
            ids[number, start:end] = sample.input_ids
            labels[number, start:end] = sample.labels
            labels[number, start] = IGNORE_INDEX
            plain[number, start:end] = torch.arange(len(sample))
            if spatial is not None:
                spatial[:, number, start:end] = sample.position_ids
            start = end
    positions = plain if spatial is None else torch.cat([plain[None], spatial])
    segments = [
        tuple(map(len, row)) + ((target - length,) if length < target else ())
        for row, length in zip(rows, lengths, strict=True)
    ]
    batch = {"input_ids": ids, "labels": labels, "position_ids": positions, "segments": segments}
    return batch | join_images([sample for row in rows for sample in row])
