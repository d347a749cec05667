"""What the header of an image file says, against decoders."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmvm_data.io.image_header import iter_jpeg_segments, read_decodable_size, read_header_size

PICTURE = np.random.default_rng(0).integers(0, 256, (75, 50, 3), dtype=np.uint8)


def encode(**options: object) -> bytes:
    target = BytesIO()
    image = Image.fromarray(PICTURE)
    image.convert(str(options.pop("mode", "RGB"))).save(target, "JPEG", **options)
    return target.getvalue()


BASELINE = encode(quality=95)


@pytest.mark.parametrize(
    ("data", "is_certain"),
    [
        (BASELINE, True),
        (encode(quality=5, subsampling=2), True),
        (encode(quality=100, subsampling=0, optimize=True), True),
        (encode(mode="L"), True),
        (encode(restart_marker_blocks=1), True),
        (encode(comment=b"x" * 3000), True),
        (BASELINE[:2] + b"\xff\xff" + BASELINE[3:], True),  # fill bytes before a marker
        (encode(progressive=True), False),
        (encode(mode="CMYK"), False),
        (BASELINE.replace(b"\xff\xc4", b"\xff\xe5"), True),  # no Huffman tables: decoders have some of their own
        (BASELINE.replace(b"\xff\xdb", b"\xff\xe5"), False),  # no quantization tables
        (BASELINE[: BASELINE.index(b"\xff\xda")], False),
        (b"\xff\xd8\xff" + bytes(100) + b"\xff\xd9", False),
        (b"\xff\xd8", False),
        (b"", False),
    ],
)
def test_a_jpeg_whose_header_decodes(data: bytes, is_certain: bool) -> None:
    assert read_decodable_size(data) == ((50, 75) if is_certain else None)
    if is_certain:
        assert read_header_size(data) == (50, 75)
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None


@settings(max_examples=150)
@given(st.integers(2, BASELINE.index(b"\xff\xda") + 13), st.integers(0, 255))
def test_what_opencv_refuses_is_not_called_certain(position: int, value: int) -> None:
    """A wrong byte in the header, whose size is compared elsewhere."""
    data = BASELINE[:position] + bytes([value]) + BASELINE[position + 1 :]
    if read_decodable_size(data) == (50, 75):
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None


def test_segments_are_found_behind_stray_bytes() -> None:
    clean = [(marker, BASELINE[start:end]) for marker, start, end in iter_jpeg_segments(BASELINE)]
    first_end = next(iter(iter_jpeg_segments(BASELINE)))[2]
    stray = BASELINE[:first_end] + b"\x00\x01" + BASELINE[first_end:]
    assert [(marker, stray[start:end]) for marker, start, end in iter_jpeg_segments(stray)] == clean
    assert len(clean) > 4
