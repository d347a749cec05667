"""Decode COCO's compressed run-length encoding (maskApi.c, ``rleFrString``) into spans, vectorized over many masks.

A mask is decoded several times on its way into a case: to check, to crop, to draw. The most recent spans are cached.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from mmvm_data.core import acceleration

Spans = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Start and (exclusive) end of each run of a mask, as column-major pixel positions: int64 [n], ascending, read-only."""

_CACHE_BYTES = 16 << 20
_MAX_RUN = 2**40  # a run beyond any image
_ENTRY_BYTES = 512  # of a cached mask, beside its counts and spans


class _SpanCache(OrderedDict[tuple[str, int, int], Spans]):
    """The most recent spans. A few frames fit, whether they hold three intricate masks or a thousand small ones."""

    num_bytes = 0

    def add(self, key: tuple[str, int, int], spans: Spans) -> None:
        if key not in self:
            self.num_bytes += _entry_bytes(key, spans)
        self[key] = spans
        self.move_to_end(key)
        while self.num_bytes > _CACHE_BYTES:
            self.num_bytes -= _entry_bytes(*self.popitem(last=False))

    def clear(self) -> None:
        super().clear()
        self.num_bytes = 0


_cache = _SpanCache()


def decode_spans(counts: str, height: int, width: int) -> Spans:
    """Return the runs of one mask; none of them is empty.

    Args:
        counts: COCO's compressed counts.
        height, width: size of the frame in pixels.

    Raises:
        ValueError: the counts are not in that encoding, or the runs do not add up to height x width.
    """
    key = counts, height, width
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key]
    return _add_to_cache(key, decode_all([counts.encode("ascii", "replace")], height, width)[0])


def find_cached_spans(counts: str, height: int, width: int) -> Spans | None:
    """Return what ``decode_spans`` would, or None if that would have to decode."""
    return _cache.get((counts, height, width))


def decode_all(counts: Sequence[bytes], height: int, width: int) -> list[Spans]:
    """Return the runs of several masks of one size, decoded together and not cached; see ``decode_spans``."""
    if kernels := acceleration.loaded_kernels():
        status, starts, ends, offsets = kernels.decode(*join_counts(counts), height * width)
        if status >= 0:
            return [(starts[first:last], ends[first:last]) for first, last in pairwise(offsets.tolist())]
    # and what is wrong with broken counts
    lengths, firsts = _decode_lengths(counts)
    if len(lengths) and (lengths.min() < 0 or lengths.max() > _MAX_RUN):
        raise ValueError("counts contain a run below 0 or beyond any image")
    spans: list[Spans] = []
    sums = np.cumsum(lengths)
    has_empty_runs = not lengths.all()
    offset = 0
    for first, last in pairwise([*firsts, len(lengths)]):
        covered = int(sums[last - 1]) - offset if last > first else 0
        if covered != height * width:
            raise ValueError(f"runs cover {covered} pixels, size {(height, width)} has {height * width}")
        ends = sums[first + 1 : last : 2] - offset
        starts = sums[first : last - 1 : 2][: len(ends)] - offset
        if has_empty_runs:
            is_run = ends > starts
            if not is_run.all():
                starts, ends = starts[is_run], ends[is_run]
        spans.append((starts, ends))
        offset += covered
    return spans


def join_counts(counts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the counts of several masks as compiled loops take them: all characters, and where each mask's end."""
    return np.frombuffer(b"".join(counts), np.uint8), np.array(list(accumulate(map(len, counts))), np.int64)


def prefetch_spans(counts: Sequence[bytes], height: int, width: int) -> None:
    """Decode the masks of one frame together, in a third of the time, and cache them for ``decode_spans``.

    None is cached when one is broken; ``decode_spans`` reports which.
    """
    texts = [text.decode("ascii", "replace") for text in counts]
    missing = [(text, code) for text, code in zip(texts, counts, strict=True) if (text, height, width) not in _cache]
    if not missing:
        return
    try:
        decoded = decode_all([code for _, code in missing], height, width)
    except ValueError:
        return
    for (text, _), spans in zip(missing, decoded, strict=True):
        _add_to_cache((text, height, width), spans)


def cache_spans(counts: str, height: int, width: int, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
    """Cache the spans that a mask was encoded from."""
    _add_to_cache((counts, height, width), (starts, ends))


def clear_cached_spans() -> None:
    """Forget the spans of all masks, where those that come next are others, as after the last frame of a video."""
    _cache.clear()


def _add_to_cache(key: tuple[str, int, int], spans: Spans) -> Spans:
    for array in spans:
        array.flags.writeable = False
    _cache.add(key, spans)
    return spans


def _entry_bytes(key: tuple[str, int, int], spans: Spans) -> int:
    return _ENTRY_BYTES + len(key[0]) + spans[0].nbytes + spans[1].nbytes


def _decode_lengths(texts: Sequence[bytes]) -> tuple[NDArray[np.int64], list[int]]:
    """Return the run lengths of all texts, concatenated, and the index of the first run of each text."""
    text_stops = list(accumulate(map(len, texts)))
    if not text_stops or not text_stops[-1]:
        return np.zeros(0, np.int64), [0] * len(texts)
    codes = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(48)
    is_last = (codes & 0x20) == 0
    text_ends = np.array(text_stops)
    if codes.max() > 63 or not is_last[text_ends[text_ends > 0] - 1].all():
        raise ValueError("counts are not in COCO's run-length encoding")
    ends = np.flatnonzero(is_last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    num_chars = ends - starts + 1
    max_chars = int(num_chars.max())
    if max_chars > 12:
        raise ValueError("counts are not in COCO's run-length encoding")
    bits = (codes & 0x1F).astype(np.int64)
    values = bits[starts]
    for place in range(1, max_chars):  # five bits per character, the lowest first
        longer = np.flatnonzero(num_chars > place)
        values[longer] |= bits[starts[longer] + place] << (5 * place)
    negative = np.flatnonzero(codes[ends] & 0x10)  # the sign is the highest bit of the last character
    values[negative] -= np.int64(1) << (5 * num_chars[negative])
    # From the fourth on, a run is stored as its difference to the run two before it. Without the first run of each
    # mask, the runs form two columns that are summed downwards; a mask with an odd last run leaves a gap.
    firsts = np.concatenate(([0], np.searchsorted(ends, text_ends[:-1], side="left")))
    num_runs = np.concatenate((firsts[1:], [len(values)])) - firsts
    rows = num_runs // 2
    top = np.cumsum(rows) - rows
    cells = np.arange(len(values)) + np.repeat(2 * top - firsts - 1, num_runs)
    is_summed = np.ones(len(values), bool)
    is_summed[firsts[num_runs > 0]] = False
    table = np.zeros((int(rows.sum()), 2), np.int64)
    table.reshape(-1)[cells[is_summed]] = values[is_summed]
    sums = np.concatenate((np.zeros((1, 2), np.int64), np.cumsum(table, axis=0)))
    table = sums[1:] - np.repeat(sums[top], rows, axis=0)
    values[is_summed] = table.reshape(-1)[cells[is_summed]]
    return values, firsts.tolist()
