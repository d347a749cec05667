"""A benchmark whose cases have as many candidates as a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mmvm_data.cases import prompts
from mmvm_data.core import masks
from mmvm_data.core.types import Candidate, Case, Frame, Region
from mmvm_data.formats import bench

WIDTH, HEIGHT, SIDE = 640, 360, 44


def write_grids(folder: Path, counts: Sequence[int], num_images: int = 2) -> list[Case]:
    """Write a benchmark of one case for each number of candidates, squares on a grid; the answer is object 2.

    Args:
        num_images: of the first case; the others have two.
    """
    cases = []
    folder.mkdir(parents=True)
    for position, count in enumerate(counts):
        rng = np.random.default_rng(position)
        colors = rng.integers(40, 255, (count, 3))
        frames = []
        num_queries = 1 if position else num_images - 1
        for k in range(num_queries + 1):
            is_last = k == num_queries
            image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            for n in range(1, count + 1) if is_last else (2,):
                x, y = _place(n)
                image[y : y + SIDE, x : x + SIDE] = colors[n - 1]
            name = f"{position}_{k}.png"
            cv2.imwrite(str(folder / name), image)
            frames.append(Frame(path=name, index=k, width=WIDTH, height=HEIGHT))
        candidates = tuple(Candidate(number=n, region=_region(n)) for n in range(1, count + 1))
        cases.append(
            Case(
                id=f"case_{position:06d}",
                frames=tuple(frames),
                query=(_region(2),) * num_queries,
                candidates=candidates,
                answer=2,
                question=prompts.format_question("mask"),
                options=prompts.build_options(range(1, count + 1), 2),
                match_types=(1,),
            )
        )
    bench.write(cases, folder, root=folder)
    return list(bench.read(folder))


def _place(number: int) -> tuple[int, int]:
    row, column = divmod(number - 1, 10)
    return 10 + column * 62, 20 + row * 80


def _region(number: int) -> Region:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y = _place(number)
    mask[y : y + SIDE, x : x + SIDE] = 1
    return Region(id=str(number), mask=masks.encode(mask))
