"""One HTML file that shows a whole benchmark: histograms, filters, a gallery, rejects; no server, no network.

Order of the file: styles, an empty page, one JSON block with a row for each case and the counts, the script, then the
thumbnails in blocks of base64 text. The page works as soon as the JSON is there; thumbnails are plain text until a
card on screen needs them, and only one page of cards is in the document at a time. That is what lets a browser open
5,000 cases (about 80 MB) at once; with one ``<img>`` for each image it would decode 10,000 of them first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmvm_data.cases.statistics import Stats
from mmvm_data.core.case_facts import answer_letter, region_area, source_name, video_id
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import MATCH_TYPES, Case, Region
from mmvm_data.formats import bench
from mmvm_data.formats.build_files import REPORT, read_build, read_cases, read_rejects
from mmvm_data.io import media
from mmvm_data.io.files import atomic_write
from mmvm_data.io.pages import stream
from mmvm_data.io.thumbnails import webp_thumbnail
from mmvm_data.viz.case_images import image_files, image_paths

THUMB_WIDTH, THUMB_HEIGHT = 240, 180
"""Pixels of a thumbnail, at most."""
CHUNK = 16
"""Cases a block of thumbnails; a page of 24 shuffled cases parses at most 24 blocks of 0.3 MB."""
MAX_REJECTS = 5000


def write_report(
    folder: Path,
    out: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    audit: Mapping[str, Any] | None = None,
) -> Path:
    """Write the report of a benchmark folder and return its path.

    Memory is bounded by one line of ``cases.jsonl`` and ``CHUNK`` cases' images. The file is written under another
    name and renamed when it is complete. Images that cannot be read show as "picture missing". The large view loads
    the full images by their path relative to the report, and falls back to the thumbnails, as it does for files with an
    orientation tag.

    Args:
        folder: output of a build, or a benchmark of case folders and a tsv.
        out: the file to write; by default ``report.html`` in the folder, next to the images it refers to.
        progress: called with (cases done, cases in all) after each block of cases.
        audit: findings of an audit of the folder as JSON values, which the page shows.

    Raises:
        InputError: a file of the benchmark is missing or broken.
        OutputError: the report cannot be written.
    """
    if not folder.is_dir():
        raise InputError(folder, "is not a folder; expected a benchmark's folder")
    out = out or folder / REPORT
    data = _ReportData(folder, out.parent, audit)
    try:
        with atomic_write(out) as handle, ThreadPoolExecutor(os.cpu_count()) as pool:
            thumbnails = _thumbnail_blocks(folder, data, pool, progress)
            handle.writelines(stream("mmvm_data.viz/report.html", title="Cases", data=data, thumbnails=thumbnails))
    except OSError as error:
        raise OutputError(out, error) from error
    return out


def case_row(case: Case, intern: Callable[[str], int]) -> dict[str, Any]:
    """Return what the page shows of a case, as JSON values.

    Args:
        case: any case.
        intern: returns the number of a text that many cases share.

    Raises:
        InputError: a path of the case leaves the folder or names no file.
    """
    origin = case.provenance
    images = [
        {"path": drawn, "original": original, "width": frame.width, "height": frame.height}
        for (drawn, original), frame in zip(image_paths(case), case.frames, strict=True)
    ]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(origin.versions.items())) if origin else ""
    extra = case.extra | (origin.extra if origin else {})
    return {
        "id": case.id,
        "source": source_name(case),
        "video": video_id(case),
        "part": origin.extra.get("recipe_source") if origin else None,
        "images": images,
        "prompt": case.prompt,
        "query": [_region_facts(region) for region in case.query],
        "candidates": [
            {"number": item.number, "track": item.region.id} | _region_facts(item.region) for item in case.candidates
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


class _ReportData:
    """The JSON of a report: ``rows`` first, then ``facts``, which counts what the rows were.

    Args:
        folder: the benchmark.
        report_folder: folder of the report, which links are relative to.
        audit: see ``write_report``.
    """

    def __init__(self, folder: Path, report_folder: Path, audit: Mapping[str, Any] | None = None) -> None:
        self.num_cases = 0
        self._folder = folder
        self._audit = audit
        self._base = os.path.relpath(folder.resolve(), report_folder.resolve())
        self._stats = Stats(build=read_build(folder))
        self._strings: dict[str, int] = {}
        self._problems: list[bench.Problem] = []

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the row of each case. Rejected cases have a row, and do not count in the figures."""
        for case in read_cases(self._folder, self._problems):
            self.num_cases += 1
            self._stats.add_case(case)
            yield case_row(case, lambda text: self._strings.setdefault(text, len(self._strings)))

    def facts(self) -> dict[str, Any]:
        """Return everything but the rows, once all of them were read."""
        self._stats.problems = len(self._problems)
        rejects: list[list[str | int]] = []
        for reject in read_rejects(self._folder):
            self._stats.add_reject(reject)
            if len(rejects) < MAX_REJECTS:
                rejects.append([reject.source, reject.video, reject.ordinal, reject.reason, reject.file, reject.field])
        return {
            "title": self._folder.resolve().name,
            "base": "" if self._base == "." else f"{quote(os.fsencode(self._base))}/",
            "chunk": CHUNK,
            "thumb": [THUMB_WIDTH, THUMB_HEIGHT],
            "strings": list(self._strings),
            "match_types": MATCH_TYPES,
            "rejects": rejects,
            "problems": [[problem.where, problem.what] for problem in self._problems[:MAX_REJECTS]],
            "stats": self._stats.to_json() | {"build": None},
            "build": self._stats.build,
            "audit": self._audit,
        }


def _thumbnail_blocks(
    folder: Path, data: _ReportData, pool: Executor, progress: Callable[[int, int], None] | None
) -> Iterator[list[list[str | None]]]:
    """Yield blocks of ``CHUNK`` cases: for each case the thumbnails of its images."""
    done = 0
    cases = read_cases(folder)
    while block := list(islice(cases, CHUNK)):
        futures = [[pool.submit(_make_thumbnail, *file) for file in image_files(folder, case)] for case in block]
        yield [[future.result() for future in row] for row in futures]
        done += len(block)
        if progress:
            progress(done, data.num_cases)


def _make_thumbnail(path: Path, width: int, height: int) -> str | None:
    """Return a thumbnail, with "!" in front when browsers would rotate the file itself; see ``report.js``."""
    thumbnail = webp_thumbnail(path, width, height, (THUMB_WIDTH, THUMB_HEIGHT))
    return f"!{thumbnail}" if thumbnail is not None and media.has_orientation(path) else thumbnail


def _region_facts(region: Region) -> dict[str, Any]:
    return {"category": region.category, "area": region_area(region)}
