"""The loss of stage 2 in chunks of target tokens over the plain one: peak memory and time; prints one JSON object.

Both sides compute the loss of 6,500 target tokens over a vocabulary of 152,000 and the gradient of the hidden states,
and with ``--train-head`` that of the head, in float32. Each side runs in processes of its own that alternate; memory is
the process's peak above that before its first run, so that it holds neither inputs nor weights. The width is that of a
small model, for the plain side to fit into memory; with a larger one the products of matrices, which are the same on
both sides, take a larger share of the time. Limits: at most a quarter of the memory, at most 1.3 times the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from common import emit, machine, peak_mb, seconds
from torch import nn
from torch.nn import functional as F

from colva.model.token_loss import MAX_LOGITS, next_token_loss

MEMORY_LIMIT, TIME_LIMIT = 0.25, 1.3
SIDES = ("plain", "chunks")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="processes of each side")
    parser.add_argument("--targets", type=int, default=6500)
    parser.add_argument("--vocabulary", type=int, default=152_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--train-head", action="store_true", help="also compute the gradient of the head")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure_side(arguments)))
        return
    facts = machine()
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(arguments.runs):
        for side, results in runs.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
            results.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    medians = {
        side: {name: round(statistics.median(run[name] for run in results), 3) for name in ("seconds", "peak_mb")}
        for side, results in runs.items()
    }
    memory, time = (medians["chunks"][name] / medians["plain"][name] for name in ("peak_mb", "seconds"))
    losses = [run["loss"] for results in runs.values() for run in results]
    difference = max(losses) / min(losses) - 1
    result = {
        "targets": arguments.targets,
        "vocabulary": arguments.vocabulary,
        "width": arguments.width,
        "train_head": arguments.train_head,
        "torch": torch.__version__,
        **medians,
        "largest_relative_difference_of_losses": difference,
        "memory_ratio": round(memory, 3),
        "memory_limit": MEMORY_LIMIT,
        "time_ratio": round(time, 3),
        "time_limit": TIME_LIMIT,
        "met": memory <= MEMORY_LIMIT and time <= TIME_LIMIT and difference < 1e-5,
    }
    emit({"machine": facts} | result, arguments.out)


def measure_side(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of forward and backward, and the process's memory above that of inputs and weights."""
    torch.manual_seed(0)
    head = nn.Linear(arguments.width, arguments.vocabulary, bias=False).requires_grad_(arguments.train_head)
    hidden = torch.randn(arguments.targets, arguments.width, requires_grad=True)
    targets = torch.randint(arguments.vocabulary, (arguments.targets,))
    loss = torch.zeros(())

    def step() -> None:
        nonlocal loss
        if arguments.side == "plain":
            loss = F.cross_entropy(head(hidden).float(), targets, reduction="sum")
        else:
            loss, _ = next_token_loss(head, hidden, targets, MAX_LOGITS // arguments.vocabulary)
        torch.autograd.backward(loss)

    before = peak_mb()
    elapsed = seconds(step)
    return {"seconds": elapsed, "peak_mb": peak_mb() - before, "loss": float(loss.detach())}


if __name__ == "__main__":
    main()
