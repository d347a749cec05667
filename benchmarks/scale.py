"""What the process that numbers and commits costs a video and a case, in builds of a million videos without images.

The build is the real one (order, scheduling to worker processes, journal, staging, commits, end); only the work of a
worker is left out: a simulated source lists videos without files, and a worker's function returns at once, for each
video one reject, or one case with an empty folder. So what is measured is what one process must do for all workers, and
whether it grows with the size of the build: its own processor time a video, and its resident memory, for each fifth of
the videos. Beside it the bytes of a case, from small builds of generated videos at two sizes. Prints one JSON object.

    python benchmarks/scale.py --videos 1000000 --with-cases 200000 --out benchmarks/results/scale.json

``--page docs/scale.md`` measures nothing: it writes the tables of that page from the records in ``results/``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import scale_page
from common import emit, machine, read_resident_mb

from mmvm_data.builders.catalogue import SOURCES
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Case, Frame, Provenance, Region, Video
from mmvm_data.formats import bench, tsv
from mmvm_data.pipeline import build, worker
from mmvm_data.pipeline.worker import BuiltCase, VideoResult
from mmvm_data.synth.writer import SynthOptions, generate

SOURCE = "ytvos"
"""The catalogue's entry that the simulated source stands in for."""
PARTS = 5
RESULTS = Path(__file__).with_name("results")
SIZES = {"480p": (854, 480), "1080p": (1920, 1080)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--videos", type=int, default=1_000_000, help="without cases")
    parser.add_argument("--with-cases", type=int, default=200_000, help="videos with one case each, in another build")
    parser.add_argument("--workers", type=int, default=2, help="processes that do nothing")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--page", type=Path, help="write the tables of this page from the records, and measure nothing")
    parser.add_argument("--child", nargs=3, metavar=("VIDEOS", "CASES", "WORKERS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(simulate(*map(int, arguments.child))))
        return
    if arguments.page:
        scale_page.write_tables(arguments.page, RESULTS)
        return
    record: dict[str, Any] = {"machine": machine()}
    for name, videos, cases in (("rejects", arguments.videos, 0), ("cases", arguments.with_cases, 1)):
        # in a process of its own, since memory is measured
        command = [sys.executable, __file__, "--child", str(videos), str(cases), str(arguments.workers)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        record[name] = json.loads(done.stdout)
    record["bytes_a_case"] = {name: measure_bytes(*size) for name, size in SIZES.items()}
    emit(record, arguments.out)


def simulate(videos: int, with_cases: int, workers: int) -> dict[str, Any]:
    """One build, measured after each fifth of its videos."""
    names = [f"video_{number:08d}" for number in range(videos)]

    def open_simulated(name: str, root: Path, index: Path | None = None) -> Source:
        return Source(name, root, names, load_nothing)

    object.__setattr__(SOURCES[SOURCE], "open", open_simulated)
    vars(worker).update(init_worker=open_no_source, build_video_cases=build_one_case if with_cases else reject_video)
    marks: list[tuple[float, float]] = []

    def on_video(progress: Any) -> None:
        if progress.videos * PARTS // videos > len(marks):
            marks.append((time.process_time(), read_resident_mb()))

    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        started, clock = time.process_time(), time.perf_counter()
        build.build(SOURCE, root, Path(scratch) / "out", build.BuildOptions(workers=workers), on_video)
        used, taken = time.process_time() - started, time.perf_counter() - clock
        size = sum(file.stat().st_size for file in (Path(scratch) / "out").iterdir() if file.is_file())
    # the first fifth also lists and orders the videos
    steps = [later[0] - earlier[0] for earlier, later in zip([(started, 0.0), *marks], marks, strict=False)]
    return {
        "videos": videos,
        "workers": workers,
        "cpu_seconds": round(used, 1),
        "seconds": round(taken, 1),
        "cpu_us_a_video_by_fifths": [round(step * PARTS / videos * 1e6, 1) for step in steps],
        "resident_mb_by_fifths": [round(resident, 1) for _, resident in marks],
        "bytes_a_video_in_files": round(size / videos, 1),
    }


def measure_bytes(width: int, height: int) -> dict[str, float]:
    """Mean bytes of a case of generated videos: its six files, its record, and its row in the table."""
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        root, out = Path(scratch) / "videos", Path(scratch) / "out"
        generate(root, SynthOptions(videos=4, frames=8, width=width, height=height))
        result = build.build(SOURCE, root, out, build.BuildOptions(workers=1))
        files = sum(file.stat().st_size for file in (out / bench.FOLDER).rglob("*") if file.is_file())
        sizes = {"files": files, "record": (out / bench.CASES).stat().st_size, "row": (out / bench.TSV).stat().st_size}
    return {"cases": result.cases, **{name: round(size / result.cases) for name, size in sizes.items()}}


def open_no_source(source: str, root: Path, cache: Path | None, staging_dir: Path, *options: Any) -> Path:
    """In place of a worker's start: returns the staging folder as its context."""
    return staging_dir


def reject_video(staging_dir: Path, job: tuple[int, str]) -> VideoResult:
    return VideoResult(rejects=[Reject(SOURCE, job[1], -1, "no frames")])


def build_one_case(staging_dir: Path, job: tuple[int, str]) -> VideoResult:
    """A case with an empty folder; its record and row have the lengths of real ones without masks."""
    unit, video = job
    (staging_dir / worker.staging_name(unit, 0)).mkdir()
    line, row = (text.replace("video_00000000", video) for text in make_texts())
    return VideoResult(cases=[BuiltCase(line.encode(), False, row)])


def load_nothing(video: str) -> Video:
    raise InputError(video, "a simulated video has no frames")


@cache
def make_texts() -> tuple[str, str]:
    """The record of a case between two objects and its line in the table, with the placeholder for its id."""
    frame = Frame(path="match_bench/case_#######/FRAME00_ORI.jpg", index=0, width=854, height=480)
    region = Region(id="1", box=(0.0, 0.0, 8.0, 8.0))
    provenance = Provenance(
        source=SOURCE, video="video_00000000", frames=(frame, frame), tracks=("1", "1", "2"), seed=0, ordinal=0, gap=30
    )
    fields: dict[str, Any] = {
        "id": "case_#######",
        "frames": (frame, frame.model_copy(update={"path": frame.path.replace("00_", "01_")})),
        "query": (region,),
        "candidates": ({"number": 1, "region": region}, {"number": 2, "region": region}),
        "answer": 1,
        "prompt": "mask",
        "question": "Which object is it?",
        "options": ({"letter": "A", "number": 1}, {"letter": "B", "number": 2}, {"letter": "C", "number": None}),
        "provenance": provenance,
    }
    case = Case(**fields)
    return case.model_dump_json() + "\n", tsv.format_row(case)


if __name__ == "__main__":
    main()
