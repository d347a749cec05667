"""A benchmark of images of many shapes, and the checkouts of other projects that the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import pytest

from colva.evaluation.models.base import Reply
from colva.evaluation.question import Protocol
from mmvm_data.cases import prompts
from mmvm_data.core import masks
from mmvm_data.core.types import Candidate, Case, Frame, Region
from mmvm_data.formats import bench

SIZES = ((80, 45), (45, 80), (64, 64), (333, 250), (200, 31), (1100, 620))
"""Width and height; some short sides are not whole on a canvas of 1024 pixels."""


CASES = int(os.environ.get("PEER_CASES", "300"))
"""Cases that go through each project's own code; where a judge of ours stands for it, a few are enough."""


def needs(variable: str) -> pytest.MarkDecorator:
    """Skip a test, before its benchmark is written, where an environment variable names no checkout or interpreter."""
    return pytest.mark.skipif(not os.environ.get(variable), reason=f"{variable} names no checkout or interpreter")


def checkout(variable: str) -> Path:
    """The folder or interpreter that an environment variable names."""
    return Path(os.environ[variable])


def peer_python() -> str:
    """The interpreter that runs other projects' code: PEER_PYTHON, or this one."""
    return os.environ.get("PEER_PYTHON", sys.executable)


def run_peer(
    script: str,
    *arguments: str | Path,
    cwd: Path | None = None,
    python: str | Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a script of this folder with an interpreter, by default the one for other projects' code.

    Args:
        script: name of the file.
        arguments: of the command.
        cwd: folder that it runs in.
        python: the interpreter.
        env: variables beside those of this process; our packages are not on its path.
    """
    command = [str(python or peer_python()), str(Path(__file__).with_name(script)), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=cwd, env=_peer_environment() | dict(env or {}))


@contextmanager
def stream_peer(script: str, *arguments: str | Path) -> Iterator[IO[bytes]]:
    """Run a script as `run_peer` does, and give what it writes to the file of its last argument while it runs."""
    reader, writer = os.pipe()
    command = [peer_python(), str(Path(__file__).with_name(script)), *map(str, arguments), f"/dev/fd/{writer}"]
    with os.fdopen(reader, "rb") as stream:
        process = subprocess.Popen(command, stdout=sys.stderr, env=_peer_environment(), pass_fds=[writer])
        os.close(writer)
        try:
            yield stream
        finally:
            stream.close()  # of a test that failed, the script ends with its next line
            process.wait()
    assert process.returncode == 0


def _peer_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def script_replies(cases: Iterable[Case], protocol: Protocol) -> dict[str, Reply]:
    """Replies by case, in several wordings: two of three name the right option, some none."""
    styles = ("{}", "The answer is {}.", "({})", "**Answer**: {}", "I cannot tell.")
    replies = {}
    for k, case in enumerate(cases):
        named = (case.letter if protocol == "mcq" else str(case.answer)) if k % 3 else case.options[0].letter
        replies[case.id] = Reply(styles[k % len(styles)].format(named))
    return replies


def write_benchmark(folder: Path, count: int = 6) -> list[Case]:
    """Write a benchmark; every fourth case has no right candidate, case 2 three images, case 3 and every sixth from
    there boxes, case 1 and every third from there images of different sizes.
    """
    rng = np.random.default_rng(0)
    cases = []
    for number in range(count):
        images = 3 if number == 2 else 2
        sizes = [SIZES[(number + k * (number % 3 == 1)) % len(SIZES)] for k in range(images)]
        frames = []
        for k, (width, height) in enumerate(sizes):
            file = folder / "clips" / f"{number}" / f"{k}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 255, (9, 16, 3), dtype=np.uint8)
            cv2.imwrite(str(file), cv2.resize(noise, (width, height)))
            frames.append(Frame(path=f"clips/{number}/{k}.jpg", index=k, width=width, height=height))
        is_box = number % 6 == 3
        candidates = [
            Candidate(number=k, region=_region(rng, f"c{k}", sizes[-1], is_box)) for k in range(1, 3 + number % 9)
        ]
        numbers = [candidate.number for candidate in candidates]
        answer = None if number % 4 == 0 else 1 + number % len(numbers)
        prompt = "box" if is_box else "mask"
        cases.append(
            Case(
                id=f"case_{number:06d}",
                frames=tuple(frames),
                query=tuple(_region(rng, "query", size, is_box) for size in sizes[:-1]),
                candidates=tuple(candidates),
                answer=answer,
                prompt=prompt,
                question=prompts.format_question(prompt),
                options=prompts.build_options(numbers, answer),
                match_types=tuple(t for t in range(1, 9) if number % (t + 1) == 0),
                rationale="the {red} one" if number % 3 == 0 else None,
                review={"state": "accepted"},
            ).with_root(folder)
        )
    bench.write(cases, folder / "bench")
    return list(bench.read(folder / "bench"))


def _region(rng: np.random.Generator, name: str, size: tuple[int, int], is_box: bool) -> Region:
    width, height = size
    w, h = (int(rng.integers(side // 6 + 2, side // 2)) for side in size)
    x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
    if is_box:
        return Region(id=name, box=(x, y, w, h))
    bitmap = np.zeros((height, width), np.uint8)
    cv2.ellipse(bitmap, (x + w // 2, y + h // 2), (max(1, w // 2), max(1, h // 2)), 0, 0, 360, 1, -1)
    bitmap[y : y + 2, x : x + w] = 1
    return Region(id=name, mask=masks.encode(bitmap))
