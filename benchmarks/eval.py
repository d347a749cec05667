"""Speed and memory of ``colva eval``; prints one JSON object.

1. The ``random`` baseline on 1,510 cases of 480p, the whole command in a process of its own (reading, sizes and bytes
   of all images, scores, report): at most 20 s and 400 MB; on a build and on the same cases in the published form. The
   seconds of CPU beside them do not depend on what else the machine does.
2. An endpoint that answers 200 ms after it has received a request, in a process of its own: concurrent requests there,
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
SECONDS_LIMIT, MEMORY_LIMIT_MB, CONCURRENCY_LIMIT, BATCH_LIMIT = 20.0, 400.0, 30.0, 2.0
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
        print(json.dumps(evaluate_random(*map(Path, arguments.child))))
        return
    if arguments.server:
        serve()
        return
    with tempfile.TemporaryDirectory(prefix="colva-bench-") as scratch:
        emit(measure(Path(scratch), arguments), arguments.out)


def measure(scratch: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the results of the selected parts, with the limits beside the values."""
    build = arguments.bench.resolve() if arguments.bench else generate_benchmark(scratch, arguments.cases)
    results: dict[str, Any] = {"machine": machine(), "cases": arguments.cases}
    published = scratch / "published"
    published.mkdir()
    for name in ("match_bench", "mllm_match_eval_full.tsv"):
        (published / name).symlink_to(build / name)
    if "random" in arguments.parts:
        results["random"] = {
            "build": measure_random(build, scratch / "one"),
            "published_form": measure_random(published, scratch / "two"),
        }
    if "endpoint" in arguments.parts:
        results["endpoint"] = measure_endpoint(build, scratch / "three", arguments.requests)
    if "local_batch" in arguments.parts:
        results["local_batch"] = measure_local_batch(build, scratch, arguments.questions)
    return results


def generate_benchmark(scratch: Path, cases: int) -> Path:
    """Return a benchmark of generated cases of 854 x 480."""
    from mmvm_data.cases.sampling_options import SamplingOptions
    from mmvm_data.pipeline.build import BuildOptions, build
    from mmvm_data.synth import SynthOptions, generate

    cases_per_video = 32
    videos = cases // cases_per_video + 2
    generate(scratch / "videos", SynthOptions(videos=videos, width=854, height=480, workers=os.cpu_count() or 1))
    sampling = SamplingOptions(cases_per_video=cases_per_video)
    options = BuildOptions(sampling=sampling, max_cases=cases, workers=os.cpu_count() or 1)
    result = build("ytvos", scratch / "videos", scratch / "build", options)
    assert result.cases == cases, result.cases
    return scratch / "build"


def measure_random(bench: Path, out: Path) -> dict[str, Any]:
    """Return seconds and memory of the whole command; the time includes the start of Python."""
    start = time.perf_counter()
    usage = run_child(["--child", str(bench), str(out)])
    elapsed = time.perf_counter() - start
    size = sum(path.stat().st_size for path in (bench / "match_bench").resolve().rglob("*.jpg"))
    return {
        "seconds": round(elapsed, 2),
        "limit": SECONDS_LIMIT,
        "within": elapsed <= SECONDS_LIMIT,
        "cpu_seconds": round(usage["cpu_seconds"], 2),
        "peak_mb": round(usage["peak_mb"], 1),
        "limit_mb": MEMORY_LIMIT_MB,
        "within_mb": usage["peak_mb"] <= MEMORY_LIMIT_MB,
        "images_mb": round(size / 2**20, 1),
    }


def evaluate_random(bench: Path, out: Path) -> dict[str, float]:
    """Run ``colva eval --model random`` in this process; return its memory and CPU time."""
    from colva.cli import main as colva

    words = ["eval", "--bench", str(bench), "--model", "random", "--out", str(out), "--json"]
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        colva(words, standalone_mode=False)
    times = os.times()
    return {"peak_mb": peak_mb(), "cpu_seconds": times.user + times.system}


def measure_endpoint(bench: Path, out: Path, requests: int) -> dict[str, Any]:
    """Return the number of concurrent requests at a slow endpoint."""
    from colva.evaluation import runs
    from colva.evaluation.ask import ask_questions
    from colva.evaluation.models.base import ModelOptions
    from colva.evaluation.models.endpoint import open_model
    from colva.evaluation.question import AskOptions

    command = [sys.executable, __file__, "--server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        url = server.stdout.readline().strip()
        model = open_model("slow", ModelOptions(base_url=url))
        ask_options = AskOptions()
        with runs.open_run(out, runs.run_config(bench, ask_options, model), overwrite=False):
            elapsed = seconds(lambda: ask_questions(model, bench, ask_options, out, limit=requests))
        server.stdin.close()
        marks: list[tuple[float, int]] = json.loads(server.stdout.readline())
    mean_count = mean_over_time(marks)
    return {
        "requests": requests,
        "latency_s": LATENCY,
        "concurrency": ModelOptions().concurrency,
        "seconds": round(elapsed, 2),
        "most_under_way": max(count for _, count in marks),
        "mean_under_way": round(mean_count, 1),
        "limit": CONCURRENCY_LIMIT,
        "within": mean_count >= CONCURRENCY_LIMIT,
    }


def mean_over_time(marks: list[tuple[float, int]]) -> float:
    """Return the mean over time of a count, without the first and the last tenth of its changes.

    Args:
        marks: (seconds, count from then on) at each change.
    """
    kept = marks[len(marks) // 10 : -len(marks) // 10]
    spans = [(after[0] - before[0], before[1]) for before, after in pairwise(kept)]
    return sum(span * count for span, count in spans) / sum(span for span, _ in spans)


def serve() -> None:
    """Serve a chat endpoint on one asyncio loop; print its address, and at the end of stdin the count of requests over
    time."""
    import asyncio

    marks: list[tuple[float, int]] = []
    count = 0
    reply = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "A"}}]}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(reply)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while True:
            try:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return
            count += 1  # from its first line on: a body of half a megabyte takes a while to arrive
            marks.append((time.perf_counter(), count))
            length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
            await reader.readexactly(length)
            await asyncio.sleep(LATENCY)
            count -= 1
            marks.append((time.perf_counter(), count))
            writer.write(head + reply)
            await writer.drain()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**20)
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(stop.set)), daemon=True).start()
        await stop.wait()
        print(json.dumps(marks), flush=True)
        os._exit(0)  # does not wait for open connections

    asyncio.run(run())


def measure_local_batch(bench: Path, scratch: Path, questions: int) -> dict[str, Any]:
    """Return questions a second of a small model, in batches and one by one, on one thread a core."""
    from colva.evaluation.benchmark import load_questions
    from colva.evaluation.models.base import ModelOptions
    from colva.evaluation.models.hf import open_model
    from colva.evaluation.question import AskOptions
    from tests.colva.evaluation.tiny_models import llava

    folder = llava(scratch / "llava")
    batch = list(islice(load_questions(bench, AskOptions(), scratch), questions))
    model = open_model(str(folder), ModelOptions(device="cpu", max_tokens=32))

    def answer_in_batches(size: int) -> None:
        for start in range(0, len(batch), size):
            model.answer(batch[start : start + size])

    answer_in_batches(8)
    one_by_one = median_of(3, lambda: answer_in_batches(1))
    in_batches = median_of(3, lambda: answer_in_batches(8))
    return {
        "questions": len(batch),
        "one_by_one_a_second": round(len(batch) / one_by_one, 2),
        "batch_8_a_second": round(len(batch) / in_batches, 2),
        "ratio": round(one_by_one / in_batches, 2),
        "limit": BATCH_LIMIT,
        "within": one_by_one / in_batches >= BATCH_LIMIT,
    }


def run_child(words: list[str]) -> dict[str, Any]:
    """Run this file in a process of its own; return the JSON object that it prints."""
    path = os.pathsep.join((str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])))
    done = subprocess.run(
        [sys.executable, __file__, *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    usage: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return usage


if __name__ == "__main__":
    main()
