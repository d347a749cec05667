"""The paper's ablation: object tokens, then stage 1, then instruction augmentation.

Videos come from `mmvm-data synth`: four toys each, two kinds of two or one of four, so that every candidate has a
look-alike; images of 256 x 144 and four candidates per case ("none of the above" is an option, but never the answer, so
that chance is 20 %). Training and held-out videos come from two seeds and have none in common. With `--real` stage 2
also trains on real images, and a second table is of other real images: two views of each COCO image (two of three to
train on) and one DAVIS video to train on, two MOT17 videos held out; four candidates too.

The arms, for each seed with the same initial language model and as many of the benchmark's own questions:

    no_tokens         stage 2 on the drawn images alone
    untrained         object tokens from the expert through an untrained adapter
    stage1            the adapter trained by stage 1 on pairs of frames of the training videos
    stage1_augmented  the same, and as many cases again that are shown without marks and asked about accordingly

and one control outside the paper's order, which tells what augmentation teaches from what more steps do:

    stage1_longer     as stage1, with as many steps as stage1_augmented, all of them about marked images

The model is that of `colva init-small --llm scratch --tile 32` (MobileNetV2 with ImageNet weights as expert; a language
model of 0.5 M parameters, trained in full), with the settings of `configs/pretrain/scratch.yaml` and
`configs/finetune/scratch.yaml`. An image has one token, of 32 pixels, so `no_tokens` can read little of the drawn
marks.

Held-out cases are asked as the benchmark asks (`colva eval --answer-by likelihood`). Blind baselines and `similarity:`,
the same expert without training, play the same cases. Intervals are of 95 %, from a bootstrap over held-out videos,
whose cases belong together, with the answers of all seeds kept with their case. Prints one JSON object with loss curves
and the accuracy on held-out training videos while training. What a scratch folder holds already is not done again.

    python benchmarks/ablation.py --real ../shared/realdata --out benchmarks/results/ablation.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation_data import HELD_OUT_SEED, TRAIN_SEED, make_generated, make_real, read_cases
from common import emit, invoked, machine
from numpy.typing import NDArray

from colva.checkpoints.init_small import init_small
from colva.cli import main as colva
from colva.evaluation import runs as predictions
from colva.training.run import load_config, train
from mmvm_data.cases.baselines import BASELINES, option_letter
from mmvm_data.core.types import Case

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ARMS = ("no_tokens", "untrained", "stage1", "stage1_augmented")
CONTROL = "stage1_longer"
RESAMPLES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--videos", type=int, default=400, help="to train on")
    parser.add_argument("--held-out", type=int, default=80, help="videos to ask about")
    parser.add_argument("--train-cases", type=int, default=40, help="of each training video")
    parser.add_argument("--cases", type=int, default=8, help="of each held-out video or image")
    parser.add_argument("--real", type=Path, help="folder with coco, davis2017_schoolgirls_240p and mot17_mini")
    parser.add_argument("--real-train-cases", type=int, default=20, help="of each real image to train on")
    parser.add_argument("--expert-side", type=int, default=512)
    parser.add_argument("--stage1-steps", type=int, default=200)
    parser.add_argument("--steps", type=int, default=2000, help="of stage 2")
    parser.add_argument("--objects-only-steps", type=int, default=800, help="of them about object tokens alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=(*ARMS, CONTROL), default=[*ARMS, CONTROL])
    parser.add_argument("--workers", type=int, default=1, help="data processes")
    parser.add_argument("--scratch", type=Path, help="folder for videos and runs; what it holds is used")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    arguments = parser.parse_args()
    facts = machine() | {"torch": torch.__version__}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as temporary:
        scratch = arguments.scratch or Path(temporary)
        make_generated(scratch, arguments)
        sets = ["generated"]
        if arguments.real:
            make_real(scratch, arguments)
            sets.append("real")
        runs = [run_seed(scratch, arguments, sets, seed) for seed in arguments.seeds]
        record: dict[str, Any] = {
            "machine": facts,
            "command": shlex.join(["python", "benchmarks/ablation.py", *portable_arguments(sys.argv[1:])]),
            "seeds": arguments.seeds,
            "videos": {"train_seed": TRAIN_SEED, "held_out_seed": HELD_OUT_SEED},
            "chance": 0.2,
        }
        for name in sets:
            hits = collect_hits(scratch, arguments, name)
            record[name] = {
                "cases": {part: len(read_cases(scratch / f"{name}_{part}")) for part in ("train", "held_out")},
                "held_out_videos": len(set(hits["video"].tolist())),
                "arms": tabulate(hits, arguments.arms),
                "differences": compare_arms(hits, arguments.arms),
            }
    emit(record | {"seconds": round(time.perf_counter() - start), "runs": runs}, arguments.out)


def portable_arguments(words: list[str]) -> list[str]:
    """The command's arguments without the paths of this machine."""
    kept, skip = [], False
    for word in words:
        if not skip and word not in ("--out", "--scratch"):
            kept.append(Path(word).name if "/" in word else word)
        skip = word in ("--out", "--scratch")
    return kept


def run_seed(scratch: Path, arguments: argparse.Namespace, sets: list[str], seed: int) -> dict[str, Any]:
    """Train and evaluate all arms with one seed: of the model, the new adapter, the order of data."""
    place = scratch / f"seed{seed}"
    if not (place / "model").exists():
        init_small(place / "model", llm="scratch", tile=32, expert_side=arguments.expert_side, seed=seed)
    result: dict[str, Any] = {"seed": seed, "arms": {}}
    if {"stage1", "stage1_augmented", CONTROL} & set(arguments.arms):
        result["stage1"] = train_once(
            "pretrain",
            place / "adapter",
            {
                "model": place / "model",
                "seed": seed,
                "data.sources.0.root": scratch / "train_videos",
                "trainer.max_steps": arguments.stage1_steps,
            },
        )
    for arm in arguments.arms:
        changes: dict[str, object] = {
            "model": place / "model",
            "seed": seed,
            "adapter.path": place / "adapter" / "final" if arm.startswith("stage1") else None,
            "data.sources": [{"kind": "build", "path": str(scratch / f"{name}_train")} for name in sets],
            "data.cache_dir": scratch / "cache",  # of the expert alone, which has the same weights in all runs
            "data.objects_only_steps": arguments.objects_only_steps,
            "trainer.max_steps": arguments.steps,
            "trainer.num_workers": arguments.workers,
        }
        if arm == "no_tokens":
            changes |= {"data.use_object_tokens": False, "data.objects_only_steps": 0, "adapter": {}}
            del changes["adapter.path"]
        if arm == "stage1_augmented":
            changes["data.clean_share"] = 0.5
        if arm in ("stage1_augmented", CONTROL):
            changes["trainer.max_steps"] = 2 * arguments.steps - arguments.objects_only_steps
        result["arms"][arm] = train_once("finetune", place / arm, changes)
        for name in sets:
            evaluate(scratch / f"{name}_held_out", place / arm / "final", place / arm / f"{name}_answers")
    if seed == arguments.seeds[0]:
        for name in sets:
            evaluate(scratch / f"{name}_held_out", f"similarity:{place / 'model'}", scratch / f"{name}_similarity")
    return result


def train_once(
    stage: str, folder: Path, changes: dict[str, object], recipe: str = "scratch", processes: int = 1
) -> dict[str, Any]:
    """Train with the configuration ``configs/<stage>/<recipe>.yaml`` unless the run is finished; returns its curves."""
    path = CONFIGS / stage / f"{recipe}.yaml"
    words = [f"{key}={json.dumps(value, default=str)}" for key, value in changes.items()] + [f"output_dir={folder}"]
    start = time.perf_counter()
    is_new = not (folder / "final").exists()
    if is_new and processes == 1:
        train(load_config(path, [*words, "trainer.save_steps=0"]))
    elif is_new:
        options = [option for word in words for option in ("--set", word)]
        command = [sys.executable, "-m", "colva.cli", "train", str(path), "--nproc", str(processes), *options]
        subprocess.run(command, check=True, stdout=sys.stderr)
    lines = read_log(folder)
    return {
        "loss": [[line["step"], round(line["loss"], 4)] for line in lines if "loss" in line],
        "held_out_accuracy": [[k["step"], round(k["eval_accuracy"], 4)] for k in lines if "eval_accuracy" in k],
        "seconds": round(time.perf_counter() - start, 1) if is_new else None,
    }


def read_log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def evaluate(bench: Path, model: Path | str, out: Path) -> None:
    """Evaluate a model on the held-out cases unless that was done; ends the harness if that fails."""
    if not (out / "scores.json").exists():
        words = ["eval", "--bench", bench, "--model", model, "--answer-by", "likelihood", "--out", out, "--strict"]
        invoked(colva, *words)


def collect_hits(scratch: Path, arguments: argparse.Namespace, name: str) -> dict[str, NDArray[Any]]:
    """Hits (bool `[seeds, cases]` of each arm, `[1, cases]` of the others) and the index of each case's video."""
    cases = read_cases(scratch / f"{name}_held_out")
    hits = {
        arm: np.array([read_hits(cases, scratch / f"seed{seed}" / arm / f"{name}_answers") for seed in arguments.seeds])
        for arm in arguments.arms
    }
    return hits | collect_other_hits(cases, scratch / f"{name}_similarity")


def collect_other_hits(cases: list[Case], similarity: Path) -> dict[str, NDArray[Any]]:
    """Hits (bool `[1, cases]`) of each blind baseline and of the finished run `similarity`, and each case's video."""
    origin = [f"{case.provenance.source}/{case.provenance.video}" if case.provenance else case.id for case in cases]
    names = sorted(set(origin))
    hits = {
        baseline: np.array([[choose(case) == option_letter(case, case.answer) for case in cases]])
        for baseline, choose in BASELINES.items()
    }
    hits["similarity"] = np.array([read_hits(cases, similarity)])
    return hits | {"video": np.array([names.index(video) for video in origin])}


def read_hits(cases: list[Case], folder: Path) -> list[bool]:
    """Whether a finished run answered each case rightly."""
    known_predictions = predictions.load_known_predictions(folder).values()
    is_hit = {prediction.case: prediction.reply == prediction.answer for prediction in known_predictions}
    return [is_hit[case.id] for case in cases]


def tabulate(hits: dict[str, NDArray[Any]], arms: list[str]) -> dict[str, Any]:
    """Accuracy of each arm, of baselines and of the expert alone, with its interval and the accuracy of each seed."""
    return {
        arm: bootstrap_interval(hits[arm].mean(axis=0), hits["video"])
        | {"by_seed": [round(float(row.mean()), 4) for row in hits[arm]]}
        for arm in (*arms, *BASELINES, "similarity")
    }


def compare_arms(hits: dict[str, NDArray[Any]], arms: list[str]) -> dict[str, Any]:
    """Gain of each arm over the previous one in the paper's order, of the last over the first and `similarity`, and
    of the control over its arm and of augmentation over the control."""
    order = [arm for arm in arms if arm != CONTROL]
    pairs = [*itertools.pairwise(order), (order[0], order[-1]), ("similarity", order[-1])]
    if CONTROL in arms:
        pairs += [("stage1", CONTROL), (CONTROL, "stage1_augmented")]
    comparisons = {}
    for less, more in pairs:
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
