"""COCO's run-length coding (maskApi.c, ``rleFrString``) -> spans, for many masks at once, with no loop over characters.

A mask is read several times on its way into a case: checked, cropped, drawn. The spans of those read last are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

Spans = tuple[np.ndarray, np.ndarray]
"""Start and (exclusive) end of each run of a mask, as column-major pixel positions: int64 [n], ascending, read-only."""

_KEPT = 256
_LONGEST = 2**40  # a run beyond any image
_known: OrderedDict[tuple[str, int, int], Spans] = OrderedDict()


def decode_spans(counts: str, height: int, width: int) -> Spans:
    """The runs of one mask, none of them empty.

    Args:
        counts: COCO's printable coding.
        height, width: pixels of the frame.

    Raises:
        ValueError: not that coding, or runs that do not add up to height x width.
    """
    key = counts, height, width
    if key in _known:
        _known.move_to_end(key)
        return _known[key]
    return _keep(key, next(iter(_read([counts.encode("ascii", "replace")], height * width, (height, width)))))


def decode_all(counts: Sequence[bytes], height: int, width: int) -> list[Spans]:
    """The runs of several masks of one size, read together and not kept; see ``spans``."""
    return _read(counts, height * width, (height, width))


def prefetch_spans(counts: Sequence[bytes], height: int, width: int) -> None:
    """Read the masks of one frame together, at a third of the time, for the calls of ``spans`` to come.

    Nothing is kept of them when one is broken; ``spans`` says which.
    """
    texts = [text.decode("ascii", "replace") for text in counts]
    new = [(text, coded) for text, coded in zip(texts, counts, strict=True) if (text, height, width) not in _known]
    if not new:
        return
    try:
        read = _read([coded for _, coded in new], height * width, (height, width))
    except ValueError:
        return
    for (text, _), found in zip(new, read, strict=True):
        _keep((text, height, width), found)


def cache_spans(counts: str, height: int, width: int, starts: np.ndarray, ends: np.ndarray) -> None:
    """Keep the spans of a mask that was made from them."""
    _keep((counts, height, width), (starts, ends))


def _keep(key: tuple[str, int, int], found: Spans) -> Spans:
    for array in found:
        array.flags.writeable = False
    _known[key] = found
    while len(_known) > _KEPT:
        _known.popitem(last=False)
    return found


def _read(texts: Sequence[bytes], pixels: int, size: tuple[int, int]) -> list[Spans]:
    values, firsts = _values(texts)
    if len(values) and (values.min() < 0 or values.max() > _LONGEST):
        raise ValueError("counts hold a run below 0 or beyond any image")
    found = []
    sums = np.cumsum(values)
    full = bool(values.all())
    past = 0
    for first, last in zip(firsts, [*firsts[1:], len(values)], strict=True):
        covered = int(sums[last - 1]) - past if last > first else 0
        if covered != pixels:
            raise ValueError(f"runs cover {covered} pixels, size {size} has {pixels}")
        ends = sums[first + 1 : last : 2] - past
        starts = sums[first : last - 1 : 2][: len(ends)] - past
        if not full:
            real = ends > starts
            if not real.all():
                starts, ends = starts[real], ends[real]
        found.append((starts, ends))
        past += covered
    return found


def _values(texts: Sequence[bytes]) -> tuple[np.ndarray, list[int]]:
    """Run lengths of all texts, int64, and where those of each begin."""
    ends_of_texts = list(accumulate(map(len, texts)))
    if not ends_of_texts or not ends_of_texts[-1]:
        return np.zeros(0, np.int64), [0] * len(texts)
    codes = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(48)
    last = (codes & 0x20) == 0
    text_ends = np.array(ends_of_texts)
    if codes.max() > 63 or not last[text_ends[text_ends > 0] - 1].all():
        raise ValueError("counts are not in COCO's run-length coding")
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > 12:
        raise ValueError("counts are not in COCO's run-length coding")
    bits = (codes & 0x1F).astype(np.int64)
    values = bits[starts]
    for place in range(1, longest):  # five bits a character, the lowest first
        more = np.flatnonzero(lengths > place)
        values[more] |= bits[starts[more] + place] << (5 * place)
    below = np.flatnonzero(codes[ends] & 0x10)  # the sign is the highest bit of the last character
    values[below] -= np.int64(1) << (5 * lengths[below])
    # From its fourth on, a run is stored as its difference to the run two before. Without the first of each mask, runs
    # make two columns that are summed downwards; a mask with an odd run at the end leaves a gap.
    firsts = np.concatenate(([0], np.searchsorted(ends, text_ends[:-1], side="left")))
    numbers = np.concatenate((firsts[1:], [len(values)])) - firsts
    rows = numbers // 2
    top = np.cumsum(rows) - rows
    place_of = np.arange(len(values)) + np.repeat(2 * top - firsts - 1, numbers)
    rest = np.ones(len(values), bool)
    rest[firsts[numbers > 0]] = False
    table = np.zeros((int(rows.sum()), 2), np.int64)
    table.reshape(-1)[place_of[rest]] = values[rest]
    sums = np.concatenate((np.zeros((1, 2), np.int64), np.cumsum(table, axis=0)))
    table = sums[1:] - np.repeat(sums[top], rows, axis=0)
    values[rest] = table.reshape(-1)[place_of[rest]]
    return values, firsts.tolist()
