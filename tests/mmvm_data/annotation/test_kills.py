"""A command that changes a benchmark is killed at each of its writing events: the old or the new state stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmvm_data.annotation.labelstudio.brush import encode_brush
from mmvm_data.core import masks
from mmvm_data.formats import bench
from mmvm_data.pipeline.build import BuildOptions, build
from tests.mmvm_data.annotation.annotations import choice, text
from tests.mmvm_data.annotation.forked_commands import ask, write_export
from tests.worlds import davis

MIN_EVENTS = 12


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    build("davis", davis(folder / "world", videos=2), folder / "b", BuildOptions(max_cases=3))
    return folder / "b"


def kill(pristine: Path, tmp_path: Path, *command: str, **more: Any) -> None:
    request = {"kind": "kill", "bench": str(pristine), "work": str(tmp_path), "command": command, **more}
    result = ask(request)
    assert result["faults"] == []
    assert result["events"] >= MIN_EVENTS
    assert result["old"] and result["new"] and result["old"] + result["new"] == result["events"]


def test_review_pull(pristine: Path, tmp_path: Path) -> None:
    """A mask is mended, an answer changed and a case rejected: records, table, case folder and history change."""
    cases = list(bench.read(pristine))
    wanted = masks.decode(cases[0].candidates[0].region.mask)  # type: ignore[arg-type]
    wanted[2:7, 3:11] = 1
    place = {"id": "brushed", "to_name": "original2", "original_width": 160, "original_height": 120}
    label = place | {"type": "labels", "from_name": "object2", "value": {"labels": ["1"]}}
    brush = {"rle": encode_brush(masks.encode(np.ascontiguousarray(wanted))), "format": "rle"}
    mended = [label, place | {"type": "brush", "from_name": "brush2", "value": brush}]
    other = next(o for o in cases[1].options if o.number not in (None, cases[1].answer))
    changed = [choice("answer", f"{other.letter}. {other.number}"), text("rationale", "It has the same spots.")]
    verdicts = [(cases[0], mended, "accept"), (cases[1], changed, "fix"), (cases[2], [], "reject")]
    export = write_export(tmp_path / "export.json", verdicts)
    kill(pristine, tmp_path, "review", "pull", "BENCH", "--export", str(export))


def test_cues(pristine: Path, tmp_path: Path) -> None:
    kill(pristine, tmp_path, "cues", "BENCH")


def test_rationale(pristine: Path, tmp_path: Path) -> None:
    kill(pristine, tmp_path, "rationale", "BENCH")


def test_browse_pull(pristine: Path, tmp_path: Path) -> None:
    tags = {"case_000000": ["reject"], "case_000001": ["golden"]}
    kill(pristine, tmp_path, "browse", "pull", "BENCH", tags=tags)
