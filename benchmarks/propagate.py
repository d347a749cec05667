"""How well `ingest assist` carries a box, and up to two corrections, through real shots; prints one JSON object.

Shots are up to 16 evenly spaced pictures of clips of DAVIS with true masks. A box around an object's true mask in the
first picture is sent to the assistant as the editor sends it. Then, as long as the worst picture has an IoU under 0.8,
a box around the true mask is sent for that picture, twice at most. After each answer the mean IoU over the pictures in
which the object is, or in which it was found, is recorded. Objects of fewer than 300 pixels in the first picture are
left out, and pixels that the truth marks as void do not count.

`bedroom-girl` and `bedroom-boy` are the children of a clip that has no masks of its own; see `bedroom.py`.

Actions of a person: the number, the tool, the box, and sending it; for each correction turning to the picture and the
box. Turning the pages to look at them is not counted.

    python benchmarks/propagate.py --mobile-sam mobile_sam.pt --out benchmarks/results/propagate.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bedroom
import numpy as np
from common import emit, machine
from numpy.typing import NDArray
from PIL import Image

from mmvm_data.annotation.tracks.assist import Assistant, CachedSegmenter
from mmvm_data.annotation.tracks.follow import FlowTracker, bounding_box, overlap
from mmvm_data.annotation.tracks.interpret import read_tracks
from mmvm_data.annotation.tracks.layout import Clip, Shot, clip_path, iter_shots
from mmvm_data.annotation.tracks.task import build_task
from mmvm_data.core import masks
from mmvm_data.core.types import Frame
from mmvm_data.io import media
from mmvm_data.io.files import file_sha256

SHARED = Path(__file__).resolve().parents[2] / "shared/realdata"
CLIPS = {
    "soapbox": "davis2016_val/DAVIS/{}/480p/soapbox",
    "kite-surf": "davis2016_val/DAVIS/{}/480p/kite-surf",
    "schoolgirls": "davis2017_schoolgirls_240p/{}/240p/schoolgirls",
    "bear": "davis2017_interactive/DAVIS/{}/480p/bear",
    "tennis": "davis2017_interactive/DAVIS/{}/480p/tennis",
}
VOID = 255
MIN_PIXELS = 300
LIMIT = 0.8
FIRST_ACTIONS, CORRECTION_ACTIONS, MOST_ACTIONS = 4, 2, 6


@dataclass
class TrueShot:
    """Pictures with the number of the object at each pixel, 0 for none."""

    images: list[Path]
    truth: list[NDArray[np.uint8]]

    def objects(self) -> Iterator[int]:
        numbers, pixels = np.unique(self.truth[0], return_counts=True)
        for number, count in zip(numbers.tolist(), pixels.tolist(), strict=True):
            if number not in (0, VOID) and count >= MIN_PIXELS:
                yield number


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mobile-sam", type=Path, required=True, help="the published mobile_sam.pt")
    parser.add_argument("--realdata", type=Path, default=SHARED, help="folder of the clips")
    parser.add_argument("--clips", default=",".join(CLIPS), help="by commas")
    parser.add_argument("--pictures", type=int, default=16, help="of a shot, at most")
    parser.add_argument("--corrections", type=int, default=2, help="of an object, at most")
    parser.add_argument("--correct-in", type=int, help="picture of corrections; the worst one unless it is given")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    arguments = parser.parse_args()
    from mmvm_data.annotation.tracks.mobile_sam import MobileSam

    facts = machine()
    segmenter = CachedSegmenter(MobileSam(arguments.mobile_sam, "cpu"))
    clips = {}
    for name in arguments.clips.split(","):
        with TemporaryDirectory(prefix="mmvm-bench-") as scratch:
            if name in bedroom.OBJECTS:
                images, truth = bedroom.read_shot(arguments.realdata, Path(scratch) / "cut", name, segmenter)
                shot = TrueShot(images, truth)
            else:
                shot = read_shot(arguments.realdata, name, arguments.pictures)
            clips[name] = measure(
                Path(scratch) / "clips", name, shot, segmenter, arguments.corrections, arguments.correct_in
            )
    objects = [row for clip in clips.values() for row in clip["objects"]]
    result = {
        "machine": facts,
        "weights_sha256": file_sha256(arguments.mobile_sam).hex(),
        "pictures": arguments.pictures,
        "corrections": arguments.corrections,
        "limit": {"iou": LIMIT, "actions": MOST_ACTIONS},
        "clips": clips,
        "objects": len(objects),
        "objects_within_the_limit": sum(row["within"] for row in objects),
    }
    emit(result, arguments.out)


def read_shot(realdata: Path, name: str, most: int) -> TrueShot:
    """Evenly spaced pictures of a clip, the first and the last among them."""
    images = sorted((realdata / CLIPS[name].format("JPEGImages")).glob("*.jpg"))
    if not images:
        raise SystemExit(f"{realdata}: no pictures of {name}")
    picked = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int))
    images = [images[k] for k in picked]
    folder = realdata / CLIPS[name].format("Annotations")
    truth = [np.array(Image.open(folder / f"{path.stem}.png")) for path in images]
    if truth[0].ndim == 2 and {0, VOID} >= set(np.unique(truth[0]).tolist()):  # DAVIS 2016: black and white
        truth = [(values > 0).astype(np.uint8) for values in truth]
    return TrueShot(images, truth)


def measure(
    folder: Path, name: str, shot: TrueShot, segmenter: CachedSegmenter, corrections: int, correct_in: int | None = None
) -> dict[str, Any]:
    """All objects of a shot, each on its own."""
    write_clip(folder, name, shot)
    started = time.process_time()
    for frame in next(iter_shots(folder))[1].frames:
        segmenter.embed(media.read_frame_bgr(folder, frame))
    encoding = time.process_time() - started
    rows = [draw(folder, shot, segmenter, number, corrections, correct_in) for number in shot.objects()]
    return {
        "pictures": len(shot.images),
        "size": list(shot.truth[0].shape),
        "encoding_cpu_seconds": round(encoding, 1),
        "mean_iou": round(float(np.mean([row["mean_iou"] for row in rows])), 3),
        "objects": rows,
    }


def write_clip(folder: Path, name: str, shot: TrueShot) -> None:
    """The folder that `ingest cut` would write for these pictures."""
    height, width = shot.truth[0].shape
    frames = []
    for number, path in enumerate(shot.images):
        relative = f"frames/{name}/shot000/{number:06d}.jpg"
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        (folder / relative).write_bytes(path.read_bytes())
        frames.append(Frame(index=number, path=relative, height=height, width=width))
    cut = Shot(first=0, last=len(frames) - 1, frames=tuple(frames))
    record = clip_path(folder, name)
    record.parent.mkdir(exist_ok=True)
    record.write_text(Clip(name=name, sha256="0" * 64, options={}, shots=(cut,)).model_dump_json())


def draw(
    folder: Path,
    shot: TrueShot,
    segmenter: CachedSegmenter,
    number: int,
    corrections: int,
    correct_in: int | None = None,
) -> dict[str, Any]:
    """One object as a person draws it."""
    assistant = Assistant(folder, FlowTracker(segmenter))
    ((shot_name, cut),) = iter_shots(folder)
    task = build_task(shot_name, cut, str) | {"id": 1, "drafts": []}
    results: dict[str, Any] = {}
    answers: list[list[float]] = []
    asked, cpu, position = [], [], 0
    while True:
        started = time.process_time()
        answer = assistant.suggest(task, rectangle(shot, number, position))
        cpu.append(round(time.process_time() - started, 1))
        asked.append(position)
        replaced = {result["id"] for result in answer}
        results = {k: v for k, v in results.items() if v["id"] not in replaced}
        results |= {f"{result['id']} {result['type']}": result for result in answer}
        task["drafts"] = [{"id": 1, "result": list(results.values()), "updated_at": "2030-01-01T00:00:00Z"}]
        ious = compare(shot, number, read_tracks(shot_name, cut, list(results.values())).video)
        answers.append(ious)
        worst = min((iou, k) for k, iou in enumerate(ious) if (shot.truth[k] == number).any())
        position = worst[1] if correct_in is None else correct_in
        if worst[0] >= LIMIT or position in asked or len(asked) > corrections:
            break
    means = [round(float(np.nanmean(ious)), 3) for ious in answers]
    # within the actions of the limit a person corrects while it is worth it
    allowed = 1 + (MOST_ACTIONS - FIRST_ACTIONS) // CORRECTION_ACTIONS
    return {
        "object": number,
        "pixels": int((shot.truth[0] == number).sum()),
        "mean_iou_after": means,
        "worst_iou_after": [round(float(np.nanmin(ious)), 3) for ious in answers],
        "boxes_in_pictures": asked,
        "mean_iou": means[-1],
        "actions": FIRST_ACTIONS + CORRECTION_ACTIONS * (len(asked) - 1),
        "within": max(means[:allowed]) >= LIMIT,
        "cpu_seconds": cpu,
        "iou_by_picture": [None if np.isnan(iou) else round(iou, 2) for iou in answers[-1]],
    }


def rectangle(shot: TrueShot, number: int, position: int) -> list[dict[str, Any]]:
    """A box around the true mask, as the editor sends it."""
    height, width = shot.truth[position].shape
    x, y, w, h = bounding_box(shot.truth[position] == number)
    value = {"x": 100 * x / width, "y": 100 * y / height, "width": 100 * w / width, "height": 100 * h / height}
    common = {"id": "box", "to_name": "original1", "item_index": position}
    common |= {"original_width": width, "original_height": height}
    return [
        common | {"type": "rectangle", "from_name": "rectangle1", "value": value | {"rotation": 0}},
        common | {"type": "labels", "from_name": "object1", "value": value | {"labels": [str(number)]}},
    ]


def compare(shot: TrueShot, number: int, video: Any) -> list[float]:
    """IoU in each picture; NaN where the object neither is nor was found."""
    ious = []
    for position, values in enumerate(shot.truth):
        found = np.zeros(values.shape, bool)
        for region in video.regions(position) if position in video.annotated else ():
            found |= masks.decode(region.mask).astype(bool)
        truth = values == number
        found &= values != VOID
        ious.append(overlap(found, truth) if truth.any() or found.any() else float("nan"))
    return ious


if __name__ == "__main__":
    main()
