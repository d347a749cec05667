"""Size of an image from its first bytes, without decoding it."""

from __future__ import annotations

import re
import struct
import warnings
from io import BytesIO
from typing import Final

from PIL import Image

_JPEG_START, _PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_MARKER: Final = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_START_OF_SCAN: Final = 0xDA
_WITHOUT_LENGTH: Final = (0x01, *range(0xD0, 0xD9))
_FRAME_HEADERS: Final = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_BOMB = re.compile(r"\((\d+) pixels\)")


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
    try:
        with warnings.catch_warnings(), Image.open(BytesIO(data)) as image:
            size: tuple[int, int] = image.size
            return size
    except Image.DecompressionBombError as error:
        found = _BOMB.search(str(error))
        return (int(found[1]), 1) if found else None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error):
        return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = 2
    while match := _MARKER.search(data, position):
        marker, position = match[1][0], match.end()
        if marker in _WITHOUT_LENGTH:
            continue
        if marker in _FRAME_HEADERS:
            if position + 7 > len(data):
                return None
            height, width = struct.unpack_from(">HH", data, position + 3)
            return width, height
        length = int.from_bytes(data[position : position + 2], "big")
        if marker == _START_OF_SCAN or length < 2:
            return None
        position += length
    return None
