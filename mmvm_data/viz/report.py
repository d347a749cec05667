"""One HTML file that shows a whole benchmark: histograms, filters, a gallery, rejects; no server, no network.

Shape of the file: styles, an empty page, one JSON block with a row for each case and the counts, the script, then the
thumbnails in blocks of base64 text. The page works as soon as the JSON is there; thumbnails are plain text until a
card on screen needs them, and only one page of cards is in the document at a time. That is what lets a browser open
5,000 cases (about 80 MB) at once; with one ``<img>`` a picture it would decode 10,000 of them first.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib import resources
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote

import cv2
import numpy as np
from PIL import Image

from mmvm_data.cases.statistics import Stats
from mmvm_data.core.case_facts import answer_letter, region_area, source_name, video_id
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import MATCH_TYPES, Case, Region
from mmvm_data.formats import bench
from mmvm_data.formats.build_files import read_build, read_cases, read_rejects
from mmvm_data.io.files import atomic_write, safe_join

THUMB_WIDTH, THUMB_HEIGHT = 240, 180
WEBP_QUALITY, WEBP_METHOD = 60, 2
"""A drawn frame at 240 x 133 takes 7.4 KB and 2 ms; OpenCV's encoder (method 4) takes 7.1 KB and 3.5 ms."""
CHUNK = 16
"""Cases a block of thumbnails; a page of 24 shuffled cases parses at most 24 blocks of 0.3 MB."""
MAX_REJECTS = 5000


def write_report(folder: Path, out: Path | None = None, progress: Callable[[int, int], None] | None = None) -> Path:
    """Write the report of a benchmark folder.

    Memory is bounded by one line of ``cases.jsonl`` and ``CHUNK`` cases' images; the file appears whole or not at all.
    Pictures that cannot be read show as "picture missing". The large view loads the full images by their path relative
    to the report, and falls back to the thumbnails.

    Args:
        folder: output of a build, or a benchmark of case folders and a tsv.
        out: the file to write; by default ``report.html`` in the folder, next to the images it refers to.
        progress: called with (cases done, cases in all) after each block of cases.

    Returns:
        The path of the report.

    Raises:
        InputError: a file of the benchmark is missing or broken.
        OutputError: the report cannot be written.
    """
    if not folder.is_dir():
        raise InputError(folder, "expected a benchmark's folder, found none")
    out = out or folder / "report.html"
    try:
        with atomic_write(out) as handle, ThreadPoolExecutor(os.cpu_count()) as pool:
            _fill(handle, folder, out.parent, pool, progress)
    except OSError as error:
        raise OutputError(out, error) from error
    return out


def script_json(value: Any) -> str:
    """JSON that is safe inside a ``<script>`` element: ASCII, with no "<" that could end it or open a comment."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def images_of(case: Case) -> list[tuple[str, str]]:
    """(drawn, original) paths of a case's images, relative to the benchmark's folder.

    The original of X is its first seven characters + ``_ORI`` + the extension; the last drawn image is X + ``_CAND``.

    Raises:
        InputError: a path leaves the folder or names no file.
    """
    pairs = []
    for position, frame in enumerate(case.frames):
        safe_join(Path(), frame.path, f"{case.id}: frame {position}")
        path = PurePosixPath(frame.path)
        if not path.name:
            raise InputError(f"{case.id}: frame {position}", f"path {frame.path!r} names no file")
        mark = "_CAND" if position == len(case.frames) - 1 else ""
        pairs.append((str(path.with_name(f"{path.name[:7]}{mark}{path.suffix}")), frame.path))
    return pairs


def thumbnail(path: Path, width: int, height: int, most: tuple[int, int] = (THUMB_WIDTH, THUMB_HEIGHT)) -> str | None:
    """Base64 of a small WebP; None when the file is missing or no image.

    Args:
        path: image file.
        width, height: its pixels; a JPEG is decoded at a half or a quarter of them while that is enough.
        most: width and height of the result in pixels, at most.
    """
    flag = cv2.IMREAD_COLOR
    for factor, reduced in ((2, cv2.IMREAD_REDUCED_COLOR_2), (4, cv2.IMREAD_REDUCED_COLOR_4)):
        if width >= 1.5 * factor * most[0] and height >= factor * most[1] / 2:
            flag = reduced
    try:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), flag)
    except (OSError, cv2.error):  # cv2: an empty file, or more pixels than it accepts
        return None
    if image is None:
        return None
    scale = min(1.0, most[0] / image.shape[1], most[1] / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
    encoded = BytesIO()
    Image.fromarray(small).save(encoded, "WEBP", quality=WEBP_QUALITY, method=WEBP_METHOD)
    return base64.b64encode(encoded.getvalue()).decode("ascii")


def row_of(case: Case, intern: Callable[[str], int]) -> dict[str, Any]:
    """What the page knows of a case; ``intern`` gives the number of a text that many cases share."""
    origin = case.provenance
    images = [
        {"path": drawn, "original": original, "width": frame.width, "height": frame.height}
        for (drawn, original), frame in zip(images_of(case), case.frames, strict=True)
    ]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(origin.versions.items())) if origin else ""
    extra = case.extra | (origin.extra if origin else {})
    return {
        "id": case.id,
        "source": source_name(case),
        "video": video_id(case),
        "images": images,
        "prompt": case.prompt,
        "query": [_region(region) for region in case.query],
        "candidates": [
            {"number": item.number, "track": item.region.id} | _region(item.region) for item in case.candidates
        ],
        "answer": case.answer,
        "letter": answer_letter(case),
        "options": [[option.letter, option.number] for option in case.options],
        "question": intern(case.question),
        "types": sorted(set(case.match_types)),
        "rationale": case.rationale,
        "review": case.review.model_dump(),
        "gap": origin.gap if origin else None,
        "alike": origin.look_alikes if origin else None,
        "visible": origin.visible if origin else None,
        "tracks": list(origin.tracks) if origin else [region.id for region in case.query[:1]],
        "frames": [{"path": f.path, "index": f.index, "time": f.time} for f in origin.frames] if origin else [],
        "seed": origin.seed if origin else None,
        "ordinal": origin.ordinal if origin else None,
        "versions": intern(versions),
        "extra": json.dumps(extra, ensure_ascii=False, sort_keys=True) if extra else "",
    }


def _fill(
    handle: IO[str], folder: Path, place: Path, pool: Executor, progress: Callable[[int, int], None] | None
) -> None:
    page = _page()
    head, rest = page.split("<!--data-->")
    middle, tail = rest.split("<!--thumbs-->")
    handle.write(head)
    total = _write_data(handle, folder, os.path.relpath(folder.resolve(), place.resolve()))
    handle.write(middle)
    done = 0
    for number, cases in enumerate(_blocks(read_cases(folder), CHUNK)):
        rows = [[pool.submit(thumbnail, *found) for found in _files(folder, case)] for case in cases]
        thumbs = [[picture.result() for picture in row] for row in rows]
        handle.write(f'<script type="application/json" id="thumbs-{number}">{script_json(thumbs)}</script>\n')
        done += len(cases)
        if progress:
            progress(done, total)
    handle.write(tail)


def _region(region: Region) -> dict[str, Any]:
    return {"category": region.category, "area": region_area(region)}


def _write_data(handle: IO[str], folder: Path, base: str) -> int:
    """Write the JSON block row by row; returns the number of cases. Rejected ones are among the rows, to be looked at,
    and not in the figures."""
    stats = Stats(build=read_build(folder))
    strings: dict[str, int] = {}
    handle.write('{"rows":[')
    problems: list[bench.Problem] = []
    total = 0
    for total, case in enumerate(read_cases(folder, problems), start=1):
        row = row_of(case, lambda text: strings.setdefault(text, len(strings)))
        handle.write(f"{',' if total > 1 else ''}\n{script_json(row)}")
        stats.add(case)
    stats.problems = len(problems)
    rejects: list[list[str | int]] = []
    for reject in read_rejects(folder):
        stats.add_reject(reject)
        if len(rejects) < MAX_REJECTS:
            rejects.append([reject.source, reject.video, reject.ordinal, reject.reason, reject.file, reject.field])
    facts = {
        "title": folder.resolve().name,
        "base": "" if base == "." else f"{quote(os.fsencode(base))}/",
        "chunk": CHUNK,
        "thumb": [THUMB_WIDTH, THUMB_HEIGHT],
        "strings": list(strings),
        "match_types": MATCH_TYPES,
        "rejects": rejects,
        "problems": [[problem.where, problem.what] for problem in problems[:MAX_REJECTS]],
        "stats": stats.to_json() | {"build": None},
        "build": stats.build,
    }
    handle.write("]" + "".join(f',\n"{name}":{script_json(value)}' for name, value in facts.items()) + "}")
    return total


def _files(folder: Path, case: Case) -> list[tuple[Path, int, int]]:
    """File, width and height of each image: the drawn one, or the clean one where a set came without it."""
    found = []
    for frame, (drawn, original) in zip(case.frames, images_of(case), strict=True):
        path = folder / drawn
        found.append((path if path.is_file() else folder / original, frame.width, frame.height))
    return found


def _blocks(cases: Iterator[Case], size: int) -> Iterator[list[Case]]:
    while block := list(islice(cases, size)):
        yield block


def _page() -> str:
    """The template with its styles and scripts put in."""
    files = resources.files("mmvm_data.viz")
    text = {name: files.joinpath(name).read_text(encoding="utf-8") for name in _PARTS}
    page = text["report.html"].replace("/*styles*/", text["report.css"])
    return page.replace("/*scripts*/", text["report_facets.js"] + text["report.js"])


_PARTS = ("report.html", "report.css", "report_facets.js", "report.js")
