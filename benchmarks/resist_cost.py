"""What `mmvm-data build --resist` adds to building its pool, on generated videos with cuts.

Cases are measured while the pool is built; then a third is chosen and written, and the pool is deleted, which is
measured but not part of the limit. The record says what the baselines score on the pool and on the chosen cases, and
how much memory was in use at most. All times are processor seconds of one process and one build, so that other work
on the machine counts less. Small images make building cheap, and choosing does not depend on their size. 3,060 videos
give a pool of about 32,000 cases, of which 10,600 are chosen; `--copies` repeats videos under other names. Prints one
JSON object.

    python benchmarks/resist_cost.py --videos 3060 --out benchmarks/results/resist_cost.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from common import emit, machine, peak_mb

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.pipeline import measuring
from mmvm_data.pipeline.case_writer import FrameCache
from mmvm_data.pipeline.options import BuildOptions
from mmvm_data.recipes.resistant_build import build_resistant
from mmvm_data.recipes.selection_scores import Selection
from mmvm_data.synth import SynthOptions, generate

LIMIT, POOL_FACTOR, CASES_PER_VIDEO = 0.15, 3, 4
VIDEOS, SIZE = 340, (320, 180)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--videos", type=int, default=VIDEOS, help="generated videos, about 10 cases each")
    parser.add_argument("--root", type=Path, help="videos that were generated before")
    parser.add_argument("--copies", type=int, default=1, help="how often the videos are repeated")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, help="width and height of the images")
    parser.add_argument("--folder", type=Path, help="where the files are written; the system's temporary folder")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-", dir=a.folder) as scratch:
        emit(measure(Path(scratch), a.root, a.videos, a.copies, a.size), a.out)


def measure(scratch: Path, root: Path | None, videos: int, copies: int, size: Sequence[int]) -> dict[str, Any]:
    """Processor seconds of building a pool, and of measuring its cases, choosing a third of them and writing these."""
    facts = machine()
    width, height = size
    if root is None:
        root = scratch / "videos"
        options = SynthOptions(
            videos=videos, frames=8, cuts=3, look_alikes="patterns", width=width, height=height, objects=(4, 4), seed=1
        )
        generate(root, options)
    root = _multiply_videos(root, scratch / "copies", copies)
    area = width * height / (SIZE[0] * SIZE[1])
    sampling = SamplingOptions(
        seed=1,
        cases_per_video=CASES_PER_VIDEO,
        min_area=round(150 * area),
        min_side=round(10 * area**0.5),
        min_candidates=4,
        none_share=0,
        min_gap=10,
    )
    seconds, selection, peaks = _time_parts(root, scratch / "chosen", BuildOptions(sampling=sampling))
    pool_cases = len(selection.chosen)
    build, deleting = seconds.pop("building"), seconds.pop("deleting the pool")
    added = sum(seconds.values())
    return {
        "machine": facts,
        "images": f"{width} x {height}",
        "videos": videos,
        "copies": copies,
        "pool_cases": pool_cases,
        "chosen": int(selection.chosen.sum()),
        "build_seconds": round(build, 2),
        "added_seconds": {name: round(part, 2) for name, part in seconds.items()},
        "deleting_seconds": round(deleting, 2),
        "build_ms_per_case": round(1e3 * build / pool_cases, 3),
        "added_ms_per_case": round(1e3 * added / pool_cases, 3),
        "share": round(added / build, 3),
        "share_with_deleting": round((added + deleting) / build, 3),
        "limit": LIMIT,
        "within": added <= LIMIT * build,
        "peak_mb": peaks,
        "scores": [
            {
                "baseline": entry["chosen"]["baseline"],
                "pool": entry["pool"]["score"],
                "chosen": entry["chosen"]["score"],
                "interval": [entry["chosen"]["low"], entry["chosen"]["high"]],
                "chance": entry["chosen"]["chance"],
                "deviation": entry["deviation"],
            }
            for entry in selection.to_json()["baselines"]
        ],
        "warnings": selection.warnings,
    }


def _time_parts(root: Path, out: Path, options: BuildOptions) -> tuple[dict[str, float], Selection, dict[str, int]]:
    """Processor seconds of the parts of ``build_resistant``, the selection, and the largest memory before and after.

    It reports cases as they are read, then from 1 again as they are written. This thread measures cases; others may
    write images meanwhile, so that the thread's own time counts. Masks that measuring crops are not cropped again for
    their outlines, which every build draws, so that cropping is no part of measuring.
    """
    measured, is_measuring = 0.0, False

    def timed(function: Callable[..., Any], sign: int) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal measured, is_measuring
            before, is_measuring = is_measuring, is_measuring or sign > 0
            started = time.thread_time()
            result = function(*arguments)
            if is_measuring:
                measured += sign * (time.thread_time() - started)
            is_measuring = before
            return result

        return call

    times = {"start": time.process_time()}
    peaks: dict[str, int] = {}
    last_number = 0

    def note(number: int) -> None:
        nonlocal last_number
        now = time.process_time()
        if "built" not in times:
            times["built"] = now
            peaks["after building"] = round(peak_mb())
        if number < last_number:
            times["chosen"] = now
        times["written" if "chosen" in times else "read"] = now
        last_number = number

    with (
        patch("mmvm_data.pipeline.worker.measure_case", timed(measuring.measure_case, 1)),
        patch.object(FrameCache, "crop", timed(FrameCache.crop, -1)),
    ):
        _, selection = build_resistant("ytvos", root, out, options, POOL_FACTOR, choosing=note)
    times["end"] = time.process_time()
    peaks["at the end"] = round(peak_mb())
    assert selection is not None
    seconds = {
        "building": times["built"] - times["start"] - measured,
        "measuring while building": measured,
        "reading what was measured": times["read"] - times["built"],
        "choosing": times["chosen"] - times["read"],
        "writing": times["written"] - times["chosen"],
        "deleting the pool": times["end"] - times["written"],
    }
    return seconds, selection, peaks


def _multiply_videos(root: Path, out: Path, copies: int) -> Path:
    """The same videos many times under other names; their files are links."""
    if copies == 1:
        return root
    meta = json.loads((root / "train/meta.json").read_text(encoding="utf-8"))
    videos = {f"{name}-{k}": entry for k in range(copies) for name, entry in meta["videos"].items()}
    for kind in ("JPEGImages", "Annotations"):
        for name in meta["videos"]:
            for k in range(copies):
                target = out / "train" / kind / f"{name}-{k}"
                target.mkdir(parents=True)
                for path in (root / "train" / kind / name).iterdir():
                    os.link(path, target / path.name)
    (out / "train/meta.json").write_text(json.dumps({**meta, "videos": videos}), encoding="utf-8")
    return out


if __name__ == "__main__":
    main()
