"""What ``build.py`` compares a build with: the least that any build does, and what a script does with the libraries.

Each takes the folder of the videos, a finished build of them, and a new folder for what it writes, and returns seconds
by the clock ("seconds") and of the processor ("cpu") by part. Reading the build's records is not measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from draw import decode_all, draw_candidates_plainly, draw_query_plainly
from numpy.typing import NDArray

from mmvm_data.cases import render
from mmvm_data.core import masks, polygons
from mmvm_data.core.types import Case, Region
from mmvm_data.formats import bench
from mmvm_data.pipeline import build as pipeline

Parts = dict[str, dict[str, float]]
Result = TypeVar("Result")

CONTOURS = "contours"
"""The part of ``floor`` that does not count where contours are known."""
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, pipeline.BuildOptions().quality]
_KEPT_FRAMES = 8
_CYAN = render.COLORS["cyan"][::-1]  # images are BGR here


class Stopwatch:
    """Adds up the time of calls by part of the work."""

    def __init__(self, *parts: str) -> None:
        self.parts: Parts = {clock: dict.fromkeys(parts, 0.0) for clock in ("seconds", "cpu")}

    def __call__(self, part: str, function: Callable[..., Result], *arguments: Any) -> Result:
        started, cpu = time.perf_counter(), time.process_time()
        result = function(*arguments)
        self.parts["cpu"][part] += time.process_time() - cpu
        self.parts["seconds"][part] += time.perf_counter() - started
        return result


def add_up(parts: Parts, clock: str, with_contours: bool = True) -> float:
    """Seconds of all parts, or of all but the search for contours."""
    return sum(seconds for part, seconds in parts[clock].items() if with_contours or part != CONTOURS)


def read_bytes(path: Path) -> NDArray[Any]:
    return np.frombuffer(path.read_bytes(), np.uint8)


def decode_and_encode(root: Path, out: Path) -> Parts:
    """Decode the source frames of each case, however many cases share them, and encode its drawn frames."""
    measure = Stopwatch("decode", "encode")
    for case in _read_cases(out):
        assert case.provenance is not None
        for frame in case.provenance.frames:
            measure("decode", cv2.imdecode, read_bytes(root / frame.path), cv2.IMREAD_COLOR)
        for name in ("FRAME00.jpg", "FRAME01_CAND.jpg"):
            drawn = cv2.imdecode(read_bytes(out / bench.FOLDER / case.id / name), cv2.IMREAD_COLOR)
            measure("encode", cv2.imencode, ".jpg", drawn, _QUALITY)
    return measure.parts


def floor(root: Path, out: Path, folder: Path) -> Parts:
    """What no build can leave out.

    A source frame counts once, however many cases use it, as long as few other frames lie between. Contours are found
    in the tight boxes of the objects, whose bitmaps are known; what is written are the build's own files.
    """
    measure = Stopwatch("read", "decode", CONTOURS, "draw", "encode", "write")
    folder.mkdir()
    for case, (_, pictures) in _read_frames(root, out, measure):
        first, last = (picture.copy() for picture in pictures)
        crops = [masks.crop(masks.region_mask(region, *first.shape[:2])) for region in _list_regions(case)]
        query, *contours = measure(CONTOURS, _find_contours, crops)
        measure("draw", render.mark_query, first, query, _CYAN)
        numbers = range(1, len(contours) + 1)
        measure("draw", render.mark_candidates, last, contours, numbers, _bgr_colors(len(contours)))
        for drawn in (first, last):
            measure("encode", cv2.imencode, ".jpg", drawn, _QUALITY)
        files = {file.name: file.read_bytes() for file in (out / bench.FOLDER / case.id).iterdir()}
        measure("write", _write, folder / case.id, files)
    return measure.parts


def floor_from_masks(root: Path, out: Path, folder: Path) -> Parts:
    """What a script does that is told which objects make a case: it starts from run lengths, not from contours.

    It loads the annotation file with ``json``; reads and decodes each source frame once, as in ``floor``; decodes the
    masks of a case with pycocotools, which gives bitmaps of whole frames; draws them with OpenCV as the published code
    does (``draw.py``); encodes both images; and writes the six files: those, the bytes of both source frames, and the
    JSON of both images with ``json``, whose polygons are taken from the build, since neither library has a function
    for polygons that give a mask back exactly. It chooses no cases, checks and syncs nothing, and writes no records
    and no table. What it writes must be what the build wrote: the same bytes of images, the same content of JSON.
    """
    measure = Stopwatch("index", "read", "decode", "masks", "draw", "encode", "json", "write")
    folder.mkdir()
    measure("index", _load_json, root / "train" / "instances.json")
    for case, (coded, pictures) in _read_frames(root, out, measure):
        rles = [masks.region_mask(region, *pictures[0].shape[:2]) for region in _list_regions(case)]
        query, *others = measure("masks", decode_all, rles)
        numbers = list(range(1, len(others) + 1))
        colors = _bgr_colors(len(others))
        first = measure("draw", draw_query_plainly, pictures[0], query, _CYAN)
        last = measure("draw", draw_candidates_plainly, pictures[1], others, numbers, colors)
        images = [measure("encode", cv2.imencode, ".jpg", drawn, _QUALITY)[1].tobytes() for drawn in (first, last)]
        built = {file.name: file.read_bytes() for file in (out / bench.FOLDER / case.id).iterdir()}
        contents = {name: json.loads(data) for name, data in built.items() if name.endswith(".json")}
        files = dict(zip(("FRAME00.jpg", "FRAME01_CAND.jpg"), images, strict=True))
        files |= {f"FRAME{k:02d}_ORI.jpg": bytes(data) for k, data in enumerate(coded)}
        files |= {name: measure("json", _dump_json, content) for name, content in contents.items()}
        measure("write", _write, folder / case.id, files)
        wrong = [name for name in built.keys() | files.keys() if not _is_same(built.get(name), files.get(name))]
        if wrong:
            raise SystemExit(f"{case.id}: the script writes other files: {', '.join(sorted(wrong))}")
    return measure.parts


def _read_cases(out: Path) -> Iterator[Case]:
    for line in (out / bench.CASES).read_bytes().splitlines():
        yield Case.model_validate_json(line)


def _read_frames(
    root: Path, out: Path, measure: Stopwatch
) -> Iterator[tuple[Case, tuple[list[NDArray[Any]], list[NDArray[Any]]]]]:
    """Yield each case with the bytes of its frames, and the decoded frames; the last few are not read again."""
    frames: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    for case in _read_cases(out):
        assert case.provenance is not None
        paths = [frame.path for frame in case.provenance.frames]
        for path in paths:
            if path not in frames:
                coded = measure("read", read_bytes, root / path)
                frames[path] = coded, measure("decode", _decode, coded)
        yield case, ([frames[path][0] for path in paths], [frames[path][1] for path in paths])
        for used in list(frames)[:-_KEPT_FRAMES]:
            del frames[used]


def _list_regions(case: Case) -> list[Region]:
    """The query and the candidates."""
    return [*case.query, *(candidate.region for candidate in case.candidates)]


def _bgr_colors(count: int) -> list[tuple[float, float, float]]:
    return [(blue, green, red) for red, green, blue in render.distinct_colors(count + 1)]


def _find_contours(crops: list[masks.MaskCrop]) -> list[list[NDArray[Any]]]:
    return [polygons.trace_contours(*crop) for crop in crops]


def _decode(coded: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))


def _load_json(file: Path) -> Any:
    return json.loads(file.read_bytes())


def _dump_json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _is_same(first: bytes | None, second: bytes | None) -> bool:
    """Whether two files have the same bytes, or are JSON files with the same content."""
    if first == second or first is None or second is None:
        return first == second
    return first[:1] == second[:1] == b"[" and json.loads(first) == json.loads(second)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, data in files.items():
        with open(f"{folder}/{name}", "wb", buffering=0) as handle:
            handle.write(data)
