"""Masks that a person has changed, on images that are missing or broken when they are pulled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mmvm_data.annotation.review.pull import pull
from mmvm_data.annotation.review.task import build_task
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from tests.colva.evaluation.worlds import folder_of
from tests.mmvm_data.annotation.forked_commands import write_export
from tests.worlds import tree


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FAULTS: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "another size": lambda path: Image.new("RGB", (3, 3)).save(path),
    "pipe": make_pipe,
}


def with_moved_query(case: Case) -> tuple[Case, list[dict[str, object]], str]:
    """A case, an annotation that moves the query by five pixels, and the verdict."""
    changes = []
    for result in build_task(case, str, len(case.frames))["predictions"][0]["result"]:
        if result["from_name"] in ("polygon1", "object1"):
            points = [[x + 6.25, y] for x, y in result["value"]["points"]]
            changes.append(result | {"value": result["value"] | {"points": points}})
    return case, changes, "accept"


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_image_leaves_its_case_and_no_other(tmp_path: Path, fault: str) -> None:
    folder = folder_of(tmp_path / "b", 3)
    first, second = list(bench.read(folder))[:2]
    export = write_export(tmp_path / "e.json", [with_moved_query(first), with_moved_query(second)])
    image = folder / first.frames[0].path
    data = image.read_bytes()
    FAULTS[fault](image)
    bad_folder = folder / "match_bench" / first.id
    kept = tree(bad_folder) if fault != "pipe" else None
    result = pull(folder, None, None, export)
    assert result.changed == [second.id]
    ((name, reason),) = result.problems
    assert name == first.id
    assert image.name in reason and "the next pull tries again" in reason and "\n" not in reason
    assert kept is None or tree(bad_folder) == kept
    assert next(iter(bench.read(folder))) == first
    entries = [json.loads(line) for line in (folder / "annotation/history.jsonl").read_text().splitlines()]
    assert {entry["case"]: entry["applied"] for entry in entries} == {first.id: False, second.id: True}
    image.unlink(missing_ok=True)
    image.write_bytes(data)
    again = pull(folder, None, None, export)
    assert (again.changed, again.problems) == ([first.id], [])
    assert pull(folder, None, None, export).changed == []
