"""Speed and memory of ``mmvm-data build`` on generated videos; prints one JSON object.

1. One process: a build over a floor, which is what no build with these libraries can leave out: every source frame
   read and decoded once, the marks drawn along contours that are known, the drawn frames encoded, and the six files of
   each case written. Both in the same run, at 480p and 1080p, by the clock and in processor time, without threads that
   write and with those of a build by default; where Numba is installed, with compiled loops and without, and what
   follows with them. At most 1.25 and 1.15. ``floor_with_contours`` adds to the floor that OpenCV finds the contours of
   the marked objects in bitmaps of their boxes; that too no build leaves out. ``floor_from_masks`` is what a script
   does that knows which objects make a case: masks from run lengths by pycocotools, marks by OpenCV as in the
   published code, and the same six files (see ``floors.py``). Neither has a limit.
2. Two workers over one, whole builds in processes of their own without such threads; at least 1.85 times as fast. On
   the temporary folder's disk, and in memory. Beside it the same for two processes that decode and encode only and
   share nothing, which is what the machine allows.
3. Peak resident memory of a worker for ten times the videos; at most 5 % more, and below 600 MB.
4. Processor time to import ``mmvm_data``, at most 0.15 s; beside it what a worker of this source imports, and the
   libraries alone that it cannot do without.

An older measure of 1, without a limit: the build over decoding the source frames of each case from memory and encoding
its drawn frames.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import floors
import numpy as np
from build_once import SOURCE, build
from common import emit, machine, replace_between

from mmvm_data import synth
from mmvm_data.io import kernel_cache, process_pool

FLOORS = {
    "floor": "the floor: what no build can leave out, along known contours",
    "floor_with_contours": "the same and finding the contours that it draws",
    "floor_from_masks": "a script with pycocotools and OpenCV, from run lengths to the same files",
}
MARKS = ("<!-- floors -->", "<!-- end of floors -->")
FLOOR_LIMITS = {"480p": 1.25, "1080p": 1.15}
WORKERS_LIMIT, GROWTH_LIMIT, MEMORY_LIMIT_MB = 1.85, 1.05, 600
IMPORT_LIMIT = 0.15
MORE = 10  # how many times the videos, for the memory
LONGER = 4
LONGEST = 40  # for the workers: a start of half a second is 2 % of what two of them take then
IN_MEMORY = Path("/dev/shm")

SIZES = {
    "480p": synth.SynthOptions(videos=40, layout=SOURCE),
    "1080p": synth.SynthOptions(videos=10, frames=12, width=1920, height=1080, layout=SOURCE),
}
QUICK = {
    "480p": synth.SynthOptions(videos=3, frames=8, width=427, height=240, layout=SOURCE),
    "1080p": synth.SynthOptions(videos=2, frames=8, width=427, height=240, layout=SOURCE),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--data", type=Path, help="keep the generated videos here and use them again")
    parser.add_argument("--runs", type=int, default=5, help="of the one-process part; the rest takes three at most")
    parser.add_argument("--quick", action="store_true", help="small videos and few: whether it runs, not how fast")
    parser.add_argument("--readme", type=Path, help="replace the table of this file")
    parser.add_argument("--workers-only", type=int, metavar="TIMES", help="part 2 alone, with so many times the videos")
    parser.add_argument("--recode", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.recode:
        recode()
        return
    # the small builds too, which would not load compiled loops by themselves: what a long one costs is measured
    os.environ.setdefault(kernel_cache.VARIABLE, "numba" if kernel_cache.is_installed() else "numpy")
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        data = arguments.data or Path(scratch) / "data"
        sizes = QUICK if arguments.quick else SIZES
        if arguments.workers_only:
            root = synth.generate(data / "480p", sizes["480p"])
            root = multiplied(root, data / f"480p-x{arguments.workers_only}", arguments.workers_only)
            emit({"machine": machine(), "two_workers": two_workers(root, Path(scratch), arguments.runs)}, arguments.out)
            return
        record = measure(data, Path(scratch), arguments.runs, sizes)
    emit(record, arguments.out)
    if arguments.readme:
        replace_between(arguments.readme, MARKS, format_floors(record))


def measure(data: Path, scratch: Path, runs: int, sizes: dict[str, synth.SynthOptions]) -> dict[str, Any]:
    """All parts as one record with the limits beside the values.

    Args:
        data: where the generated videos go, or lie already.
        scratch: folder for builds.
        runs: how often to measure.
        sizes: what to generate; "480p" is also what parts 2 and 3 use.
    """
    facts = {**machine(), "numpy": np.__version__, "opencv": cv2.__version__}
    roots = {name: synth.generate(data / name, options) for name, options in sizes.items()}
    many = multiplied(roots["480p"], data / f"480p-x{MORE}", MORE)
    # longer builds for the first part: what starts and ends one is not what it costs
    longer = {name: multiplied(root, data / f"{name}-x{LONGER}", LONGER) for name, root in roots.items()}
    one = {name: one_process(root, scratch, runs) | {"limit": FLOOR_LIMITS[name]} for name, root in longer.items()}
    for record in one.values():
        record["within"] = record["over_floor"]["threads"] <= record["limit"]
        record["within_cpu"] = record["over_floor"]["build_cpu"] <= record["limit"]
    longest = multiplied(roots["480p"], data / f"480p-x{LONGEST}", LONGEST)
    few_runs, many_runs = (build_in_turn(root, scratch, min(runs, 3)) for root in (roots["480p"], many))
    result: dict[str, Any] = {
        "machine": facts,
        "one_process": one,
        "two_workers": two_workers(longest, scratch, min(runs, 3)),
    }
    result["two_workers"]["machine"] = machine_speedup(longer["480p"], min(runs, 3))
    result["imports"] = import_seconds(max(3, runs))
    result["memory"] = {
        name: _memory([run[k] for run in few_runs], [run[k] for run in many_runs])
        for k, name in enumerate(("one_process", "worker_of_two"))
    }
    return result


def two_workers(root: Path, scratch: Path, runs: int) -> dict[str, Any]:
    """Builds by one worker and by two in turn, on disk and in memory."""
    result = {"disk": _speedup(build_in_turn(root, scratch, runs))}
    if IN_MEMORY.is_dir():
        # the kernel writes files back on a processor that one worker leaves idle and two do not; here it writes none
        with tempfile.TemporaryDirectory(prefix="mmvm-bench-", dir=IN_MEMORY) as folder:
            result["memory"] = _speedup(build_in_turn(root, Path(folder), runs, keep=False))
    return result


def one_process(root: Path, scratch: Path, runs: int) -> dict[str, Any]:
    """Builds, floors and baseline in this process, ``runs`` times after one that does not count.

    Each time another one of them is the first, since the machine's speed changes. References do what the first build
    did.
    """
    kernels = os.environ[kernel_cache.VARIABLE]
    ways = {"build": (0, kernels), "threads": (None, kernels), "numpy": (0, "numpy"), "numpy_threads": (None, "numpy")}
    first = scratch / f"{root.name}-build-0"
    references: dict[str, Callable[[Path], floors.Parts]] = {
        "floor": partial(floors.floor, root, first),
        "floor_from_masks": partial(floors.floor_from_masks, root, first),
        "baseline": lambda _: floors.decode_and_encode(root, first),
    }
    names = [*ways, *references]
    rows: list[dict[str, Any]] = []
    for run in range(runs + 1):
        row: dict[str, Any] = {}
        for name in names[run % len(names) :] + names[: run % len(names)]:
            # a new folder each time, deleted at the end: ext4 looks for inodes slowly among those just deleted
            out = scratch / f"{root.name}-{name}-{run}"
            if name in references:
                row[name] = references[name](out)
                continue
            threads, os.environ[kernel_cache.VARIABLE] = ways[name]
            row[name] = build(root, out, workers=1, threads=threads)
            os.environ[kernel_cache.VARIABLE] = kernels
        rows.append(row)
    cases = rows[0]["build"]["cases"]
    # processor time is disturbed less by other work on the machine
    keys = [(f"{way}{suffix}", way, clock) for way in ways for suffix, clock in (("", "seconds"), ("_cpu", "cpu"))]
    costs: dict[str, Callable[[dict[str, Any], str], float]] = {
        "floor": lambda row, clock: floors.add_up(row["floor"], clock, with_contours=False),
        "floor_with_contours": lambda row, clock: floors.add_up(row["floor"], clock),
        "floor_from_masks": lambda row, clock: floors.add_up(row["floor_from_masks"], clock),
        "decoding_and_encoding": lambda row, clock: floors.add_up(row["baseline"], clock),
    }
    rounds = rows[1:]
    over = {
        name: {key: [row[way][clock] / cost(row, clock) for row in rounds] for key, way, clock in keys}
        for name, cost in costs.items()
    }
    ms_a_case = {key: _median(1000 * row[way][clock] / cases for row in rounds) for key, way, clock in keys}
    for name, cost in costs.items():
        for suffix, clock in (("", "seconds"), ("_cpu", "cpu")):
            ms_a_case[f"{name}{suffix}"] = _median(1000 * cost(row, clock) / cases for row in rounds)
    return {
        "cases": cases,
        "kernels": kernels,
        "ms_a_case": ms_a_case,
        **{f"over_{name}": {key: _median(ratios) for key, ratios in over[name].items()} for name in FLOORS},
        "over_floor_runs": {key: [round(value, 3) for value in ratios] for key, ratios in over["floor"].items()},
        "floor_ms_a_case": _parts_a_case([row["floor"] for row in rounds], cases),
        "floor_from_masks_ms_a_case": _parts_a_case([row["floor_from_masks"] for row in rounds], cases),
        "over_decoding_and_encoding": _median(over["decoding_and_encoding"]["build"]),
        "over_decoding_and_encoding_cpu": _median(over["decoding_and_encoding"]["build_cpu"]),
    }


def _parts_a_case(runs: list[floors.Parts], cases: int) -> dict[str, dict[str, float]]:
    """Median milliseconds a case of each part of a reference, by both clocks."""
    return {
        clock: {part: _median(1000 * parts[clock][part] / cases for parts in runs) for part in runs[0][clock]}
        for clock in runs[0]
    }


def format_floors(record: dict[str, Any]) -> str:
    """The builds of one process over their references, as a table in Markdown."""
    lines = ["| over | 480p | with threads | one thread | 1080p | with threads | one thread |", f"|{'---|' * 7}"]
    for name, title in FLOORS.items():
        cells = []
        for part in (record["one_process"][size] for size in SIZES):
            ratios = part[f"over_{name}"]
            cells += [f"{part['ms_a_case'][name]:.1f} ms", f"{ratios['threads']:.2f}", f"{ratios['build']:.2f}"]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def build_in_turn(root: Path, scratch: Path, runs: int, keep: bool = True) -> list[list[dict[str, Any]]]:
    """Builds by one worker and by two, ``runs`` pairs of them; every other time the second comes first."""
    pairs = []
    for run in range(runs):
        made = {workers: child(root, scratch, workers, keep) for workers in ((1, 2) if run % 2 == 0 else (2, 1))}
        pairs.append([made[1], made[2]])
    return pairs


def child(root: Path, scratch: Path, workers: int, keep: bool = True) -> dict[str, Any]:
    """A build in a process of its own: seconds, cases, and ``peak_mb`` of the process that makes the cases. It stays
    until the end, as in ``one_process``, unless it would fill the memory.

    The peak is the kernel's own high-water mark of each process (VmHWM), read until the process ends.
    """
    out = scratch / f"child-{time.monotonic_ns()}"  # new each time, as in ``one_process``
    program = Path(__file__).with_name("build_once.py")
    command = [sys.executable, str(program), str(root), str(out), str(workers)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    peaks: dict[int, int] = {}
    while process.poll() is None:
        for pid in _family(process.pid):
            peaks[pid] = max(peaks.get(pid, 0), _high_water(pid))
        time.sleep(0.1)
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    if not keep:
        shutil.rmtree(out)
    makers = [peak for pid, peak in peaks.items() if workers == 1 or pid != process.pid]
    return {**json.loads(printed), "peak_mb": max(makers) / 1024}


def import_seconds(runs: int) -> dict[str, Any]:
    """The least processor time of imports in new processes, with compiled modules, and the limit of the first."""
    imports = {
        "mmvm_data": "import mmvm_data",
        "worker": f"import mmvm_data.pipeline.worker, mmvm_data.builders.{SOURCE}",
        "libraries": "import cv2, numpy, pycocotools.mask; from pydantic import BaseModel",
    }
    least = dict.fromkeys(imports, float("inf"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), process_pool.DISABLE_PLUGINS: "__all__"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as compiled:
        environment["PYTHONPYCACHEPREFIX"] = compiled
        for _ in range(runs + 1):  # the first compiles
            for name, line in imports.items():
                code = f"import time; start = time.process_time()\n{line}\nprint(time.process_time() - start)"
                command = [sys.executable, "-c", code]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                least[name] = min(least[name], float(done.stdout))
    seconds = {name: round(value, 4) for name, value in least.items()}
    return {"cpu_seconds": seconds, "limit": IMPORT_LIMIT, "within": seconds["mmvm_data"] <= IMPORT_LIMIT}


def machine_speedup(root: Path, runs: int) -> dict[str, Any]:
    """How much faster two processes decode and encode frames of the videos than one does; half of them each.

    Pixels stay in each process, so that nothing but the machine keeps them from being twice as fast.
    """
    files = sorted((root / "train" / "JPEGImages").glob("*/*.jpg"))[::LONGER]
    halves = [files[::2], files[1::2]]
    speedups = []
    for run in range(runs):
        lists = ([files], halves) if run % 2 == 0 else (halves, [files])
        seconds = {len(parts): _recode_in_processes(parts) for parts in lists}
        speedups.append(seconds[1] / seconds[2])
    return {"images": len(files), "speedups": [round(value, 3) for value in speedups], "speedup": _median(speedups)}


def _recode_in_processes(lists: list[list[Path]]) -> float:
    """Seconds until all processes, which run at once, have decoded and encoded the files of their list."""
    command = [sys.executable, __file__, "--recode"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in lists
    ]
    for process, files in zip(processes, lists, strict=True):
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\0".join(map(str, files)) + "\n")
        process.stdin.flush()
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()  # imports and reads are done
    started = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    seconds = time.perf_counter() - started
    for process in processes:
        process.communicate()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return seconds


def recode() -> None:
    """Read the files that standard input names; decode and encode them when it asks for it."""
    cv2.setNumThreads(1)
    coded = [floors.read_bytes(Path(name)) for name in sys.stdin.readline().rstrip("\n").split("\0")]
    print("ready", flush=True)
    sys.stdin.readline()
    for data in coded:
        cv2.imencode(".jpg", np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), [cv2.IMWRITE_JPEG_QUALITY, 95])
    print("done", flush=True)


def multiplied(root: Path, out: Path, times: int) -> Path:
    """The same videos many times under new names; the pictures are links, so the disk hardly notices."""
    if (out / "train" / "instances.json").is_file():
        return out
    shutil.rmtree(out, ignore_errors=True)
    index = json.loads((root / "train" / "instances.json").read_text(encoding="utf-8"))
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for copy in range(times):
        shift = copy * len(index["videos"])
        for video in index["videos"]:
            files = [f"{copy:02d}{file}" for file in video["file_names"]]
            for old, new in zip(video["file_names"], files, strict=True):
                place = out / "train" / "JPEGImages" / new
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(root / "train" / "JPEGImages" / old, place)
            videos.append({**video, "id": video["id"] + shift, "file_names": files})
        for entry in index["annotations"]:
            number = len(annotations) + 1
            annotations.append({**entry, "id": number, "video_id": entry["video_id"] + shift})
    text = json.dumps({**index, "videos": videos, "annotations": annotations})
    (out / "train" / "instances.json").write_text(text, encoding="utf-8")
    return out


def _speedup(pairs: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Of builds by one worker and by two, in turn."""
    speedups = [single["seconds"] / double["seconds"] for single, double in pairs]
    return {
        "cases": pairs[0][0]["cases"],
        "seconds_one": _median(single["seconds"] for single, _ in pairs),
        "seconds_two": _median(double["seconds"] for _, double in pairs),
        "cpu_one": _median(single["cpu"] for single, _ in pairs),
        "cpu_two": _median(double["cpu"] for _, double in pairs),
        "speedups": [round(value, 3) for value in speedups],
        "speedup": _median(speedups),
        "limit": WORKERS_LIMIT,
        "within": statistics.median(speedups) >= WORKERS_LIMIT,
    }


def _memory(few: list[dict[str, Any]], many: list[dict[str, Any]]) -> dict[str, Any]:
    before = statistics.median(run["peak_mb"] for run in few)
    after = statistics.median(run["peak_mb"] for run in many)
    return {
        "peak_mb": round(before, 1),
        f"peak_mb_{MORE}x": round(after, 1),
        "growth": round(after / before, 4),
        "limit": GROWTH_LIMIT,
        "limit_mb": MEMORY_LIMIT_MB,
        "within": after <= GROWTH_LIMIT * before and max(before, after) < MEMORY_LIMIT_MB,
    }


def _family(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for parent in found:
        try:
            text = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
        except OSError:  # it has just ended
            continue
        found.extend(int(word) for word in text.split())
    return found


def _high_water(pid: int) -> int:
    """Largest resident set so far, KiB; 0 when the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _median(values: Any) -> float:
    return round(float(statistics.median(values)), 4)


if __name__ == "__main__":
    main()
