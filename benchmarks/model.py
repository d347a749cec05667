"""Speed and memory of CoLVA's own parts against plain ways of doing the same; prints one JSON object.

1. Contrastive loss: 37 objects of width 3072, both directions, forward and backward, over the published nested loop
   (written here from the formula, an anchor and a negative at a time); at least 60 times as fast.
2. Mask pooling: 64 objects on 64 x 64 tokens of width 1280 with masks of 1024 x 1024, peak memory above what was
   there before, over inputs and outputs; at most 0.2 (so the peak is at most 1.2 times these).
3. Tiling: a picture of 1920 x 1080 with 37 masks to tiles and token masks, over resizing the picture alone to its
   tiles and its thumbnail; at most 1.5. The ratio to the tiles' resize without the thumbnail's stands beside it.
4. Options: the likelihood of 11 letters over greedy generation restricted to them, 100 cases of 10 candidates or more
   with a toy model; at least 3 times the cases a second, and the same letters. With pictures of 256 x 144 and an
   expert's canvas of 112 pixels a side, so that answering is measured more than the cutting of pictures, which both
   sides do; beside it, without a limit, the same at 480p and 224, where cutting takes most of the time of a toy.

Both sides are timed in turn in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import emit, invoked, machine, seconds
from PIL import Image
from torch import Tensor

from colva.losses import object_contrastive_loss
from colva.model.pooling import mask_pool
from colva.processing.tiling import tile_grid, tile_image

LOSS_LIMIT, POOLING_LIMIT, TILING_LIMIT, OPTIONS_LIMIT = 60.0, 1.2, 1.5, 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    record = {
        "machine": machine() | {"device": device_name(device), "torch": torch.__version__},
        "runs": arguments.runs,
        "loss": loss(arguments.runs, device),
        "pooling": pooling(device),
        "tiling": tiling(arguments.runs),
    }
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        record["options"] = options(Path(scratch) / "small", arguments.cases, device, (256, 144), 112)
        whole = options(Path(scratch) / "480p", arguments.cases, device, (854, 480), 224)
        record["options_480p"] = {name: value for name, value in whole.items() if name not in ("limit", "met")}
    emit(record, arguments.out)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def nested_loop(anchors: Tensor, keys: Tensor) -> Tensor:
    """The loss as its formula reads, one direction: an anchor and a negative at a time; object k is key k."""
    losses = []
    for o, anchor in enumerate(anchors):
        total = torch.zeros((), device=anchors.device)
        for n, key in enumerate(keys):
            if n != o:
                total = total + torch.exp(torch.dot(anchor, key) - torch.dot(anchor, keys[o]))
        losses.append(torch.log(1 + total))
    return torch.stack(losses).sum()


def both_ways_plain(frames: list[Tensor]) -> Tensor:
    return nested_loop(frames[0], frames[3]) + nested_loop(frames[1], frames[2])


def both_ways_at_once(frames: list[Tensor]) -> Tensor:
    ids = torch.arange(len(frames[0]), device=frames[0].device)
    valid = torch.ones_like(ids, dtype=torch.bool)
    there, _ = object_contrastive_loss(frames[0], frames[3], ids, ids, valid, valid)
    back, _ = object_contrastive_loss(frames[1], frames[2], ids, ids, valid, valid)
    return there + back


def loss(runs: int, device: torch.device) -> dict[str, Any]:
    given = [torch.randn(37, 3072, device=device) * 0.05 for _ in range(4)]
    times: dict[str, list[float]] = {"loop": [], "ours": []}
    found = {}
    for run in range(runs + 1):  # the first is a warm-up
        for name, side in (("loop", both_ways_plain), ("ours", both_ways_at_once)):
            frames = [frame.clone().requires_grad_(number < 2) for number, frame in enumerate(given)]

            def step(side: Any = side, frames: list[Tensor] = frames, name: str = name) -> None:
                value = side(frames) / 74
                value.backward()
                found[name] = value.item()

            taken = seconds(step)
            if run:
                times[name].append(taken)
    return ratio(times, "loop", "ours", LOSS_LIMIT, True) | {"difference": abs(found["loop"] - found["ours"])}


def pooling(device: torch.device) -> dict[str, Any]:
    """Peak memory by the allocator's own count: on CPU by torch's profiler, on CUDA by its statistics."""
    tokens = torch.randn(64 * 64, 1280, device=device)
    masks = torch.rand(64, 1024, 1024, device=device) > 0.5
    given = tokens.numel() * tokens.element_size() + masks.numel()
    mask_pool(tokens, masks, (64, 64))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        embeddings = mask_pool(tokens, masks, (64, 64))[0]
        peak = torch.cuda.max_memory_allocated(device) - before
    else:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            embeddings = mask_pool(tokens, masks, (64, 64))[0]
        held = peak = 0
        for event in sorted(memory_events(profile), key=lambda one: one[0]):
            held += event[1]
            peak = max(peak, held)
    whole = given + embeddings.numel() * embeddings.element_size()
    share = (given + peak) / whole
    return {
        "input_and_output_mb": round(whole / 2**20, 1),
        "peak_above_input_mb": round(peak / 2**20, 2),
        "ratio": round(share, 4),
        "limit": POOLING_LIMIT,
        "met": share <= POOLING_LIMIT,
    }


def memory_events(profile: Any) -> list[tuple[int, int]]:
    """(time, bytes allocated or freed) of a CPU profile."""
    return [
        (event.start_ns(), event.nbytes())
        for event in profile.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]


def tiling(runs: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    masks = torch.from_numpy(rng.random((37, 1080, 1920)) > 0.5)
    columns, rows = tile_grid(1920, 1080, 12)
    full = Image.fromarray(picture)
    times: dict[str, list[float]] = {"resize": [], "tiles_only": [], "ours": []}

    def resize(thumbnail: bool) -> None:
        full.resize((columns * 448, rows * 448), Image.Resampling.BICUBIC)
        if thumbnail:
            full.resize((448, 448), Image.Resampling.BICUBIC)

    def ours() -> None:
        tile_image(picture, 12, 16)[1].token_mask(masks)

    for _ in range(runs + 1):  # the first is a warm-up
        times["resize"].append(seconds(lambda: resize(True)))
        times["tiles_only"].append(seconds(lambda: resize(False)))
        times["ours"].append(seconds(ours))
    times = {name: values[1:] for name, values in times.items()}
    middle = {name: statistics.median(values) for name, values in times.items()}
    return ratio(times, "ours", "resize", TILING_LIMIT, False) | {
        "ratio_without_thumbnail": round(middle["ours"] / middle["tiles_only"], 3)
    }


def options(scratch: Path, count: int, device: torch.device, size: tuple[int, int], side: int) -> dict[str, Any]:
    """Both sides on generated pictures of so many pixels, with an expert's canvas of `side`."""
    from colva.checkpoints.commands import init_tiny
    from colva.checkpoints.load import load
    from colva.checkpoints.save import write_json
    from colva.data.sft import build_case_conversation
    from colva.inference import generate
    from mmvm_data import cli as data
    from mmvm_data.formats import bench

    width, height = size
    videos = ["--videos", 40, "--seed", 1, "--objects", 12, 14, "--width", width, "--height", height, "--workers", 0]
    invoked(data.cli, "synth", scratch / "videos", *videos)
    build = ["--source", "ytvos", "--root", scratch / "videos", "--out", scratch / "cases", "--cases-per-video", 12]
    least = ["--min-area", width * height // 1000, "--min-side", height // 36]
    invoked(data.cli, "build", *build, *least, "--candidates", "all")
    invoked(init_tiny, scratch / "model", "--seed", 0)
    config = json.loads((scratch / "model/config.json").read_text())
    write_json(scratch / "model/config.json", config | {"expert_side": side})
    model = load(scratch / "model").to(device)
    cases = [case for case in bench.read(scratch / "cases") if len(case.candidates) >= 10][:count]
    if len(cases) < count:
        raise SystemExit(f"{len(cases)} cases of ten candidates at {width} x {height}; {count} are needed")
    dialogues = [build_case_conversation(case, scratch / "cases") for case in cases]
    letters = [[option.letter for option in case.options] for case in cases]
    times: dict[str, list[float]] = {"generation": [], "likelihood": []}
    same = 0
    for _ in range(3):
        rows: list[list[float]] = []
        texts: list[str] = []

        def likelihood(rows: list[list[float]] = rows) -> None:
            rows.extend(generate.score_options(model, dialogues, letters))

        def generation(texts: list[str] = texts) -> None:
            for dialogue, listed in zip(dialogues, letters, strict=True):
                allowed = generate.restrict_to_letters(model.processor, listed)
                texts.extend(generate.generate(model, [dialogue], 1, 4, prefix_allowed_tokens_fn=allowed))

        times["likelihood"].append(seconds(likelihood))
        times["generation"].append(seconds(generation))
        chosen = [listed[row.index(max(row))] for listed, row in zip(letters, rows, strict=True)]
        same = sum(a == b for a, b in zip(chosen, texts, strict=True))
    found = ratio(times, "generation", "likelihood", OPTIONS_LIMIT, True)
    seen = {"pictures": f"{width} x {height}", "canvas": side, "cases": len(cases), "same_letter": same}
    return found | seen | {"met": found["met"] and same == len(cases)}


def ratio(times: dict[str, list[float]], over: str, under: str, limit: float, at_least: bool) -> dict[str, Any]:
    """Medians, their ratio, and whether the limit is met."""
    middle = {name: statistics.median(values) for name, values in times.items()}
    value = middle[over] / middle[under]
    return {
        "seconds": {name: round(value, 6) for name, value in middle.items()},
        "ratio": round(value, 3),
        "limit": limit,
        "met": value >= limit if at_least else value <= limit,
    }


if __name__ == "__main__":
    main()
