from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from colva.model.pooling import mask_pool, pool_objects
from colva.processing.tiling import expert_canvas


def plainly(tokens, masks, grid, threshold=0.55):
    """The published recipe, one object at a time on resized masks."""
    found = []
    for mask in masks:
        small = F.interpolate(mask[None, None].float(), grid, mode="bilinear", align_corners=False)
        kept = (small > threshold).flatten()
        found.append(tokens[kept].sum(dim=0) / (kept.sum() + 1e-4))
    return torch.stack(found)


def test_equals_the_published_code(parity: Path) -> None:
    arrays = np.load(parity / "pooling.npz")
    for number, shape in enumerate(json.loads((parity / "pooling.json").read_text())):
        n, (height, width) = shape["n"], shape["size"]
        masks = np.unpackbits(arrays[f"{number}_masks"])[: n * height * width].reshape(n, height, width)
        embeddings, valid = mask_pool(
            torch.from_numpy(arrays[f"{number}_emb"]), torch.from_numpy(masks), tuple(shape["grid"])
        )
        np.testing.assert_allclose(embeddings, arrays[f"{number}_out"], atol=1e-5)
        np.testing.assert_array_equal(valid, arrays[f"{number}_valid"])


@given(st.integers(1, 5), st.integers(1, 90), st.integers(1, 90), st.integers(1, 12), st.integers(1, 12))
def test_equals_resizing_each_mask(n: int, height: int, width: int, h: int, w: int) -> None:
    torch.manual_seed(height * 91 + width)
    tokens = torch.randn(h * w, 6)
    blobs = F.interpolate(torch.rand(n, 1, 4, 4), (height, width), mode="nearest")[:, 0] > 0.5
    embeddings, valid = mask_pool(tokens, blobs, (h, w))
    torch.testing.assert_close(embeddings, plainly(tokens, blobs, (h, w)), atol=1e-5, rtol=1e-4)
    assert torch.equal(valid, embeddings.abs().sum(dim=1) > 0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_masks_of_any_type_are_the_same_masks(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tokens, masks = torch.randn(16, 3), torch.rand(3, 20, 20) > 0.4
    torch.testing.assert_close(
        mask_pool(tokens, masks.to(dtype), (4, 4))[0], mask_pool(tokens, masks, (4, 4))[0], atol=0, rtol=0
    )


def test_many_images_at_once() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(4, 9, 5)
    images = torch.tensor([0, 0, 0, 2, 3, 3])
    cells = torch.rand(6, 9) > 0.5
    embeddings, valid = pool_objects(tokens, cells, images)
    for row, image, kept, good in zip(embeddings, images, cells, valid, strict=True):
        torch.testing.assert_close(row, tokens[image][kept].sum(dim=0) / (kept.sum() + 1e-4))
        assert bool(good) == bool(kept.any())
    assert pool_objects(tokens, cells[:0], images[:0])[0].shape == (0, 5)


def test_bfloat16_and_autocast_stay_near() -> None:
    torch.manual_seed(0)
    tokens, masks = torch.randn(4096, 64), torch.rand(8, 256, 256) > 0.3
    exact = mask_pool(tokens, masks, (64, 64))[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(mask_pool(tokens, masks, (64, 64))[0], exact)
    low = mask_pool(tokens.bfloat16(), masks, (64, 64))[0]
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), exact, atol=2e-3, rtol=2e-2)


def test_compiles() -> None:
    torch.manual_seed(0)
    tokens, masks = torch.randn(64, 8), torch.rand(3, 40, 40) > 0.4
    compiled = torch.compile(mask_pool, backend="aot_eager")
    torch.testing.assert_close(compiled(tokens, masks, (8, 8))[0], mask_pool(tokens, masks, (8, 8))[0])


def test_shapes_that_do_not_agree_are_named() -> None:
    with pytest.raises(ValueError, match=r"tokens of shape \[15, 2\] for a grid of 4 x 4"):
        mask_pool(torch.zeros(15, 2), torch.zeros(1, 8, 8), (4, 4))
    with pytest.raises(ValueError, match=r"expected \[n, H, W\]"):
        mask_pool(torch.zeros(16, 2), torch.zeros(8, 8), (4, 4))


def test_an_object_without_a_token_gets_the_one_that_most_of_its_pixels_lie_in() -> None:
    _, geometry = expert_canvas(np.zeros((64, 96, 3), np.uint8), 192, 16)  # 2 canvas pixels for one of the image
    masks = torch.zeros(4, 64, 96, dtype=torch.uint8)
    masks[0, 33:35, 60:63] = 255  # row 66-69 / 16 = 4, column 120-125 / 16 = 7
    masks[1, 14:18, 40] = 1  # two pixels in row 1, two in row 2: the first
    masks[2, :32, :32] = 1
    plain, filled = geometry.token_mask(masks), geometry.token_mask(masks, fill_empty=True)
    assert plain.any(dim=1).tolist() == [False, False, True, False]
    assert filled[0].nonzero().tolist() == [[4 * 12 + 7]]
    assert filled[1].nonzero().tolist() == [[1 * 12 + 5]]
    assert filled[2].equal(plain[2]) and not filled[3].any()
