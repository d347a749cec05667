"""Image files without their orientation tag.

Pixels are used as they are stored, and masks refer to them. A file whose EXIF or XMP data ask for a rotation is rotated
by browsers, by ``datasets`` and by others, and its masks are not. So the tag is set to 1, "as stored", in every file
that is written, copied or sent. Nothing else of the file changes, and the pixels are not encoded again.

Sources: EXIF 2.32 (tag 0x0112 of the first IFD, TIFF 6.0), JPEG (ITU T.81, APP1), PNG (W3C, chunks eXIf and iTXt),
WebP (RFC 9649, chunks EXIF and XMP).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from mmvm_data.io.image_header import iter_jpeg_segments

_ORIENTATION: Final = 0x0112
_AS_STORED: Final = 1
_ROTATED: Final = range(2, 9)
_SHORT: Final = 3
_ENTRY_BYTES: Final = 12
_ORDERS: Final = {b"II": "<", b"MM": ">"}
TIFF_STARTS: Final = (b"II*\0", b"MM\0*")
"""The first bytes of a TIFF file."""
_EXIF: Final = b"Exif\0\0"
_XMP_STARTS: Final = (b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0")
_XMP_VALUE: Final = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|\s*>)\s*)[2-8]")
_JPEG_START, _PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_APP1: Final = 0xE1
_XMP_KEYWORD: Final = b"XML:com.adobe.xmp\0"
_RAW_PROFILES: Final = (b"Raw profile type exif\0", b"Raw profile type APP1\0")
_MAX_TEXT_BYTES: Final = 1 << 24


def remove_orientation(data: bytes) -> bytes:
    """Return the content of an image file with its orientation set to "as stored".

    Args:
        data: JPEG, PNG, WebP or TIFF; other formats have no orientation.

    Returns:
        ``data`` itself when it asks for no rotation.
    """
    if data.startswith(_JPEG_START):
        parts = list(_jpeg_edits(data))
    elif data.startswith(_PNG_START):
        parts = list(_png_edits(data))
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        parts = list(_webp_edits(data))
    elif data.startswith(TIFF_STARTS):
        return _edit_tiff(data)
    else:
        return data
    if not parts:
        return data
    pieces, position = [], 0
    for start, end, new in parts:
        pieces += [data[position:start], new]
        position = end
    return b"".join((*pieces, data[position:]))


Edit = tuple[int, int, bytes]
"""Start and end of bytes to replace, and what replaces them."""


def _jpeg_edits(data: bytes) -> Iterator[Edit]:
    for marker, start, end in iter_jpeg_segments(data):
        if marker != _APP1:
            continue
        payload = data[start:end]
        if payload.startswith(_EXIF):
            new = _EXIF + _edit_tiff(payload[len(_EXIF) :])
        elif payload.startswith(_XMP_STARTS):
            new = _edit_xmp(payload)
        else:
            new = payload
        if new != payload:
            yield start, end, new


def _png_edits(data: bytes) -> Iterator[Edit]:
    position = len(_PNG_START)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + 8 + length
        if end + 4 > len(data):
            return
        if kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
            content = data[start:end]
            new = _edit_png_chunk(kind, content)
            if new is None:
                yield position, end + 4, b""
            elif new != content:
                yield position, end + 4, _png_chunk(kind, new)
        position = end + 4


def _edit_png_chunk(kind: bytes, content: bytes) -> bytes | None:
    """Return the new content of a chunk; None for a chunk to leave out, whose text is compressed."""
    if kind == b"eXIf":
        start = len(_EXIF) if content.startswith(_EXIF) else 0
        return content[:start] + _edit_tiff(content[start:])
    if kind == b"iTXt" and content.startswith(_XMP_KEYWORD):
        is_compressed = content[len(_XMP_KEYWORD) : len(_XMP_KEYWORD) + 1] == b"\1"
        if not is_compressed:
            return _edit_xmp(content)
        text = _inflate(content.split(b"\0", 4)[-1])  # after the flag, the method, the language and its keyword
        return content if _edit_xmp(text) == text else None
    if kind in (b"tEXt", b"zTXt") and content.startswith(_RAW_PROFILES):
        text = content.split(b"\0", 1)[1]
        profile = _raw_profile(_inflate(text[1:]) if kind == b"zTXt" else text)
        return content if _edit_tiff(profile) == profile else None
    return content


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _inflate(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data.removeprefix(b"\0"), _MAX_TEXT_BYTES)
    except zlib.error:
        return b""


def _raw_profile(text: bytes) -> bytes:
    """Return the TIFF data of ImageMagick's text form of EXIF: a name, a length, and hexadecimal digits."""
    digits = b"".join(text.split(b"\n")[3:])
    try:
        return bytes.fromhex(digits.decode("ascii")).removeprefix(_EXIF)
    except ValueError:
        return b""


def _webp_edits(data: bytes) -> Iterator[Edit]:
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        start, end = position + 8, min(position + 8 + length, len(data))
        content = data[start:end]
        if kind == b"EXIF":
            skip = len(_EXIF) if content.startswith(_EXIF) else 0
            new = content[:skip] + _edit_tiff(content[skip:])
        else:
            new = _edit_xmp(content) if kind == b"XMP " else content
        if new != content:
            yield start, end, new
        position = end + length % 2


def _edit_xmp(text: bytes) -> bytes:
    return _XMP_VALUE.sub(rb"\g<1>1", text)


def _edit_tiff(data: bytes) -> bytes:
    """Return TIFF data whose first IFD asks for no rotation; the length stays."""
    order = _ORDERS.get(data[:2])
    if order is None or len(data) < 8:
        return data
    (offset,) = struct.unpack_from(order + "I", data, 4)
    if offset + 2 > len(data):
        return data
    (count,) = struct.unpack_from(order + "H", data, offset)
    edited = bytearray(data)
    for number in range(count):
        at = offset + 2 + number * _ENTRY_BYTES
        if at + _ENTRY_BYTES > len(data):
            break
        tag, kind, values, short = struct.unpack_from(order + "HHIH", data, at)
        if tag == _ORIENTATION and (kind != _SHORT or values != 1 or short in _ROTATED):
            struct.pack_into(order + "HIHH", edited, at + 2, _SHORT, 1, _AS_STORED, 0)
    return bytes(edited) if edited != data else data
