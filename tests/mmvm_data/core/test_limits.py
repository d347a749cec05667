"""Images and masks above the limit of pixels are refused before they are decoded."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from mmvm_data.cli import cli
from mmvm_data.core import limits, masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame, Rle
from mmvm_data.formats import bench
from mmvm_data.io import media
from mmvm_data.io.image_header import read_header_size
from mmvm_data.io.thumbnails import webp_thumbnail
from tests.mmvm_data.formats.test_hub import built_sample


def huge_png(path: Path, side: int = 30_000) -> Path:
    """A valid PNG header of side x side pixels, with one row of data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side // 8 + 1))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(limits.VARIABLE, "100")


def test_default_and_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(limits.VARIABLE, raising=False)
    assert limits.max_pixels() == 2**28
    monkeypatch.setenv(limits.VARIABLE, "no number")
    assert limits.max_pixels() == 2**28
    limits.set_max_pixels(5)
    assert limits.max_pixels() == 5
    limits.check_pixels(1, 5)
    with pytest.raises(ValueError, match="mask of 2 x 3 has 6 pixels, above the limit of 5"):
        limits.check_pixels(2, 3, "mask")
    with pytest.raises(ValueError, match="at least 1"):
        limits.set_max_pixels(0)


@pytest.mark.parametrize(
    "make_mask",
    [
        lambda: Rle(size=(65535, 65535), counts="PPPo_1"),
        lambda: masks.from_counts([0, 65535 * 65535], (65535, 65535)),
        lambda: masks.from_counts("PPPo_1", (65535, 65535)),
        lambda: masks.from_polygons([], 65535, 65535),
        lambda: masks.from_box((0, 0, 5, 5), 65535, 65535),
    ],
)
def test_huge_masks_are_refused_without_memory(make_mask: object) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match="mask of 65535 x 65535 has 4294836225 pixels"):
        make_mask()  # type: ignore[operator]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_huge_images_are_refused_by_name(tmp_path: Path) -> None:
    path = huge_png(tmp_path / "huge.png")
    frame = Frame(path=path.name, index=0, width=30_000, height=30_000)
    for read in (
        lambda: media.load_frame(tmp_path, frame),
        lambda: media.load_reduced_frame(tmp_path, frame, 100),
        lambda: media.read_image_size(path),
    ):
        with pytest.raises(InputError, match=r"huge\.png: .*900000000 pixels"):
            read()
    assert webp_thumbnail(path, 30_000, 30_000, (10, 10)) is None


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.usefixtures("small_limit")
def test_every_format_has_the_limit(tmp_path: Path, suffix: str) -> None:
    for width, is_accepted in ((10, True), (11, False)):
        path = tmp_path / f"{width}{suffix}"
        cv2.imwrite(str(path), np.zeros((10, width, 3), np.uint8))
        assert read_header_size(path.read_bytes()) == (width, 10)
        if is_accepted:
            assert media.decode_image(path, path.read_bytes()).shape == (10, 10, 3)
        else:
            with pytest.raises(
                InputError, match=f"{path.name}: image of 11 x 10 has 110 pixels, above the limit of 100"
            ):
                media.decode_image(path, path.read_bytes())


def test_commands_name_record_and_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(limits.VARIABLE, str(limits.DEFAULT_MAX_PIXELS))  # restored when the test ends
    folder = built_sample(tmp_path / "bench")
    out = ["export", str(folder), "--to", "webdataset", "--out", str(tmp_path / "w")]
    error = CliRunner().invoke(cli, ["--max-pixels", "100", *out]).exception
    assert isinstance(error, InputError)
    assert "above the limit of 100" in str(error)
    assert "cases.jsonl" in str(error)
    limits.set_max_pixels(limits.DEFAULT_MAX_PIXELS)
    lines = (folder / bench.CASES).read_text().splitlines()
    record = json.loads(lines[0])
    record["query"][0]["mask"] = {"size": [65535, 65535], "counts": "PPPo_1"}
    (folder / bench.CASES).write_text("\n".join([json.dumps(record), *lines[1:]]))
    for command in (out, ["stats", str(folder)], ["report", str(folder), "--out", str(tmp_path / "r.html")]):
        error = CliRunner().invoke(cli, command).exception
        assert isinstance(error, InputError), command
        assert "line 1" in str(error)
        assert "mask of 65535 x 65535" in str(error)
    assert CliRunner().invoke(cli, ["--max-pixels", "0", *out]).exit_code == 2
