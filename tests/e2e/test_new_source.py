"""The reader that CONTRIBUTING shows, added as it says: one file, one entry, one writer."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from mmvm_data.builders import SOURCES, open_source
from mmvm_data.builders.source import SourceSpec
from tests.mutation import corrupt_files
from tests.sets.every import SETS
from tests.sets.world import FRAMES, OBJECTS, VIDEOS, WrittenSet, list_frames, tight_box

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"


def write(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    for v, f in list_frames(videos):
        written.frame(f"frames/clip{v}/{f + 1:04d}.jpg", v, f)
    for v in range(videos):
        lines = []
        for f in range(FRAMES):
            for k in range(OBJECTS):
                if found := tight_box(v, f, k):
                    lines.append(f"{f + 1} {k} " + " ".join(map(str, found)))
                written.expect_region(f"clip{v}", f + 1, str(k), found, None)
        written.text(f"boxes/clip{v}.txt", lines)
    return written


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example as a source."""
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    file = tmp_path / "example.py"
    file.write_text(block)
    spec = importlib.util.spec_from_file_location("example", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entry = SourceSpec(
        module.open_example, "Example", "frames and boxes", "", "yours", "box", "files made to the specification"
    )
    monkeypatch.setitem(SOURCES, "example", entry)
    monkeypatch.setitem(SETS, "example", {"": write})


def test_the_example_reads_its_set(tmp_path: Path, added: None) -> None:
    written = write(tmp_path / "set")
    source = open_source("example", tmp_path / "set")
    for name, frames in written.expected.items():
        video = source.load(name)
        for position in video.annotated:
            found = {r.id: r.box for r in video.regions(position)}
            assert found == {track: shape for track, (shape, _) in frames[video.frames[position].index].items()}


def test_the_example_names_what_is_wrong(tmp_path: Path, added: None) -> None:
    assert corrupt_files("example", "", tmp_path / "set", 200)["whole"] < 150
