"""Several conversations in one row: planned from their lengths alone, kept apart by their positions.

A row holds whole conversations one after the other, each with positions that begin at 0, and says how long each is.
No conversation sees another: with SDPA each is attended to alone (`colva.model.attention`), with flash attention
transformers reads the borders off the positions. Rotary positions in space (Qwen-VL) get a row of plain ones before
them for that.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from colva.losses import IGNORE_INDEX
from colva.processing.collator import Sample, join_images

WINDOW = 4096
"""Conversations that are packed among themselves; few enough that a row is a random draw, enough to fill rows."""


@dataclass(frozen=True)
class Plan:
    """Which conversations share a row.

    Attributes:
        order: int64 `[n]`, numbers of conversations, row after row.
        starts: int64 `[rows + 1]`, where each row begins in `order`.
        too_long: int64, numbers of conversations that fit no row, ascending.
        filled: tokens in all rows, `capacity` of them being the most that could be.
        max_length: tokens of a row.
    """

    order: np.ndarray
    starts: np.ndarray
    too_long: np.ndarray
    filled: int
    max_length: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def row(self, number: int) -> list[int]:
        """The conversations of a row."""
        return [int(one) for one in self.order[self.starts[number] : self.starts[number + 1]]]

    @property
    def waste(self) -> float:
        """Share of padding when each row is padded to `max_length`, 0..1."""
        return 1 - self.filled / (len(self) * self.max_length) if len(self) else 0.0


def plan(lengths: np.ndarray, max_length: int, seed: int, epoch: int = 0, window: int = WINDOW) -> Plan:
    """Pack conversations of some lengths to rows of at most `max_length` tokens.

    Shuffled by seed and epoch; then, window by window, the longest first, each to the fullest row in which it fits
    (best fit decreasing). What is left of a window's open rows is offered to the next one; at last the rows are
    shuffled. The same arguments give the same plan everywhere. A million take some seconds.

    Args:
        lengths: `[n]` integers, 1 or more; 0 or less leaves a conversation out.
        max_length: tokens of a row.
        seed, epoch: of the order.
        window: see `WINDOW`.

    Raises:
        ValueError: max_length is not positive.
    """
    if max_length < 1:
        raise ValueError(f"max_length {max_length}: expected 1 or more")
    lengths = np.asarray(lengths, dtype=np.int64)
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(len(lengths))
    fits = (lengths[shuffled] > 0) & (lengths[shuffled] <= max_length)
    too_long = np.flatnonzero(lengths > max_length)
    usable = shuffled[fits]
    rows: list[list[int]] = []
    room = _Room(max_length)
    for at in range(0, len(usable), window):
        part = usable[at : at + window]
        for number in part[np.argsort(-lengths[part], kind="stable")].tolist():
            size = int(lengths[number])
            row = room.take(size)
            if row is None:
                row = len(rows)
                rows.append([])
                room.add(row, max_length)
                row = room.take(size)
                assert row is not None
            rows[row].append(number)
        room.forget(keep=window // 16)
    chosen = [rows[int(number)] for number in rng.permutation(len(rows))]
    order = np.fromiter((number for row in chosen for number in row), dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in chosen], dtype=np.int64)]).astype(np.int64)
    return Plan(order, starts, too_long, int(lengths[usable].sum()), max_length)


class _Room:
    """Open rows by the tokens that are left in them; the fullest that fits is found in a few operations."""

    def __init__(self, most: int) -> None:
        # a bit for each number of tokens left that some row has; a kilobyte for rows of 8192 tokens
        self.most = most
        self.there = 0
        self.rows: dict[int, list[int]] = {}

    def add(self, row: int, left: int) -> None:
        stack = self.rows.setdefault(left, [])
        heapq.heappush(stack, row)
        self.there |= 1 << left

    def take(self, size: int) -> int | None:
        """Put `size` tokens into the row with the least room that holds them; its number, or None."""
        enough = self.there >> size
        if not enough:
            return None
        left = size + (enough & -enough).bit_length() - 1
        row = heapq.heappop(self.rows[left])
        if not self.rows[left]:
            del self.rows[left]
            self.there ^= 1 << left
        if left > size:
            self.add(row, left - size)
        return row

    def forget(self, keep: int) -> None:
        """Close the rows with the least room, so that a row spans few windows; `keep` with the most room stay open."""
        open_rows = sorted(
            ((left, row) for left, rows in self.rows.items() for row in rows), key=lambda p: (-p[0], p[1])
        )
        self.rows.clear()
        self.there = 0
        for left, row in open_rows[:keep]:
            self.add(row, left)


def pack(rows: Sequence[Sequence[Sample]], max_length: int | None = None, pad_id: int = 0) -> dict[str, Any]:
    """Join rows of conversations to a batch for `ColvaModel.forward`, without an attention mask.

    Args:
        rows: the samples of each row; a row's tokens must fit.
        max_length: pad every row to this; None pads to the longest.
        pad_id: token of the padding, which learns nothing.

    Returns:
        `input_ids`, `labels` `[rows, t]` and `position_ids` (`[rows, t]`, or `[4, rows, t]` for 3-D positions, plain
        ones first), with the pictures and objects of all samples in order, and `segments`, of each row the lengths of
        its conversations and at last that of its padding. The first token of each conversation is never a target.

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
        at = 0
        for sample in row:
            end = at + len(sample)
            ids[number, at:end] = sample.input_ids
            labels[number, at:end] = sample.labels
            labels[number, at] = IGNORE_INDEX
            plain[number, at:end] = torch.arange(len(sample))
            if spatial is not None:
                spatial[:, number, at:end] = sample.position_ids
            at = end
    positions = plain if spatial is None else torch.cat([plain[None], spatial])
    segments = [
        tuple(map(len, row)) + ((target - length,) if length < target else ())
        for row, length in zip(rows, lengths, strict=True)
    ]
    batch = {"input_ids": ids, "labels": labels, "position_ids": positions, "segments": segments}
    return batch | join_images([sample for row in rows for sample in row])
