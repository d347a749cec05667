"""Label Studio's run lengths of brush strokes <-> our masks, exact to the pixel.

The format is that of thi.ng's rle-pack (github.com/thi-ng/umbrella, packages/rle-pack), over the bytes of an RGBA image
in row order: 32 bits number of words, 5 bits word size - 1, four times 4 bits size - 1 of the run lengths; then blocks
of 1 bit "same word repeated", 2 bits which size, the length - 1, and one word or as many as the length says. The mask
is the fourth byte of each pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvm_data.core import masks
from mmvm_data.core.types import Rle

_SIZES = (3, 4, 8, 16)
_HEADS = [next((f"1{i:02b}", size) for i, size in enumerate(_SIZES) if bits <= size) for bits in range(17)]
"""By the bits that a run's length - 1 needs: how its block begins, and the bits that it is written in."""
_OPAQUE = 128
"""A pixel belongs to the mask from this alpha on; the editor's strokes have soft edges."""


def to_brush(rle: Rle) -> list[int]:
    """A mask as the bytes that Label Studio keeps under ``rle``; the mask's pixels are 255 in all four channels."""
    height, width = rle.size
    flat = masks.decode(rle).ravel()
    edges = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]))
    longest = 1 << _SIZES[-1]
    bits = [f"{4 * height * width:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        word = "11111111" if flat[start] else "00000000"
        left = 4 * (end - start)
        while left:
            run = min(left, longest)
            head, width_of_run = _HEADS[(run - 1).bit_length()]
            bits.append(f"{head}{run - 1:0{width_of_run}b}{word}")
            left -= run
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def from_brush(coded: Sequence[int], height: int, width: int) -> Rle:
    """The mask of a brush.

    Args:
        coded: bytes, 0..255.
        height, width: pixels of the image that the brush was drawn on.

    Raises:
        ValueError: not this format, cut short, or of an image of another size.
    """
    try:
        data = bytes(coded)
    except (ValueError, TypeError) as error:
        raise ValueError("brush is no list of bytes") from error
    words = _words(data, 4 * height * width)
    return masks.encode(words.reshape(height, width, 4)[:, :, 3] >= _OPAQUE)


def _words(data: bytes, expected: int) -> np.ndarray:
    """The decoded bytes, uint8 [expected]."""
    total, at = 8 * len(data), 0

    def read(count: int) -> int:
        nonlocal at
        end = at + count
        if end > total:
            raise ValueError("brush is cut short")
        last = (end + 7) >> 3
        value = int.from_bytes(data[at >> 3 : last], "big") >> (8 * last - end)
        at = end
        return value & ((1 << count) - 1)

    words, size = read(32), read(5) + 1
    if size != 8:
        raise ValueError(f"brush has words of {size} bits, expected 8")
    if words != expected:
        raise ValueError(f"brush covers an image of {words // 4} pixels, expected {expected // 4}")
    sizes = [read(4) + 1 for _ in range(4)]
    bits: np.ndarray | None = None
    out = np.zeros(words, np.uint8)
    done = 0
    while done < words:
        same = read(1)
        run = read(sizes[read(2)]) + 1
        if done + run > words:
            raise ValueError("brush has more pixels than its image")
        if same:
            out[done : done + run] = read(8)
        else:
            if at + 8 * run > total:
                raise ValueError("brush is cut short")
            if bits is None:
                bits = np.unpackbits(np.frombuffer(data, np.uint8))
            out[done : done + run] = np.packbits(bits[at : at + 8 * run])
            at += 8 * run
        done += run
    return out
