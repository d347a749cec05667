from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from colva.model.token_grid import Geometry, Grid, Span
from colva.processing.tiling import check_image, expert_canvas, tile_grid, tile_image


def test_grids_equal_the_published_ones(parity: Path) -> None:
    for row in json.loads((parity / "tiling.json").read_text()):
        columns, rows = tile_grid(row["w"], row["h"], row["max_tiles"])
        assert (columns, rows) == (row["cols"], row["rows"])
        extra = row["thumbnail"] and columns * rows > 1
        assert columns * rows + extra == row["tiles"]


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 12))
def test_no_other_grid_is_nearer(width: int, height: int, most: int) -> None:
    columns, rows = tile_grid(width, height, most)
    assert 1 <= columns * rows <= most
    nearest = min(abs(width / height - c / r) for c in range(1, most + 1) for r in range(1, most + 1) if c * r <= most)
    assert abs(width / height - columns / rows) == nearest


def resized_masks(masks: torch.Tensor, columns: int, rows: int, tile: int, cells: int) -> torch.Tensor:
    """Masks as the published code carries them to the tiles: whole masks resized, then each tile pooled."""
    sheet = F.interpolate(masks[None].float(), (rows * tile, columns * tile), mode="nearest-exact")[0]
    views = [
        sheet[:, y * tile : (y + 1) * tile, x * tile : (x + 1) * tile] for y in range(rows) for x in range(columns)
    ]
    if columns * rows > 1:
        views.append(F.interpolate(masks[None].float(), (tile, tile), mode="nearest-exact")[0])
    return torch.cat(
        [F.interpolate(view[None], (cells, cells), mode="bilinear")[0].flatten(1) > 0.55 for view in views], 1
    )


@pytest.mark.parametrize(("height", "width"), [(331, 777), (480, 854), (448, 448), (1080, 1920), (97, 60)])
def test_masks_follow_the_tiles(height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    coarse = torch.from_numpy(rng.random((3, 1, 9, 13)) > 0.5).float()
    masks = F.interpolate(coarse, (height, width))[:, 0] > 0.5
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    tiles, geometry = tile_image(picture, 12, 16)
    columns, rows = tile_grid(width, height, 12)
    assert tiles.shape == (columns * rows + (columns * rows > 1), 3, 448, 448)
    assert geometry.num_tokens == 256 * len(tiles)
    assert torch.equal(geometry.token_mask(masks), resized_masks(masks, columns, rows, 448, 16))


def test_tiles_are_cut_from_the_resized_image() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (300, 640, 3), dtype=np.uint8)
    tiles, _ = tile_image(picture, 6, 16)
    whole = np.asarray(Image.fromarray(picture).resize((2 * 448, 448), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(tiles[0].permute(1, 2, 0), whole[:, :448])
    np.testing.assert_array_equal(tiles[1].permute(1, 2, 0), whole[:, 448:])
    small = np.asarray(Image.fromarray(picture).resize((448, 448), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(tiles[2].permute(1, 2, 0), small)


def test_canvas_is_white_where_there_is_no_image_and_masks_end_there() -> None:
    picture = np.full((50, 100, 3), 7, np.uint8)
    canvas, geometry = expert_canvas(picture, 128, 16)
    assert (canvas[:, :64] == 7).all() and (canvas[:, 64:] == 255).all()
    kept = geometry.token_mask(torch.ones(1, 50, 100)).view(8, 8)
    assert kept[:4].all() and not kept[4:].any()


@given(st.integers(16, 300), st.integers(16, 300))
def test_canvas_masks_equal_a_padded_mask(height: int, width: int) -> None:
    torch.manual_seed(height)
    masks = F.interpolate(torch.rand(2, 1, 5, 5), (height, width))[:, 0] > 0.5
    _, geometry = expert_canvas(np.zeros((height, width, 3), np.uint8), 256, 16)
    scale = 256 / max(height, width)
    inner = F.interpolate(
        masks[None].float(), (max(1, round(height * scale)), max(1, round(width * scale))), mode="nearest-exact"
    )[0]
    padded = F.pad(inner, (0, 256 - inner.shape[2], 0, 256 - inner.shape[1]))
    wanted = F.interpolate(padded[None], (16, 16), mode="bilinear")[0].flatten(1) > 0.55
    assert torch.equal(geometry.token_mask(masks), wanted)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((10, 10, 3), np.uint8), "10 x 10 pixels; expected sides of 16 to 16384"),
        (np.zeros((20000, 20, 3), np.uint8), "20 x 20000 pixels"),
        (np.zeros((17, 4000, 3), np.uint8), "expected sides within 200 to 1"),
        (np.zeros((40, 40), np.uint8), r"shape \[40, 40\]; expected uint8 \[height, width, 3\]"),
        (np.zeros((40, 40, 3), np.float32), "float32"),
    ],
)
def test_invalid_images_are_refused(picture: np.ndarray, message: str) -> None:
    for cut in (lambda: tile_image(picture, 12, 16), lambda: expert_canvas(picture, 1024, 16)):
        with pytest.raises(ValueError, match=message):
            cut()


def test_masks_of_another_size_are_refused() -> None:
    _, geometry = expert_canvas(np.zeros((40, 60, 3), np.uint8), 64, 16)
    with pytest.raises(ValueError, match=r"\[1, 60, 40\] for an image of 60 x 40: expected \[n, 40, 60\]"):
        geometry.token_mask(torch.zeros(1, 60, 40))


def test_objects_outside_every_grid_are_known() -> None:
    # the middle half of a picture 100 pixels wide, seen at half its size
    geometry = Geometry((50, 100), (Grid(Span(2, 50, 25), Span(2, 100, 50, 12, 26)),))
    masks = torch.zeros(3, 50, 100, dtype=torch.bool)
    masks[0, :, :20] = True
    masks[1, :, 40:50] = True
    assert geometry.is_out_of_view(masks).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((15, 40, 3), "query: 40 x 15 pixels; expected sides of 16 to 16384"),
        ((16385, 100, 3), "query: 100 x 16385 pixels; expected sides of 16 to 16384"),
        ((16, 3201, 3), "query: 3201 x 16 pixels; expected sides within 200 to 1"),
        ((40, 40, 4), "query: uint8 of shape [40, 40, 4]; expected uint8 [height, width, 3]"),
        ((40, 40, 3, 1), "query: uint8 of shape [40, 40, 3, 1]; expected uint8 [height, width, 3]"),
    ],
)
def test_bounds_of_sizes(shape: tuple[int, ...], message: str) -> None:
    image = np.broadcast_to(np.uint8(0), shape)
    with pytest.raises(ValueError) as caught:
        check_image(image, "query")
    assert str(caught.value) == message
    with pytest.raises(ValueError) as caught:
        check_image(image)
    assert str(caught.value) == message.replace("query", "image")


@pytest.mark.parametrize("shape", [(16, 16, 3), (16384, 82, 3), (16, 3200, 3)])
def test_sizes_at_the_bounds_are_accepted(shape: tuple[int, ...]) -> None:
    check_image(np.broadcast_to(np.uint8(0), shape))


def choose_grid(width: int, height: int, low: int, high: int, tile: int) -> tuple[int, int]:
    """InternVL's rule, from the paper: the nearest ratio; of equal ones the larger where the image is large enough."""
    grids = [(c, r) for c in range(1, high + 1) for r in range(1, high + 1) if low <= c * r <= high]
    nearest = min(abs(width / height - c / r) for c, r in grids)
    same = sorted((c * r, c, r) for c, r in grids if abs(width / height - c / r) == nearest)
    enough = [(c, r) for count, c, r in same if width * height > 0.5 * tile * tile * count]
    return enough[-1] if enough else same[0][1:]


@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 5), st.integers(0, 8), st.sampled_from([1, 56, 448]))
def test_grids_follow_the_rule_with_any_bounds(width: int, height: int, low: int, more: int, tile: int) -> None:
    assert tile_grid(width, height, low + more, low, tile) == choose_grid(width, height, low, low + more, tile)


def test_an_image_of_half_the_tiles_pixels_is_not_enough_for_more() -> None:
    assert tile_grid(56, 56, 4, 1, 28) == (2, 2)
    assert (tile_grid(40, 40, 4, 1, 28), tile_grid(39, 39, 4, 1, 28)) == ((2, 2), (1, 1))
    assert (tile_grid(2, 1, 8, 1, 1), tile_grid(4, 2, 8, 1, 2), tile_grid(4, 4, 4, 1, 4)) == ((2, 1), (2, 1), (1, 1))


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ((0, 5, 3), "0 x 5 pixels with 1 to 3 tiles of 448"),
        ((5, 0, 3), "5 x 0 pixels with 1 to 3 tiles of 448"),
        ((5, 5, 3, 4), "5 x 5 pixels with 4 to 3 tiles of 448"),
        ((5, 5, 3, 0), "5 x 5 pixels with 0 to 3 tiles of 448"),
        ((5, 5, 3, 1, 0), "5 x 5 pixels with 1 to 3 tiles of 0"),
    ],
)
def test_impossible_tiles(arguments: tuple[int, ...], numbers: str) -> None:
    with pytest.raises(ValueError) as caught:
        tile_grid(*arguments)
    assert str(caught.value) == f"no tiles for {numbers}"


@pytest.mark.parametrize("thumbnail", [True, False])
def test_tiles_and_their_place_in_the_image(thumbnail: bool) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    tiles, geometry = tile_image(picture, 6, 4, 6, 28, thumbnail)
    full = Image.fromarray(picture).resize((84, 56), Image.Resampling.BICUBIC)
    boxes = [(28 * c, 28 * r, 28 * c + 28, 28 * r + 28) for r in range(2) for c in range(3)]
    expected = [np.asarray(full.crop(box)) for box in boxes]
    grids = [Grid(Span(4, 60, 56, top, 28), Span(4, 90, 84, left, 28)) for left, top, _, _ in boxes]
    if thumbnail:
        expected.append(np.asarray(Image.fromarray(picture).resize((28, 28), Image.Resampling.BICUBIC)))
        grids.append(Grid(Span(4, 60, 28), Span(4, 90, 28)))
    assert (tiles.dtype, tiles.is_contiguous()) == (torch.uint8, True)
    assert torch.equal(tiles, torch.from_numpy(np.stack(expected)).permute(0, 3, 1, 2))
    assert geometry == Geometry((60, 90), tuple(grids))
    one, single = tile_image(picture, 1, 4, 1, 28, thumbnail)
    assert (one.shape, len(single.grids)) == ((1, 3, 28, 28), 1)


@pytest.mark.parametrize(("height", "width", "new"), [(50, 100, (32, 64)), (64, 40, (64, 40)), (3200, 16, (64, 1))])
def test_canvas_holds_the_resized_image(height: int, width: int, new: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    canvas, geometry = expert_canvas(picture, 64, 16)
    expected = np.full((64, 64, 3), 255, np.uint8)
    resized = Image.fromarray(picture).resize((new[1], new[0]), Image.Resampling.BICUBIC)
    expected[: new[0], : new[1]] = picture if (height, width) == new else np.asarray(resized)
    assert (canvas.dtype, canvas.is_contiguous()) == (torch.uint8, True)
    assert torch.equal(canvas.permute(1, 2, 0), torch.from_numpy(expected))
    grid = Grid(Span(4, height, new[0], 0, 64), Span(4, width, new[1], 0, 64))
    assert geometry == Geometry((height, width), (grid,))


@pytest.mark.parametrize(("side", "stride"), [(8, 16), (40, 16), (0, 16)])
def test_canvas_of_an_uneven_side(side: int, stride: int) -> None:
    with pytest.raises(ValueError) as caught:
        expert_canvas(np.zeros((40, 60, 3), np.uint8), side, stride)
    assert str(caught.value) == f"canvas of {side} pixels for tokens of {stride}: expected a multiple"
    assert expert_canvas(np.zeros((40, 60, 3), np.uint8), 16, 16)[1].num_tokens == 1
