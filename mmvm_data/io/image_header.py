"""What the header of an image file says, without decoding it: its size, and the segments of a JPEG."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Final

from mmvm_data.core.errors import InputError
from mmvm_data.core.limits import check_pixels

_JPEG_START, _PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_MARKER: Final = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_START_OF_SCAN: Final = 0xDA
_WITHOUT_LENGTH: Final = (0x01, *range(0xD0, 0xD9))
_FRAME_HEADERS: Final = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_INTERLEAVED: Final = (0xC0, 0xC1)
"""Frame headers of JPEGs that may have all components in one scan, whose tables all lie before it."""
HEADER_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
)
"""Exceptions that Pillow raises for broken headers (its format readers raise SyntaxError)."""
_BOMB: Final = re.compile(r"\((\d+) pixels\)")


def read_header_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of the content of an image file; None when its header cannot be read.

    JPEG (ITU T.81, B.2.2) and PNG (W3C, IHDR) are read here, which takes microseconds; other formats by Pillow.
    """
    if data.startswith(_JPEG_START):
        return _jpeg_size(data)
    if data.startswith(_PNG_START):
        if data[12:16] != b"IHDR" or len(data) < 24:
            return None
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    from PIL import Image  # not at the top: most files are JPEG and PNG, and workers start sooner

    try:
        with warnings.catch_warnings(), Image.open(BytesIO(data)) as image:
            size: tuple[int, int] = image.size
            return size
    except Image.DecompressionBombError as error:
        found = _BOMB.search(str(error))
        return (int(found[1]), 1) if found else None
    except HEADER_ERRORS:
        return None


def read_decodable_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG whose header and tables decode, in a fortieth of the time of the image or less.

    Damage to the compressed data behind them is no error of decoders, which fill in what they cannot read. None where
    the header cannot tell: of progressive files, which have further tables, and of broken ones.
    """
    frame_at = 0
    end = 2
    for marker, start, segment_end in iter_jpeg_segments(data):
        if marker in _FRAME_HEADERS:
            if frame_at or marker not in _INTERLEAVED or data[start : start + 1] != b"\x08":
                return None
            frame_at = start
        end = segment_end
    scan = _MARKER.search(data, end)
    if not frame_at or scan is None or scan[1][0] != _START_OF_SCAN:
        return None
    components = data[frame_at + 5 : frame_at + 6]
    if components not in (b"\x01", b"\x03") or data[scan.end() + 2 : scan.end() + 3] != components:
        return None
    header_end = scan.end() + int.from_bytes(data[scan.end() : scan.end() + 2], "big")
    if not _can_decode_header(data[: frame_at + 1], data[frame_at + 5 : header_end]):
        return None
    height, width = struct.unpack_from(">HH", data, frame_at + 1)
    return width, height


@lru_cache(maxsize=16)
def _can_decode_header(before_size: bytes, after_size: bytes) -> bool:
    """Decode an image of one block without compressed data; images of one encoder have the same header."""
    from PIL import Image

    side = (8).to_bytes(2, "big")
    block = b"".join((before_size, side, side, after_size, b"\xff\xd9"))
    try:
        with Image.open(BytesIO(block), formats=("JPEG",)) as image:
            image.load()
    except HEADER_ERRORS:
        return False
    return True


def check_file_pixels(path: Path, size: tuple[int, int] | None, what: str = "image") -> None:
    """Check the size of a file's image or mask before anything is allocated.

    Args:
        path: named in the message.
        size: width and height; None, an unreadable header, is left to the decoder.
        what: names it in the message.

    Raises:
        InputError: it has more pixels than the limit.
    """
    if size is not None:
        try:
            check_pixels(*size, what)
        except ValueError as error:
            raise InputError(path, str(error)) from error


def iter_jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of the content of each segment before the compressed data (ITU T.81, B.1.1).

    The end of the last one may lie beyond the end of a file that is cut off.
    """
    position = 2
    while True:
        code = data[position : position + 2]
        if len(code) == 2 and code[0] == 0xFF and 0 < code[1] < 0xFF:
            marker, position = code[1], position + 2
        elif match := _MARKER.search(data, position):  # bytes between segments, which decoders skip
            marker, position = match[1][0], match.end()
        else:
            return
        if marker in _WITHOUT_LENGTH:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if marker == _START_OF_SCAN or length < 2:
            return
        yield marker, position + 2, position + length
        position += length


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    for marker, start, _ in iter_jpeg_segments(data):
        if marker in _FRAME_HEADERS:
            if start + 5 > len(data):
                return None
            height, width = struct.unpack_from(">HH", data, start + 1)
            return width, height
    return None
