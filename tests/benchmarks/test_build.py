"""The harness of builds runs, and measures what it says. How fast anything is, is not tested here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from mmvm_data import open_source, synth
from tests.benchmarks.harnesses import FOLDER, load_harness
from tests.conftest import TEST_CACHE

FILE = FOLDER / "build.py"


@pytest.fixture(scope="module")
def harness() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        yield load_harness("build", patch)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = synth.SynthOptions(videos=2, frames=6, width=427, height=240, layout="ytvis")
    return synth.generate(tmp_path_factory.mktemp("data"), options)


@pytest.mark.slow
def test_it_prints_and_writes_one_json_object(tmp_path: Path):
    out = tmp_path / "results" / "build.json"
    command = [sys.executable, str(FILE), "--quick", "--runs", "1", "--out", str(out)]
    path = os.pathsep.join((str(FILE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])))
    environment = {**os.environ, "PYTHONPATH": path, "MMVM_DATA_CACHE": str(TEST_CACHE)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    result = json.loads(done.stdout)
    assert result == json.loads(out.read_text())
    assert sorted(result) == ["imports", "machine", "memory", "one_process", "two_workers"]
    seconds = result["imports"]["cpu_seconds"]
    assert 0 < seconds["mmvm_data"] < seconds["libraries"] < seconds["worker"]
    machine = result["two_workers"].pop("machine")
    assert machine["images"] > 0 and machine["speedup"] > 0
    for part in result["two_workers"].values():
        assert part["cpu_one"] > 0 and part["cpu_two"] > 0
    for part in (*result["one_process"].values(), *result["two_workers"].values(), *result["memory"].values()):
        assert isinstance(part["within"], bool)
        assert part["limit"] in (1.25, 1.15, 1.85, 1.05)
    for part in result["one_process"].values():
        ways = {"build", "threads", "numpy", "numpy_threads"}
        assert set(part["over_floor"]) == ways | {f"{way}_cpu" for way in ways}
        assert part["over_floor_with_contours"]["build_cpu"] < part["over_floor"]["build_cpu"]
        assert part["ms_a_case"]["floor_with_contours_cpu"] > part["ms_a_case"]["floor_cpu"]
        assert set(part["over_floor_from_masks"]) == set(part["over_floor"])
        assert part["ms_a_case"]["floor_from_masks_cpu"] > 0
    for part in result["memory"].values():
        assert 20 < part["peak_mb"] < 600


def test_the_baseline_decodes_two_frames_and_encodes_two_for_each_case(
    harness: ModuleType, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = harness.build(root, tmp_path / "out", 1)
    assert made["cases"] > 0
    calls: Counter[str] = Counter()
    decode, encode = harness.cv2.imdecode, harness.cv2.imencode

    def counted_decode(*arguments):
        calls["decode"] += 1
        return decode(*arguments)

    def counted_encode(ending, image, quality):
        calls["encode"] += 1
        assert image.shape == (240, 427, 3)
        assert quality == [harness.cv2.IMWRITE_JPEG_QUALITY, 95]
        return encode(ending, image, quality)

    monkeypatch.setattr(harness.cv2, "imdecode", counted_decode)
    monkeypatch.setattr(harness.cv2, "imencode", counted_encode)
    took = harness.floors.decode_and_encode(root, tmp_path / "out")
    # two of the four decodes of a case read back the drawn images and are not timed
    assert calls == {"decode": 4 * made["cases"], "encode": 2 * made["cases"]}
    assert 0 < harness.floors.add_up(took, "cpu") < made["cpu"]


def test_what_no_build_can_leave_out_is_the_work_of_this_build(
    harness: ModuleType, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = harness.build(root, tmp_path / "out", 1)
    encoded: list[bytes] = []
    encode = harness.cv2.imencode

    def kept_encode(*arguments):
        result = encode(*arguments)
        encoded.append(result[1].tobytes())
        return result

    monkeypatch.setattr(harness.cv2, "imencode", kept_encode)
    took = harness.floors.floor(root, tmp_path / "out", tmp_path / "out-floor")
    assert all(list(parts) == ["read", "decode", "contours", "draw", "encode", "write"] for parts in took.values())
    known, searched = (harness.floors.add_up(took, "cpu", with_contours) for with_contours in (False, True))
    assert 0 < known < searched < made["cpu"]
    folders = sorted((tmp_path / "out" / "match_bench").iterdir())
    drawn = [(folder / name).read_bytes() for folder in folders for name in ("FRAME00.jpg", "FRAME01_CAND.jpg")]
    assert len(encoded) == len(drawn) == 2 * made["cases"]
    assert encoded == drawn
    for folder in folders:
        for file in folder.iterdir():
            assert (tmp_path / "out-floor" / folder.name / file.name).read_bytes() == file.read_bytes()


def test_the_script_writes_the_files_of_this_build(harness: ModuleType, root: Path, tmp_path: Path):
    made = harness.build(root, tmp_path / "out", 1)
    took = harness.floors.floor_from_masks(root, tmp_path / "out", tmp_path / "script")
    assert set(took["cpu"]) == {"index", "read", "decode", "masks", "draw", "encode", "json", "write"}
    assert min(took["cpu"].values()) > 0
    folders = sorted((tmp_path / "out" / "match_bench").iterdir())
    assert len(folders) == made["cases"]
    for folder in folders:
        written = {file.name: file.read_bytes() for file in (tmp_path / "script" / folder.name).iterdir()}
        assert written == {file.name: file.read_bytes() for file in folder.iterdir()}
        assert len(written) == 6
    file = folders[-1] / "FRAME01_CAND.jpg"
    file.write_bytes(file.read_bytes()[:-2] + b"\0\0")
    with pytest.raises(SystemExit, match=r"the script writes other files: FRAME01_CAND\.jpg"):
        harness.floors.floor_from_masks(root, tmp_path / "out", tmp_path / "again")


def test_the_table_of_floors_is_that_of_the_record(harness: ModuleType):
    part = {"ms_a_case": {"floor": 5.29, "floor_with_contours": 5.6, "floor_from_masks": 9.96}}
    for name, ratios in (("floor", (1.316, 1.776)), ("floor_with_contours", (1.2, 1.6)), ("floor_from_masks", (1, 2))):
        part[f"over_{name}"] = dict(zip(("threads", "build"), ratios, strict=True))
    head, _, *rows = harness.format_floors({"one_process": {"480p": part, "1080p": part}}).splitlines()
    assert head.count("|") == rows[0].count("|") == 8
    assert rows[0].endswith("| 5.3 ms | 1.32 | 1.78 | 5.3 ms | 1.32 | 1.78 |")
    assert [row.split(" | ")[1] for row in rows] == ["5.3 ms", "5.6 ms", "10.0 ms"]


def test_the_multiplied_set_holds_every_video_so_many_times(harness: ModuleType, root: Path, tmp_path: Path):
    many = harness.multiplied(root, tmp_path / "many", 3)
    source = open_source("ytvis", many)
    once = open_source("ytvis", root)
    assert len(source.videos) == 3 * len(once.videos)
    assert source.rejects == ()
    regions = [[region.mask for region in source.load(video).regions(0)] for video in source.videos]
    wanted = [[region.mask for region in once.load(video).regions(0)] for video in once.videos]
    assert sorted(map(repr, regions)) == sorted(map(repr, wanted * 3))
    assert harness.multiplied(root, many, 3) == many
