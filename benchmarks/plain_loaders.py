"""The published loaders' way to prepare a sample, written plainly from its description (arXiv 2501.04670).

Stage 2: each image is read by Pillow, every mask is decoded in full, marks are drawn along the contours of whole
bitmaps, tiles are cut from one resized image one by one and normalized as float32, and the expert's canvas is prepared
in each step, with each mask resized to it and then to its tokens. Stage 1: image and all masks go through the steps
that both views share, then each view rotates image and masks, object by object, and both encoders' tokens are
pooled from bitmaps. No cache, no crops, no uint8.

The images equal the product's to the pixel, which `feed.py` checks before it measures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from draw import draw_candidates_plainly, draw_query_plainly
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from stage1 import pool_tiles
from torch import Tensor
from torch.nn import functional as F

from colva.data.sft import CasePrompt, list_regions
from colva.processing.collator import Processor
from colva.processing.tiling import tile_grid
from mmvm_data.cases import render
from mmvm_data.core import augment
from mmvm_data.core.types import Region

TILE, SIDE, TOKENS = 448, 1024, 64
MEAN, STD = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)  # of ImageNet, as for InternVL
THRESHOLD = 0.55


def load_case_plainly(prompt: CasePrompt, root: Path, processor: Processor, max_tiles: int) -> dict[str, Any]:
    """A case as tensors: token ids and labels, and for each image float32 tiles, canvas and its objects' tokens."""
    case = prompt.case
    images: list[tuple[Tensor, Tensor, Tensor]] = []
    for position, frame in enumerate(case.frames):
        image = np.asarray(Image.open(root / frame.path).convert("RGB"))
        shown = [candidate.region for candidate in case.candidates]
        if position < len(case.query):
            query = decode_plainly(case.query[position])
            drawn = (
                image if prompt.variant.clean else draw_query_plainly(image, query, render.COLORS[prompt.variant.color])
            )
        else:
            bitmaps = [decode_plainly(region) for region in shown]
            colors = list(prompt.palette or render.distinct_colors(len(shown) + 1))
            numbers = [candidate.number for candidate in case.candidates]
            drawn = image if prompt.variant.clean else draw_candidates_plainly(image, bitmaps, numbers, colors)
        objects = [decode_plainly(region) for region in list_regions(case, position)]
        images.append((cut_tiles_plainly(drawn, max_tiles), *place_on_canvas(image, objects)))
    counts = [len(tiles) * 256 for tiles, _, _ in images]
    num_objects = sum(len(cells) for _, _, cells in images)
    turns = prompt.build_turns(processor.prompt_style)
    encoding = processor.vocabulary.encode(turns, processor.template, counts, num_objects)
    return {"ids": encoding.ids, "labels": encoding.labels, "images": images}


def decode_plainly(region: Region) -> NDArray[np.uint8]:
    """The bitmap of a region with a mask."""
    assert region.mask is not None
    return np.asarray(coco_mask.decode({"size": list(region.mask.size), "counts": region.mask.counts.encode()}))


def cut_tiles_plainly(image: NDArray[np.uint8], max_tiles: int) -> Tensor:
    """Normalized float32 tiles `[t, 3, 448, 448]` and a thumbnail, cropped and converted one by one."""
    full = Image.fromarray(image)
    columns, rows = tile_grid(full.width, full.height, max_tiles)
    sheet = full.resize((columns * TILE, rows * TILE), Image.Resampling.BICUBIC)
    corners = [(TILE * (k % columns), TILE * (k // columns)) for k in range(columns * rows)]
    tiles = [sheet.crop((x, y, x + TILE, y + TILE)) for x, y in corners]
    if len(tiles) > 1:
        tiles.append(full.resize((TILE, TILE), Image.Resampling.BICUBIC))
    return torch.stack([normalize_plainly(tile) for tile in tiles])


def normalize_plainly(tile: Image.Image) -> Tensor:
    """A float32 tensor `[3, h, w]` of an image in [0, 1], less the mean and over the deviation of each channel."""
    values = (np.asarray(tile).astype(np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def place_on_canvas(image: NDArray[np.uint8], bitmaps: list[NDArray[np.uint8]]) -> tuple[Tensor, Tensor]:
    """The expert's canvas, float32 `[3, 1024, 1024]` in [0, 1], and the tokens of each object, bool `[n, 4096]`."""
    scale = SIDE / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    canvas = np.full((SIDE, SIDE, 3), 255, np.uint8)
    canvas[:height, :width] = resized
    cells = []
    for bitmap in bitmaps:
        mask = torch.zeros(1, 1, SIDE, SIDE)
        full = torch.from_numpy(bitmap)[None, None].float()
        mask[:, :, :height, :width] = F.interpolate(full, (height, width), mode="nearest-exact")
        cells.append(pool_canvas(mask))
    pixels = torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1))).float() / 255
    return pixels, torch.stack(cells) if cells else torch.zeros(0, TOKENS**2, dtype=torch.bool)


def pool_canvas(mask: Tensor) -> Tensor:
    """The tokens that a mask `[1, 1, 1024, 1024]` covers on the expert's canvas: bool `[4096]`."""
    return (F.interpolate(mask, (TOKENS, TOKENS), mode="bilinear") > THRESHOLD).flatten()


def load_pair_plainly(
    root: Path, name: str, views: list[augment.ViewTransform], max_tiles: int
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Two views of an image of SA-1B: for each the canvas, the tiles, and each object's tokens of both encoders."""
    content = json.loads((root / f"{name}.json").read_text())
    image = np.asarray(Image.open(root / content["image"]["file_name"]).convert("RGB"))
    bitmaps = []
    for entry in content["annotations"]:
        counts, size = entry["segmentation"]["counts"], entry["segmentation"]["size"]
        bitmaps.append(np.asarray(coco_mask.decode({"size": size, "counts": counts.encode()})))
    shared = move_plainly(views[0], image, None)
    shared_masks = [move_plainly(views[0], bitmap, cv2.INTER_NEAREST) for bitmap in bitmaps]
    frames = []
    for view in views:
        moved = turn_plainly(view, shared, cv2.INTER_LINEAR, augment.PADDING)
        expert, keys = [], []
        for bitmap in shared_masks:
            mask = torch.from_numpy(turn_plainly(view, bitmap, cv2.INTER_NEAREST, 0))
            expert.append(pool_canvas(mask[None, None].float()))
            keys.append(pool_tiles(mask))
        canvas = torch.from_numpy(np.ascontiguousarray(moved.transpose(2, 0, 1))).float() / 255
        frames.append((canvas, cut_tiles_plainly(moved, max_tiles), torch.stack(expert), torch.stack(keys)))
    return frames


def move_plainly(view: augment.ViewTransform, image: NDArray[np.uint8], method: int | None) -> NDArray[np.uint8]:
    """The steps that the views of an image share: resize, crop, resize, flip; ``method`` None as for images."""
    x, y, w, h = view.crop_box
    moved = resize_plainly(
        resize_plainly(image, view.resize_to, method)[y : y + h, x : x + w], view.content_size, method
    )
    return np.ascontiguousarray(moved[:, ::-1]) if view.hflip else moved


def resize_plainly(image: NDArray[np.uint8], size: tuple[int, int], method: int | None) -> NDArray[np.uint8]:
    if (image.shape[1], image.shape[0]) == size:
        return image
    if method is None:
        method = cv2.INTER_AREA if size[0] * size[1] < image.shape[0] * image.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def turn_plainly(view: augment.ViewTransform, image: NDArray[np.uint8], method: int, padding: int) -> NDArray[np.uint8]:
    """A view's own rotation, then padding right and below."""
    width, height = view.content_size
    # as pixel edges are rotated; OpenCV counts from the centers of pixels
    center = view.center[0] * width - 0.5, view.center[1] * height - 0.5
    turn = cv2.getRotationMatrix2D(center, view.degrees, 1.0)
    border = (padding,) * 3
    turned = cv2.warpAffine(
        image, turn, view.content_size, flags=method, borderMode=cv2.BORDER_CONSTANT, borderValue=border
    )
    padded = np.full((augment.SIZE, augment.SIZE, *image.shape[2:]), padding, np.uint8)
    padded[:height, :width] = turned
    return padded
