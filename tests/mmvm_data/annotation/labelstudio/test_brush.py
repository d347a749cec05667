"""Label Studio's run lengths against its own converter, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmvm_data.annotation.labelstudio.brush import decode_brush, encode_brush
from mmvm_data.core import masks


def _noise(height: int, width: int, seed: int, share: float) -> np.ndarray:
    return (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 9), st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
def test_there_and_back(height: int, width: int, seed: int, share: float) -> None:
    rle = masks.encode(_noise(height, width, seed, share))
    assert decode_brush(encode_brush(rle), height, width) == rle


def test_label_studios_own_converter_agrees() -> None:
    theirs = pytest.importorskip("label_studio_sdk.converter.brush")
    bitmap = _noise(90, 120, 1, 0.3)
    bitmap[20:60, 10:100] = 1
    rle = masks.encode(bitmap)
    read = theirs.decode_rle(encode_brush(rle)).reshape(90, 120, 4)
    assert np.array_equal(read[:, :, 3] > 0, bitmap > 0)
    assert decode_brush(theirs.mask2rle(bitmap * 255), 90, 120) == rle
    colored = np.stack([bitmap * 200, bitmap * 10, bitmap * 77, bitmap * 255], axis=-1)
    assert decode_brush(theirs.encode_rle(colored.ravel()), 90, 120) == rle


@pytest.mark.parametrize(
    ("coded", "fault"), [([], "cut short"), ([256], "bytes"), ("text", "bytes"), ([0, 0, 0, 16, 56], "cut|pixels|bits")]
)
def test_data_that_are_not_a_brush(coded: list[int], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        decode_brush(coded, 2, 2)


def test_a_brush_of_another_size_or_cut_short() -> None:
    coded = encode_brush(masks.encode(_noise(30, 40, 2, 0.5)))
    with pytest.raises(ValueError, match="1200 pixels, expected 1500"):
        decode_brush(coded, 30, 50)
    with pytest.raises(ValueError, match="cut short"):
        decode_brush(coded[:-4], 30, 40)
