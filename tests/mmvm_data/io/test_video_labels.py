"""What the numbers, levels and colors of a video's PNGs mean when its files differ."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmvm_data.builders import open_source
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Region
from mmvm_data.io.png import make_regions_reader
from mmvm_data.pipeline.build import BuildOptions, build

SIZE = (32, 24)
LABELS = np.zeros((24, 32), np.uint8)
LABELS[1:9, 2:12], LABELS[12:22, 1:9], LABELS[12:22, 15:29] = 1, 2, 3
DAVIS = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
OTHER = [(0, 0, 0), (200, 30, 60), (20, 130, 240), (250, 190, 10)]


def _save(path: Path, labels: np.ndarray, colors: Sequence[tuple[int, int, int]], order: Sequence[int]) -> Path:
    """Write a palette PNG whose entry k has the color of label order[k]."""
    numbers = np.zeros(256, np.uint8)
    numbers[list(order)] = np.arange(len(order))
    image = Image.fromarray(numbers[labels], "P")
    image.putpalette([value for label in order for value in colors[label]])
    image.save(path)
    return path


def _gray(path: Path, levels: np.ndarray, bits: int) -> Path:
    """Write a gray PNG of 1, 2, 4 or 8 bits, which Pillow does not write."""
    rows = []
    for row in list(levels.astype(np.uint8)):
        binary = np.unpackbits(row.reshape(-1, 1), axis=1)[:, 8 - bits :].ravel()
        rows.append(b"\0" + np.packbits(binary).tobytes())
    header = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def _read(files: Sequence[Path], position: int, single: bool = False) -> dict[str, np.ndarray]:
    regions: tuple[Region, ...] = make_regions_reader(dict(enumerate(files)), lambda _: SIZE, single=single)(position)
    return {r.id: masks.decode(r.mask) for r in regions if r.mask is not None}


def _check(found: dict[str, np.ndarray], labels: np.ndarray, ids: Sequence[int] = (1, 2, 3)) -> None:
    assert set(found) == {str(k) for k in ids}
    for k in ids:
        assert (found[str(k)] == (labels == k)).all()


def test_renumbered_davis_palettes_are_read_by_color(tmp_path: Path) -> None:
    without_1 = np.where(LABELS == 1, 0, LABELS)
    files = [
        _save(tmp_path / "0.png", LABELS, DAVIS, (0, 3, 2, 1)),
        _save(tmp_path / "1.png", LABELS, DAVIS, (0, 1, 2, 3)),
        _save(tmp_path / "2.png", without_1, DAVIS, (3, 0, 2)),
    ]
    _check(_read(files, 0), LABELS)
    _check(_read(files, 1), LABELS)
    _check(_read(files, 2), LABELS, (2, 3))
    single = _read(files, 2, single=True)
    assert (single["1"] == (without_1 > 0)).all()


def test_a_palette_that_all_files_share_is_read_by_number(tmp_path: Path) -> None:
    files = [_save(tmp_path / f"{k}.png", LABELS, DAVIS, (0, 3, 2, 1)) for k in range(2)]
    stored = np.asarray(Image.open(files[0]))
    _check(_read(files, 0), stored)
    other = [_save(tmp_path / f"b{k}.png", LABELS, OTHER, (0, 1, 2, 3)[: 4 - k]) for k in range(1)]
    other.append(_save(tmp_path / "b1.png", np.where(LABELS == 3, 0, LABELS), OTHER, (0, 1, 2)))
    _check(_read(other, 0), LABELS)
    _check(_read(other, 1), LABELS, (1, 2))


def test_entries_that_no_pixel_uses_may_differ(tmp_path: Path) -> None:
    files = [_save(tmp_path / "0.png", LABELS, OTHER, (0, 1, 2, 3))]
    files.append(_save(tmp_path / "1.png", np.where(LABELS > 1, 0, LABELS), [*OTHER[:2], (9, 9, 9)], (0, 1, 2)))
    _check(_read(files, 0), LABELS)
    _check(_read(files, 1), LABELS, (1,))


def test_other_colors_that_disagree_are_refused_with_the_file(tmp_path: Path) -> None:
    files = [_save(tmp_path / f"{k}.png", LABELS, OTHER, (0, 1, 2, 3)) for k in range(2)]
    files.append(_save(tmp_path / "2.png", LABELS, OTHER, (0, 2, 1, 3)))
    for position in range(3):
        with pytest.raises(InputError, match=r"2\.png: number 1 of the palette is #1482f0, in 0\.png it is #c81e3c"):
            _read(files, position)


def test_recorded_renumbered_palettes(cases: Path, tmp_path: Path) -> None:
    root = cases / "palette_reordered_by_png_optimizer"
    video = open_source("frames", root).load("v")
    for position in video.annotated:
        image = Image.open(root / f"masks/v/{Path(video.frames[position].path).stem}.png").convert("RGB")
        pixels = np.asarray(image)
        found = {r.id: masks.decode(r.mask) for r in video.regions(position) if r.mask}
        present = [k for k in (1, 2, 3) if (pixels == DAVIS[k]).all(axis=2).any()]
        assert set(found) == {str(k) for k in present}
        assert all((found[str(k)] == (pixels == DAVIS[k]).all(axis=2)).all() for k in present)
    sampling = SamplingOptions(min_area=50, min_side=4, min_sharpness=0, none_share=0)
    assert build("frames", root, tmp_path / "out", BuildOptions(sampling=sampling)).cases > 0


def test_a_gray_png_among_renumbered_palettes(tmp_path: Path) -> None:
    colors = [*DAVIS, (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128)]
    labels = np.where(LABELS == 3, 7, LABELS)
    files = [
        _save(tmp_path / "0.png", labels, colors, (0, 7, 1, 2)),
        _save(tmp_path / "1.png", labels, colors, (0, 1, 2, 7)),
    ]
    alone = np.where(labels == 7, 128, 0).astype(np.uint8)
    Image.fromarray(alone).save(tmp_path / "2.png")
    files.append(tmp_path / "2.png")
    _check(_read(files, 2), labels, (7,))
    _check(_read([files[2]], 0), alone, (128,))


@pytest.mark.parametrize("bits", [2, 4])
def test_numbers_in_few_bits_are_read_as_they_are_stored(tmp_path: Path, bits: int) -> None:
    files = [_gray(tmp_path / "0.png", LABELS, bits), _gray(tmp_path / "1.png", (LABELS == 1) * 1, 1)]
    _check(_read(files, 0), LABELS)
    _check(_read(files, 1), LABELS, (1,))
    files.append(_gray(tmp_path / "2.png", LABELS, 8))
    with pytest.raises(InputError, match=rf"0\.png: gray levels of {bits} bits beside PNGs of 8 bits"):
        _read(files, 0)


def test_16_bit_videos_have_no_void(tmp_path: Path, cases: Path) -> None:
    labels = np.where(LABELS == 1, 254, np.where(LABELS == 2, 255, LABELS)).astype(np.uint8)
    files = [tmp_path / "0.png", tmp_path / "1.png"]
    Image.fromarray(np.where(labels == 3, np.uint16(300), labels)).save(files[0])
    Image.fromarray(labels).save(files[1])  # as an optimizer stores numbers below 256
    assert set(_read(files, 0)) == {"254", "255", "300"}
    assert set(_read(files, 1)) == {"254", "255", "3"}
    assert set(_read(files[1:], 0)) == {"3"}
    video = open_source("frames", cases / "ids_254_255_16bit").load("v")
    assert all({r.id for r in video.regions(p)} == {"254", "255", "300"} for p in video.annotated)


def test_anti_aliased_masks_are_refused(tmp_path: Path) -> None:
    soft = Image.fromarray((LABELS > 0).astype(np.uint8) * 255).resize((96, 72)).resize(SIZE, Image.Resampling.LANCZOS)
    soft.save(tmp_path / "0.png")
    with pytest.raises(InputError, match="never fill 2 x 2 pixels, as at the edges of an anti-aliased"):
        _read([tmp_path / "0.png"], 0)
    many = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(many).save(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"mask has \d+ colors, as an anti-aliased"):
        _read([tmp_path / "1.png"], 0)
    large = np.kron(np.arange(1, 121, dtype=np.uint8).reshape(10, 12), np.ones((2, 2), np.uint8))
    Image.fromarray(np.pad(large, ((0, 4), (0, 8)))).save(tmp_path / "2.png")
    assert len(_read([tmp_path / "2.png"], 0)) == 120
