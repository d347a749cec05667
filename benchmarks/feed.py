"""Feeding a GPU: what the data paths of both stages prepare per core, and how many cores a node of 8 GPUs needs.

1. Stage 2: a case as training asks about it, from its record to drawn images, tiles, token ids and object embeddings
   from the cache; the same with canvases and masks for the expert in place of the cache; and the published loaders' way
   (`plain_loaders.py`), which has no cache. Generated videos of 1280 x 720, InternVL2's tiles (12 at most).
2. Stage 1: an image with its masks to two views, canvases, tiles (6 at most) and tokens, and the published way.
   Images of 2250 x 1500 with 80 masks, like those of SA-1B.
3. The object cache: images read for it a core-second, and, with workers that read ahead and an expert that takes as
   long as the estimate says, images a second and the share of the time that the expert waits.
4. Cores: samples a second that one GPU takes, from the operations of a step (counted from the shapes of InternVL2-4B
   with RADIO v2.1) at `--tflops` and `--utilization`, over samples a core-second. Limit: 4 cores a GPU.

Rates are in processor time of one thread, both sides alternate in one process, and ratios are medians over samples;
`clock_ms` and `over_product_by_clock` say the same by the clock, which other work on the machine disturbs.
That both sides prepare the same images, ids and labels is checked first. Prints one JSON object.

    python benchmarks/feed.py --out benchmarks/results/feed.json
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import emit, machine
from plain_loaders import MEAN, STD, load_case_plainly, load_pair_plainly
from stage1 import make_images, qwen_fields
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import CONFIG_MAPPING

from colva.checkpoints.checkpoint import meta_model
from colva.checkpoints.init_tiny import FAMILIES, build_tiny_tokenizer
from colva.checkpoints.load import make_processor
from colva.data.cache_builder import CanvasSpec, fill_object_cache
from colva.data.mixture import Mixture, SftOptions, open_record_sources
from colva.data.object_cache import ObjectCache
from colva.data.order import keyed_rng
from colva.data.pairs import PairSource
from colva.data.prompt_variants import make_prompt_variants
from colva.data.pseudo_video import EncoderSpec, PairDataset, PairItem, PairOptions, open_pair_sources
from colva.data.record_reader import SftSource
from colva.model.colva import ColvaModel
from colva.model.config import ColvaConfig
from colva.model.experts import default_config
from colva.processing.collator import Sample
from colva.processing.image_processors.internvl import InternVLImageProcessor
from colva.training.cached_objects import CacheLookup
from colva.training.cost import estimate_step_flops
from colva.training.lora import LoraOptions, add_lora
from colva.training.rows import RowDataset, SamplePreparer
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core import augment
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.synth.writer import SynthOptions, generate

CORES_LIMIT = 4.0
GPUS = 8
MAX_TILES, PAIR_TILES = 12, 6
WIDTH = 3072  # of InternVL2-4B's language model
EXPERT = {"kind": "radio", **default_config("radio")}
EXPERT_BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--cases", type=int, default=8, help="of each video")
    parser.add_argument("--images", type=int, default=3, help="of stage 1")
    parser.add_argument("--image-size", type=int, nargs=2, default=(2250, 1500), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--objects", type=int, default=80, help="masks of an image of stage 1")
    parser.add_argument("--runs", type=int, default=3, help="of stage 1, each with other views")
    parser.add_argument("--tflops", type=float, default=989.0, help="of a GPU, dense bf16; 989 is an H100's or H200's")
    parser.add_argument("--utilization", type=float, default=0.4, help="share of them that a step reaches (assumed)")
    parser.add_argument("--workers", type=int, default=1, help="that read for the object cache")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    flops_per_s = arguments.tflops * 1e12 * arguments.utilization
    record: dict[str, Any] = {"machine": machine() | {"torch": torch.__version__, "opencv": cv2.__version__}}
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        record |= measure_stage2(Path(scratch), arguments, flops_per_s)
        record["stage1"] = measure_stage1(Path(scratch) / "images", arguments, flops_per_s)
    record["gpu"] = {"tflops": arguments.tflops, "utilization": arguments.utilization}
    emit(record, arguments.out)


def measure_stage2(scratch: Path, arguments: argparse.Namespace, flops_per_s: float) -> dict[str, Any]:
    """The parts `stage2` and `object_cache` of the record."""
    width, height = arguments.size
    options = SynthOptions(videos=arguments.videos, frames=8, width=width, height=height, objects=(5, 9), seed=1)
    generate(scratch / "videos", options)
    sampling = SamplingOptions(seed=1, cases_per_video=arguments.cases, none_share=0.0, min_sharpness=0.0)
    build("ytvos", scratch / "videos", scratch / "bench", BuildOptions(sampling))
    data_options = SftOptions(sources=(SftSource(kind="build", path=scratch / "bench"),), packing=False)
    readers = open_record_sources(data_options, scratch / "cache")
    model = make_model()
    spec = CanvasSpec(1024, 16, 0.55, True)
    cache_record = measure_cache(scratch, readers, spec, model, arguments, flops_per_s)

    processor = make_processor(make_config(), build_tiny_tokenizer(FAMILIES["internvl2-phi3"]))
    mixture = Mixture(readers, data_options, make_prompt_variants(True), seed=0)
    lookup = CacheLookup(scratch / "objects", WIDTH)
    cached, uncached = (
        RowDataset(mixture, SamplePreparer(processor, True, found, 8192), None) for found in (lookup, None)
    )
    items = mixture.epoch_items()
    order = np.random.default_rng([0, 0]).permutation(len(items))  # as `RowDataset` orders an epoch

    def load_plainly(ordinal: int) -> dict[str, Any]:
        index = int(order[ordinal])
        variant = mixture.variants.variants[int(items.variant[index])]
        prompt = readers[0].make_prompt(int(items.record[index]), variant, mixture.item_key(items, index, 0))
        return load_case_plainly(prompt, scratch / "bench", processor, MAX_TILES)

    samples = [take_sample(cached, ordinal) for ordinal in range(len(items))]
    check_case(take_sample(uncached, 0), load_plainly(0))
    sides: dict[str, Callable[[int], Any]] = {
        "product": partial(take_sample, cached),
        "without_cache": partial(take_sample, uncached),
        "plain": load_plainly,
    }
    times = measure_sides(sides, range(len(items)))
    flops = statistics.mean(count_case_flops(model, sample) for sample in samples)
    record = summarize(times, flops, flops_per_s) | {
        "size": [width, height],
        "tokens": round(statistics.mean(map(len, samples))),
        "tiles": round(statistics.mean(sum(map(len, sample.pixel_values)) for sample in samples), 1),
        "objects": round(statistics.mean(count_objects(sample) for sample in samples), 1),
        "through_a_loader": measure_loader(cached, len(items)),
    }
    return {"stage2": record, "object_cache": cache_record}


def count_objects(sample: Sample) -> int:
    return 0 if sample.object_embeddings is None else len(sample.object_embeddings)


def take_sample(rows: RowDataset, ordinal: int) -> Sample:
    """The sample of a row of one conversation."""
    row = rows[ordinal]
    if row.value is None:
        raise SystemExit(f"sample {ordinal}: {row.rejects[0].reason}")
    sample: Sample = row.value[0]
    return sample


def check_case(sample: Sample, plain: dict[str, Any]) -> None:
    """End the harness unless both sides prepared the same sample."""
    if not torch.equal(sample.input_ids, plain["ids"]) or not torch.equal(sample.labels, plain["labels"]):
        raise SystemExit("stage 2: token ids or labels differ")
    for number, (tiles, canvas, cells) in enumerate(plain["images"]):
        check_tiles(sample.pixel_values[number], tiles)
        if not torch.equal(sample.canvases[number].float() / 255, canvas):
            raise SystemExit("stage 2: canvases differ")
        if not torch.equal(sample.object_cells[number] & cells, cells):  # the product fills objects without a token
            raise SystemExit("stage 2: tokens of objects differ")


def check_tiles(ours: Tensor, plain: Tensor) -> None:
    mean, std = (torch.from_numpy(values)[None, :, None, None] for values in (MEAN, STD))
    if not torch.allclose((ours.float() / 255 - mean) / std, plain, atol=1e-5):
        raise SystemExit("tiles differ")


Times = dict[str, list[float]]
"""Seconds of each side for each sample."""


def measure_sides(sides: dict[str, Callable[[int], Any]], ordinals: Sequence[int]) -> tuple[Times, Times]:
    """Processor time and wall-clock time of each side for each ordinal; the sides alternate."""
    times: Times = {name: [] for name in sides}
    clock: Times = {name: [] for name in sides}
    for ordinal in ordinals:
        for name, load in sides.items():
            started, cpu = time.perf_counter(), time.process_time()
            kept = load(ordinal)
            times[name].append(time.process_time() - cpu)
            clock[name].append(time.perf_counter() - started)
            del kept
    return times, clock


def over_product(times: Times) -> dict[str, float]:
    """Median ratio of each other side to the product."""
    return {
        name: round(statistics.median(b / a for a, b in zip(times["product"], values, strict=True)), 2)
        for name, values in times.items()
        if name != "product"
    }


def summarize(measured: tuple[Times, Times], flops: float, flops_per_s: float) -> dict[str, Any]:
    """Medians, ratios to the product, and the cores that GPUs need."""
    times, clock = measured
    medians = {name: statistics.median(values) for name, values in times.items()}
    needed = flops_per_s / flops
    return {
        "samples": len(times["product"]),
        "core_ms": {name: round(1000 * value, 2) for name, value in medians.items()},
        "samples_a_core_second": {name: round(1 / value, 2) for name, value in medians.items()},
        "clock_ms": {name: round(1000 * statistics.median(values), 2) for name, values in clock.items()},
        "over_product": over_product(times),
        "over_product_by_clock": over_product(clock),
        "tflop_a_sample": round(flops / 1e12, 2),
        "samples_a_gpu_second": round(needed, 2),
        "cores_a_gpu": {name: round(needed * statistics.mean(values), 2) for name, values in times.items()},
        f"cores_of_{GPUS}_gpus": {
            name: round(GPUS * needed * statistics.mean(values), 1) for name, values in times.items()
        },
        "limit_cores_a_gpu": CORES_LIMIT,
        "met": needed * statistics.mean(times["product"]) <= CORES_LIMIT,
    }


class _RowSamples(Dataset[Sample]):
    def __init__(self, rows: RowDataset) -> None:
        self._rows = rows

    def __getitem__(self, ordinal: int) -> Sample:
        return take_sample(self._rows, ordinal)


def measure_loader(rows: RowDataset, count: int) -> dict[str, float]:
    """What arrives from one worker process, and what receiving a sample takes the training process."""
    loader = DataLoader(_RowSamples(rows), batch_size=None, sampler=range(2 * count), num_workers=1, prefetch_factor=2)
    received = iter(loader)
    next(received)  # the worker has started
    started, cpu = time.perf_counter(), time.process_time()
    num_received = sum(1 for _ in received)
    return {
        "samples_a_second": round(num_received / (time.perf_counter() - started), 2),
        "receiving_core_ms": round(1000 * (time.process_time() - cpu) / num_received, 2),
    }


def measure_cache(
    scratch: Path, readers: Any, spec: CanvasSpec, model: ColvaModel, arguments: argparse.Namespace, flops_per_s: float
) -> dict[str, Any]:
    """Fill the object cache twice: by this process alone, and with workers and an expert of the estimated speed."""
    flops_an_image = count_expert_flops(model)

    def embed(pixels: Tensor, token_masks: Tensor, images: Tensor, seconds_an_image: float) -> Tensor:
        time.sleep(seconds_an_image * len(pixels))
        return torch.ones(len(images), WIDTH)

    cache, started = ObjectCache(scratch / "objects", WIDTH), time.process_time()
    alone = fill_object_cache(cache, readers, spec, partial(embed, seconds_an_image=0.0), 0, EXPERT_BATCH)
    core_ms = 1000 * (time.process_time() - started) / alone.images
    seconds_an_image = flops_an_image / flops_per_s
    ahead = fill_object_cache(
        ObjectCache(scratch / "objects-ahead", WIDTH),
        readers,
        spec,
        partial(embed, seconds_an_image=seconds_an_image),
        arguments.workers,
        EXPERT_BATCH,
    )
    return {
        "images": alone.images,
        "objects": alone.objects,
        "core_ms_an_image": round(core_ms, 2),
        "tflop_an_image": round(flops_an_image / 1e12, 2),
        "images_a_gpu_second": round(1 / seconds_an_image, 1),
        "cores_a_gpu": round(core_ms / 1000 / seconds_an_image, 2),
        "with_workers": {
            "workers": arguments.workers,
            "images_a_second": round(ahead.images / ahead.seconds, 1),
            "waiting_share": round(ahead.waiting_seconds / ahead.seconds, 3),
        },
    }


def measure_stage1(root: Path, arguments: argparse.Namespace, flops_per_s: float) -> dict[str, Any]:
    width, height = arguments.image_size
    root.mkdir()
    make_images(
        root, argparse.Namespace(width=width, height=height, images=arguments.images, objects=arguments.objects)
    )
    options = PairOptions(sources=(PairSource(kind="sa1b", root=root),), held_out_share=0.0)
    encoders = EncoderSpec(InternVLImageProcessor(448, 16, PAIR_TILES), 1024, 16)
    pairs = PairDataset(open_pair_sources(options), encoders, 0, options)

    def load_plainly(ordinal: int) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        rng = keyed_rng("stage 1", 0, ordinal)  # the same random numbers, and so the same views
        views = augment.sample_views("published", width, height, rng)
        return load_pair_plainly(root, pairs.locate(ordinal)[1], views, PAIR_TILES)

    differ = [share_that_differs(take_pair(pairs, ordinal), load_plainly(ordinal)) for ordinal in range(len(pairs))]
    sides: dict[str, Callable[[int], Any]] = {"product": partial(take_pair, pairs), "plain": load_plainly}
    times = measure_sides(sides, range(arguments.runs * len(pairs)))
    tiles = statistics.mean(
        len(side.pixels) for ordinal in range(len(pairs)) for side in take_pair(pairs, ordinal).sides
    )
    model = make_model()
    flops = 2 * (count_expert_flops(model) + tiles * count_tile_flops(model)) + 2 * count_adapter_flops(model)
    return summarize(times, flops, flops_per_s) | {
        "size": [width, height],
        "objects": arguments.objects,
        "tiles": round(2 * tiles, 1),
        "tokens_that_differ": round(statistics.mean(differ), 4),
    }


def take_pair(pairs: PairDataset, ordinal: int) -> PairItem:
    item = pairs[ordinal]
    if not isinstance(item, PairItem):
        raise SystemExit(f"pair {ordinal}: {item.reason}")
    return item


def share_that_differs(item: PairItem, plain: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> float:
    """Tokens of objects that differ, over all: OpenCV rounds the borders of warped masks otherwise. Images must not."""
    different = covered = 0
    for side, (canvas, tiles, expert, keys) in zip(item.sides, plain, strict=True):
        if not torch.equal(side.canvas.float() / 255, canvas):
            raise SystemExit("stage 1: canvases differ")
        check_tiles(side.pixels, tiles)
        different += int((side.expert_cells != expert).sum() + (side.key_cells != keys).sum())
        covered += int(side.expert_cells.sum() + side.key_cells.sum())
    return different / max(covered, 1)


def make_config() -> ColvaConfig:
    """InternVL2-4B with RADIO v2.1."""
    vision = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096, "num_attention_heads": 16}
    phi3 = {"model_type": "phi3", **qwen_fields(WIDTH, 32, 8192, 32, 32), "vocab_size": 32064, "pad_token_id": 0}
    backbone = CONFIG_MAPPING["internvl"](vision_config=vision, text_config=phi3)
    return ColvaConfig(backbone, EXPERT, expert_side=1024, template="phi3-chat")


def make_model() -> ColvaModel:
    """Its shapes, with the published LoRA."""
    model = meta_model(make_config())
    model.requires_grad_(False)
    add_lora(model, LoraOptions(), seed=0)
    return model


def count_case_flops(model: ColvaModel, sample: Sample) -> float:
    """Operations of a training step for one case with cached objects; see `estimate_step_flops`."""
    num_tiles = sum(map(len, sample.pixel_values))
    pixels = torch.empty(num_tiles, 3, 448, 448, device="meta")
    batch = {"tokens": len(sample), "square": float(len(sample)) ** 2, "pixel_values": pixels}
    return estimate_step_flops(model, batch, int((sample.labels >= 0).sum()))


def count_expert_flops(model: ColvaModel) -> float:
    """Operations of the expert's forward pass for one canvas, attention included."""
    assert model.expert is not None
    return count_forward_flops(model.expert, (1024 // 16) ** 2, 1280, 32)


def count_tile_flops(model: ColvaModel) -> float:
    """Operations of the vision tower's forward pass for one tile, attention included."""
    return count_forward_flops(model.backbone.frozen_parts[0], (448 // 14) ** 2, 1024, 24)


def count_adapter_flops(model: ColvaModel) -> float:
    """Operations of the adapter for one canvas, forward and backward."""
    assert model.adapter is not None
    return 3 * count_forward_flops(model.adapter, (1024 // 16) ** 2, 0, 0)


def count_forward_flops(module: nn.Module, tokens: int, width: int, layers: int) -> float:
    weights = sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))
    return 2.0 * tokens * weights + 4.0 * tokens**2 * width * layers


if __name__ == "__main__":
    main()
