"""Time and memory of ``mmvm-data review`` push and pull of 5,000 cases; prints one JSON object.

1. Push into an empty project of a Label Studio server on this machine (sqlite): at most 300 s and 500 MB of our own
   memory.
2. The same again, nothing changed: seconds.
3. Pull with an annotation on every task, accepted as proposed: at most 120 s; and once more, nothing new.

Cases are generated: masks of 80 x 45 images that cases share. Push and pull run in separate processes; their memory
does not include the server's.

``--part brush`` needs no server. It encodes and decodes the masks of a push of brush masks with our codec
(``labelstudio/brush.py``) and with the one of label-studio-sdk (``label_studio_sdk.converter.brush``), in one process.

``--part shown`` needs no server either: processor time of the images that a push draws for its page, of generated cases
with seven candidates or more at 480p and 720p, the first time and again, and what that makes for 5,000 cases.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import emit, machine, peak_mb, seconds

ROOT = Path(__file__).resolve().parents[1]
PUSH_LIMIT, PULL_LIMIT, MEMORY_LIMIT_MB = 300.0, 120.0, 500.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["sync", "brush", "shown"], default="sync")
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--masks", type=int, default=40, help="of the part brush: masks of 854 x 480 pixels")
    parser.add_argument("--repeats", type=int, default=5, help="of the parts brush and shown")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--child", nargs=3, metavar=("STEP", "BENCHMARK", "URL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, benchmark, url = arguments.child
        print(json.dumps(work(step, Path(benchmark), url)))
        return
    if arguments.part == "brush":
        emit(compare_codecs(arguments.masks, arguments.repeats), arguments.out)
        return
    if arguments.part == "shown":
        with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
            emit(draw_for_page(Path(scratch), arguments.repeats), arguments.out)
        return
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        emit(measure(Path(scratch), arguments.cases), arguments.out)


def measure(scratch: Path, cases: int) -> dict[str, Any]:
    """All parts as one record with the limits beside the values."""
    from mmvm_data.annotation.labelstudio.server import ServerOptions, start_server, stop_server

    facts = machine()
    benchmark = generate(scratch / "many", cases)
    server = start_server(benchmark, ServerOptions(port=free_port(), data=scratch / "server"))
    os.environ["LABEL_STUDIO_API_KEY"] = server.token
    try:
        first, again = (child("push", benchmark, server.url) for _ in range(2))
        assert (first["created"], again["unchanged"]) == (cases, cases)
        annotate(server.url, server.token, benchmark.name)
        pulled, pulled_again = (child("pull", benchmark, server.url) for _ in range(2))
        assert (pulled["changed"], pulled_again["changed"]) == (cases, 0)
    finally:
        stop_server(server)
    return {
        "machine": facts,
        "cases": cases,
        "push": limited(first, PUSH_LIMIT),
        "push_again": {"seconds": round(again["seconds"], 1)},
        "pull": limited(pulled, PULL_LIMIT),
        "pull_again": {"seconds": round(pulled_again["seconds"], 1)},
    }


def generate(folder: Path, cases: int) -> Path:
    """A benchmark of generated cases that share their images, none of them reviewed."""
    sys.path.insert(0, str(ROOT))
    from mmvm_data.core.types import Review
    from tests import builds

    generated = (
        builds.make_case(i if i != 5 else 14).model_copy(update={"id": f"case_{i:06d}", "review": Review()})
        for i in range(cases)
    )
    return builds.write_build(folder, list(generated))


def limited(done: dict[str, Any], limit: float) -> dict[str, Any]:
    """Time and memory beside their limits."""
    return {
        "seconds": round(done["seconds"], 1),
        "limit": limit,
        "share_of_limit": round(done["seconds"] / limit, 3),
        "within": done["seconds"] <= limit,
        "peak_mb": round(done["peak_mb"], 1),
        "memory_limit_mb": MEMORY_LIMIT_MB,
        "memory_within": done["peak_mb"] <= MEMORY_LIMIT_MB,
    }


def annotate(url: str, token: str, title: str) -> None:
    """Accept every case as it was proposed, as a person would; not measured."""
    from mmvm_data.annotation.labelstudio.client import Client

    client = Client(url, token)
    project = client.find_project(title)
    assert project is not None
    verdict = {"id": "verdict", "from_name": "verdict", "to_name": "question", "type": "choices"}
    verdict["value"] = {"choices": ["accept"]}  # type: ignore[assignment]

    def accept(task: dict[str, Any]) -> None:
        result = [*task["predictions"][0]["result"], verdict]
        client.call("annotate", lambda sdk: sdk.annotations.create(task["id"], result=result, lead_time=5.0))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(accept, list(client.iter_tasks(project.id, "id,predictions"))))


def work(step: str, benchmark: Path, url: str) -> dict[str, Any]:
    """One push or pull in this process: seconds, numbers of cases, and peak memory in MB."""
    from mmvm_data.annotation.labelstudio.client import Client
    from mmvm_data.annotation.review.pull import pull
    from mmvm_data.annotation.review.push import push

    client = Client(url, os.environ["LABEL_STUDIO_API_KEY"])
    start = time.perf_counter()
    if step == "push":
        pushed = push(benchmark, client, benchmark.name)
        assert not pushed.problems, pushed.problems[:3]
        numbers = {"created": pushed.created, "unchanged": pushed.unchanged}
    else:
        pulled = pull(benchmark, client, client.find_project(benchmark.name))
        assert not pulled.problems, pulled.problems[:3]
        numbers = {"changed": len(pulled.changed)}
    return {"seconds": time.perf_counter() - start, "peak_mb": peak_mb(), **numbers}


def draw_for_page(scratch: Path, repeats: int) -> dict[str, Any]:
    """Milliseconds of processor time a case for the images of the page, and seconds for 5,000 cases."""
    from click.testing import CliRunner

    from mmvm_data import cli
    from mmvm_data.annotation.review.shown import PAGE, SHOWN, draw_shown_images
    from mmvm_data.formats import bench

    def run(*words: object) -> None:
        result = CliRunner().invoke(cli.cli, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    facts = machine()
    sizes: dict[str, Any] = {}
    for name, width, height in (("480p", 854, 480), ("720p", 1280, 720)):
        videos, folder = scratch / f"{name}-videos", scratch / name
        run("synth", videos, "--width", width, "--height", height, "--videos", 2, "--frames", 6, "--objects", 10, 14)
        run("build", "--source", "ytvos", "--root", videos, "--out", folder, "--workers", 1, "--none-share", 0)
        cases = [case for case in bench.read(folder) if len(case.candidates) >= 7]
        first: list[float] = []
        again: list[float] = []
        for _ in range(repeats):
            shutil.rmtree(folder / SHOWN, ignore_errors=True)
            for times in (first, again):
                started = time.process_time()
                for case in cases:
                    draw_shown_images(folder, case, PAGE)
                times.append((time.process_time() - started) / len(cases))
        sizes[name] = {
            "cases": len(cases),
            "candidates": round(statistics.mean(len(case.candidates) for case in cases), 1),
            "first_ms": round(1000 * statistics.median(first), 2),
            "again_ms": round(1000 * statistics.median(again), 2),
            "first_seconds_of_5000": round(5000 * statistics.median(first), 1),
            "again_seconds_of_5000": round(5000 * statistics.median(again), 1),
        }
    return {"machine": facts, "clock": "processor time", "sizes": sizes}


def compare_codecs(count: int, repeats: int) -> dict[str, Any]:
    """Seconds of both brush codecs for the same masks: medians, and the SDK's time over ours.

    Args:
        count: masks of 854 x 480 pixels: smooth blobs, as segmentations of objects are.
        repeats: of each side, in turns.
    """
    sys.path.insert(0, str(ROOT))
    import cv2
    import numpy as np
    from label_studio_sdk.converter import brush

    from mmvm_data.annotation.labelstudio.brush import decode_brush, encode_brush
    from mmvm_data.core import masks

    sdk: Any = brush  # it has no annotations
    height, width = 480, 854
    bitmaps = []
    for seed in range(count):
        noise = np.random.default_rng(seed).random((height, width), np.float32)
        field = np.asarray(cv2.GaussianBlur(noise, (0, 0), 20), np.float32)
        bitmaps.append((field > np.quantile(field, 0.9)).astype(np.uint8))
    rles = [masks.encode(bitmap) for bitmap in bitmaps]
    encoded = [encode_brush(rle) for rle in rles]
    sides: dict[str, dict[str, Callable[[], object]]] = {
        "encode": {
            "ours": lambda: [encode_brush(rle) for rle in rles],
            "sdk": lambda: [sdk.mask2rle(masks.decode(rle) * 255) for rle in rles],
        },
        "decode": {
            "ours": lambda: [decode_brush(data, height, width) for data in encoded],
            "sdk": lambda: [
                masks.encode(sdk.decode_rle(data).reshape(height, width, 4)[:, :, 3] >= 128) for data in encoded
            ],
        },
    }
    assert sides["decode"]["sdk"]() == rles
    assert [decode_brush(sdk.mask2rle(bitmap * 255), height, width) for bitmap in bitmaps] == rles
    record: dict[str, Any] = {"machine": machine(), "masks": count, "size": [height, width]}
    for step, functions in sides.items():
        times: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(repeats):
            for name, function in functions.items():
                times[name].append(seconds(function))
        medians = {name: statistics.median(values) for name, values in times.items()}
        record[step] = {f"{name}_seconds": round(value, 4) for name, value in medians.items()}
        record[step]["ratio"] = round(medians["sdk"] / medians["ours"], 1)
    return record


def child(step: str, benchmark: Path, url: str) -> dict[str, Any]:
    """``work`` in a process of its own."""
    command = [sys.executable, __file__, "--child", step, str(benchmark), url]
    path = os.pathsep.join((str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])))
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
