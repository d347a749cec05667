"""Data loading of stage 1 compared with a plain recipe, and the time that training waits; prints one JSON object.

1. Loading: pairs per second from generated images like those of SA-1B (2250 x 1500, 80 masks each), published
   augmentation, tensors for InternVL2 with up to 6 tiles and an expert of 1024 pixels, in one process. The plain
   recipe produces the same views and image tensors, and processes masks like the published code: object by object, a
   bitmap of the full image is resized, cropped, mirrored, rotated, padded, cut into tiles and resized to each token
   grid. Limit: at least 1.5 times as fast.
2. Waiting: the share of the time that training waits for data, with two workers and a step of one pair that takes
   `--step` seconds. Limit: below 10 %. The step sleeps, like a GPU that computes while the two cores load.
3. Memory of a process of each published run, counted from the networks' shapes (see colva.training.estimate).

Both sides of 1 are timed alternately in one process.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import emit, machine, seconds
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import CONFIG_MAPPING

from colva.checkpoints.checkpoint import meta_model
from colva.data.order import keyed_rng
from colva.data.pairs import PairSource
from colva.data.pseudo_video import EncoderSpec, PairDataset, PairOptions, collate_pairs, open_pair_sources
from colva.model.alignment import AlignmentModel
from colva.model.config import ColvaConfig
from colva.model.experts import default_config
from colva.processing.image_processors.internvl import InternVLImageProcessor
from colva.processing.tiling import tile_grid
from colva.training.estimate import estimate_memory
from colva.training.loader import BatchSharding, training_loader
from colva.training.stage import Stage
from colva.training.stage1 import estimate_adapter_activations
from mmvm_data.core import augment, masks
from mmvm_data.core.errors import Reject
from mmvm_data.core.types import Frame
from mmvm_data.io import media

LOADING_LIMIT, WAITING_LIMIT = 1.5, 0.10
TILES = 6
IMAGE_PROCESSOR = InternVLImageProcessor(448, 16, TILES)
ENCODERS = EncoderSpec(IMAGE_PROCESSOR, 1024, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--objects", type=int, default=80)
    parser.add_argument("--width", type=int, default=2250)
    parser.add_argument("--height", type=int, default=1500)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--step", type=float, default=1.0, help="seconds of the toy step, for one pair")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        root = Path(scratch)
        make_images(root, arguments)
        options = PairOptions(sources=(PairSource(kind="sa1b", root=root),), held_out_share=0.0)
        data = PairDataset(open_pair_sources(options), ENCODERS, 0, options)
        record: dict[str, Any] = {"machine": machine() | {"torch": torch.__version__}}
        record["loading"] = measure_loading(data, root, arguments.runs)
        record["waiting"] = measure_waiting(data, arguments.steps, arguments.step)
    if not arguments.no_memory:
        record["memory_mb"] = estimate_published_memory()
    emit(record, arguments.out)


def make_images(root: Path, arguments: argparse.Namespace) -> None:
    """Images of noise with ellipses of the sizes that SA-1B's masks have: most are small, some cover the image."""
    rng = np.random.default_rng(0)
    height, width = arguments.height, arguments.width
    for number in range(arguments.images):
        image = cv2.resize(rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8), (width, height))
        entries = []
        for k in range(arguments.objects):
            bitmap = np.zeros((height, width), np.uint8)
            size = height * 0.45 * rng.random() ** 2 + 12
            axes = (int(size), int(size * rng.uniform(0.4, 1)))
            center = (int(rng.integers(width)), int(rng.integers(height)))
            cv2.ellipse(bitmap, center, axes, float(rng.integers(180)), 0, 360, 1, -1)
            rle = masks.encode(bitmap)
            entries.append({"id": k, "segmentation": {"size": list(rle.size), "counts": rle.counts}})
        content = {"image": {"width": width, "height": height, "file_name": f"sa_{number}.jpg"}, "annotations": entries}
        (root / f"sa_{number}.json").write_text(json.dumps(content))
        cv2.imwrite(str(root / f"sa_{number}.jpg"), image)


def measure_loading(data: PairDataset, root: Path, runs: int) -> dict[str, Any]:
    count = len(data)
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for run in range(runs):
        ordinals = [run * count + k for k in range(count)]
        times["ours"].append(seconds(lambda chosen=ordinals: [data[k] for k in chosen]))  # type: ignore[misc]
        times["plain"].append(seconds(lambda chosen=ordinals: [load_pair_plainly(data, root, k) for k in chosen]))  # type: ignore[misc]
    middle = {name: float(np.median(values)) / count for name, values in times.items()}
    ratio = middle["plain"] / middle["ours"]
    return {
        "seconds_a_pair": {name: round(value, 4) for name, value in middle.items()},
        "cells_that_differ": share_of_different_cells(data, root),
        "ratio": round(ratio, 3),
        "limit": LOADING_LIMIT,
        "met": ratio >= LOADING_LIMIT,
    }


def share_of_different_cells(data: PairDataset, root: Path) -> float:
    """Share of an object's tokens in which the two ways differ: the plain one rounds twice, once per resize."""
    item = data[0]
    assert not isinstance(item, Reject)
    different = covered = 0
    for side, (_, _, expert, keys) in zip(item.sides, load_pair_plainly(data, root, 0), strict=True):
        for ours, theirs in ((side.expert_cells, expert), (side.key_cells, keys)):
            different += int((ours != theirs).sum())
            covered += int(ours.sum())
    return round(different / max(covered, 1), 4)


def load_pair_plainly(data: PairDataset, root: Path, ordinal: int) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Both frames of the same pair: canvas, tiles, and each object's tokens, with a loop over objects."""
    _, name = data.locate(ordinal)
    content = json.loads((root / f"{name}.json").read_text())
    facts = content["image"]
    frame = Frame(path=facts["file_name"], index=0, width=facts["width"], height=facts["height"])
    image = media.read_frame_bgr(root, frame)
    # the same random numbers, and so the same views
    views = augment.sample_views("published", frame.width, frame.height, keyed_rng("stage 1", 0, ordinal))
    frames = []
    for view in views:
        rgb = np.ascontiguousarray(augment.render_view(view, image)[:, :, ::-1])
        tiles = IMAGE_PROCESSOR(rgb).pixels
        canvas = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
        expert, keys = [], []
        for entry in content["annotations"]:
            rle = masks.from_counts(entry["segmentation"]["counts"], entry["segmentation"]["size"])
            moved = torch.from_numpy(warp_mask(view, masks.decode(rle)))
            expert.append((F.interpolate(moved[None, None].float(), (64, 64), mode="bilinear") > 0.55).flatten())
            keys.append(pool_tiles(moved))
        frames.append((canvas, tiles, torch.stack(expert), torch.stack(keys)))
    return frames


def warp_mask(view: augment.ViewTransform, bitmap: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One mask through a view by OpenCV, in full, uint8 [1024, 1024]."""
    x, y, w, h = view.crop_box
    mask = cv2.resize(bitmap, view.resize_to, interpolation=cv2.INTER_NEAREST)[y : y + h, x : x + w]
    mask = cv2.resize(mask, view.content_size, interpolation=cv2.INTER_NEAREST)
    if view.hflip:
        mask = np.ascontiguousarray(mask[:, ::-1])
    center = (view.center[0] * view.content_size[0], view.center[1] * view.content_size[1])
    turn = cv2.getRotationMatrix2D(center, view.degrees, 1.0)
    mask = cv2.warpAffine(mask, turn, view.content_size, flags=cv2.INTER_NEAREST)
    padded = np.zeros((augment.SIZE, augment.SIZE), np.uint8)
    padded[: view.content_size[1], : view.content_size[0]] = mask
    return padded


def pool_tiles(mask: Tensor) -> Tensor:
    """The tokens that one mask covers: resized to the tiles, cut, each tile pooled; the thumbnail last."""
    columns, rows = tile_grid(mask.shape[1], mask.shape[0], TILES)
    sheet = F.interpolate(mask[None, None].float(), (rows * 448, columns * 448), mode="nearest-exact")
    pieces = [
        sheet[:, :, r * 448 : r * 448 + 448, c * 448 : c * 448 + 448] for r in range(rows) for c in range(columns)
    ]
    if len(pieces) > 1:
        pieces.append(F.interpolate(mask[None, None].float(), (448, 448), mode="nearest-exact"))
    return torch.cat([(F.interpolate(piece, (16, 16), mode="bilinear") > 0.55).flatten() for piece in pieces])


def measure_waiting(data: PairDataset, steps: int, step: float) -> dict[str, Any]:
    """Time waited for the next batch over all time, first batch (workers' start) left out."""
    stage = Stage(torch.nn.Identity(), data, None, collate_pairs, lambda b: 1, None, None, None)  # type: ignore[arg-type]
    loader = iter(training_loader(stage, BatchSharding(1, 1, 1, 0), steps + 1, 2, False))
    next(loader)
    waited, start = 0.0, time.perf_counter()
    for _ in range(steps):
        time.sleep(step)
        before = time.perf_counter()
        next(loader)
        waited += time.perf_counter() - before
    share = waited / (time.perf_counter() - start)
    return {
        "workers": 2,
        "step_seconds": step,
        "share": round(share, 4),
        "limit": WAITING_LIMIT,
        "met": share < WAITING_LIMIT,
    }


def estimate_published_memory() -> dict[str, Any]:
    """MiB of one process of each published run, for one and for eight pairs at a time."""
    vision = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096, "num_attention_heads": 16}
    phi3 = {
        "model_type": "phi3",
        "hidden_size": 3072,
        "num_hidden_layers": 32,
        "intermediate_size": 8192,
        "pad_token_id": 0,
    }
    families = {
        "internvl2-4b": CONFIG_MAPPING["internvl"](vision_config=vision, text_config=phi3),
        "qwen2-vl-2b": CONFIG_MAPPING["qwen2_vl"](
            vision_config={"hidden_size": 1536}, **qwen_fields(1536, 28, 8960, 12, 2)
        ),
        "qwen2-vl-7b": CONFIG_MAPPING["qwen2_vl"](
            vision_config={"hidden_size": 3584}, **qwen_fields(3584, 28, 18944, 28, 4)
        ),
    }
    runs = [("internvl2-4b", kind) for kind in ("radio", "dinov2", "convnextv2")]
    runs += [("qwen2-vl-2b", "radio"), ("qwen2-vl-7b", "radio")]
    memory = {}
    for family, expert in runs:
        side = 1022 if expert == "dinov2" else 1024
        config = ColvaConfig(families[family], {"kind": expert, **default_config(expert)}, expert_side=side)
        model = AlignmentModel(meta_model(config))
        for part in (model.colva.expert, *model.colva.backbone.frozen_parts):
            assert part is not None
            part.to(torch.bfloat16)
        for micro in (1, 8):
            stage = Stage(
                model, [], None, collate_pairs, lambda b: 1, None, None, None,  # type: ignore[arg-type]
                estimate_activation_bytes=lambda items, model=model, side=side: estimate_adapter_activations(  # type: ignore[misc]
                model, side, items
            ),
            )  # fmt: skip
            memory[f"{family} {expert}, {micro} at a time"] = estimate_memory(stage, micro, 1, 0)
    return memory


def qwen_fields(width: int, layers: int, inner: int, heads: int, keys: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
    }


if __name__ == "__main__":
    main()
