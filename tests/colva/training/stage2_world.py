"""A build of a few cases with their images, toy checkpoints, and configurations for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from colva.checkpoints.init_tiny import init_tiny
from colva.training.stage import PartialItem, Stage
from colva.training.stage2 import Stage2Config, build_stage
from mmvm_data.cases import prompts
from mmvm_data.core import masks
from mmvm_data.core.config_values import parse_config
from mmvm_data.core.types import Candidate, Case, Frame, Region

WIDTH, HEIGHT = 96, 64


def make_case(number: int, folder: Path, candidates: int = 3, prompt: str = "mask", why: str | None = None) -> Case:
    """Boxes of coarse patterns on noise; the answer has the query's pattern. Writes the images."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (candidates, 5, 4, 3), dtype=np.uint8)
    patterns = [cv2.resize(pattern, (22, 26), interpolation=cv2.INTER_NEAREST) for pattern in coarse]
    answer = int(rng.integers(candidates)) + 1
    name = f"match_bench/case_{number:06d}"
    (folder / name).mkdir(parents=True, exist_ok=True)
    frames, boxes = [], []
    for position in range(2):
        image = rng.integers(100, 140, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        places = []
        for k in range(candidates if position else 1):
            x, y = 4 + 30 * k + int(rng.integers(4)), 6 + int(rng.integers(20))
            places.append((x, y, 22, 26))
            image[y : y + 26, x : x + 22] = patterns[k if position else answer - 1]
        path = f"{name}/FRAME{position:02d}_ORI.jpg"
        cv2.imwrite(str(folder / path), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        frames.append(Frame(path=path, index=position, width=WIDTH, height=HEIGHT))
        boxes.append(places)

    def region(name: str, box: tuple[int, int, int, int]) -> Region:
        if prompt == "box":
            return Region(id=name, box=box)
        return Region(id=name, mask=masks.from_box(box, HEIGHT, WIDTH))

    candidates_in_image = tuple(
        Candidate(number=k + 1, region=region(str(k + 1), box)) for k, box in enumerate(boxes[1])
    )
    return Case(
        id=f"case_{number:06d}",
        frames=tuple(frames),
        query=(region(str(answer), boxes[0][0]),),
        candidates=candidates_in_image,
        answer=answer,
        prompt=prompt,
        question=prompts.format_question(prompt),
        options=prompts.build_options(range(1, candidates + 1), answer),
        rationale=why,
    )


def write_build(folder: Path, cases: list[Case]) -> Path:
    """Write `cases.jsonl` next to the images."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(case.model_dump_json() + "\n" for case in cases)
    (folder / "cases.jsonl").write_text(text, encoding="utf-8")
    return folder


def make_build(folder: Path, count: int = 8) -> Path:
    """Cases with contours and boxes, with and without reasons, of two or three candidates."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = [
        make_case(
            k, folder, 2 + k % 2, "box" if k % 3 == 2 else "mask", "it has the same color" if k % 4 == 1 else None
        )
        for k in range(count)
    ]
    return write_build(folder, cases)


def write_talk(folder: Path, count: int = 4, name: str = "talk.json") -> Path:
    """Conversations about one image each, in LLaVA's form, with and without the image mark."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for k in range(count):
        image = np.random.default_rng(k).integers(0, 255, (40 + 10 * k, 60, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{k}.png"), image)
        mark = "<image>\n" if k % 2 else ""
        turns = [("human", f"{mark}What is picture {k}?"), ("gpt", f"noise number {k}")]
        records.append(
            {"id": k, "image": f"{k}.png", "conversations": [{"from": who, "value": text} for who, text in turns]}
        )
    (folder / name).write_text(json.dumps(records), encoding="utf-8")
    return folder / name


def make_model(folder: Path, family: str = "internvl2-phi3", scale: float = 1.0, expert: str = "radio") -> Path:
    """A toy checkpoint with a small expert; `scale` widens the language model's initial weights."""
    init_tiny(folder, family, expert)
    if scale != 1:
        for file in folder.glob("*.safetensors"):
            tensors = load_file(file)
            for name, tensor in tensors.items():
                if tensor.ndim == 2 and ("language_model" in name or "lm_head" in name):
                    tensors[name] = tensor * scale
            save_file(tensors, file, metadata={"format": "pt"})
    return folder


def make_config(model: Path, out: Path, sources: list[dict[str, Any]], **changes: Any) -> Stage2Config:
    """A small run; `changes` update `data`, `lora`, `trainer`, `optimizer` and the top level."""
    content: dict[str, Any] = {
        "stage": "stage2",
        "model": str(model),
        "output_dir": str(out),
        "data": {"sources": [{k: v if k == "weight" else str(v) for k, v in source.items()} for source in sources]},
        "lora": {"r": 4, "alpha": 8, "dropout": 0.0},
        "max_loss_bound": None,  # LoRA alone cannot make these models say a letter, and need not
        "trainer": {
            "global_batch_size": 2,
            "max_steps": 4,
            "num_workers": 0,
            "precision": "float32",
            "logging_steps": 1,
        },
    }
    content["data"]["max_length"] = 1024
    for key, value in changes.items():
        content[key] = content.get(key, {}) | value if isinstance(value, dict) else value
    return parse_config(content, Stage2Config, "test")


def prepare_stage(config: Stage2Config) -> Stage:
    torch.manual_seed(config.seed)
    stage = build_stage(config)
    stage.prepare()
    return stage


def read_rows(stage: Stage) -> list[Any]:
    items = [stage.train[number] for number in range(len(stage.train))]
    assert all(isinstance(item, PartialItem) and not item.rejects for item in items)
    return [item.value for item in items]


def compute_loss(stage: Stage, batch: dict[str, Any]) -> float:
    stage.model.eval()
    with torch.no_grad():
        return float(stage.step(stage.model, batch).loss)
