"""The published evaluation written out as a judge, from the files of a benchmark alone.

After GitHub zhouyiks/MMVMEvalKit, vlmeval/vlm/colva (``internvl_matcher.py``, ``qwen2vl_matcher.py``,
``conversation.py``): what its two players give the model for one row of the table.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco
from torch.nn.functional import interpolate

OBJECT = "<VPT_CONTEXT>"
SYSTEM = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"  # noqa: RUF001
GENERATION = {"internvl": {"max_new_tokens": 1024, "stop": ["<|end|>"]}, "qwen2vl": {"max_new_tokens": 512}}


@dataclass(frozen=True)
class Inputs:
    """What a player gives the model; ``text`` has one ``<image>`` an image.

    Attributes:
        images: uint8 `[H, W, 3]`: InternVL's tiles of all images in order, Qwen2-VL's squares.
        counts: InternVL's tiles of each image.
        canvases: uint8, the expert's, one an image.
        cells: bool `[n, 64 * 64]`, the expert's tokens of the objects of each image.
    """

    text: str
    images: list[NDArray[np.uint8]]
    counts: list[int]
    canvases: list[NDArray[np.uint8]]
    cells: list[NDArray[np.bool_]]


def play(folder: Path, row: dict[str, Any], family: str) -> Inputs:
    """The inputs of a row of the table."""
    names = ast.literal_eval(row["image_path"])
    drawn = [Image.open(folder / name).convert("RGB") for name in names]
    items = [json.loads((folder / name).with_suffix(".json").read_text()) for name in names]
    masks = [[bitmap(of[0])] for of in items[:-1]]
    last = sorted(items[-1], key=lambda item: item["id"])
    masks.append([bitmap(item) for item in last])
    lines = "".join(f"Objects in Image-{k}: <query object>{OBJECT}\n" for k in range(1, len(names)))
    listed = ", ".join(f"<object-{item['id']}>{OBJECT}" for item in last)
    lines += f"Objects in Image-{len(names)}: {listed}.\n"
    clean = [Image.open((folder / name).with_name(Path(name).name[:7] + "_ORI.jpg")) for name in names]
    canvases = [square(image.convert("RGB"), 255) for image in clean]
    cells = [np.stack([expert_cells(mask) for mask in of]) for of in masks]
    numbers = range(1, len(names) + 1)
    if family == "qwen2vl":
        shown = "".join(f"Image-{k}: <image>" for k in numbers)
        text = (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\n{shown}{lines}{row['question']}<|im_end|>\n<|im_start|>assistant\n"
        )
        return Inputs(text, [square(image, 0) for image in drawn], [], canvases, cells)
    shown = "\n".join(f"Image-{k}: <image>" for k in numbers) + "\n"
    repeated = "".join(f"<Image-{k}>" for k in numbers)
    text = f"<|system|>\n{SYSTEM}<|end|><|user|>\n{shown}{lines}{repeated}{row['question']}<|end|><|assistant|>\n"
    cut = [tiles(image) for image in drawn]
    return Inputs(text, [tile for of in cut for tile in of], [len(of) for of in cut], canvases, cells)


def bitmap(item: dict[str, Any]) -> NDArray[np.uint8]:
    """Pixels of exactly one polygon; polygons of odd length or fewer than three points are left out."""
    polygons = [np.array(p) for p in item["segmentation"] if len(p) % 2 == 0 and len(p) >= 6]
    if not polygons:
        return np.zeros((item["height"], item["width"]), np.uint8)
    layers = coco.decode(coco.frPyObjects(polygons, item["height"], item["width"]))
    return np.asarray(layers.astype(int).sum(axis=2) == 1, np.uint8)


def square(image: Image.Image, fill: int) -> NDArray[np.uint8]:
    """The long side 1024, the short one rounded down, the rest one gray."""
    width, height = image.size
    size = (1024, int(height / width * 1024)) if width > height else (int(width / height * 1024), 1024)
    canvas = np.full((1024, 1024, 3), fill, np.uint8)
    canvas[: size[1], : size[0]] = np.asarray(image.resize(size))
    return canvas


def expert_cells(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Padded to a square, bilinear to 1024, bilinear to 64, above 0.55."""
    side = max(mask.shape)
    padded = torch.zeros(1, 1, side, side)
    padded[0, 0, : mask.shape[0], : mask.shape[1]] = torch.from_numpy(mask)
    large = interpolate(padded, size=(1024, 1024), mode="bilinear")
    return np.asarray(interpolate(large, size=(64, 64), mode="bilinear").flatten() > 0.55)


def tiles(image: Image.Image, side: int = 448, most: int = 6) -> list[NDArray[np.uint8]]:
    """InternVL's tiles: the nearest ratio, of equal ones the last whose half area the image exceeds; a thumbnail."""
    grids = sorted(
        {(i, j) for n in range(1, most + 1) for i in range(1, n + 1) for j in range(1, n + 1) if i * j <= most},
        key=lambda grid: grid[0] * grid[1],
    )
    width, height = image.size
    nearest, (columns, rows) = float("inf"), (1, 1)
    for i, j in grids:
        distance = abs(width / height - i / j)
        if distance < nearest:
            nearest, columns, rows = distance, i, j
        elif distance == nearest and width * height > 0.5 * side * side * i * j:
            columns, rows = i, j
    sheet = np.asarray(image.resize((columns * side, rows * side)))
    cut = [
        sheet[r * side : (r + 1) * side, c * side : (c + 1) * side].copy() for r in range(rows) for c in range(columns)
    ]
    return [*cut, np.asarray(image.resize((side, side)))] if len(cut) > 1 else cut
