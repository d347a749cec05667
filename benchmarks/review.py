"""Time and memory of ``mmvm-data review`` push and pull of 5,000 cases; prints one JSON object.

1. Push into an empty project of a Label Studio on this machine (sqlite): at most 300 s and 500 MB of our own memory.
2. The same again, nothing changed: seconds.
3. Pull with an annotation on every task, accepted as proposed: at most 120 s; and once more, nothing new.

Cases are generated: masks of 80 x 45 images that cases share. Push and pull are processes of their own; their memory is
theirs alone, the server's is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import emit, machine, peak_mb

ROOT = Path(__file__).resolve().parents[1]
PUSH_LIMIT, PULL_LIMIT, MEMORY_LIMIT_MB = 300.0, 120.0, 500.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--child", nargs=3, metavar=("STEP", "BENCHMARK", "URL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, benchmark, url = arguments.child
        print(json.dumps(work(step, Path(benchmark), url)))
        return
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        emit(measure(Path(scratch), arguments.cases), arguments.out)


def measure(scratch: Path, cases: int) -> dict[str, Any]:
    """All parts as one record with the limits beside the values."""
    from mmvm_data.annotation.labelstudio import server as serve

    facts = machine()
    benchmark = generate(scratch / "many", cases)
    server = serve.start(benchmark, free_port(), data=scratch / "server")
    os.environ["LABEL_STUDIO_API_KEY"] = server.token
    try:
        first, again = (child("push", benchmark, server.url) for _ in range(2))
        assert (first["created"], again["same"]) == (cases, cases)
        annotate(server.url, server.token, benchmark.name)
        pulled, nothing = (child("pull", benchmark, server.url) for _ in range(2))
        assert (pulled["changed"], nothing["changed"]) == (cases, 0)
    finally:
        serve.stop(server)
    return {
        "machine": facts,
        "cases": cases,
        "push": limited(first, PUSH_LIMIT),
        "push_again": {"seconds": round(again["seconds"], 1)},
        "pull": limited(pulled, PULL_LIMIT),
        "pull_again": {"seconds": round(nothing["seconds"], 1)},
    }


def generate(folder: Path, cases: int) -> Path:
    """A benchmark of generated cases that share their images, none of them reviewed."""
    sys.path.insert(0, str(ROOT))
    from mmvm_data.core.types import Review
    from tests import builds

    made = (
        builds.make_case(i if i != 5 else 14).model_copy(update={"id": f"case_{i:06d}", "review": Review()})
        for i in range(cases)
    )
    return builds.write_build(folder, list(made))


def limited(done: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Time and memory beside their limits."""
    return {
        "seconds": round(done["seconds"], 1),
        "limit": seconds,
        "share_of_limit": round(done["seconds"] / seconds, 3),
        "within": done["seconds"] <= seconds,
        "peak_mb": round(done["peak_mb"], 1),
        "memory_limit_mb": MEMORY_LIMIT_MB,
        "memory_within": done["peak_mb"] <= MEMORY_LIMIT_MB,
    }


def annotate(url: str, token: str, title: str) -> None:
    """Accept every case as it was proposed, as a person would; not measured."""
    from mmvm_data.annotation.labelstudio.client import Client

    client = Client(url, token)
    project = client.project(title)
    assert project is not None
    verdict = {"id": "verdict", "from_name": "verdict", "to_name": "question", "type": "choices"}
    verdict["value"] = {"choices": ["accept"]}  # type: ignore[assignment]

    def accept(task: dict[str, Any]) -> None:
        body = {"result": [*task["predictions"][0]["result"], verdict], "lead_time": 5}
        client.send("POST", f"/api/tasks/{task['id']}/annotations", body)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(accept, list(client.tasks(project.id, "id,predictions"))))


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
        numbers = {"created": pushed.created, "same": pushed.same}
    else:
        pulled = pull(benchmark, client, client.project(benchmark.name))
        assert not pulled.problems, pulled.problems[:3]
        numbers = {"changed": len(pulled.changed)}
    return {"seconds": time.perf_counter() - start, "peak_mb": peak_mb(), **numbers}


def child(step: str, benchmark: Path, url: str) -> dict[str, Any]:
    """``work`` in a process of its own."""
    command = [sys.executable, __file__, "--child", step, str(benchmark), url]
    path = os.pathsep.join((str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])))
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    return json.loads(done.stdout.splitlines()[-1])


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
