"""Speed and memory of ``colva eval``; prints one JSON object.

1. The ``random`` player on 1,510 cases of 480p, the whole command in a process of its own (reading, sizes and bytes of
   all images, scores, report): at most 20 s and 400 MB; on a build and on the same cases in the published form. The
   seconds of CPU beside them do not depend on what else the machine does.
2. An endpoint that answers 200 ms after it has a request whole, in a process of its own: requests under way there,
   from the arrival of their first lines to the answer, the mean over the time between the first and the last tenth of
   the requests; at least 30.
3. A small LLaVA with random weights: questions a second in batches of 8 over one by one; at least 2.

Cases are generated. The model of part 3 is small, so that its ratio is that of this code and of PyTorch on a CPU; a GPU
gains more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from common import emit, machine, median_of, peak_mb, seconds

ROOT = Path(__file__).resolve().parents[1]
SECONDS_LIMIT, MEMORY_LIMIT_MB, HELD_LIMIT, BATCH_LIMIT = 20.0, 400.0, 30.0, 2.0
LATENCY = 0.2
PARTS = ("random", "endpoint", "local_batch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1510)
    parser.add_argument("--requests", type=int, default=1200)
    parser.add_argument("--questions", type=int, default=24, help="for the local model")
    parser.add_argument("--bench", type=Path, help="use this benchmark, do not generate one")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--child", nargs=2, metavar=("BENCHMARK", "RUN"), help=argparse.SUPPRESS)
    parser.add_argument("--server", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if arguments.child:
        print(json.dumps(evaluated(*map(Path, arguments.child))))
        return
    if arguments.server:
        serve()
        return
    with tempfile.TemporaryDirectory(prefix="colva-bench-") as scratch:
        emit(measure(Path(scratch), arguments), arguments.out)


def measure(scratch: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The parts that are asked for as one record with the limits beside the values."""
    build = given.bench.resolve() if given.bench else generate(scratch, given.cases)
    found: dict[str, Any] = {"machine": machine(), "cases": given.cases}
    published = scratch / "published"
    published.mkdir()
    for name in ("match_bench", "mllm_match_eval_full.tsv"):
        (published / name).symlink_to(build / name)
    if "random" in given.parts:
        found["random"] = {
            "build": random_player(build, scratch / "one"),
            "published_form": random_player(published, scratch / "two"),
        }
    if "endpoint" in given.parts:
        found["endpoint"] = endpoint(build, scratch / "three", given.requests)
    if "local_batch" in given.parts:
        found["local_batch"] = local_batch(build, scratch, given.questions)
    return found


def generate(scratch: Path, cases: int) -> Path:
    """A benchmark of so many generated cases of 854 x 480."""
    from mmvm_data.cases.sampling_options import SamplingOptions
    from mmvm_data.pipeline.build import BuildOptions, build
    from mmvm_data.synth import SynthOptions, generate

    a_video = 32
    videos = cases // a_video + 2
    generate(scratch / "videos", SynthOptions(videos=videos, width=854, height=480, workers=os.cpu_count() or 1))
    sampling = SamplingOptions(cases_per_video=a_video)
    options = BuildOptions(sampling=sampling, max_cases=cases, workers=os.cpu_count() or 1)
    made = build("ytvos", scratch / "videos", scratch / "build", options)
    assert made.cases == cases, made.cases
    return scratch / "build"


def random_player(bench: Path, out: Path) -> dict[str, Any]:
    """Seconds and memory of the whole command; the start of Python is in the time."""
    start = time.perf_counter()
    found = child(["--child", str(bench), str(out)])
    taken = time.perf_counter() - start
    size = sum(path.stat().st_size for path in (bench / "match_bench").resolve().rglob("*.jpg"))
    return {
        "seconds": round(taken, 2),
        "limit": SECONDS_LIMIT,
        "within": taken <= SECONDS_LIMIT,
        "cpu_seconds": round(found["cpu_seconds"], 2),
        "peak_mb": round(found["peak_mb"], 1),
        "limit_mb": MEMORY_LIMIT_MB,
        "within_mb": found["peak_mb"] <= MEMORY_LIMIT_MB,
        "images_mb": round(size / 2**20, 1),
    }


def evaluated(bench: Path, out: Path) -> dict[str, float]:
    """``colva eval --model random`` in this process."""
    from colva.cli import main as colva

    words = ["eval", "--bench", str(bench), "--model", "random", "--out", str(out), "--json"]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        colva(words, standalone_mode=False)
    used = os.times()
    return {"peak_mb": peak_mb(), "cpu_seconds": used.user + used.system}


def endpoint(bench: Path, out: Path, requests: int) -> dict[str, Any]:
    """Requests that a slow endpoint has under way at a time."""
    from colva.evaluation import runs
    from colva.evaluation.ask import ask_questions
    from colva.evaluation.models.base import ModelOptions
    from colva.evaluation.models.endpoint import open_model
    from colva.evaluation.question import AskOptions

    command = [sys.executable, __file__, "--server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        url = server.stdout.readline().strip()
        player = open_model("slow", ModelOptions(base_url=url))
        asked = AskOptions()
        with runs.open_run(out, runs.run_config(bench, asked, player), overwrite=False):
            taken = seconds(lambda: ask_questions(player, bench, asked, out, limit=requests))
        server.stdin.close()
        marks: list[tuple[float, int]] = json.loads(server.stdout.readline())
    held = mean_held(marks)
    return {
        "requests": requests,
        "latency_s": LATENCY,
        "concurrency": ModelOptions().concurrency,
        "seconds": round(taken, 2),
        "most_under_way": max(now for _, now in marks),
        "mean_under_way": round(held, 1),
        "limit": HELD_LIMIT,
        "within": held >= HELD_LIMIT,
    }


def mean_held(marks: list[tuple[float, int]]) -> float:
    """Mean over time of a count that changes at the given times, its first and last tenth of changes left out."""
    kept = marks[len(marks) // 10 : -len(marks) // 10]
    spans = [(later[0] - sooner[0], sooner[1]) for sooner, later in pairwise(kept)]
    return sum(span * now for span, now in spans) / sum(span for span, _ in spans)


def serve() -> None:
    """An endpoint of chats on one asyncio loop; says its address, and at the end of stdin when how many were there."""
    import asyncio

    marks: list[tuple[float, int]] = []
    now = 0
    reply = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "A"}}]}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(reply)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now
        while True:
            try:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return
            now += 1  # from its first line on: a body of half a megabyte is on its way for a while
            marks.append((time.perf_counter(), now))
            length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
            await reader.readexactly(length)
            await asyncio.sleep(LATENCY)
            now -= 1
            marks.append((time.perf_counter(), now))
            writer.write(head + reply)
            await writer.drain()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**20)
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
        await ended.wait()
        print(json.dumps(marks), flush=True)
        os._exit(0)  # open connections would be waited for

    asyncio.run(run())


def local_batch(bench: Path, scratch: Path, questions: int) -> dict[str, Any]:
    """Questions a second of a small model, in batches and one by one, on one thread a core."""
    from colva.evaluation.benchmark import load_questions as read
    from colva.evaluation.models.base import ModelOptions
    from colva.evaluation.models.hf import open_model
    from colva.evaluation.question import AskOptions
    from tests.colva.evaluation.tiny_models import llava

    folder = llava(scratch / "llava")
    asked = list(islice(read(bench, AskOptions(), scratch), questions))
    player = open_model(str(folder), ModelOptions(device="cpu", max_tokens=32))

    def play(size: int) -> None:
        for start in range(0, len(asked), size):
            player.answer(asked[start : start + size])

    play(8)
    alone, together = median_of(3, lambda: play(1)), median_of(3, lambda: play(8))
    return {
        "questions": len(asked),
        "one_by_one_a_second": round(len(asked) / alone, 2),
        "batch_8_a_second": round(len(asked) / together, 2),
        "ratio": round(alone / together, 2),
        "limit": BATCH_LIMIT,
        "within": alone / together >= BATCH_LIMIT,
    }


def child(words: list[str]) -> dict[str, Any]:
    """This file in a process of its own."""
    path = os.pathsep.join((str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])))
    done = subprocess.run(
        [sys.executable, __file__, *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
