"""Speed, memory and reliability of ``mmvm-data audit``; prints one JSON object.

1. A whole audit of 1,500 cases at 480p by one process; at most 30 s.
2. All near pairs among a million hashes, in a process of its own: seconds, peak resident memory, and which of the
   planted pairs (1 to 7 of 64 bits apart) come back.
3. Planted duplicates: generated pictures against changed copies of themselves, each kind of change apart: recall, and
   precision over all pairs that were found.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import emit, machine, peak_mb
from numpy.typing import NDArray

from mmvm_data import synth
from mmvm_data.audit import perceptual_hash, run
from mmvm_data.formats import bench
from mmvm_data.io import media
from mmvm_data.pipeline import build

SECONDS_LIMIT = 30.0
CASES, HASHES, PLANTED, IMAGES = 1500, 1_000_000, 10_000, 300
Change = Callable[[NDArray[Any]], NDArray[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--quick", action="store_true", help="little of everything: whether it runs, not how fast")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(pairs(arguments.child)))
        return
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        small = 20 if arguments.quick else 1
        emit(measure(Path(scratch), CASES // small, HASHES // small, IMAGES // small), arguments.out)


def measure(scratch: Path, cases: int, number: int, pictures: int) -> dict[str, Any]:
    """All parts as one record with the limits beside the values."""
    facts = {**machine(), "numpy": np.__version__, "opencv": cv2.__version__}
    built = benchmark(scratch, cases)
    started, cpu = time.perf_counter(), time.process_time()
    found = run.audit(built)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    assert found.cases == cases, found.cases
    return {
        "machine": facts,
        "audit": {
            "cases": found.cases,
            "frames": found.frames.frames if found.frames else 0,
            "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu, 2),
            "limit": SECONDS_LIMIT,
            "within": seconds <= SECONDS_LIMIT,
        },
        "pairs": child(number),
        "planted": planted(sources(scratch, pictures)),
    }


def benchmark(scratch: Path, cases: int) -> Path:
    """A build of so many cases from generated videos, the first ones repeated under other names to be quick."""
    videos = min(40, max(2, cases // 4))
    root = synth.generate(scratch / "videos", synth.SynthOptions(videos=videos, frames=12))
    build.build("ytvos", root, scratch / "few", build.BuildOptions())
    few = list(bench.read(scratch / "few"))
    # written again with other videos' names: every image is opened once more
    folder = scratch / "many"
    shutil.copytree(scratch / "few" / bench.FOLDER, folder / bench.FOLDER)
    with open(folder / "cases.jsonl", "w", encoding="utf-8") as lines:
        for k in range(cases):
            case = few[k % len(few)]
            assert case.provenance is not None
            origin = case.provenance.model_copy(update={"video": f"{case.provenance.video}-{k // len(few)}"})
            again = case.model_copy(update={"id": f"case_{k:06d}", "provenance": origin})
            lines.write(again.model_dump_json() + "\n")
    return folder


def pairs(number: int) -> dict[str, Any]:
    """Near pairs among ``number`` random hashes with planted ones: seconds, memory, and what came back."""
    rng = np.random.default_rng(0)
    found = np.zeros(number, perceptual_hash.HASH_DTYPE)
    found["find"] = rng.integers(0, 2**64, number, dtype=np.uint64)
    found["confirm"] = rng.integers(0, 2**64, (number, 4), dtype=np.uint64)
    count = max(8, PLANTED * number // HASHES)
    for k in range(count):
        value = int(found["find"][k])
        for bit in rng.choice(64, k % 8, replace=False):
            value ^= 1 << int(bit)
        found["find"][number - 1 - k], found["confirm"][number - 1 - k] = value, found["confirm"][k]
    before, started = peak_mb(), time.perf_counter()
    groups = perceptual_hash.group_equal_hashes(found, np.zeros(number, np.uint8))
    got: set[tuple[int, int]] = set()
    for chunk in perceptual_hash.find_near_groups(found, groups):
        got.update(zip(chunk.i.tolist(), chunk.j.tolist(), strict=True))
    seconds = time.perf_counter() - started
    place = np.empty(number, np.int64)
    bounds = [*groups.starts.tolist(), number]
    place[groups.order] = np.repeat(np.arange(len(groups.starts)), np.diff(bounds))
    wanted = {tuple(sorted((int(place[k]), int(place[number - 1 - k])))) for k in range(count) if k % 8}
    return {
        "hashes": number,
        "seconds": round(seconds, 2),
        "peak_mb": round(peak_mb(), 1),
        "peak_mb_before": round(before, 1),
        "planted": len(wanted),
        "recall": round(len(wanted & got) / len(wanted), 6),
        "precision": round(len(wanted & got) / max(1, len(got)), 6),
    }


def child(number: int) -> dict[str, Any]:
    """``pairs`` in a process of its own, whose memory is its alone."""
    done = subprocess.run([sys.executable, __file__, "--child", str(number)], stdout=subprocess.PIPE, check=True)
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def sources(scratch: Path, count: int) -> list[NDArray[Any]]:
    """Images of different generated worlds."""
    root = synth.generate(scratch / "worlds", synth.SynthOptions(videos=count, frames=2, width=427, height=240))
    paths = sorted((root / "train" / "JPEGImages").glob("*/"))
    return [
        np.ascontiguousarray(media.read_image_rgb(path)[..., ::-1])
        for path in (sorted(p.glob("*.jpg"))[0] for p in paths)
    ]


def planted(pictures: list[NDArray[Any]]) -> dict[str, Any]:
    """Recall and precision for each kind of change."""
    kinds: dict[str, Change] = {
        "jpeg at quality 30": lambda image: np.asarray(
            cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)
        ),
        "half the size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        "brighter by a tenth": lambda image: cv2.convertScaleAbs(image, alpha=1.1, beta=10),
        "blurred, sigma 1.5": lambda image: cv2.GaussianBlur(image, (0, 0), 1.5),
        "cropped by 2 % a side": lambda image: _cropped(image, 0.02),
        "cropped by 5 % a side": lambda image: _cropped(image, 0.05),
        "mirrored": lambda image: cv2.flip(image, 1),
    }
    own = [perceptual_hash.compute_hashes(picture) for picture in pictures]
    result: dict[str, Any] = {"pictures": len(pictures)}
    for name, change in kinds.items():
        both = [*own, *(perceptual_hash.compute_hashes(change(picture)) for picture in pictures)]
        known = [(k, hashed) for k, hashed in enumerate(both) if hashed is not None]
        array = np.array([hashed for _, hashed in known], perceptual_hash.HASH_DTYPE)
        groups = perceptual_hash.group_equal_hashes(array, np.array([k >= len(pictures) for k, _ in known], np.uint8))
        right = wrong = 0
        for chunk in perceptual_hash.find_near_groups(array, groups):
            for i, j in zip(chunk.i.tolist(), chunk.j.tolist(), strict=True):
                for a in groups.members(i).tolist():
                    for b in groups.members(j).tolist():
                        same = (known[b][0] - known[a][0]) % len(pictures) == 0
                        right, wrong = right + same, wrong + (not same)
        result[name] = {
            "recall": round(right / len(pictures), 4),
            "precision": round(right / max(1, right + wrong), 4),
        }
    return result


def _cropped(image: NDArray[Any], share: float) -> NDArray[Any]:
    height, width = image.shape[:2]
    y, x = round(height * share), round(width * share)
    return cv2.resize(image[y : height - y, x : width - x], (width, height))


if __name__ == "__main__":
    main()
