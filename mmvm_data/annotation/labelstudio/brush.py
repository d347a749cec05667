"""Label Studio's run-length encoding of brush strokes <-> our masks, exact to the pixel.

The format is that of thi.ng's rle-pack (github.com/thi-ng/umbrella, packages/rle-pack), over the bytes of an RGBA image
in row order: 32 bits number of words, 5 bits word size - 1, four times 4 bits size - 1 of the run lengths; then blocks
of 1 bit "same word repeated", 2 bits which size, the length - 1, and one word or as many as the length says. The mask
is the fourth byte of each pixel.

``label_studio_sdk.converter.brush`` reads and writes the same format, and tests hold the two against each other. It is
not used because it is slower: for masks of 854 x 480 pixels it takes 2.8 times as long to encode and 3.2 times as long
to decode (``benchmarks/review.py --part brush`` with label-studio-sdk 2.1.2, medians of 5 repeats over 40 masks; this
module took 3.3 ms and 8.1 ms a mask).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmvm_data.core import masks
from mmvm_data.core.types import Rle

_RUN_BITS = (3, 4, 8, 16)
_BLOCK_HEADS = [next((f"1{i:02b}", size) for i, size in enumerate(_RUN_BITS) if bits <= size) for bits in range(17)]
"""By the number of bits that a run's length - 1 needs: the start of its block, and the bits that it is written in."""
_MIN_ALPHA = 128
"""A pixel belongs to the mask from this alpha on; the editor's strokes have soft edges."""


def encode_brush(rle: Rle) -> list[int]:
    """A mask as the bytes (0..255) that Label Studio keeps under ``rle``; its pixels are 255 in all four channels."""
    height, width = rle.size
    flat = masks.decode(rle).ravel()
    edges = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]))
    max_run = 1 << _RUN_BITS[-1]
    bits = [f"{4 * height * width:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in _RUN_BITS)]
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        word = "11111111" if flat[start] else "00000000"
        left = 4 * (end - start)
        while left:
            run = min(left, max_run)
            head, run_bits = _BLOCK_HEADS[(run - 1).bit_length()]
            bits.append(f"{head}{run - 1:0{run_bits}b}{word}")
            left -= run
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def decode_brush(encoded: Sequence[int], height: int, width: int) -> Rle:
    """The mask of a brush.

    Args:
        encoded: bytes, 0..255.
        height, width: pixels of the image that the brush was drawn on.

    Raises:
        ValueError: it is not this format, is cut short, or belongs to an image of another size.
    """
    try:
        data = bytes(encoded)
    except (ValueError, TypeError) as error:
        raise ValueError("brush is not a list of bytes") from error
    words = _decode_words(data, 4 * height * width)
    return masks.encode(words.reshape(height, width, 4)[:, :, 3] >= _MIN_ALPHA)


def _decode_words(data: bytes, expected: int) -> NDArray[np.uint8]:
    """The decoded bytes, uint8 [expected]."""
    total, position = 8 * len(data), 0

    def read(count: int) -> int:
        nonlocal position
        end = position + count
        if end > total:
            raise ValueError("brush is cut short")
        last = (end + 7) >> 3
        value = int.from_bytes(data[position >> 3 : last], "big") >> (8 * last - end)
        position = end
        return value & ((1 << count) - 1)

    words, size = read(32), read(5) + 1
    if size != 8:
        raise ValueError(f"brush has words of {size} bits, expected 8")
    if words != expected:
        raise ValueError(f"brush covers an image of {words // 4} pixels, expected {expected // 4}")
    sizes = [read(4) + 1 for _ in range(4)]
    bits: NDArray[np.uint8] | None = None
    out = np.zeros(words, np.uint8)
    filled = 0
    while filled < words:
        same = read(1)
        run = read(sizes[read(2)]) + 1
        if filled + run > words:
            raise ValueError("brush has more pixels than its image")
        if same:
            out[filled : filled + run] = read(8)
        else:
            if position + 8 * run > total:
                raise ValueError("brush is cut short")
            if bits is None:
                bits = np.unpackbits(np.frombuffer(data, np.uint8))
            out[filled : filled + run] = np.packbits(bits[position : position + 8 * run])
            position += 8 * run
        filled += run
    return out
