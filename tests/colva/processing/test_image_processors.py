"""Image processors of each family: pixels by Pillow and NumPy alone, grids and numbers of tokens by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PretrainedConfig
from transformers.models.llava_onevision.image_processing_llava_onevision import LlavaOnevisionImageProcessor

from colva.model.backbones.tiny import tiny_config
from colva.model.token_grid import Geometry, Grid, Span
from colva.processing.image_processors import build_image_processor
from colva.processing.image_processors.internvl import InternVLImageProcessor
from mmvm_data.core.options import OptionError

MEAN, STD = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])  # CLIP's
QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def build(family: str, **options: Any) -> Any:
    return build_image_processor(tiny_config(family), options)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("internvl", {"tiles": 3, "a": 1}, "pictures must be max_tiles, min_tiles, thumbnail; got a, tiles"),
        ("llava", {"tiles": 3}, "pictures must be fit; got tiles"),
        ("llava", {"fit": None}, "pictures fit must be a str, got None"),
        ("qwen2_vl", {"min_pixels": 0}, "pictures min_pixels must be a positive integer, got 0"),
        ("llava", {"fit": "stretch"}, "pictures must be fit, one of pad, crop; got {'fit': 'stretch'}"),
        ("qwen2_vl", {"tiles": 3, "a": 1}, "pictures must be min_pixels, max_pixels; got a, tiles"),
    ],
)
def test_unknown_options(family: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        build(family, **options)
    assert (str(caught.value), caught.value.argument) == (message, "pictures")


def test_unknown_family() -> None:
    with pytest.raises(ValueError) as caught:
        build_image_processor(PretrainedConfig(), {})
    families = "internvl, llava, llava_onevision, qwen2_5_vl, qwen2_vl, qwen3_vl"
    assert str(caught.value) == f"model_type '' is not one of {families}"


def test_internvl_options_and_sizes_come_from_the_configuration() -> None:
    config = tiny_config("internvl")
    config.vision_config.image_size, config.vision_config.patch_size, config.downsample_ratio = (
        [112, 112],
        [14, 14],
        0.5,
    )
    assert build_image_processor(config, {}) == InternVLImageProcessor(112, 4, 12, 1, True)
    options = {"max_tiles": 6, "min_tiles": 2, "thumbnail": False}
    assert build_image_processor(config, options) == InternVLImageProcessor(112, 4, 6, 2, False)


@pytest.mark.parametrize(
    ("height", "width", "tiles"), [(50, 50, 1), (50, 100, 2), (50, 60, 1), (180, 60, 3), (300, 300, 4)]
)
@pytest.mark.parametrize("thumbnail", [True, False])
def test_internvl_counts(height: int, width: int, tiles: int, thumbnail: bool) -> None:
    processor = InternVLImageProcessor(56, 2, 4, 1, thumbnail)
    prepared = processor(noise(height, width))
    tiles += thumbnail and tiles > 1
    assert prepared.pixels.shape == (tiles, 3, 56, 56)
    assert (prepared.pixels.dtype, prepared.grid) == (torch.uint8, (tiles, 2, 2))
    assert prepared.num_tokens == processor.count_tokens(width, height) == 4 * tiles
    assert processor.position_ids(torch.tensor([5, 6, 7]), iter([])).tolist() == [0, 1, 2]
    assert replace(processor, min_tiles=3).count_tokens(50, 50) == 4 * (4 + thumbnail)


def normalize(square: Image.Image) -> np.ndarray:
    return ((np.asarray(square) / 255 - MEAN) / STD).transpose(2, 0, 1)[None]


@pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40), (50, 50), (300, 17)])
def test_llava_pads_with_the_mean_color(height: int, width: int) -> None:
    processor = build("llava")
    side, cells = processor.side, processor.cells
    image, square = noise(height, width), max(height, width)
    canvas = Image.new("RGB", (square, square), tuple(int(mean * 255) for mean in MEAN))
    left, top = (square - width) // 2, (square - height) // 2
    canvas.paste(Image.fromarray(image), (left, top))
    prepared = processor(image)
    expected = normalize(canvas.resize((side, side), Image.Resampling.BICUBIC))
    assert (prepared.pixels.dtype, prepared.pixels.shape) == (torch.float32, (1, 3, side, side))
    assert np.abs(prepared.pixels.numpy() - expected).max() < 1e-5
    grid = Grid(Span(cells, height, height, -top, square), Span(cells, width, width, -left, square))
    assert prepared.grid == (1, cells, cells)
    assert prepared.geometry == Geometry((height, width), (grid,))
    assert prepared.num_tokens == processor.count_tokens(width, height) == cells**2
    assert processor.position_ids(torch.tensor([5, 6, 7]), iter([])).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40), (50, 50), (120, 51)])
def test_llava_crops_the_middle(height: int, width: int) -> None:
    processor = build("llava", fit="crop")
    side, cells = processor.side, processor.cells
    image = noise(height, width)
    tall, wide = side * height // min(height, width), side * width // min(height, width)
    top, left = (tall - side) // 2, (wide - side) // 2
    resized = Image.fromarray(image).resize((wide, tall), Image.Resampling.BICUBIC)
    prepared = processor(image)
    expected = normalize(resized.crop((left, top, left + side, top + side)))
    assert np.abs(prepared.pixels.numpy() - expected).max() < 1e-5
    grid = Grid(Span(cells, height, tall, top, side), Span(cells, width, wide, left, side))
    assert prepared.geometry == Geometry((height, width), (grid,))


def test_llava_class_token_stands_for_no_part_of_the_image() -> None:
    config = tiny_config("llava")
    config.vision_feature_select_strategy = "full"
    processor = build_image_processor(config, {})
    prepared = processor(noise(40, 60))
    assert prepared.num_tokens == processor.count_tokens(60, 40)
    cells = math.isqrt(prepared.num_tokens - 1)
    assert prepared.num_tokens == cells**2 + 1
    assert [grid.num_tokens for grid in prepared.geometry.grids] == [1, cells**2]
    covered = prepared.geometry.token_mask(torch.ones(1, 40, 60))[0]
    assert not covered[0]
    assert covered[1:].any()


def test_llava_vision_towers() -> None:
    config = tiny_config("llava")
    config.vision_config.image_size = (config.vision_config.patch_size * 3, 1)
    assert build_image_processor(config, {}).cells == 3  # type: ignore[attr-defined]
    config.vision_config.image_size = 30
    config.vision_config.patch_size = 14
    with pytest.raises(ValueError) as caught:
        build_image_processor(config, {})
    assert str(caught.value) == "vision_config.image_size: 30; expected a multiple of patch_size 14"
    config.vision_config.model_type = "siglip_vision_model"
    with pytest.raises(ValueError) as caught:
        build_image_processor(config, {})
    towers = "clip_vision_model or colva_expert_tower"
    assert str(caught.value) == f"vision_config.model_type: 'siglip_vision_model'; expected {towers}"
    config.vision_config.model_type, config.vision_config.image_size = "colva_expert_tower", 28
    config.vision_feature_select_strategy = "full"
    processor = build_image_processor(config, {})
    assert not processor.class_token  # type: ignore[attr-defined]
    gray = np.full((40, 40, 3), 128, np.uint8)
    expected = (128 / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert processor(gray).pixels[0, :, 3, 5].numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40), (50, 50), (300, 17)])
def test_llava_onevision_is_transformers_own_of_several_images(height: int, width: int) -> None:
    processor = build("llava_onevision")
    image = noise(height, width)
    half_gray = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}  # as in the published preprocessor_config.json
    native = LlavaOnevisionImageProcessor(size={"height": 30, "width": 30}, **half_gray)
    expected = native([[image, image]], return_tensors="pt")["pixel_values"]
    prepared = processor(image)
    assert np.abs(prepared.pixels.numpy() - expected.flatten(0, -4)[:1].numpy()).max() < 1e-5
    # 4 x 4 patches of 7 pixels of a square of 30, and a newline
    assert prepared.num_tokens == processor.count_tokens(width, height) == 17
    covered = prepared.geometry.token_mask(torch.ones(1, height, width), 0.5, fill_empty=True)[0]
    assert covered.any() and not covered[16]
    if height == width:
        half = torch.zeros(1, height, width)
        half[:, :, : round(width * 14 / 30)] = 1  # two of the patches a row
        assert prepared.geometry.token_mask(half, 0.5)[0][:16].view(4, 4).tolist() == [[True, True, False, False]] * 4


def test_llava_onevision_towers() -> None:
    config = tiny_config("llava_onevision")
    config.vision_feature_select_strategy = "default"
    with pytest.raises(ValueError, match="vision_feature_select_strategy: 'default'; expected full"):
        build_image_processor(config, {})
    config.vision_config.model_type = "clip_vision_model"
    with pytest.raises(ValueError, match="'clip_vision_model'; expected siglip_vision_model"):
        build_image_processor(config, {})
    with pytest.raises(OptionError, match="pictures must be empty; got fit"):
        build("llava_onevision", fit="pad")


@pytest.mark.parametrize("family", QWEN)
@pytest.mark.parametrize(("height", "width"), [(60, 100), (33, 71), (200, 40), (500, 500)])
def test_qwen_patches(family: str, height: int, width: int) -> None:
    config = tiny_config(family)
    patch, merge = config.vision_config.patch_size, config.vision_config.spatial_merge_size
    side, low, high = patch * merge, 3000, 40_000
    processor = build(family, min_pixels=low, max_pixels=high)
    rows, columns = max(round(height / side), 1), max(round(width / side), 1)
    if rows * columns * side**2 > high:
        shrink = math.sqrt(height * width / high)
        rows, columns = (max(1, math.floor(length / shrink / side)) for length in (height, width))
    elif rows * columns * side**2 < low:
        grow = math.sqrt(low / (height * width))
        rows, columns = (math.ceil(length * grow / side) for length in (height, width))
    image = noise(height, width)
    prepared = processor(image)
    assert prepared.grid == (1, rows * merge, columns * merge)
    assert prepared.num_tokens == processor.count_tokens(width, height) == rows * columns
    grid = Grid(Span(rows, height, rows * side), Span(columns, width, columns * side))
    assert prepared.geometry == Geometry((height, width), (grid,))
    mean, std = (0.5, 0.5) if family == "qwen3_vl" else (MEAN, STD)
    resized = Image.fromarray(image).resize((columns * side, rows * side), Image.Resampling.BICUBIC)
    pixels = ((np.asarray(resized) / 255 - mean) / std).transpose(2, 0, 1)
    # rows and columns of tokens, rows and columns of their patches, channels, repeated frames, pixels
    pixels = pixels.reshape(3, rows, merge, patch, columns, merge, patch).transpose(1, 4, 2, 5, 0, 3, 6)
    pixels = np.stack([pixels] * config.vision_config.temporal_patch_size, axis=5)
    assert prepared.pixels.dtype == torch.float32
    assert np.abs(prepared.pixels.numpy() - pixels.reshape(len(prepared.pixels), -1)).max() < 1e-5


def test_qwen_bounds_are_the_published_ones() -> None:
    bounds = {family: build(family).processor.size for family in QWEN}
    assert bounds["qwen2_vl"]["shortest_edge"] == bounds["qwen2_5_vl"]["shortest_edge"] == 56 * 56
    assert (bounds["qwen3_vl"]["shortest_edge"], bounds["qwen3_vl"]["longest_edge"]) == (65536, 16777216)
    chosen = build("qwen3_vl", max_pixels=100_000).processor.size
    assert (chosen["shortest_edge"], chosen["longest_edge"]) == (65536, 100_000)


def test_qwen_positions_are_those_of_the_image_tokens() -> None:
    config = tiny_config("qwen2_vl")
    processor = build("qwen2_vl", min_pixels=3000, max_pixels=40_000)
    prepared = processor(noise(60, 100))
    rows, columns = prepared.grid[1] // 2, prepared.grid[2] // 2
    ids = torch.tensor([5, *[config.image_token_id] * prepared.num_tokens, 6])
    positions = processor.position_ids(ids, iter([prepared.grid]))
    inner = [[1, 1 + row, 1 + column] for row in range(rows) for column in range(columns)]
    assert positions.T.tolist() == [[0] * 3, *inner, [1 + max(rows, columns)] * 3]


@pytest.mark.parametrize("family", ["internvl", "llava", "qwen2_vl"])
def test_images_of_another_shape_are_refused(family: str) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[height, width, 3\]"):
        build(family)(np.zeros((40, 40), np.uint8))
