"""Orientation tags are taken out of files of every format, and nothing else changes."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame
from mmvm_data.io import media
from mmvm_data.io.orientation import remove_orientation
from mmvm_data.io.thumbnails import webp_thumbnail

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
ORIENTATION = 0x0112
PIXELS = np.random.default_rng(4).integers(0, 255, (48, 64, 3), np.uint8)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" tiff:Make="6"/></x:xmpmeta>'


def encode(form: str, orientation: int | None, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    if orientation is not None:
        exif[ORIENTATION] = orientation
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    out = io.BytesIO()
    lossless = {"lossless": True} if form == "WEBP" else {}
    Image.fromarray(PIXELS).save(out, form, exif=exif, **lossless, **options)
    return out.getvalue()


def exif_segment(tiff: bytes) -> bytes:
    """The file of a JPEG whose only metadata are these."""
    plain = cv2.imencode(".jpg", PIXELS)[1].tobytes()
    payload = b"Exif\0\0" + tiff
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + plain[2:]


def as_shown(data: bytes) -> np.ndarray:
    """The pixels that a viewer shows."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def as_stored(data: bytes) -> np.ndarray:
    return media.decode_image(Path("image"), data)[..., ::-1]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("orientation", range(2, 9))
def test_viewers_show_what_is_stored(form: str, orientation: int) -> None:
    data = encode(form, orientation)
    if form != "TIFF":
        assert as_shown(data).shape != as_stored(data).shape or (as_shown(data) != as_stored(data)).any()
    cleared = remove_orientation(data)
    assert len(cleared) == len(data)
    assert (as_shown(cleared) == as_stored(data)).all()
    assert (as_stored(cleared) == as_stored(data)).all()
    if form != "JPEG":
        assert (as_stored(data) == PIXELS).all()
    assert remove_orientation(cleared) is cleared
    if form != "TIFF":  # the other tags stay
        with Image.open(io.BytesIO(cleared)) as image:
            exif = image.getexif()
            assert (exif[0x010F], exif[ORIENTATION]) == ("a camera", 1)
            assert exif.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("orientation", [None, 1])
def test_files_that_ask_for_no_rotation_are_the_same(form: str, orientation: int | None) -> None:
    data = encode(form, orientation)
    assert remove_orientation(data) is data
    for other in (b"", b"no image", b"GIF89a", cv2.imencode(".bmp", PIXELS)[1].tobytes(), data[:30]):
        assert remove_orientation(other) is other


def test_only_the_tag_changes() -> None:
    """In a JPEG two bytes differ: the value of the tag; the compressed pixels are the same."""
    data, cleared = encode("JPEG", 6), remove_orientation(encode("JPEG", 6))
    assert [(a, b) for a, b in zip(data, cleared, strict=True) if a != b] == [(6, 1)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_orders_of_bytes_and_repeated_and_odd_entries(order: str) -> None:
    start = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    entries = [(3, 1, struct.pack(order + "HH", 6, 0)), (4, 1, struct.pack(order + "I", 8)), (1, 1, b"\3\0\0\0")]
    ifd = struct.pack(order + "H", len(entries))
    ifd += b"".join(struct.pack(order + "HHI", ORIENTATION, kind, count) + value for kind, count, value in entries)
    cleared = remove_orientation(exif_segment(start + ifd + b"\0" * 4))
    assert cleared.count(struct.pack(order + "HHIHH", ORIENTATION, 3, 1, 1, 0)) == 3
    assert (as_shown(cleared) == as_stored(cleared)).all()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_orientation_in_xmp(form: str, compressed: bool) -> None:
    out = io.BytesIO()
    options: dict[str, object] = {"xmp": XMP}
    if form == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=compressed)
        options = {"pnginfo": text}
    Image.fromarray(PIXELS).save(out, form, **options)
    data = out.getvalue()
    assert as_shown(data).shape == (64, 48, 3)
    cleared = remove_orientation(data)
    assert (as_shown(cleared) == as_stored(data)).all()
    assert b'tiff:Make="6"' in cleared or compressed
    assert remove_orientation(cleared) is cleared


def test_orientation_in_text_of_imagemagick() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    raw = exif.tobytes()
    for zipped in (False, True):
        text = PngImagePlugin.PngInfo()
        text.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n", zip=zipped)
        text.add_text("Comment", "kept")
        out = io.BytesIO()
        Image.fromarray(PIXELS).save(out, "PNG", pnginfo=text)
        assert as_shown(out.getvalue()).shape == (64, 48, 3)
        cleared = remove_orientation(out.getvalue())
        assert (as_shown(cleared) == PIXELS).all()
        assert b"kept" in cleared


def test_checksums_of_png_are_right() -> None:
    cleared = remove_orientation(encode("PNG", 3))
    position = 8
    while position < len(cleared):
        (length,) = struct.unpack_from(">I", cleared, position)
        content = cleared[position + 4 : position + 8 + length]
        assert struct.unpack_from(">I", cleared, position + 8 + length) == (zlib.crc32(content),)
        position += 12 + length


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@given(st.binary(max_size=60), st.sampled_from([b"II*\0", b"MM\0*", b""]), st.sampled_from(FORMATS))
def test_any_bytes_are_accepted(tail: bytes, start: bytes, form: str) -> None:
    for data in (exif_segment(start + tail), start + tail, encode(form, 6)[: len(tail) * 20] + tail):
        cleared = remove_orientation(data)
        assert remove_orientation(cleared) == cleared
    if start:  # Pillow finds no rotation in what is left
        with Image.open(io.BytesIO(remove_orientation(exif_segment(start + tail)))) as image:
            try:
                found = image.getexif().get(ORIENTATION)
            except (OSError, SyntaxError, ValueError, struct.error):  # too broken for Pillow
                found = None
            assert found not in range(2, 9)


@pytest.mark.parametrize("form", FORMATS)
def test_readers_use_stored_pixels(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"a.{form.lower()}"
    path.write_bytes(encode(form, 6))
    assert media.read_image_size(path) == (64, 48)
    assert media.has_orientation(path)
    assert media.read_image_bytes(path) == remove_orientation(path.read_bytes())
    frame = Frame(path=path.name, index=0, width=64, height=48)
    pixels = media.load_frame(tmp_path, frame)
    assert (pixels.bgr[..., ::-1] == as_stored(path.read_bytes())).all()
    assert pixels.jpeg == (remove_orientation(path.read_bytes()) if form == "JPEG" else None)
    assert media.load_reduced_frame(tmp_path, frame, 16).shape[:2] == (24, 32)
    thumbnail = webp_thumbnail(path, 64, 48, (32, 32))
    assert thumbnail is not None
    path.write_bytes(encode(form, None))
    assert not media.has_orientation(path)
    assert webp_thumbnail(path, 64, 48, (32, 32)) == thumbnail


def test_a_size_of_the_rotated_picture_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encode("JPEG", 6))
    with pytest.raises(InputError, match="is 64 x 48, the frame is 48 x 64; its orientation tag asks for a rotation"):
        media.load_frame(tmp_path, Frame(path="a.jpg", index=0, width=48, height=64))
