"""Cases of the ablation: generated ones, and real ones of which part is trained on and part asked about."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from common import invoked

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.cli import cli as mmvm_data
from mmvm_data.core.types import Case
from mmvm_data.formats.open_benchmark import open_benchmark
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.synth.writer import SynthOptions, generate

TRAIN_SEED, HELD_OUT_SEED = 1, 2
HELD_OUT_OF = 3
"""Of as many COCO images one is held out."""


def make_generated(scratch: Path, arguments: argparse.Namespace) -> None:
    """Generate videos and the cases of both parts: ``generated_train`` and ``generated_held_out``."""
    make_part(scratch, "train", arguments.videos, TRAIN_SEED, arguments.train_cases)
    make_part(scratch, "held_out", arguments.held_out, HELD_OUT_SEED, arguments.cases)


def make_part(scratch: Path, part: str, videos: int, seed: int, cases: int) -> None:
    """Generate videos and build up to `cases` cases of each in ``generated_<part>``, unless that is there."""
    out = scratch / f"generated_{part}"
    if (out / "build.json").exists():
        return
    folder = scratch / f"{part}_videos"
    if not folder.exists():
        size = SynthOptions(videos=videos, frames=10, width=256, height=144, objects=(4, 4), seed=seed)
        generate(folder, replace(size, workers=os.cpu_count() or 1))
    sampling = SamplingOptions(cases_per_video=cases, min_area=60, min_side=6, none_share=0.0, min_candidates=4)
    build("ytvos", folder, out, BuildOptions(sampling, workers=os.cpu_count() or 1))


def make_real(scratch: Path, arguments: argparse.Namespace) -> None:
    """Build the cases of both parts from real images: ``real_train`` and ``real_held_out``."""
    for part, cases, source, root in (
        ("train", arguments.real_train_cases, "davis2017", "davis2017_schoolgirls_240p"),
        ("held_out", arguments.cases, "mot17", "mot17_mini"),
    ):
        coco = scratch / f"coco_{part}"
        if not coco.exists():
            copy_coco(arguments.real / "coco", coco, held_out=part == "held_out")
        out = scratch / f"real_{part}"
        if out.exists():
            continue
        parts = [scratch / f"{part}_stills", scratch / f"{part}_clips"]
        for folder, reader, images, number in (
            (parts[0], "coco", coco, cases),
            (parts[1], source, arguments.real / root, 4 * cases),
        ):
            sampling = SamplingOptions(cases_per_video=number, none_share=0.0, min_candidates=4, candidates=4)
            build(reader, images, folder, BuildOptions(sampling, existing="overwrite"))
        invoked(mmvm_data, "merge", *parts, "--fresh-ids", "--out", out)


def copy_coco(source: Path, out: Path, held_out: bool) -> None:
    """Copy one image of `HELD_OUT_OF`, or the others, with their annotations."""
    name = Path("annotations") / "instances_train2017.json"
    content = json.loads((source / name).read_text(encoding="utf-8"))
    images = [
        image
        for position, image in enumerate(sorted(content["images"], key=lambda image: image["id"]))
        if (position % HELD_OUT_OF == 0) == held_out
    ]
    ids = {image["id"] for image in images}
    (out / "annotations").mkdir(parents=True)
    (out / "train2017").mkdir()
    for image in images:
        shutil.copy(source / "train2017" / image["file_name"], out / "train2017")
    kept = [annotation for annotation in content["annotations"] if annotation["image_id"] in ids]
    (out / name).write_text(json.dumps(content | {"images": images, "annotations": kept}), encoding="utf-8")


def read_cases(folder: Path) -> list[Case]:
    """The cases of a build, with the folder of their images."""
    return list(open_benchmark(folder).cases())
