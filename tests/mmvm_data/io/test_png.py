"""Object numbers of PNGs: every kind that is in use, and those that name nothing."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.io.png import make_regions_reader, read_labels

SIZE = (16, 12)
LABELS = np.zeros((12, 16), np.uint8)
LABELS[1:5, 2:9], LABELS[6:11, 1:4], LABELS[6:11, 8:15] = 1, 2, 9


def _read(*paths: Path, single: bool = False):
    return make_regions_reader(dict(enumerate(paths)), lambda _: SIZE, single=single)


def _palette(folder: Path, name: str, labels: np.ndarray, like: Path) -> Path:
    image = Image.fromarray(labels, "P")
    image.putpalette(Image.open(like).getpalette())
    image.save(folder / name)
    return folder / name


@pytest.mark.parametrize(
    "like",
    ["davis2017_interactive/DAVIS/Annotations/480p/bear/00000.png", "davis2017_interactive/train_masks_only/00000.png"],
)
@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA"])
def test_both_davis_palettes_give_the_same_objects(realdata: Path, tmp_path: Path, like: str, mode: str) -> None:
    path = _palette(tmp_path, "a.png", LABELS, realdata / like)
    Image.open(path).convert(mode).save(path)
    assert Image.open(path).mode == mode
    regions = _read(path)(0)
    assert [r.id for r in regions] == ["1", "2", "9"]
    for region in regions:
        assert (masks.decode(region.mask) == (int(region.id) == LABELS)).all()


def test_real_palette_pngs_saved_as_rgb_give_the_same_objects(realdata: Path, tmp_path: Path) -> None:
    folder = realdata / "davis2017_interactive" / "DAVIS" / "Annotations" / "480p"
    files = sorted(folder.glob("*/*.png"))
    assert len(files) == 10
    for file in files:
        image = Image.open(file)
        image.convert("RGB").save(tmp_path / "a.png")
        void = np.isin(np.asarray(image), (254, 255))
        expected = np.where(void, 255, np.asarray(image))
        assert (read_labels(tmp_path / "a.png", *image.size).ids == expected).all()


def test_void_is_not_an_object(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[0], labels[11] = 254, 255
    Image.fromarray(labels).save(tmp_path / "a.png")
    assert [r.id for r in _read(tmp_path / "a.png")(0)] == ["1", "2", "9"]


def test_first_non_empty_gray_mask_decides_whether_255_is_an_object(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(4)]
    binary = (LABELS > 0).astype(np.uint8) * 255
    with_void = np.where(LABELS == 9, 255, LABELS).astype(np.uint8)
    void_alone = np.where(LABELS == 9, 255, 0).astype(np.uint8)
    for file, labels in zip(files, [LABELS * 0, binary, with_void, void_alone], strict=True):
        Image.fromarray(labels).save(file)
    read = _read(files[0], files[1], files[3])
    assert read(0) == ()
    (region,) = read(1)
    assert region.id == "1"
    assert (masks.decode(region.mask) == (LABELS > 0)).all()
    assert len(read(2)) == 1
    read = _read(files[0], files[2], files[3])
    assert read(2) == ()
    assert [r.id for r in read(1)] == ["1", "2"]
    with pytest.raises(InputError, match="masks are 0 and 255, this one contains 1, 2, 255"):
        _read(files[1], files[2])(1)
    with pytest.raises(InputError, match=r"must contain 0 and 255; this one contains 1, 2, 255"):
        _read(files[2], single=True)(0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_black_and_white_of_any_mode_is_one_object(tmp_path: Path, mode: str) -> None:
    Image.fromarray((LABELS > 0).astype(np.uint8) * 255).convert(mode).save(tmp_path / "a.png")
    for single in (False, True):
        (region,) = _read(tmp_path / "a.png", single=single)(0)
        assert region.id == "1"
        assert (masks.decode(region.mask) == (LABELS > 0)).all()


def test_gray_saved_as_rgb_keeps_its_numbers(tmp_path: Path) -> None:
    Image.fromarray(LABELS * 5).convert("RGB").save(tmp_path / "a.png")
    assert [r.id for r in _read(tmp_path / "a.png")(0)] == ["5", "10", "45"]


def test_single_merges_all_palette_entries(realdata: Path) -> None:
    path = realdata / "davis2017_interactive/DAVIS/Annotations/480p/tennis/00000.png"
    (region,) = make_regions_reader({0: path}, lambda _: (854, 480), single=True)(0)
    labels = np.asarray(Image.open(path))
    assert masks.area(region.mask) == np.count_nonzero((labels == 1) | (labels == 2))


def test_one_bit_and_sixteen_bit_pngs(tmp_path: Path) -> None:
    Image.fromarray(LABELS > 0).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "1"
    (region,) = _read(tmp_path / "a.png")(0)
    assert masks.area(region.mask) == np.count_nonzero(LABELS)
    Image.fromarray(LABELS.astype(np.uint16) * 1000).save(tmp_path / "b.png")
    assert [r.id for r in _read(tmp_path / "b.png")(0)] == ["1000", "2000", "9000"]


def test_unknown_colors_and_modes_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match=r"a\.png: file is missing"):
        read_labels(path, *SIZE)
    Image.new("RGB", SIZE, (1, 2, 3)).save(path)
    with pytest.raises(InputError, match="color #010203 is not in the DAVIS palette"):
        read_labels(path, *SIZE)
    Image.new("RGBA", SIZE, (0, 0, 0, 0)).save(path)
    with pytest.raises(InputError, match="transparent"):
        read_labels(path, *SIZE)
    Image.fromarray(LABELS[:, :15]).save(path)
    with pytest.raises(InputError, match="mask is 15 x 12, its frame is 16 x 12"):
        read_labels(path, *SIZE)
    Image.new("L", SIZE).save(tmp_path / "b.png", format="JPEG")
    with pytest.raises(InputError, match="cut off or damaged"):
        read_labels(tmp_path / "b.png", *SIZE)


def test_truncated_png_is_an_error_or_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(LABELS).save(path)
    data = path.read_bytes()
    for kept in range(len(data)):
        path.write_bytes(data[:kept])
        try:
            assert (read_labels(path, *SIZE).ids == LABELS).all()
        except InputError as error:
            assert "damaged" in error.reason


@settings(max_examples=500)
@given(st.data())
def test_mutated_pngs_only_raise_input_errors(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.png"
    mode = data.draw(st.sampled_from(["P", "L", "1", "RGB"]))
    Image.fromarray(LABELS).convert(mode).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(len(content) - 1, 0)))
        kind = data.draw(st.sampled_from(["set", "cut", "drop", "insert", "header"]))
        if kind == "set" and content:
            content[at] = data.draw(st.integers(0, 255))
        elif kind == "header" and len(content) > 33:  # kind of pixels, with the check sum of the header made right
            content[24:29] = bytes(
                data.draw(st.sampled_from(v)) for v in ([1, 2, 8, 16], [0, 2, 3, 4, 6, 7], [0, 1], [0, 9], [0, 1])
            )
            content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
        elif kind == "cut":
            del content[at:]
        elif kind == "drop":
            del content[at : at + 4]
        else:
            content[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    path.write_bytes(content)
    try:
        for region in _read(path)(0):
            assert region.mask is not None
            assert region.mask.size == (12, 16)
    except InputError as error:
        assert error.file == str(path)
