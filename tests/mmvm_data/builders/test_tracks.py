"""Tracks that were drawn: files of the writer, and broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvm_data.builders import open_source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame, Region, Video


def write_tracks(root: Path, prompt: str = "mask") -> Video:
    """A folder as the pull leaves it: a shot of three pictures, two overlapping objects."""
    frames = tuple(Frame(path=f"frames/a/shot000/{n:06d}.jpg", index=n, width=40, height=30) for n in range(3))
    (root / "clips").mkdir(parents=True)
    (root / "clips/a.json").write_text("{}")
    (root / "tracks/a").mkdir(parents=True)
    (root / "frames/a/shot000").mkdir(parents=True)
    for frame in frames:
        cv2.imwrite(str(root / frame.path), np.zeros((30, 40, 3), np.uint8))
    bitmap = np.zeros((30, 40), np.uint8)
    bitmap[5:15, 5:15] = 1
    mask = masks.encode(bitmap) if prompt == "mask" else None
    box = None if mask else (5.0, 5.0, 10.0, 10.0)
    both = (Region(id="1", mask=mask, box=box, category="cup"), Region(id="2", mask=mask, box=box))
    video = Video(
        id="a/shot000",
        source="video",
        frames=frames,
        annotated=(0, 2),
        prompt="box" if box else "mask",
        tracks={0: both, 2: both[:1]},
    )
    (root / "tracks/a/shot000.json").write_text(video.model_dump_json())
    return video


@pytest.mark.parametrize("prompt", ["mask", "box"])
def test_what_was_written_is_read(tmp_path: Path, prompt: str) -> None:
    wanted = write_tracks(tmp_path, prompt)
    source = open_source("video", tmp_path)
    assert (list(source.videos), source.rejects) == (["a/shot000"], ())
    video = source.load("a/shot000")
    assert (video.frames, video.annotated, video.prompt) == (wanted.frames, (0, 2), prompt)
    assert [video.regions(p) for p in (0, 2)] == [wanted.regions(p) for p in (0, 2)]
    with pytest.raises(InputError, match="there is no video"):
        source.load("../a")


def test_nothing_pulled_and_a_single_image(tmp_path: Path) -> None:
    write_tracks(tmp_path / "x")
    file = tmp_path / "x/tracks/a/shot000.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | {"annotated": [0], "tracks": {"0": data["tracks"]["0"]}}))
    with pytest.raises(InputError, match="only 1 annotated"):
        open_source("video", tmp_path / "x").load("a/shot000")
    file.unlink()
    with pytest.raises(InputError, match="no file <clip>/<shot>"):
        open_source("video", tmp_path / "x")
    file.parent.rmdir()
    file.parent.parent.rmdir()
    with pytest.raises(InputError, match="nothing was pulled yet"):
        open_source("video", tmp_path / "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box": [1, 1, 2, 2], "mask": None}, r"tracks\.0\.0: a mask is expected"),
        ({"mask": {"size": [30, 41], "counts": "?"}}, r"mask is of size \(30, 41\)"),
        ({"mask": {"size": [30, 40], "counts": "?"}}, r"tracks\.0\.0\.mask\.counts"),
    ],
)
def test_a_broken_region_is_named_when_its_frame_is_read(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_tracks(tmp_path)
    file = tmp_path / "tracks/a/shot000.json"
    data = json.loads(file.read_text())
    data["tracks"]["0"][0] |= change
    file.write_text(json.dumps(data))
    video = open_source("video", tmp_path).load("a/shot000")
    with pytest.raises(InputError, match=message):
        video.regions(0)
    assert video.regions(2)


@settings(max_examples=500)
@given(st.data())
def test_mutated_files_raise_nothing_but_input_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.getbasetemp() / "tracks_mutated"
    file, whole = root / "tracks/a/shot000.json", root / "whole.json"
    if not root.exists():
        write_tracks(root)
        whole.write_bytes(file.read_bytes())
    text = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 6))] = data.draw(
            st.one_of(st.binary(max_size=2), st.sampled_from([b"null", b"[]", b"{}", b"-1", b"1e999", b'"\\ud800"']))
        )
    file.write_bytes(text)
    try:
        video = open_source("video", root).load("a/shot000")
    except InputError:
        return
    for position in video.annotated:
        try:
            regions = video.regions(position)
        except InputError:
            continue
        assert all(r.mask is not None and r.mask.size == (30, 40) for r in regions)
