"""Stage 2 with cached objects and packed rows compared with the published flow; prints one JSON object.

1. Samples per second: the same toy weights and the same mixture (two of five samples are cases, as published), forward,
   backward and optimizer step. The published flow runs the expert in each step, pads batches of four and attends with
   transformers' own SDPA; ours reads objects from the cache (filled before, its time is reported separately) and packs
   two rows of 640 tokens, about as many tokens per step, padding included. Three things are scaled with the toy: LoRA
   has rank 4 at width 64, as the published one has 128 at 1536 to 3584; the expert sees 256 pixels a side, so that the
   ratio of its tokens to the language model's is about that of 1024 pixels to 4,400 tokens; and conversations without
   a case are shorter, so that batches of four hold about as much padding as with the lengths of part 2. Samples are
   prepared before, as by data workers; the rate of one worker is reported separately. Both sides alternate in one
   process. Limit: at least 2 times as many.
2. Padding: share of padding when rows of 8192 tokens are packed from lengths like those of a mixture. Limit: below 3 %.
   The share in batches of four is reported separately.
3. Opening: a mixture of a million records whose boundaries are not cached, in a process of its own. Limits: below 10 s
   and 1 GB. The time to plan a million rows is reported separately.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import emit, machine, peak_mb, seconds

from colva.checkpoints.init_tiny import init_tiny
from colva.data.mixture import SftOptions, open_record_sources
from colva.data.packing import plan_packing
from colva.data.record_reader import SftSource
from colva.data.records import Records
from colva.training import stage2
from colva.training.stage import Stage, as_partial
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.config_values import parse_config
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.synth.writer import SynthOptions, generate

SPEED_LIMIT, WASTE_LIMIT, SECONDS_LIMIT, MB_LIMIT = 2.0, 0.03, 10.0, 1024.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--samples", type=int, default=96, help="of one run")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.open:
        print(json.dumps(open_mixture(arguments.open)))
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        record = {
            "machine": machine() | {"torch": torch.__version__},
            "speed": measure_speed(Path(scratch), arguments.runs, arguments.samples),
            "padding": measure_padding(),
            "opening": measure_opening(Path(scratch), arguments.records),
        }
    emit(record, arguments.out)


def measure_speed(scratch: Path, runs: int, samples: int) -> dict[str, Any]:
    generate(scratch / "videos", SynthOptions(videos=10, seed=1))
    build("ytvos", scratch / "videos", scratch / "bench", BuildOptions(SamplingOptions(seed=1), 40))
    init_tiny(scratch / "model", "internvl2-phi3", "radio")
    config = scratch / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"expert_side": 256}), encoding="utf-8")
    write_conversations(scratch / "talk.json", 60)

    def build_side(ours: bool) -> Stage:
        content = {
            "stage": "stage2",
            "model": str(scratch / "model"),
            "output_dir": str(scratch / f"run-{ours}"),
            "data": {
                "sources": [
                    {"kind": "build", "path": str(scratch / "bench")},
                    {"kind": "text", "path": str(scratch / "talk.json")},
                ],
                "packing": ours,
                "use_object_cache": ours,
                "max_length": 640,
            },
            "lora": {"r": 4, "alpha": 8},
            "max_loss_bound": None,
            "trainer": {"num_workers": 0, "precision": "float32"},
        }
        return stage2.build_stage(parse_config(content, stage2.Stage2Config, "benchmark"))

    sides = {"published_flow": build_side(False), "ours": build_side(True)}
    model = sides["published_flow"].model
    assert isinstance(model, stage2.Stage2Model)
    model.colva.backbone.language_model.set_attn_implementation("sdpa")
    filling = seconds(sides["ours"].prepare)
    rows = {"published_flow": 4, "ours": 2}  # about as many tokens a step
    times: dict[str, list[float]] = {name: [] for name in sides}
    prepare_seconds, num_prepared = dict.fromkeys(sides, 0.0), dict.fromkeys(sides, 0)
    padded: dict[str, list[int]] = {name: [0, 0] for name in sides}
    optimizers = {
        name: torch.optim.AdamW([p for p in stage.model.parameters() if p.requires_grad])
        for name, stage in sides.items()
    }
    for run in range(runs + 1):  # the first is a warm-up
        for name, stage in sides.items():
            stage.model.train()
            start = time.perf_counter()
            batches = prepare_batches(stage, run * samples, samples, rows[name])
            prepare_seconds[name] += time.perf_counter() - start
            start, done = time.perf_counter(), 0
            for batch in batches:
                loss: Any = stage.step(stage.model, batch).loss / stage.count_units(batch)
                loss.backward()
                optimizers[name].step()
                optimizers[name].zero_grad()
                done += int(batch["samples"])
                padded[name][0] += batch["input_ids"].numel() - int(batch["tokens"])
                padded[name][1] += batch["input_ids"].numel()
            num_prepared[name] += done
            if run:
                times[name].append((time.perf_counter() - start) / done)
    rates = {name: round(1 / statistics.median(seconds_each), 2) for name, seconds_each in times.items()}
    ratio = rates["ours"] / rates["published_flow"]
    return {
        "samples_per_s": rates,
        "prepared_by_one_worker_per_s": {name: round(num_prepared[name] / prepare_seconds[name], 2) for name in sides},
        "filling_the_cache_s": round(filling, 2),
        "padding_share": {name: round(padding / size, 4) for name, (padding, size) in padded.items()},
        "ratio": round(ratio, 2),
        "limit": SPEED_LIMIT,
        "met": ratio >= SPEED_LIMIT,
    }


def write_conversations(file: Path, count: int) -> None:
    """Write short conversations, three of five samples as in the published mixture."""
    words = ["one", "two"]
    records = []
    for k in range(count):
        turns = [("human", f"Say {k % 9} of them"), ("gpt", " ".join(words * (1 + k % 3)))]
        records.append({"conversations": [{"from": who, "value": text} for who, text in turns]})
    file.write_text(json.dumps(records), encoding="utf-8")


def prepare_batches(stage: Stage, ordinal: int, samples: int, rows: int) -> list[dict[str, Any]]:
    """Batches of a number of rows each, from an ordinal on, with at least a number of samples."""
    batches, done = [], 0
    while done < samples:
        parts = [as_partial(stage.train[ordinal + k]) for k in range(rows)]
        ordinal += rows
        batches.append(stage.collate([part.value for part in parts if part.value is not None]))
        done += int(batches[-1]["samples"])
    return batches


def measure_padding() -> dict[str, Any]:
    """Plan rows for a mixture of pairs of tiled images, single images and text."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(2, 14, (100_000, 2)).sum(axis=1) * 256 + rng.integers(200, 900, 100_000)
    single = rng.integers(2, 14, 100_000) * 256 + rng.integers(60, 1200, 100_000)
    text = rng.integers(40, 2000, 40_000)
    lengths = np.concatenate([pairs, single, text])
    start = time.perf_counter()
    plan = plan_packing(lengths, 8192, 0)
    plan_seconds = time.perf_counter() - start
    fours = rng.permutation(lengths).reshape(-1, 4)
    return {
        "conversations": len(lengths),
        "rows": len(plan),
        "plan_s": round(plan_seconds, 2),
        "share_in_batches_of_four": round(1 - fours.sum() / (4 * fours.max(axis=1).sum()), 4),
        "share": round(plan.padding_share, 5),
        "limit": WASTE_LIMIT,
        "met": plan.padding_share < WASTE_LIMIT,
    }


def measure_opening(scratch: Path, records: int) -> dict[str, Any]:
    file = scratch / "talk.json"
    turns = [("human", "<image>\nWhat is über it? "), ("gpt", 'A long answer, [with] {all} "marks". ' * 12)]
    conversation = json.dumps([{"from": who, "value": text} for who, text in turns])
    with open(file, "w", encoding="utf-8") as handle:
        handle.write("[\n")
        for number in range(records):
            comma = ",\n" if number else ""
            handle.write(f'{comma}{{"id": "{number}", "image": "{number}.jpg", "conversations": {conversation}}}')
        handle.write("\n]\n")
    size = file.stat().st_size
    command = [sys.executable, __file__, "--open", str(file)]
    cold, warm = (json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(2))
    start = time.perf_counter()
    plan_packing(np.random.default_rng(0).integers(300, 4000, records), 8192, 0)
    return {
        "records": records,
        "file_mb": round(size / 2**20),
        "first": cold,
        "again": warm,
        "plan_s": round(time.perf_counter() - start, 2),
        "limit_s": SECONDS_LIMIT,
        "limit_mb": MB_LIMIT,
        "met": cold["seconds"] < SECONDS_LIMIT and cold["peak_mb"] < MB_LIMIT and cold["records"] == records,
    }


def open_mixture(file: Path) -> dict[str, Any]:
    options = SftOptions(sources=(SftSource(kind="llava", path=file, root=file.parent),))
    before = peak_mb()
    start = time.perf_counter()
    reader = open_record_sources(options, file.parent / "cache")[0]
    assert isinstance(reader.records, Records)
    last = reader.records.read(len(reader) - 1)
    elapsed = time.perf_counter() - start
    assert last["id"] == str(len(reader) - 1)
    return {
        "records": len(reader),
        "seconds": round(elapsed, 2),
        "before_mb": round(before),
        "peak_mb": round(peak_mb()),
    }


if __name__ == "__main__":
    main()
